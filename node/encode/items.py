"""Small data sets that recur in every result: codes and references."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydicom.dataset import Dataset

from node.encode.repair import cut
from node.errors import EncodeError
from node.model import Slice, Volume
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
