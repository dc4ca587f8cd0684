"""Measurement groups, as all reports use them: TID 1410, 1411 and 1501 (PS3.16).

1410  planar: something drawn on one image
1411  volumetric: a segment, or something drawn on several images
1501  about images as a whole, or about what was not found
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydicom.dataset import Dataset

from node.encode.items import image_reference, instances_of, sop_references
from node.encode.material import Material
from node.encode.numbers import Number
from node.encode.repair import cut
from node.encode.sr import regions, tree
from node.encode.sr.document import algorithm_items
from node.encode.sr.tree import (
    CONTAINS,
    HAS_CONCEPT_MOD,
    HAS_OBS_CONTEXT,
    HAS_PROPERTIES,
    MEASUREMENT_FAILURE,
)
from node.encode.tracking import ANATOMICAL_CATEGORIES, tracking_id, tracking_uid
from node.errors import EncodeError
from pipelines.contract import Code, Detection, Evaluation, Segment

MEASUREMENT_GROUP = Code("125007", "DCM", "Measurement Group")
TRACKING_ID = Code("112039", "DCM", "Tracking Identifier")
TRACKING_UID = Code("112040", "DCM", "Tracking Unique Identifier")
FINDING_CATEGORY = Code("276214006", "SCT", "Finding category")
FINDING = Code("121071", "DCM", "Finding")
FINDING_SITE = Code("363698007", "SCT", "Finding Site")
LATERALITY = Code("272741003", "SCT", "Laterality")
METHOD = Code("370129005", "SCT", "Measurement Method")
DERIVATION = Code("121401", "DCM", "Derivation")
REFERENCED_SEGMENT = Code("121191", "DCM", "Referenced Segment")
SOURCE_SERIES = Code("121232", "DCM", "Source series for segmentation")
SOURCE_OF_MEASUREMENT = Code("121112", "DCM", "Source of Measurement")
TIME_POINT = Code("C2348792", "UMLS", "Time Point")
CERTAINTY = Code("111012", "DCM", "Certainty of Finding")
PERCENT = Code("%", "UCUM", "Percent")
#: The question whose answer is `ABSENT` where something was looked for and not found.
PRESENCE = Code("121052", "DCM", "Presence of property")
ABSENT = Code("121054", "DCM", "Absent")
#: CID 6047; it says neither normal nor healthy, only that the analysis ran and found nothing.
SUMMARY = Code("111017", "DCM", "CAD Processing and Findings Summary")
NOTHING_FOUND = Code("111241", "DCM", "All algorithms succeeded; without findings")
SOMETHING_FOUND = Code("111242", "DCM", "All algorithms succeeded; with findings")

Finding = Segment | Detection


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


def measured_item(number: Number, *, for_display: bool) -> Dataset:
    """Return a number of a group; one that failed as the answer "Measurement failure" to its name.

    A NUM without a value is legal (CID 42), but OHIF shows the whole report blank, highdicom cannot read
    it and PixelMed's validator calls it an error; left out, nobody would know (R-43).
    """
    if math.isnan(number.value):
        return tree.code(CONTAINS, number.measurement.name, MEASUREMENT_FAILURE)
    return number_item(CONTAINS, number, number.caption if for_display else None)


def evaluation_item(how: str, evaluation: Evaluation) -> Dataset:
    """Return the CODE of one answer, its probability as a number below it."""
    below = []
    if evaluation.probability is not None:
        below = [certainty_item(HAS_PROPERTIES, evaluation.probability)]
    return tree.code(how, evaluation.name, evaluation.value, below)


def certainty_item(how: str, fraction: float) -> Dataset:
    """Return how sure the algorithm is, in percent."""
    return tree.num(how, CERTAINTY, float(f"{100 * fraction:.7g}"), PERCENT)


def finding_site(finding: Finding) -> Code | None:
    """Return where something lies, if its codes say so."""
    if finding.anatomic_region is not None:
        return finding.anatomic_region
    return finding.kind if finding.category.value in ANATOMICAL_CATEGORIES else None


def contour_group(material: Material, segment: Segment) -> Dataset | None:
    """TID 1410: where to look for a structure; None if it has no voxel.

    No numbers here: they are in the group of the segment, and readers merge the two by tracking UID.
    """
    region = regions.segment_region(material.outlines, segment.number) if material.outlines else None
    if region is None:
        return None
    drawn = regions.image_item(region, material.volume)
    return _group([*_about(material, segment), *algorithm_items(material.algorithm), drawn], "1410")


def segment_group(material: Material, segment: Segment, *, for_display: bool) -> Dataset:
    """TID 1411: a segment and everything measured of it.

    Parameters
    ----------
    for_display
        For viewers that show nothing but Code Meaning, value and unit: captions instead of names.
    """
    if material.outlines is None:
        raise EncodeError("there is no segmentation that a group could point at")
    place = [
        tree.image(CONTAINS, REFERENCED_SEGMENT, material.outlines.reference(segment.number)),
        tree.uidref(CONTAINS, SOURCE_SERIES, material.volume.series_uid),
    ]
    return _measured(material, segment, place, "1411", for_display=for_display)


def detection_group(
    material: Material, detection: Detection, *, for_display: bool, patient: bool = False
) -> Dataset:
    """Return what was pointed at, with its confidence, measurements and evaluations.

    TID 1410 on one image; TID 1411 where a box spans several images and the report is not meant
    ``for_display`` (OHIF draws the first region only). With ``patient`` the places are in
    the patient's frame of reference.
    """
    volume = material.volume
    drawn = regions.detection_regions(detection, volume)
    if for_display or len(drawn) == 1:
        region = regions.key_region(drawn)
        if for_display:
            region = regions.displayed(region, volume)
        place = [regions.patient_item(region, volume) if patient else regions.image_item(region, volume)]
        return _measured(material, detection, place, "1410", for_display=for_display)
    if patient:
        source = tree.uidref(CONTAINS, SOURCE_SERIES, volume.series_uid)
        place = [*regions.surface_items(drawn, volume), source]
    else:
        place = [regions.image_item(region, volume) for region in drawn]
    return _measured(material, detection, place, "1411", for_display=for_display)


def pointless_group(material: Material, detection: Detection) -> Dataset:
    """TID 1501: a detection with the image it is on, for readers that bear no drawing."""
    region = regions.key_region(regions.detection_regions(detection, material.volume))
    source = image_reference(material.volume.slices[region.index])
    place = [tree.image(CONTAINS, SOURCE_OF_MEASUREMENT, source)]
    return _measured(material, detection, place, "1501", for_display=True)


def image_groups(material: Material) -> list[Dataset]:
    """TID 1501: what is said of several structures together, and of the image as a whole."""
    findings = material.findings
    loose = [n for n in material.numbers if n.measurement.segment is None and n.measurement.detection is None]
    answers = [e for e in findings.evaluations if e.segment is None and e.detection is None]
    groups = []
    for union in dict.fromkeys([*(n.measurement.union for n in loose), *([()] if answers else [])]):
        numbers = [n for n in loose if n.measurement.union == union]
        is_waveform = material.volume.image.is_waveform
        name = numbers[0].label if union else "Whole recording" if is_waveform else "Whole image"
        uid = material.job.uid(" ".join(["tracking image", *(str(number) for number in union)]))
        refer = tree.waveform if is_waveform else tree.image
        sources = [
            refer(CONTAINS, SOURCE_OF_MEASUREMENT, reference)
            for reference in sop_references(instances_of(material.volume))
        ]
        said = [
            *(measured_item(number, for_display=False) for number in numbers),
            *(evaluation_item(CONTAINS, answer) for answer in ([] if union else answers)),
        ]
        about = _tracking(material, cut(name, 64), uid)
        groups.append(_group([*about, *algorithm_items(material.algorithm), *sources, *said], "1501"))
    return groups


def absence_groups(material: Material) -> list[Dataset]:
    """TID 1501: each structure and kind that is not there; and, if nothing at all was found, that (R-44)."""
    findings, outlines = material.findings, material.outlines
    empty = [s for s in findings.segments if outlines is not None and not outlines.voxels(s.number)]
    algorithm = algorithm_items(material.algorithm)
    groups = []
    for segment in empty:
        numbers = [n for n in material.numbers if n.measurement.segment == segment.number]
        said = [
            tree.code(CONTAINS, PRESENCE, ABSENT),
            *(measured_item(number, for_display=False) for number in numbers),
            *(evaluation_item(CONTAINS, e) for e in findings.evaluations if e.segment == segment.number),
        ]
        groups.append(_group([*_about(material, segment), *algorithm, *said], "1501"))
    for kind in undetected(material):
        about = _tracking(material, cut(kind.meaning, 64), material.job.uid(f"tracking absent {kind[:2]}"))
        said = [tree.code(CONTAINS, FINDING, kind), tree.code(CONTAINS, PRESENCE, ABSENT)]
        groups.append(_group([*about, *algorithm, *said], "1501"))
    if (summary := summary_of(material)) is not None:
        about = _tracking(material, "Analysis", material.job.uid("tracking analysis"))
        groups.append(_group([*about, *algorithm, tree.code(CONTAINS, SUMMARY, summary)], "1501"))
    return groups


def summary_of(material: Material) -> Code | None:
    """Return what is said of the analysis as a whole, where no group says what was found.

    A report has a group at least, and a map has none of its own.
    """
    if found_nothing(material):
        return NOTHING_FOUND
    findings = material.findings
    told = (findings.segments, findings.detections, findings.measurements, findings.evaluations)
    return None if any(told) or undetected(material) else SOMETHING_FOUND


def found_nothing(material: Material) -> bool:
    """Return whether nothing at all was found: all reports ask here before they say so.

    Every answer is a finding, and so are a number and a map, unless they are about structures of
    which no voxel is there.
    """
    findings, outlines = material.findings, material.outlines
    return not (
        findings.detections
        or findings.evaluations
        or any(outlines and outlines.voxels(s.number) for s in findings.segments)
        or any(m.segment is None and not m.union for m in findings.measurements)
        or any(one.segment is None for one in findings.maps)
    )


def undetected(material: Material) -> list[Code]:
    """Return the kinds of thing that the pipeline can detect and did not."""
    seen = {detection.kind[:2] for detection in material.findings.detections}
    return [kind for kind in material.job.card.detects if kind[:2] not in seen]


def time_point(material: Material, role: str) -> list[Dataset]:
    """TID 1502: to which time an input belongs, where a case has inputs of several studies."""
    if len({volume.study_uid for volume in material.volumes.values()}) == 1:
        return []
    return [tree.text(HAS_OBS_CONTEXT, TIME_POINT, role)]


def _measured(
    material: Material, finding: Finding, place: Sequence[Dataset], template: str, *, for_display: bool
) -> Dataset:
    is_segment = isinstance(finding, Segment)

    def about(segment: int | None, detection: int | None) -> bool:
        return (segment if is_segment else detection) == finding.number

    numbers = [n for n in material.numbers if about(n.measurement.segment, n.measurement.detection)]
    answers = [e for e in material.findings.evaluations if about(e.segment, e.detection)]
    confidence = None if isinstance(finding, Segment) else finding.confidence
    return _group(
        [
            *_about(material, finding),
            *algorithm_items(material.algorithm),
            *place,
            *([certainty_item(CONTAINS, confidence)] if confidence is not None else []),
            *(measured_item(number, for_display=for_display) for number in numbers),
            *(evaluation_item(CONTAINS, answer) for answer in answers),
        ],
        template,
    )


def _about(material: Material, finding: Finding) -> list[Dataset]:
    """What every group of a finding begins with: tracking, time, finding, site."""
    site, side = finding_site(finding), finding.laterality
    sided = [tree.code(HAS_CONCEPT_MOD, LATERALITY, side)] if side is not None else []
    items = [
        *_tracking(material, tracking_id(finding), tracking_uid(material, finding)),
        tree.code(CONTAINS, FINDING_CATEGORY, finding.category),
        tree.code(CONTAINS, FINDING, finding.kind, sided if site is None else ()),
    ]
    if site is not None:
        items.append(tree.code(HAS_CONCEPT_MOD, FINDING_SITE, site, sided))
    return items


def _tracking(material: Material, name: str, uid: str) -> list[Dataset]:
    return [
        tree.text(HAS_OBS_CONTEXT, TRACKING_ID, name),
        tree.uidref(HAS_OBS_CONTEXT, TRACKING_UID, uid),
        *time_point(material, material.role),
    ]


def _group(items: Sequence[Dataset], template: str) -> Dataset:
    return tree.container(CONTAINS, MEASUREMENT_GROUP, items, template=template)
