"""The modules that every result shares: SOP Common, Patient, Study, Series, Equipment."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

import node
from node.durable import sync_file
from node.encode.header import Header
from node.encode.identity import NODE_NAME, Algorithm, EncodeJob, algorithm_of
from node.encode.items import coded, item
from node.encode.kinds import KINDS, NEXT_OF_KIND, what_of
from node.encode.material import Material
from node.encode.repair import cut
from node.model import ResultObject
from node.profile import Presentation
from pipelines.contract import Code

PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
#: The scheme of `pipelines.codes`, whoever made the algorithm that uses it.
OWN_SCHEME = "99RADNODE"
RESEARCH_NOTICE = "Research use only. Not for diagnosis."


def new_result(
    material: Material, kind: str, *, sop_class: str, modality: str, number: int = 1, variant: str = ""
) -> Dataset:
    """Return a result with everything that does not depend on its kind.

    Its UIDs follow from the job, what it is, and the siblings that it may refer to.

    Parameters
    ----------
    kind
        A key of `KINDS`.
    number
        Counts the objects of one kind from 1; each has its own series, because viewers show only
        the newest instance of a series.
    variant
        What else sets it apart from a sibling of the same kind for another profile, e.g. "labelmap".
    """
    job, header, algorithm = material.job, material.header, material.algorithm
    local = header.local(job.created_at)
    role, content = f"{kind} {number} {variant}", [s.sop_instance_uid for s in material.siblings]
    dataset = copy.deepcopy(header.dataset)
    if header.utc_offset:
        dataset.TimezoneOffsetFromUTC = header.utc_offset
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = job.uid(f"{role} instance", *content)
    dataset.InstanceCreatorUID = node.INSTANCE_CREATOR_UID
    dataset.InstanceCreationDate = dataset.ContentDate = dataset.SeriesDate = local.strftime("%Y%m%d")
    dataset.InstanceCreationTime = dataset.ContentTime = dataset.SeriesTime = local.strftime("%H%M%S.%f")
    dataset.ContentQualification = "RESEARCH"
    dataset.Modality = modality
    dataset.SeriesInstanceUID = job.uid(f"{role} series", *content)
    dataset.SeriesNumber = series_number(job, kind, number)
    dataset.SeriesDescription = series_description(job, kind, number)
    dataset.InstanceNumber = 1
    dataset.Manufacturer = dataset.ManufacturerModelName = NODE_NAME
    dataset.DeviceSerialNumber = cut(job.station or job.ae_title, 64)
    dataset.SoftwareVersions = node.__version__
    if job.station:
        dataset.StationName = cut(job.station, 16)
    dataset.ContributingEquipmentSequence = [_contributing_equipment(job, algorithm)]
    return dataset


def series_number(job: EncodeJob, kind: str, number: int = 1) -> int:
    """Return the Series Number of the n-th object of a kind."""
    return job.presentation.series_number + KINDS[kind].series_offset + NEXT_OF_KIND * (number - 1)


def declare_schemes(dataset: Dataset, parts: Iterable[Dataset], maker: str, header: Header) -> None:
    """Declare the private coding schemes (99...) used in these parts (PS3.3 C.12.1).

    We answer for ours and the maker of the algorithm for its own; those of the source's codes, such
    as a hospital's for its procedures, are named without an owner, because we do not know it.
    """
    owners: dict[str, tuple[str | None, str]]
    owners = dict.fromkeys(_schemes([header.dataset, *header.requests]), (None, "the source"))
    owners[OWN_SCHEME] = (NODE_NAME, NODE_NAME)
    private = sorted(scheme for scheme in _schemes(parts) if scheme.startswith("99"))
    told = [(scheme, *owners.get(scheme, (maker, "the algorithm's maker"))) for scheme in private]
    if told:
        dataset.CodingSchemeIdentificationSequence = [
            item(
                CodingSchemeDesignator=scheme,
                CodingSchemeName=f"Private codes of {whose}",
                CodingSchemeResponsibleOrganization=organization,
            )
            for scheme, organization, whose in told
        ]


def _schemes(parts: Iterable[Dataset]) -> set[str]:
    elements = (element for part in parts for element in part.iterall())
    return {str(e.value) for e in elements if e.keyword == "CodingSchemeDesignator"}


def series_description(job: EncodeJob, kind: str, number: int = 1) -> str:
    """Return e.g. "lung-density 0.1.0 segmentation, research only", at most 64 characters (R-07).

    Where the whole is too long, the name of the pipeline and its version are cut, the version to no
    less than half of their room; never what the template itself says.
    """
    algorithm = algorithm_of(job.card)
    return described(job.presentation, algorithm.name, algorithm.version, what_of(kind, number))


def described(presentation: Presentation, pipeline: str, version: str, what: str) -> str:
    """Return the Series Description of one kind of result of a pipeline; see `series_description`."""

    def filled(name: str, number: str) -> str:
        return presentation.series_description.format(pipeline=name, version=number, what=what)

    own = len(filled("", ""))
    names, numbers = (
        len(filled("x", "")) - own,
        len(filled("", "x")) - own,
    )  # how often the template tells each
    room = max(0, 64 - own)
    if numbers:
        version = _shortened(version, max(room // 2, room - names * len(pipeline)) // numbers)
    if names:
        pipeline = _shortened(pipeline, (room - numbers * len(version)) // names)
    return cut(filled(pipeline, version), 64)


def _shortened(text: str, characters: int) -> str:
    return cut(text, characters) if characters > 3 else text[: max(characters, 0)]


def algorithm_identification(algorithm: Algorithm) -> Dataset:
    """Return an Algorithm Identification Macro item (PS3.3 Table 10-19)."""
    return item(
        AlgorithmFamilyCodeSequence=[coded(ARTIFICIAL_INTELLIGENCE)],
        AlgorithmName=algorithm.name,
        AlgorithmVersion=algorithm.version,
        AlgorithmParameters=algorithm.parameters[:10240] or None,
        AlgorithmSource=algorithm.maker,
    )


def _contributing_equipment(job: EncodeJob, algorithm: Algorithm) -> Dataset:
    return item(
        PurposeOfReferenceCodeSequence=[coded(PROCESSING_EQUIPMENT)],
        Manufacturer=algorithm.maker,
        ManufacturerModelName=algorithm.name,
        SoftwareVersions=algorithm.version,
        DeviceUID=algorithm.device_uid,
        StationName=cut(job.ae_title, 16) or None,
        ContributionDateTime=job.created_at.strftime("%Y%m%d%H%M%S.%f%z"),
        ContributionDescription=f"Automatic analysis. {RESEARCH_NOTICE}",
    )


def save(dataset: Dataset, path: Path, *, kind: str, siblings: Sequence[ResultObject] = ()) -> ResultObject:
    """Write a result as a Part 10 file, sync it, and describe it.

    Zero preamble, our own file meta information, and Explicit VR Little Endian unless the data set
    brings a transfer syntax of its own; the same data set gives the same bytes. Which of its
    ``siblings`` it refers to is seen in it.
    """
    given = getattr(dataset, "file_meta", None)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = given.TransferSyntaxUID if given else ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(node.IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = node.IMPLEMENTATION_VERSION_NAME
    dataset.file_meta = meta
    with path.open("wb") as file:
        dcmwrite(file, dataset, enforce_file_format=True)
        sync_file(file)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    named = named_instances(dataset) if siblings else frozenset()
    return ResultObject(
        kind=kind,
        sop_instance_uid=str(dataset.SOPInstanceUID),
        sop_class_uid=str(dataset.SOPClassUID),
        series_uid=str(dataset.SeriesInstanceUID),
        transfer_syntax_uid=str(meta.TransferSyntaxUID),
        path=path,
        sha256=digest,
        refers_to=tuple(s.sop_instance_uid for s in siblings if s.sop_instance_uid in named),
    )


def named_instances(dataset: Dataset) -> frozenset[str]:
    """Return every Referenced SOP Instance UID that stands anywhere in a data set."""
    return frozenset(_named(dataset))


def _named(dataset: Dataset) -> Iterator[str]:
    for tag in sorted(dataset.keys()):
        element = dataset.get_item(tag)  # not decoded: a structure set holds millions of numbers
        if element is not None and element.VR == "SQ":
            for part in dataset[tag].value:
                yield from _named(part)
        elif tag == 0x00081155:
            yield str(dataset[tag].value)
