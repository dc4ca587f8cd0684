"""The findings report: everything in one tree, as IHE AI Results wants it of an Evidence Creator.

Comprehensive 3D SR, TID 1500. It is the root of its job: measurements, locations, evaluations with
their probability, what was looked for and not found, and references to all other objects. Every
segment has a TID 1411 group, every detection a drawing, what is about the image as a whole a
TID 1501 group. Viewers that need a contour in each group (OHIF) show it blank: for them
there is the profile "viewer".

Notices and cautions are comments at the root: TID 1500 is extensible, and its groups hold no text.

Places are on images (SCOORD), or in the patient's frame of reference (SCOORD3D) where the
destination asks for that and the images have one.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage

from node.encode.material import Material
from node.encode.sr import tree
from node.encode.sr.document import derived_objects, new_report, observation_context, procedures_reported
from node.encode.sr.groups import absence_groups, detection_group, image_groups, segment_group
from node.encode.sr.library import whole_library
from node.encode.sr.measurements import IMAGING_MEASUREMENTS, TITLE
from node.encode.sr.regions import in_patient
from node.encode.sr.text import notices, remarks
from node.encode.sr.tree import CONTAINS


def make_air(material: Material) -> Iterator[Dataset]:
    """Yield the report; also when nothing was found, which it then says."""
    outlines, findings, patient = material.outlines, material.findings, in_patient(material)
    segments = [s for s in findings.segments if outlines is not None and outlines.voxels(s.number)]
    groups = [
        *(segment_group(material, segment, for_display=False) for segment in segments),
        *(detection_group(material, d, for_display=False, patient=patient) for d in findings.detections),
        *image_groups(material),
        *absence_groups(material),
    ]
    root = tree.container(
        None,
        TITLE,
        [
            *observation_context(material.job),
            *procedures_reported(material.header, material.volume.image.modality),
            *whole_library(material),
            tree.container(CONTAINS, IMAGING_MEASUREMENTS, groups),
            *notices(material),
            *remarks(material),
            *derived_objects(material, in_words=False),
        ],
        template="1500",
    )
    variant = material.profile.coordinates
    yield new_report(material, "sr-air", root, sop_class=Comprehensive3DSRStorage, variant=variant)
