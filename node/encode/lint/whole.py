"""What every object must be, and what holds between the objects of one job."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from node.encode.attributes import PATIENT, STUDY
from node.encode.common import series_description, series_number
from node.encode.identity import EncodeJob, algorithm_of
from node.encode.items import code_of
from node.encode.kinds import NEXT_OF_KIND
from node.encode.lint.alone import identity_faults
from node.encode.material import Material
from node.model import ResultObject

#: Attributes that every object of a job must carry with the same value.
SHARED = (*(a.keyword for a in (*PATIENT, *STUDY)), "StudyInstanceUID", "TimezoneOffsetFromUTC")
_TYPE_2 = tuple(a.keyword for a in (*PATIENT, *STUDY) if a.type2)
#: Software that wrote the bytes must never pass for the algorithm (standards finding 7).
_LIBRARIES = frozenset({"pydicom", "highdicom", "dcmtk", "dcmqi", "itk", "monai", "gdcm"})
#: Transfer syntaxes that we write.
SYNTAXES = frozenset({ExplicitVRLittleEndian, RLELossless})


def object_faults(dataset: Dataset, result: ResultObject, material: Material) -> Iterator[str]:
    """Yield what is wrong with an object of any kind: file, identity, header, algorithm."""
    volumes, job = material.volumes, material.job
    if dataset.file_meta.TransferSyntaxUID not in SYNTAXES:
        yield "the transfer syntax is not one that we write"
    with result.path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != result.sha256:
            yield "the file changed after it was written"
    yield from identity_faults(dataset, result)
    if dataset.StudyInstanceUID != material.volume.study_uid:
        yield "the study is not that of the source"
    if dataset.SeriesInstanceUID in {v.series_uid for v in volumes.values()}:
        yield "the series is a series of the source"
    if absent := [keyword for keyword in _TYPE_2 if keyword not in dataset]:
        yield f"mandatory attributes are absent: {', '.join(absent)}"
    description = str(dataset.get("SeriesDescription", ""))
    before, apart = divmod(int(dataset.SeriesNumber) - series_number(job, result.kind), NEXT_OF_KIND)
    if before < 0 or apart:
        yield "Series Number is not one of this kind of object"
    elif description != series_description(job, result.kind, before + 1) or "research" not in description:
        yield "Series Description is not the configured one, or does not say research"
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


def set_faults(objects: Sequence[ResultObject], datasets: Sequence[Dataset]) -> Iterator[str]:
    """Yield what is wrong between the objects of one job."""
    for what in ("sop_instance_uid", "series_uid"):
        uids = [getattr(result, what) for result in objects]
        if len(set(uids)) != len(uids):
            yield f"two objects share one {what}"
    if not any(result.kind.startswith("sr-") for result in objects):
        yield "there is no report"
    before: set[str] = set()
    for result in objects:
        if not set(result.refers_to) <= before:
            yield f"{result.kind} comes before an object that it refers to"
        before.add(result.sop_instance_uid)
    for other in datasets[1:]:
        for keyword in SHARED:
            if datasets[0].get(keyword) != other.get(keyword):
                yield f"the objects disagree about {keyword}"
