"""What a Key Object Selection must be, beside what every object must be (`node.encode.lint`)."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.uid import KeyObjectSelectionDocumentStorage

from node.encode.common import RESEARCH_NOTICE
from node.encode.identity import Algorithm
from node.encode.material import Material
from node.encode.render.key_objects import DESCRIPTION, TITLE, key_slices
from node.encode.sr import document
from node.encode.sr.tree import children, name_of
from node.model import ResultObject

#: What the content may hold (PS3.3 A.35.4.3.1.1).
_TYPES = frozenset({"TEXT", "IMAGE", "COMPOSITE", "WAVEFORM"})


def key_objects_faults(dataset: Dataset, result: ResultObject, material: Material) -> Iterator[str]:
    """Yield every fault of a Key Object Selection."""
    if dataset.SOPClassUID != KeyObjectSelectionDocumentStorage or dataset.Modality != "KO":
        yield "the class or modality is not Key Object Selection"
    if name_of(dataset)[:2] != TITLE[:2]:
        yield "the title is not the one of images of interest"
    templates = [t.get("TemplateIdentifier") for t in dataset.get("ContentTemplateSequence") or ()]
    if templates != ["2010"]:
        yield "the root does not name template 2010"
    contents = [c for c in children(dataset) if c.RelationshipType == "CONTAINS"]
    if not {c.ValueType for c in contents} <= _TYPES:
        yield "it holds items that a selection may not hold"
    told = [str(c.TextValue) for c in children(dataset, "TEXT", DESCRIPTION)]
    if len(told) != 1 or RESEARCH_NOTICE not in told[0]:
        yield "its one description does not say that it is for research only"
    yield from _observer_faults(dataset, material.algorithm)
    yield from _choice_faults(contents, result, material)
    yield from _evidence_faults(dataset, contents)


def _observer_faults(dataset: Dataset, algorithm: Algorithm) -> Iterator[str]:
    observers = [str(c.UID) for c in children(dataset, "UIDREF", document.DEVICE_UID)]
    if observers != [algorithm.device_uid]:
        yield "the device observer is not the algorithm of the job"


def _choice_faults(contents: list[Dataset], result: ResultObject, material: Material) -> Iterator[str]:
    chosen: list[tuple[str, int | None]] = []
    ours: list[str] = []
    siblings = {thing.sop_instance_uid: thing for thing in material.siblings}
    for content in contents:
        for reference in content.get("ReferencedSOPSequence") or ():
            uid, frames = str(reference.ReferencedSOPInstanceUID), reference.get("ReferencedFrameNumber")
            if uid in siblings:
                ours.append(uid)
                report = siblings[uid].kind.startswith("sr-")
                if content.ValueType != ("COMPOSITE" if report else "IMAGE"):
                    yield "it refers to an object of ours as something else than it is"
            elif frames is None:
                chosen.append((uid, None))
            else:
                chosen += [(uid, int(f)) for f in ([frames] if isinstance(frames, int) else frames)]
    wanted = {
        (s.sop_instance_uid, s.frame) for s in (material.volume.slices[i] for i in key_slices(material))
    }
    if len(chosen) != len(wanted) or set(chosen) != wanted:
        yield "the images are not those that show most of the findings"
    if len(set(ours)) != len(ours) or set(ours) != set(result.refers_to):
        yield "the objects of ours are not each referred to once"


def _evidence_faults(dataset: Dataset, contents: list[Dataset]) -> Iterator[str]:
    listed = [
        str(reference.ReferencedSOPInstanceUID)
        for study in dataset.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    ]
    named = {str(r.ReferencedSOPInstanceUID) for c in contents for r in c.get("ReferencedSOPSequence") or ()}
    if len(set(listed)) != len(listed) or set(listed) != named:
        yield "the evidence is not what it refers to, each once"
    studies = {str(study.StudyInstanceUID) for study in dataset.CurrentRequestedProcedureEvidenceSequence}
    if studies != {str(dataset.StudyInstanceUID)}:
        yield "the evidence is of another study"
