"""The segment report: TID 1500 whose groups point at segments, for 3D Slicer and its like.

They take another branch, and do not load the segmentation, as soon as one group holds a drawing
(viewers.md section 4), so nothing is drawn here: a detection is told with its image and numbers. It
has no image library, whose items bear no name; OHIF, which prints a report of this title as
text, stumbles over those, and shows one titled Imaging Measurement Report without drawings blank.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage

from node.encode.material import Material
from node.encode.sr import tree
from node.encode.sr.document import derived_objects, new_report, observation_context, procedures_reported
from node.encode.sr.groups import absence_groups, image_groups, pointless_group, segment_group
from node.encode.sr.measurements import IMAGING_MEASUREMENTS
from node.encode.sr.text import notices, remarks
from node.encode.sr.tree import CONTAINS
from pipelines.contract import Code

TITLE = Code("126001", "DCM", "Oncology Measurement Report")


def make_segments(material: Material) -> Iterator[Dataset]:
    """Yield the report (Comprehensive SR); also when nothing was found, which it then says."""
    outlines, findings = material.outlines, material.findings
    segments = [s for s in findings.segments if outlines is not None and outlines.voxels(s.number)]
    groups = [
        *(segment_group(material, segment, for_display=True) for segment in segments),
        *(pointless_group(material, detection) for detection in findings.detections),
        *image_groups(material),
        *absence_groups(material),
    ]
    root = tree.container(
        None,
        TITLE,
        [
            *observation_context(material.job),
            *procedures_reported(material.header, material.volume.image.modality),
            tree.container(CONTAINS, IMAGING_MEASUREMENTS, groups),
            *notices(material),
            *remarks(material),
            *derived_objects(material, in_words=True),
        ],
        template="1500",
    )
    yield new_report(material, "sr-segments", root, sop_class=ComprehensiveSRStorage)
