"""The measurement report: TID 1500, as viewers were found to show it (viewers.md section 5).

For each structure two groups under one tracking UID: first TID 1410 with a contour on the slice
where the structure is largest, then TID 1411 on the segment with all numbers. OHIF draws the
contour and writes the numbers of both groups beside it; dwv decides by the first group; dcmqi and
3D Slicer read the second. One group without a contour would blank the whole report in OHIF, so a
structure without voxels stays out and is told in the text report, as is all that is not about one
structure. If no structure has a voxel there is no measurement report.

The class is Comprehensive SR, not Comprehensive 3D SR: all coordinates are on images, every
viewer tested reads it, and Stone reads no other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage

from node.encode.items import image_reference, item
from node.encode.material import Material, NotApplicable
from node.encode.numbers import Number
from node.encode.seg.outlines import Outlines
from node.encode.sr import tree
from node.encode.sr.contour import outline
from node.encode.sr.document import (
    MODALITIES,
    algorithm_items,
    new_report,
    observation_context,
    procedures_reported,
)
from node.encode.sr.tree import (
    CONTAINS,
    HAS_ACQ_CONTEXT,
    HAS_CONCEPT_MOD,
    HAS_OBS_CONTEXT,
    HAS_PROPERTIES,
    SELECTED_FROM,
)
from node.encode.tracking import ANATOMICAL_CATEGORIES, tracking_id, tracking_uid
from node.model import Slice
from pipelines.contract import Code, Evaluation, Segment

TITLE = Code("126000", "DCM", "Imaging Measurement Report")
IMAGE_LIBRARY = Code("111028", "DCM", "Image Library")
IMAGE_LIBRARY_GROUP = Code("126200", "DCM", "Image Library Group")
MODALITY = Code("121139", "DCM", "Modality")
IMAGING_MEASUREMENTS = Code("126010", "DCM", "Imaging Measurements")
MEASUREMENT_GROUP = Code("125007", "DCM", "Measurement Group")
TRACKING_ID = Code("112039", "DCM", "Tracking Identifier")
TRACKING_UID = Code("112040", "DCM", "Tracking Unique Identifier")
FINDING_CATEGORY = Code("276214006", "SCT", "Finding category")
FINDING = Code("121071", "DCM", "Finding")
FINDING_SITE = Code("363698007", "SCT", "Finding Site")
LATERALITY = Code("272741003", "SCT", "Laterality")
METHOD = Code("370129005", "SCT", "Measurement Method")
DERIVATION = Code("121401", "DCM", "Derivation")
IMAGE_REGION = Code("111030", "DCM", "Image Region")
#: Stone shows a region only if its image bears this name.
ORIGINAL_SOURCE = Code("111040", "DCM", "Original Source")
REFERENCED_SEGMENT = Code("121191", "DCM", "Referenced Segment")
SOURCE_SERIES = Code("121232", "DCM", "Source series for segmentation")
CERTAINTY = Code("111012", "DCM", "Certainty of Finding")
PERCENT = Code("%", "UCUM", "Percent")


def make_measurements(material: Material) -> Iterator[Dataset]:
    """Yield the TID 1500 report.

    Raises
    ------
    NotApplicable
        No structure has a voxel.
    """
    outlines, findings, volume = material.outlines, material.findings, material.volume
    groups: list[Dataset] = []
    keys: list[Slice] = []
    for segment in findings.segments:
        index = outlines.key_slice(segment.number) if outlines else None
        if outlines is None or index is None:
            continue
        keys.append(volume.slices[index])
        groups.append(_contour_group(material, segment, outlines, index))
        numbers = material.numbers
        about = [n for n in numbers if n.measurement.segment == segment.number and not math.isnan(n.value)]
        answers = [e for e in findings.evaluations if e.segment == segment.number]
        groups.append(_segment_group(material, segment, outlines, about, answers))
    if not groups:
        raise NotApplicable("No measurement report: no structure has a voxel; the text report says so.")
    root = tree.container(
        None,
        TITLE,
        [
            *observation_context(material.job),
            *procedures_reported(material.header, volume.image.modality),
            _image_library(keys, volume.image.modality),
            tree.container(CONTAINS, IMAGING_MEASUREMENTS, groups),
        ],
        template="1500",
    )
    yield new_report(material, "sr-measurements", root, sop_class=ComprehensiveSRStorage)


def number_item(how: str, number: Number, name: Code | None = None) -> Dataset:
    """Return the NUM of one measurement with its method and derivation (TID 300, TID 1419).

    ``name`` is the measurement's own unless another meaning of the same code is to be shown.
    """
    measurement = number.measurement
    modifiers = [
        tree.code(HAS_CONCEPT_MOD, concept, value)
        for concept, value in ((METHOD, measurement.method), (DERIVATION, measurement.derivation))
        if value is not None
    ]
    return tree.num(how, name or measurement.name, number.value, measurement.unit, modifiers)


def evaluation_item(how: str, evaluation: Evaluation) -> Dataset:
    """Return the CODE of one answer, its probability as a number below it."""
    below = []
    if evaluation.probability is not None:
        below = [tree.num(HAS_PROPERTIES, CERTAINTY, 100 * evaluation.probability, PERCENT)]
    return tree.code(how, evaluation.name, evaluation.value, below)


def finding_site(segment: Segment) -> Code | None:
    """Return where a structure lies, if its codes say so."""
    if segment.anatomic_region is not None:
        return segment.anatomic_region
    return segment.kind if segment.category.value in ANATOMICAL_CATEGORIES else None


def _common_items(material: Material, segment: Segment) -> list[Dataset]:
    """What both groups of a structure begin with: tracking, finding, site, algorithm."""
    items = [
        tree.text(HAS_OBS_CONTEXT, TRACKING_ID, tracking_id(segment)),
        tree.uidref(HAS_OBS_CONTEXT, TRACKING_UID, tracking_uid(material, segment)),
        tree.code(CONTAINS, FINDING_CATEGORY, segment.category),
        tree.code(CONTAINS, FINDING, segment.kind),
    ]
    site = finding_site(segment)
    if site is not None:
        side = segment.laterality
        below = [tree.code(HAS_CONCEPT_MOD, LATERALITY, side)] if side is not None else []
        items.append(tree.code(HAS_CONCEPT_MOD, FINDING_SITE, site, below))
    return items + algorithm_items(material.algorithm)


def _contour_group(material: Material, segment: Segment, outlines: Outlines, index: int) -> Dataset:
    """TID 1410: where to look. No numbers here, or OHIF could make the contour its own."""
    points = outline(outlines.plane(segment.number, index))
    source = tree.image(SELECTED_FROM, ORIGINAL_SOURCE, image_reference(material.volume.slices[index]))
    region = tree.polyline(CONTAINS, IMAGE_REGION, points, [source])
    return tree.container(
        CONTAINS, MEASUREMENT_GROUP, [*_common_items(material, segment), region], template="1410"
    )


def _segment_group(
    material: Material,
    segment: Segment,
    outlines: Outlines,
    numbers: Sequence[Number],
    evaluations: Sequence[Evaluation],
) -> Dataset:
    """TID 1411: the segment and everything measured of it."""
    return tree.container(
        CONTAINS,
        MEASUREMENT_GROUP,
        [
            *_common_items(material, segment),
            tree.image(CONTAINS, REFERENCED_SEGMENT, outlines.reference(segment.number)),
            tree.uidref(CONTAINS, SOURCE_SERIES, material.volume.series_uid),
            *(number_item(CONTAINS, number, number.caption) for number in numbers),
            *(evaluation_item(CONTAINS, evaluation) for evaluation in evaluations),
        ],
        template="1411",
    )


def _image_library(keys: Sequence[Slice], modality: str) -> Dataset:
    """TID 1600: the images that the contours lie on, each once.

    Its group is a row of the same template; TID 1601 begins at the image, so no container names it.
    """
    once = list(dict.fromkeys((k.sop_class_uid, k.sop_instance_uid) for k in keys))
    shared = []
    if modality in MODALITIES:
        shared = [tree.code(HAS_ACQ_CONTEXT, MODALITY, MODALITIES[modality])]
    images = [
        tree.image(CONTAINS, None, item(ReferencedSOPClassUID=c, ReferencedSOPInstanceUID=i)) for c, i in once
    ]
    group = tree.container(CONTAINS, IMAGE_LIBRARY_GROUP, [*shared, *images])
    return tree.container(CONTAINS, IMAGE_LIBRARY, [group], template="1600")
