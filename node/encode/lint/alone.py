"""The last word about an object that is made beside its job: a stand-in, a rejection note.

Nothing of the job is at hand there but what was judged when the job was encoded; so what is judged
here is what any object must be by itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import pydicom
from pydicom.dataset import Dataset

import node
from node.encode.common import named_instances
from node.encode.header import UNREADABLE
from node.encode.lint.codes import written_faults
from node.errors import EncodeError
from node.model import ResultObject
from node.uid import is_legal

_EVIDENCE = ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")


def lint_alone(result: ResultObject) -> None:
    """Judge an object as it lies on disk.

    Raises
    ------
    EncodeError
        Something is wrong; the sentence lists every fault.
    """
    try:
        dataset = pydicom.dcmread(result.path, defer_size="1 MB")
        found = [*identity_faults(dataset, result), *written_faults(dataset), *_evidence_faults(dataset)]
    except UNREADABLE as error:
        found = [f"it cannot be judged ({type(error).__name__})"]
    if found:
        raise EncodeError(f"the {result.kind} is not fit to be sent: {'; '.join(found)}")


def identity_faults(dataset: Dataset, result: ResultObject) -> Iterator[str]:
    """Yield what is wrong with the file of an object and with what it says that it is."""
    meta = dataset.file_meta
    if meta.MediaStorageSOPInstanceUID != dataset.SOPInstanceUID:
        yield "file meta information and data set name different instances"
    if meta.get("ImplementationClassUID") != node.IMPLEMENTATION_CLASS_UID:
        yield "the file does not name our implementation"
    with result.path.open("rb") as file:
        if file.read(132) != b"\0" * 128 + b"DICM":
            yield "the preamble is not zero"
    told = (result.sop_instance_uid, result.sop_class_uid, result.series_uid)
    if (dataset.SOPInstanceUID, dataset.SOPClassUID, dataset.SeriesInstanceUID) != told:
        yield "the object is not the one it is said to be"
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        if not is_legal(str(dataset.get(keyword, ""))):
            yield f"{keyword} is not a UID"
    if dataset.get("InstanceCreatorUID") != node.INSTANCE_CREATOR_UID:
        yield "Instance Creator UID is not ours, so the node would take its own result for new input"
    if dataset.get("SpecificCharacterSet") != "ISO_IR 192":
        yield "Specific Character Set is not ISO_IR 192"
    if dataset.get("ContentQualification") != "RESEARCH":
        yield "Content Qualification is not RESEARCH"
    if not (dataset.get("ContentDate") and dataset.get("ContentTime")):
        yield "Content Date or Content Time is absent"


def _evidence_faults(dataset: Dataset) -> Iterator[str]:
    """Whatever the tree of a document refers to must be in its evidence (R-10)."""
    if "ContentSequence" not in dataset:
        return
    evidence = frozenset[str]().union(
        *(named_instances(study) for keyword in _EVIDENCE for study in dataset.get(keyword) or ())
    )
    tree = frozenset[str]().union(*(named_instances(content) for content in dataset.ContentSequence))
    if not tree <= evidence:
        yield "the tree refers to an instance that is not in the evidence"
