"""Small data sets that recur in every result: codes and references."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pydicom.dataset import Dataset

from node.encode.repair import cut
from node.errors import EncodeError
from node.model import ResultObject, Slice, Volume, Volumes
from pipelines.contract import Code


def item(**values: Any) -> Dataset:
    """Return a data set of these keywords; values of None are left out."""
    dataset = Dataset()
    for keyword, value in values.items():
        if value is not None:
            setattr(dataset, keyword, value)
    return dataset


def coded(code: Code) -> Dataset:
    """Return a Code Sequence item (PS3.3 section 8).

    Raises
    ------
    EncodeError
        A part of the code is missing, or does not fit.
    """
    if not all(code) or len(code.scheme) > 16 or "\\" in code.value + code.scheme:
        raise EncodeError(f"the code {tuple(code)} lacks a value, a scheme or a meaning, or is too long")
    short = len(code.value) <= 16
    return item(
        CodeValue=code.value if short else None,
        LongCodeValue=None if short else code.value,
        CodingSchemeDesignator=code.scheme,
        CodeMeaning=cut(code.meaning, 64),
    )


def code_of(dataset: Dataset) -> Code:
    """Return the code in a Code Sequence item; missing parts are ""."""
    value = dataset.get("CodeValue") or dataset.get("LongCodeValue") or ""
    parts = (value, dataset.get("CodingSchemeDesignator") or "", dataset.get("CodeMeaning") or "")
    return Code(*(str(p) for p in parts))


def image_reference(plane: Slice, **more: Any) -> Dataset:
    """Return a reference to the instance, and frame, that one plane of a volume came from."""
    return item(
        ReferencedSOPClassUID=plane.sop_class_uid,
        ReferencedSOPInstanceUID=plane.sop_instance_uid,
        ReferencedFrameNumber=plane.frame,
        **more,
    )


def instances_of(volume: Volume) -> list[tuple[str, str]]:
    """Return (SOP Class UID, SOP Instance UID) of a volume, each instance once, in order."""
    return list(dict.fromkeys((s.sop_class_uid, s.sop_instance_uid) for s in volume.slices))


def sop_references(instances: Iterable[tuple[str, str]]) -> list[Dataset]:
    """Return SOP Instance Reference items."""
    return [item(ReferencedSOPClassUID=c, ReferencedSOPInstanceUID=i) for c, i in instances]


class Filed(NamedTuple):
    """An instance with the study and series that an archive finds it under."""

    study_uid: str
    series_uid: str
    sop_class_uid: str
    sop_instance_uid: str


def filed_images(volume: Volume) -> list[Filed]:
    """Return the instances of a volume, each once."""
    return [Filed(volume.study_uid, volume.series_uid, *instance) for instance in instances_of(volume)]


def filed_results(study_uid: str, things: Iterable[ResultObject]) -> list[Filed]:
    """Return objects of ours, which are all in one study."""
    return [Filed(study_uid, t.series_uid, t.sop_class_uid, t.sop_instance_uid) for t in things]


def series_references(
    instances: Iterable[Filed], listed: str = "ReferencedSOPSequence"
) -> dict[str, list[Dataset]]:
    """Return study UID -> Referenced Series items, in the order given; each instance once.

    ``listed`` is the keyword under which such an item lists its instances.
    """
    studies: dict[str, dict[str, dict[tuple[str, str], None]]] = {}
    for study, series, *instance in instances:
        studies.setdefault(study, {}).setdefault(series, {})[instance[0], instance[1]] = None
    return {
        study: [
            item(SeriesInstanceUID=uid, **{listed: sop_references(inside)}) for uid, inside in series.items()
        ]
        for study, series in studies.items()
    }


def study_references(instances: Iterable[Filed]) -> dict[str, Dataset]:
    """Return study UID -> Hierarchical SOP Instance Reference item (PS3.3 C.17.2.1)."""
    return {
        study: item(StudyInstanceUID=study, ReferencedSeriesSequence=series)
        for study, series in series_references(instances).items()
    }


def used_instances(volumes: Volumes) -> set[str]:
    """Return the SOP Instance UID of every image that was used."""
    return {uid for volume in volumes.values() for _, uid in instances_of(volume)}


def plane_places(volume: Volume) -> Mapping[tuple[str, int | None], int]:
    """Return (SOP Instance UID, frame) -> index of the plane of a volume that it is; see `place_of`."""
    return {(plane.sop_instance_uid, plane.frame): index for index, plane in enumerate(volume.slices)}


def place_of(reference: Dataset) -> tuple[str, int | None]:
    """Return the instance, and frame if one is named, that a Referenced SOP item is about."""
    return str(reference.get("ReferencedSOPInstanceUID")), reference.get("ReferencedFrameNumber")
