"""The last word before anything is sent: objects as they lie on disk, against every rule we know.

The judges of the field (dciodvfy, DCMTK, dcmqi) miss a report that a viewer shows blank, a
missing tracking identifier, a segmentation in a foreign study (viewers.md section 7); this lint
does not. It runs in production (standards R-49): an object with a fault is not sent.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

import node
from node.encode.attributes import PATIENT, STUDY
from node.encode.header import UNREADABLE
from node.encode.identity import EncodeJob, algorithm_of
from node.encode.items import code_of
from node.encode.lint_seg import seg_faults
from node.encode.lint_sr import report_faults
from node.encode.readback import EncodedSeg, read_seg
from node.errors import EncodeError
from node.model import ResultObject, Volumes
from pipelines.contract import Findings

#: Attributes that every object of a job must carry with the same value.
_SHARED = (*(a.keyword for a in (*PATIENT, *STUDY)), "StudyInstanceUID", "TimezoneOffsetFromUTC")
_TYPE_2 = tuple(a.keyword for a in (*PATIENT, *STUDY) if a.type2)
_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")
#: Software that wrote the bytes must never pass for the algorithm (standards finding 7).
_LIBRARIES = frozenset({"pydicom", "highdicom", "dcmtk", "dcmqi", "itk", "monai", "gdcm"})


def lint(
    objects: Sequence[ResultObject],
    volumes: Volumes,
    *,
    job: EncodeJob,
    findings: Findings,
    role: str,
    seg: EncodedSeg | None = None,
) -> None:
    """Judge the objects of one job.

    Parameters
    ----------
    role
        Whose grid the outlines are on.
    seg
        The segmentation as already read back from disk; without it the file is read.

    Raises
    ------
    EncodeError
        Something is wrong; the sentence lists every fault.
    """
    found = list(faults(objects, volumes, job=job, findings=findings, role=role, seg=seg))
    if found:
        raise EncodeError("the result is not fit to be sent: " + "; ".join(found))


def faults(
    objects: Sequence[ResultObject],
    volumes: Volumes,
    *,
    job: EncodeJob,
    findings: Findings,
    role: str,
    seg: EncodedSeg | None = None,
) -> Iterator[str]:
    """Yield every fault as a sentence without patient data; parameters as in `lint`."""
    datasets: dict[str, Dataset] = {}
    for result in objects:
        try:
            if result.kind == "seg":
                seg = seg or read_seg(result.path, volumes[role])
            dataset = seg.dataset if seg and result.kind == "seg" else pydicom.dcmread(result.path)
            datasets[result.kind] = dataset
            yield from (
                f"{result.kind}: {fault}" for fault in _object_faults(dataset, result, volumes, job, role)
            )
            if result.kind == "seg" and seg:
                own = seg_faults(seg, findings, volumes, role)
            else:
                own = report_faults(dataset, result, objects, volumes, job, findings, role, seg)
            yield from (f"{result.kind}: {fault}" for fault in own)
        except EncodeError as error:
            yield f"{result.kind}: {error}"
        except UNREADABLE as error:  # a damaged object: some attribute is absent or malformed
            told = f": {error}" if isinstance(error, AttributeError) else ""  # others may quote values
            yield f"{result.kind}: cannot be judged, {type(error).__name__}{told}"
    yield from _set_faults(objects, datasets)


def _object_faults(
    dataset: Dataset, result: ResultObject, volumes: Volumes, job: EncodeJob, role: str
) -> Iterator[str]:
    """What holds for every object: file, identity, header, algorithm."""
    meta = dataset.file_meta
    if meta.TransferSyntaxUID != ExplicitVRLittleEndian:
        yield "the transfer syntax is not Explicit VR Little Endian"
    if meta.MediaStorageSOPInstanceUID != dataset.SOPInstanceUID:
        yield "file meta information and data set name different instances"
    if meta.get("ImplementationClassUID") != node.IMPLEMENTATION_CLASS_UID:
        yield "the file does not name our implementation"
    with result.path.open("rb") as file:
        if file.read(132) != b"\0" * 128 + b"DICM":
            yield "the preamble is not zero"
        file.seek(0)
        if hashlib.file_digest(file, "sha256").hexdigest() != result.sha256:
            yield "the file changed after it was written"
    told = (result.sop_instance_uid, result.sop_class_uid, result.series_uid)
    if (dataset.SOPInstanceUID, dataset.SOPClassUID, dataset.SeriesInstanceUID) != told:
        yield "the object is not the one it is said to be"
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        uid = str(dataset.get(keyword, ""))
        if len(uid) > 64 or not _UID.fullmatch(uid):
            yield f"{keyword} is not a UID"
    if dataset.get("InstanceCreatorUID") != node.INSTANCE_CREATOR_UID:
        yield "Instance Creator UID is not ours, so the node would take its own result for new input"
    if dataset.get("SpecificCharacterSet") != "ISO_IR 192":
        yield "Specific Character Set is not ISO_IR 192"
    if dataset.StudyInstanceUID != volumes[role].study_uid:
        yield "the study is not that of the source"
    if dataset.SeriesInstanceUID in {v.series_uid for v in volumes.values()}:
        yield "the series is a series of the source"
    if absent := [keyword for keyword in _TYPE_2 if keyword not in dataset]:
        yield f"mandatory attributes are absent: {', '.join(absent)}"
    if dataset.get("ContentQualification") != "RESEARCH":
        yield "Content Qualification is not RESEARCH"
    description = str(dataset.get("SeriesDescription", ""))
    algorithm = algorithm_of(job.card)
    if len(description) > 64 or "research" not in description:
        yield "Series Description is longer than 64 characters or does not say research"
    if not description.startswith(algorithm.name[:20]):
        yield "Series Description does not name the algorithm"
    if not (dataset.get("ContentDate") and dataset.get("ContentTime")):
        yield "Content Date or Content Time is absent"
    yield from _equipment_faults(dataset, job)


def _equipment_faults(dataset: Dataset, job: EncodeJob) -> Iterator[str]:
    """The first of the four places of R-20, and the node as equipment (R-06)."""
    algorithm = algorithm_of(job.card)
    for keyword in ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions"):
        if not dataset.get(keyword):
            yield f"{keyword} is empty"
    items = [
        equipment
        for equipment in dataset.get("ContributingEquipmentSequence") or ()
        if code_of(equipment.PurposeOfReferenceCodeSequence[0])[:2] == ("109102", "DCM")
    ]
    if len(items) != 1:
        yield "Contributing Equipment Sequence does not name one processing equipment"
        return
    named = tuple(
        str(items[0].get(keyword, ""))
        for keyword in ("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "DeviceUID")
    )
    if named != (algorithm.maker, algorithm.name, algorithm.version, algorithm.device_uid):
        yield "Contributing Equipment Sequence does not name the algorithm of the job"
    if {part.lower() for part in named} & _LIBRARIES:
        yield "a software library is named as the algorithm"


def _set_faults(objects: Sequence[ResultObject], datasets: dict[str, Dataset]) -> Iterator[str]:
    """What holds between the objects of one job."""
    for what in ("sop_instance_uid", "series_uid"):
        uids = [getattr(result, what) for result in objects]
        if len(set(uids)) != len(uids):
            yield f"two objects share one {what}"
    if not any(result.kind == "sr-text" for result in objects):
        yield "there is no text report"
    before: set[str] = set()
    for result in objects:
        if not set(result.refers_to) <= before:
            yield f"{result.kind} comes before an object that it refers to"
        before.add(result.sop_instance_uid)
    judged = list(datasets.values())
    for other in judged[1:]:
        for keyword in _SHARED:
            if judged[0].get(keyword) != other.get(keyword):
                yield f"the objects disagree about {keyword}"
