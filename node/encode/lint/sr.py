"""What the reports must be, beside what every object must be (`node.encode.lint`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage

from node.encode.common import RESEARCH_NOTICE
from node.encode.identity import Algorithm
from node.encode.items import used_instances
from node.encode.lint import groups
from node.encode.material import Material
from node.encode.repair import clean_text
from node.encode.sr import document, library, measurements, segments, text
from node.encode.sr.tree import children, name_of, walk
from node.model import ResultObject
from pipelines.contract import Code


def measurement_faults(dataset: Dataset, result: ResultObject, material: Material) -> Iterator[str]:
    """Yield every fault of a measurement report: what viewers draw."""
    yield from _report_faults(dataset, result, material)
    yield from _root_faults(dataset, measurements.TITLE, ComprehensiveSRStorage)
    is_waveform = material.volume.image.is_waveform
    yield from groups.group_faults(dataset, material, groups.RECORDING if is_waveform else groups.VIEWER)
    for content in walk(dataset):
        if content.get("ValueType") == "SCOORD3D":
            yield "a place is in the patient, where viewers draw nothing"


def air_faults(dataset: Dataset, result: ResultObject, material: Material) -> Iterator[str]:
    """Yield every fault of a findings report: everything in one tree."""
    yield from _report_faults(dataset, result, material)
    yield from _root_faults(dataset, measurements.TITLE, Comprehensive3DSRStorage)
    yield from _reference_faults(dataset, material)
    yield from groups.group_faults(dataset, material, groups.AIR)
    yield from _remark_faults(dataset, material)
    libraries = children(dataset, "CONTAINER", library.IMAGE_LIBRARY)
    listed = {
        str(content.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for content in (c for box in libraries for c in walk(box))
        if content.get("ValueType") == "IMAGE"
    }
    images = {role: one for role, one in material.volumes.items() if not one.image.is_waveform}
    if listed != used_instances(images):
        yield "the image library does not hold the images that were used"


def segments_faults(dataset: Dataset, result: ResultObject, material: Material) -> Iterator[str]:
    """Yield every fault of a segment report: groups that point at segments, and no drawing."""
    yield from _report_faults(dataset, result, material)
    yield from _root_faults(dataset, segments.TITLE, ComprehensiveSRStorage)
    yield from _reference_faults(dataset, material)
    yield from groups.group_faults(dataset, material, groups.SEGMENTS)
    yield from _remark_faults(dataset, material)
    if any(content.get("ValueType") in ("SCOORD", "SCOORD3D") for content in walk(dataset)):
        yield "it holds a drawing, so 3D Slicer would not load the segmentation"


def text_faults(dataset: Dataset, result: ResultObject, material: Material) -> Iterator[str]:
    """Yield every fault of a text report."""
    yield from _report_faults(dataset, result, material)
    yield from _reference_faults(dataset, material)
    yield from _text_faults(dataset, material)
    yield from _remark_faults(dataset, material)


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
    yield from _predecessor_faults(dataset, material)
    yield from _evidence_faults(dataset, result, material)
    yield from _observer_faults(dataset, material.algorithm)
    yield from _item_faults(dataset, material.algorithm)


def _root_faults(dataset: Dataset, title: Code, sop_class: str) -> Iterator[str]:
    if dataset.SOPClassUID != sop_class or name_of(dataset) != title:
        yield "the class or title is not that of this kind of report"
    templates = [t.get("TemplateIdentifier") for t in dataset.get("ContentTemplateSequence") or ()]
    if templates != ["1500"]:
        yield "the root does not name template 1500"


def _predecessor_faults(dataset: Dataset, material: Material) -> Iterator[str]:
    """A report names every one that it supersedes (R-13)."""
    named = {
        (str(study.StudyInstanceUID), str(series.SeriesInstanceUID), str(r.ReferencedSOPInstanceUID))
        for study in dataset.get("PredecessorDocumentsSequence") or ()
        for series in study.ReferencedSeriesSequence
        for r in series.ReferencedSOPSequence
    }
    meant = {(p.study_uid, p.series_uid, p.sop_instance_uid) for p in material.job.predecessors}
    if named != meant:
        yield "the predecessor documents are not those that the job supersedes"


def _reference_faults(dataset: Dataset, material: Material) -> Iterator[str]:
    """A root report refers in its tree to all other objects of the job (H-02)."""
    boxes = children(dataset, "CONTAINER", document.DERIVED_OBJECTS)
    referred = [
        (str(r.ReferencedSOPInstanceUID), content.ValueType)
        for box in boxes
        for content in walk(box)
        for r in content.get("ReferencedSOPSequence") or ()
    ]
    meant = [
        (o.sop_instance_uid, "IMAGE" if o.kind in document.IMAGES else "COMPOSITE")
        for o in material.siblings
        if o.sop_instance_uid != dataset.SOPInstanceUID
    ]
    if referred != meant:
        yield "the root report does not refer to every other object of the job"


def _evidence_faults(dataset: Dataset, result: ResultObject, material: Material) -> Iterator[str]:
    """Evidence = everything used + everything of ours referred to, each once (R-10)."""
    listed: list[str] = []
    for keyword in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence"):
        for study in dataset.get(keyword) or ():
            for series in study.ReferencedSeriesSequence:
                listed += [str(r.ReferencedSOPInstanceUID) for r in series.ReferencedSOPSequence]
    if len(set(listed)) != len(listed):
        yield "an instance is listed twice in the evidence, which Stone cannot read"
    if set(listed) != used_instances(material.volumes) | set(result.refers_to):
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


def _text_faults(dataset: Dataset, material: Material) -> Iterator[str]:
    findings = material.findings
    if dataset.SOPClassUID != EnhancedSRStorage or name_of(dataset) != text.title_of(material.volume):
        yield "the class or title is not that of a text report"
    for content in walk(dataset):
        if content.get("ValueType") == "CONTAINER" and content.get("ContinuityOfContent") != "SEPARATE":
            yield "a container is not SEPARATE, so viewers run its lines together"
    told = [name_of(c)[:2] for c in walk(dataset) if c.get("ValueType") in ("NUM", "CODE")]
    if sum(map(told.count, {m.name[:2] for m in findings.measurements})) < len(findings.measurements):
        yield "a measurement is missing"
    if sum(map(told.count, {e.name[:2] for e in findings.evaluations})) < len(findings.evaluations):
        yield "an evaluation is missing"
    seen = [text.detection_sentence(material, detection) for detection in findings.detections]
    yield from _unsaid(dataset, "detections", seen)
    if not children(dataset, "CONTAINER", text.FINDINGS)[0].get("ContentSequence"):
        yield "it says nothing at all, not even that nothing was found"


def _remark_faults(dataset: Dataset, material: Material) -> Iterator[str]:
    """A root report is read alone, so it says what every result says, and what to beware of."""
    lines = [str(content.TextValue) for content in walk(dataset) if content.get("ValueType") == "TEXT"]
    if RESEARCH_NOTICE not in lines:
        yield "it does not say that it is for research only"
    card, notes = material.job.card, [note for v in material.volumes.values() for note in v.notes]
    yield from _unsaid(dataset, "warnings of the card", [card.warning] if card.warning else [])
    yield from _unsaid(dataset, "cautions", material.findings.cautions)
    yield from _unsaid(dataset, "notes about the images", notes)


def _unsaid(dataset: Dataset, what: str, sentences: Sequence[str]) -> Iterator[str]:
    spoken = "\n".join(str(c.TextValue) for c in walk(dataset) if c.get("ValueType") == "TEXT")
    if unsaid := [s for s in sentences if clean_text(s, lines=True)[:40] not in spoken]:
        yield f"{len(unsaid)} {what} are missing"
