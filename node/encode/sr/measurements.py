"""The measurement report: TID 1500, as viewers were found to show it (viewers.md section 5).

For each structure two groups under one tracking UID: first TID 1410 with a contour on the slice
where the structure is largest, then TID 1411 on the segment with all numbers. OHIF draws the
contour and writes the numbers of both groups beside it; dwv decides by the first group; dcmqi and
3D Slicer read the second. Then, for each detection, one TID 1410 group with its drawing and its
numbers. One group without a drawing would blank the whole report in OHIF, so a structure without
voxels stays out and is told in the text report, as is all that is not about one finding. If there
is nothing to draw there is no measurement report.

A recording over time has nothing that could be drawn on it: all that is said of it is in groups that
refer to it as a whole.

The class is Comprehensive SR, not Comprehensive 3D SR: all coordinates are on images, whatever
else the destination asks for, every viewer tested reads it, and Stone reads no other.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage

from node.encode.material import Material, NotApplicable
from node.encode.sr import tree
from node.encode.sr.document import new_report, observation_context, procedures_reported
from node.encode.sr.groups import (
    absence_groups,
    contour_group,
    detection_group,
    image_groups,
    segment_group,
)
from node.encode.sr.library import key_images
from node.encode.sr.regions import detection_regions, key_region
from node.encode.sr.tree import CONTAINS
from pipelines.contract import Code

TITLE = Code("126000", "DCM", "Imaging Measurement Report")
IMAGING_MEASUREMENTS = Code("126010", "DCM", "Imaging Measurements")


def make_measurements(material: Material) -> Iterator[Dataset]:
    """Yield the report (Comprehensive SR).

    Raises
    ------
    NotApplicable
        No structure has a voxel, and nothing was pointed at.
    """
    outlines, findings, volume = material.outlines, material.findings, material.volume
    groups: list[Dataset] = []
    keys: list[int] = []
    for segment in findings.segments:
        contour = contour_group(material, segment)
        index = outlines.key_slice(segment.number) if outlines else None
        if contour is not None and index is not None:
            keys.append(index)
            groups += [contour, segment_group(material, segment, for_display=True)]
    for detection in findings.detections:
        keys.append(key_region(detection_regions(detection, volume)).index)
        groups.append(detection_group(material, detection, for_display=True))
    if volume.image.is_waveform:
        groups += [*image_groups(material), *absence_groups(material)]
    if not groups:
        raise NotApplicable("No measurement report: there is nothing to draw; the text report says so.")
    library = [key_images([volume.slices[index] for index in keys], volume.image.modality)]
    root = tree.container(
        None,
        TITLE,
        [
            *observation_context(material.job),
            *procedures_reported(material.header, volume.image.modality),
            *([] if volume.image.is_waveform else library),
            tree.container(CONTAINS, IMAGING_MEASUREMENTS, groups),
        ],
        template="1500",
    )
    yield new_report(material, "sr-measurements", root, sop_class=ComprehensiveSRStorage)
