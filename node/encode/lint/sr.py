"""What the reports must be, beside what every object must be (`node.encode.lint`)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage, EnhancedSRStorage

from node.encode.common import RESEARCH_NOTICE
from node.encode.identity import Algorithm
from node.encode.items import instances_of
from node.encode.material import Material
from node.encode.numbers import rounded
from node.encode.repair import clean_text
from node.encode.seg.outlines import Outlines
from node.encode.sr import document, measurements, text
from node.encode.sr.contour import POINTS_MAX, POINTS_MIN, is_simple
from node.encode.sr.tree import children, name_of, walk
from node.model import ResultObject, Volume, Volumes
from pipelines.contract import Findings


def measurement_faults(dataset: Dataset, result: ResultObject, material: Material) -> Iterator[str]:
    """Yield every fault of a measurement document."""
    yield from _report_faults(dataset, result, material)
    yield from _measurement_faults(dataset, material)


def text_faults(dataset: Dataset, result: ResultObject, material: Material) -> Iterator[str]:
    """Yield every fault of a text document."""
    yield from _report_faults(dataset, result, material)
    yield from _text_faults(dataset, material.findings, material.volumes)


def _report_faults(dataset: Dataset, result: ResultObject, material: Material) -> Iterator[str]:
    """What holds for every document."""
    flags = (dataset.get("CompletionFlag"), dataset.get("VerificationFlag"), dataset.get("PreliminaryFlag"))
    if flags != ("COMPLETE", "UNVERIFIED", "PRELIMINARY"):
        yield "it is not marked as complete, unverified and preliminary"
    if dataset.Modality != "SR":
        yield "the modality is not SR"
    if dataset.get("ReferencedPerformedProcedureStepSequence") is None:
        yield "Referenced Performed Procedure Step Sequence is absent"
    if dataset.get("ContinuityOfContent") != "SEPARATE":
        yield "the root is not SEPARATE, so viewers run its lines together"
    yield from _evidence_faults(dataset, result, material)
    yield from _observer_faults(dataset, material.algorithm)
    yield from _item_faults(dataset, material.algorithm)


def _evidence_faults(dataset: Dataset, result: ResultObject, material: Material) -> Iterator[str]:
    """Evidence = everything used + everything of ours referred to, each once (R-10)."""
    listed: list[str] = []
    for keyword in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence"):
        for study in dataset.get(keyword) or ():
            for series in study.ReferencedSeriesSequence:
                listed += [str(r.ReferencedSOPInstanceUID) for r in series.ReferencedSOPSequence]
    if len(set(listed)) != len(listed):
        yield "an instance is listed twice in the evidence, which Stone cannot read"
    used = {uid for volume in material.volumes.values() for _, uid in instances_of(volume)}
    if set(listed) != used | set(result.refers_to):
        yield "the evidence is not what was used and what is referred to"
    in_tree = {
        str(reference.ReferencedSOPInstanceUID)
        for content in walk(dataset)
        for reference in content.get("ReferencedSOPSequence") or ()
    }
    if not in_tree <= set(listed):
        yield "the tree refers to an instance that is not in the evidence"
    if not set(result.refers_to) <= {o.sop_instance_uid for o in material.siblings}:
        yield "it refers to an object that is not in this result"


def _observer_faults(dataset: Dataset, algorithm: Algorithm) -> Iterator[str]:
    languages = children(dataset, "CODE", document.LANGUAGE)
    if len(languages) != 1:
        yield "the language is not said"
    observed = {
        name_of(content).value: content.get("UID") or content.get("TextValue")
        for content in children(dataset)
    }
    said = tuple(
        observed.get(concept.value)
        for concept in (document.DEVICE_UID, document.DEVICE_MANUFACTURER, document.DEVICE_MODEL)
    )
    if said != (algorithm.device_uid, algorithm.maker, algorithm.name):
        yield "the device observer is not the algorithm of the job"
    wanted = {
        document.ALGORITHM_NAME.value: algorithm.name,
        document.ALGORITHM_VERSION.value: algorithm.version,
        document.ALGORITHM_MAKER.value: algorithm.maker,
    }
    found = {
        (name_of(content).value, content.get("TextValue"))
        for content in walk(dataset)
        if name_of(content).value in wanted
    }
    if found != set(wanted.items()):
        yield "the algorithm identification is not that of the job"


def _item_faults(dataset: Dataset, algorithm: Algorithm) -> Iterator[str]:
    for content in walk(dataset):
        kind = content.get("ValueType")
        if kind != "IMAGE" and not all(name_of(content)):
            yield f"a {kind} item has no complete concept name"
        if kind == "NUM":
            values = content.get("MeasuredValueSequence")
            if not values and not content.get("NumericValueQualifierCodeSequence"):
                yield f"the number {name_of(content).meaning} has neither a value nor a reason"
            if values and not values[0].get("MeasurementUnitsCodeSequence"):
                yield f"the number {name_of(content).meaning} has no unit"
        if kind == "TEXT" and not content.get("TextValue"):
            yield f"the text {name_of(content).meaning} is empty"


def _measurement_faults(dataset: Dataset, material: Material) -> Iterator[str]:
    outlines, findings = material.outlines, material.findings
    if dataset.SOPClassUID != ComprehensiveSRStorage or name_of(dataset) != measurements.TITLE:
        yield "the class or title is not that of a measurement report"
    templates = [t.get("TemplateIdentifier") for t in dataset.get("ContentTemplateSequence") or ()]
    if templates != ["1500"]:
        yield "the root does not name template 1500"
    if outlines is None:
        yield "there is a measurement report without a segmentation"
        return
    boxes = children(dataset, "CONTAINER", measurements.IMAGING_MEASUREMENTS)
    groups = [g for box in boxes for g in children(box, "CONTAINER", measurements.MEASUREMENT_GROUP)]
    kinds = [str(g.ContentTemplateSequence[0].TemplateIdentifier) for g in groups]
    segments = [s for s in findings.segments if outlines.voxels(s.number)]
    if kinds != ["1410", "1411"] * len(segments):
        yield "there is not one contour group and then one segment group for each structure with voxels"
        return
    for segment, contour, measured in zip(segments, groups[0::2], groups[1::2], strict=True):
        for group in (contour, measured):
            names = children(group, "TEXT", measurements.TRACKING_ID)
            uids = [str(c.UID) for c in children(group, "UIDREF", measurements.TRACKING_UID)]
            if len(names) != 1 or uids != [outlines.tracking(segment.number)[1]]:
                yield f"a group of segment {segment.number} is not tied to it by its tracking identifiers"
        yield from _contour_faults(contour, segment.number, outlines, material.volume)
        yield from _number_faults(measured, segment.number, outlines, material)


def _contour_faults(group: Dataset, number: int, outlines: Outlines, volume: Volume) -> Iterator[str]:
    regions = children(group, "SCOORD", measurements.IMAGE_REGION)
    if len(regions) != 1:
        yield f"segment {number} has no contour, which would blank the report in OHIF"
        return
    if children(group, "NUM"):
        yield f"the contour group of segment {number} holds numbers"
    region = regions[0]
    points = np.array(region.GraphicData, dtype=np.float64).reshape(-1, 2)
    if region.GraphicType != "POLYLINE" or not np.array_equal(points[0], points[-1]):
        yield f"the contour of segment {number} is not a closed polyline"
    if not POINTS_MIN <= len(points) <= POINTS_MAX or not is_simple(points):
        yield f"the contour of segment {number} has too few or too many points, or crosses itself"
    areas = outlines.voxels(number)
    sources = children(region, "IMAGE")
    reference = sources[0].ReferencedSOPSequence[0] if sources else Dataset()
    place = (str(reference.get("ReferencedSOPInstanceUID")), reference.get("ReferencedFrameNumber"))
    planes = [i for i, s in enumerate(volume.slices) if (s.sop_instance_uid, s.frame) == place]
    if not planes or areas.get(planes[0]) != max(areas.values()):
        yield f"the contour of segment {number} is not on the slice where it is largest"
        return
    rows, columns = np.nonzero(outlines.plane(number, planes[0]))
    box = (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1)
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    if left < box[0] or right > box[1] or top < box[2] or bottom > box[3]:
        yield f"the contour of segment {number} leaves the segment"


def _number_faults(group: Dataset, number: int, outlines: Outlines, material: Material) -> Iterator[str]:
    references = [
        c.ReferencedSOPSequence[0] for c in children(group, "IMAGE", measurements.REFERENCED_SEGMENT)
    ]
    if references != [outlines.reference(number)]:
        yield f"the segment group of segment {number} does not refer to that segment"
    wanted = [m for m in material.findings.measurements if m.segment == number and math.isfinite(m.value)]
    items = children(group, "NUM")
    if [name_of(i)[:2] for i in items] != [m.name[:2] for m in wanted]:
        yield f"the numbers of segment {number} are not those of the findings"
        return
    for content, measurement in zip(items, wanted, strict=True):
        value = float(content.MeasuredValueSequence[0].NumericValue)
        expected = measurement.value
        if measurement.check == "volume":
            expected = sum(outlines.voxels(number).values()) * material.volume.image.voxel_ml
        if not math.isclose(value, rounded(expected), rel_tol=1e-4, abs_tol=1e-3):
            yield f"segment {number}: {measurement.name.meaning} is not the number of the encoded segment"


def _text_faults(dataset: Dataset, findings: Findings, volumes: Volumes) -> Iterator[str]:
    if dataset.SOPClassUID != EnhancedSRStorage or name_of(dataset) != text.TITLE:
        yield "the class or title is not that of a text report"
    for content in walk(dataset):
        if content.get("ValueType") == "CONTAINER" and content.get("ContinuityOfContent") != "SEPARATE":
            yield "a container is not SEPARATE, so viewers run its lines together"
    lines = [str(content.TextValue) for content in walk(dataset) if content.get("ValueType") == "TEXT"]
    if RESEARCH_NOTICE not in lines:
        yield "it does not say that it is for research only"
    if len([c for c in walk(dataset) if c.get("ValueType") == "NUM"]) < len(findings.measurements):
        yield "a measurement is missing"
    spoken = "\n".join(lines)
    notes = [note for volume in volumes.values() for note in volume.notes]
    for what, sentences in (("cautions", findings.cautions), ("notes about the images", notes)):
        if unsaid := [s for s in sentences if clean_text(s, lines=True)[:40] not in spoken]:
            yield f"{len(unsaid)} {what} are missing"
    if not children(dataset, "CONTAINER", text.FINDINGS)[0].get("ContentSequence"):
        yield "it says nothing at all, not even that nothing was found"
