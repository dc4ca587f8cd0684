"""What the reports must be, beside what every object must be (`node.encode.lint`)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage, EnhancedSRStorage

from node.encode import report, sr_measurements, sr_text
from node.encode.common import RESEARCH_NOTICE
from node.encode.contour import POINTS_MAX, POINTS_MIN, is_simple
from node.encode.identity import Algorithm, EncodeJob, algorithm_of
from node.encode.items import instances_of
from node.encode.numbers import rounded
from node.encode.readback import EncodedSeg
from node.encode.repair import clean_text
from node.encode.tree import children, name_of, walk
from node.model import ResultObject, Volumes
from pipelines.contract import Findings


def report_faults(
    dataset: Dataset,
    result: ResultObject,
    objects: Sequence[ResultObject],
    volumes: Volumes,
    job: EncodeJob,
    findings: Findings,
    role: str,
    seg: EncodedSeg | None,
) -> Iterator[str]:
    """Yield every fault of a structured report that was read back from disk."""
    flags = (dataset.get("CompletionFlag"), dataset.get("VerificationFlag"), dataset.get("PreliminaryFlag"))
    if flags != ("COMPLETE", "UNVERIFIED", "PRELIMINARY"):
        yield "it is not marked as complete, unverified and preliminary"
    if dataset.Modality != "SR":
        yield "the modality is not SR"
    if dataset.get("ReferencedPerformedProcedureStepSequence") is None:
        yield "Referenced Performed Procedure Step Sequence is absent"
    if dataset.get("ContinuityOfContent") != "SEPARATE":
        yield "the root is not SEPARATE, so viewers run its lines together"
    algorithm = algorithm_of(job.card)
    yield from _evidence_faults(dataset, result, objects, volumes)
    yield from _observer_faults(dataset, algorithm)
    yield from _item_faults(dataset, algorithm)
    if result.kind == "sr-measurements":
        yield from _measurement_faults(dataset, volumes, findings, role, seg)
    else:
        yield from _text_faults(dataset, findings, volumes)


def _evidence_faults(
    dataset: Dataset, result: ResultObject, objects: Sequence[ResultObject], volumes: Volumes
) -> Iterator[str]:
    """Evidence = everything used + everything of ours referred to, each once (R-10)."""
    listed: list[str] = []
    for keyword in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence"):
        for study in dataset.get(keyword) or ():
            for series in study.ReferencedSeriesSequence:
                listed += [str(r.ReferencedSOPInstanceUID) for r in series.ReferencedSOPSequence]
    if len(set(listed)) != len(listed):
        yield "an instance is listed twice in the evidence, which Stone cannot read"
    used = {uid for volume in volumes.values() for _, uid in instances_of(volume)}
    if set(listed) != used | set(result.refers_to):
        yield "the evidence is not what was used and what is referred to"
    in_tree = {
        str(reference.ReferencedSOPInstanceUID)
        for content in walk(dataset)
        for reference in content.get("ReferencedSOPSequence") or ()
    }
    if not in_tree <= set(listed):
        yield "the tree refers to an instance that is not in the evidence"
    if not set(result.refers_to) <= {o.sop_instance_uid for o in objects}:
        yield "it refers to an object that is not in this result"


def _observer_faults(dataset: Dataset, algorithm: Algorithm) -> Iterator[str]:
    languages = children(dataset, "CODE", report.LANGUAGE)
    if len(languages) != 1:
        yield "the language is not said"
    observed = {
        name_of(content).value: content.get("UID") or content.get("TextValue")
        for content in children(dataset)
    }
    said = tuple(
        observed.get(concept.value)
        for concept in (report.DEVICE_UID, report.DEVICE_MANUFACTURER, report.DEVICE_MODEL)
    )
    if said != (algorithm.device_uid, algorithm.maker, algorithm.name):
        yield "the device observer is not the algorithm of the job"
    wanted = {
        report.ALGORITHM_NAME.value: algorithm.name,
        report.ALGORITHM_VERSION.value: algorithm.version,
        report.ALGORITHM_MAKER.value: algorithm.maker,
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


def _measurement_faults(
    dataset: Dataset, volumes: Volumes, findings: Findings, role: str, seg: EncodedSeg | None
) -> Iterator[str]:
    if dataset.SOPClassUID != ComprehensiveSRStorage or name_of(dataset) != sr_measurements.TITLE:
        yield "the class or title is not that of a measurement report"
    templates = [t.get("TemplateIdentifier") for t in dataset.get("ContentTemplateSequence") or ()]
    if templates != ["1500"]:
        yield "the root does not name template 1500"
    if seg is None:
        yield "there is a measurement report without a segmentation"
        return
    boxes = children(dataset, "CONTAINER", sr_measurements.IMAGING_MEASUREMENTS)
    groups = [g for box in boxes for g in children(box, "CONTAINER", sr_measurements.MEASUREMENT_GROUP)]
    kinds = [str(g.ContentTemplateSequence[0].TemplateIdentifier) for g in groups]
    segments = [s for s in findings.segments if seg.voxels.get(s.number)]
    if kinds != ["1410", "1411"] * len(segments):
        yield "there is not one contour group and then one segment group for each structure with voxels"
        return
    tracked = {int(s.SegmentNumber): str(s.TrackingUID) for s in seg.dataset.SegmentSequence}
    for segment, contour, measured in zip(segments, groups[0::2], groups[1::2], strict=True):
        for group in (contour, measured):
            names = children(group, "TEXT", sr_measurements.TRACKING_ID)
            uids = [str(c.UID) for c in children(group, "UIDREF", sr_measurements.TRACKING_UID)]
            if len(names) != 1 or uids != [tracked[segment.number]]:
                yield f"a group of segment {segment.number} is not tied to it by its tracking identifiers"
        yield from _contour_faults(contour, segment.number, volumes, role, seg)
        yield from _number_faults(measured, segment.number, volumes, findings, role, seg)


def _contour_faults(
    group: Dataset, number: int, volumes: Volumes, role: str, seg: EncodedSeg
) -> Iterator[str]:
    regions = children(group, "SCOORD", sr_measurements.IMAGE_REGION)
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
    areas = seg.voxels[number]
    sources = children(region, "IMAGE")
    reference = sources[0].ReferencedSOPSequence[0] if sources else Dataset()
    place = (str(reference.get("ReferencedSOPInstanceUID")), reference.get("ReferencedFrameNumber"))
    planes = [i for i, s in enumerate(volumes[role].slices) if (s.sop_instance_uid, s.frame) == place]
    if not planes or areas.get(planes[0]) != max(areas.values()):
        yield f"the contour of segment {number} is not on the slice where it is largest"
        return
    rows, columns = np.nonzero(seg.plane(seg.frames[number][planes[0]]))
    box = (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1)
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    if left < box[0] or right > box[1] or top < box[2] or bottom > box[3]:
        yield f"the contour of segment {number} leaves the segment"


def _number_faults(
    group: Dataset, number: int, volumes: Volumes, findings: Findings, role: str, seg: EncodedSeg
) -> Iterator[str]:
    references = [
        c.ReferencedSOPSequence[0] for c in children(group, "IMAGE", sr_measurements.REFERENCED_SEGMENT)
    ]
    said = [(str(r.ReferencedSOPInstanceUID), r.get("ReferencedSegmentNumber")) for r in references]
    if said != [(str(seg.dataset.SOPInstanceUID), number)]:
        yield f"the segment group of segment {number} does not refer to that segment"
    wanted = [m for m in findings.measurements if m.segment == number and math.isfinite(m.value)]
    items = children(group, "NUM")
    if [name_of(i)[:2] for i in items] != [m.name[:2] for m in wanted]:
        yield f"the numbers of segment {number} are not those of the findings"
        return
    for content, measurement in zip(items, wanted, strict=True):
        value = float(content.MeasuredValueSequence[0].NumericValue)
        expected = measurement.value
        if measurement.check == "volume":
            expected = sum(seg.voxels[number].values()) * volumes[role].image.voxel_ml
        if not math.isclose(value, rounded(expected), rel_tol=1e-4, abs_tol=1e-3):
            yield f"segment {number}: {measurement.name.meaning} is not the number of the encoded segment"


def _text_faults(dataset: Dataset, findings: Findings, volumes: Volumes) -> Iterator[str]:
    if dataset.SOPClassUID != EnhancedSRStorage or name_of(dataset) != sr_text.TITLE:
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
    if not children(dataset, "CONTAINER", sr_text.FINDINGS)[0].get("ContentSequence"):
        yield "it says nothing at all, not even that nothing was found"
