"""What a STOW-RS server answers: a Store Instances Response, as JSON or XML (PS3.18 I.2, F.2; PS3.19 A.1)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from xml.etree import ElementTree

_STORED: Final = "00081199"  #: Referenced SOP Sequence
_FAILED: Final = "00081198"  #: Failed SOP Sequence
_OTHERS: Final = "0008119A"  #: Other Failures Sequence: what it could not even name
_INSTANCE: Final = "00081155"  #: Referenced SOP Instance UID
_WARNING: Final = "00081196"  #: Warning Reason
_FAILURE: Final = "00081197"  #: Failure Reason

#: Tag -> values; an item of a sequence is such a mapping again.
DataSet = Mapping[str, list[Any]]


@dataclass(frozen=True, slots=True)
class StoreAnswer:
    """What became of each instance, by its SOP Instance UID."""

    stored: Mapping[str, int]  #: -> Warning Reason (0008,1196), 0 without one
    failed: Mapping[str, int | None]  #: -> Failure Reason (0008,1197), None without one
    others: tuple[int | None, ...]  #: Failure Reasons of what is not named

    def names(self, sop_instance_uid: str) -> bool:
        """Return whether it says what became of an instance."""
        return sop_instance_uid in self.stored or sop_instance_uid in self.failed


def read_answer(body: bytes) -> StoreAnswer | None:
    """Return what an answer says; None where it is none, be it a page for people or nothing at all."""
    text = body.strip().removeprefix(b"\xef\xbb\xbf")  # some begin with a BOM
    try:
        if text[:1] in (b"{", b"["):
            said = json.loads(text)
            if isinstance(said, list) and len(said) == 1:
                said = said[0]
            found = _of_json(said) if isinstance(said, dict) else {}
        elif text[:1] == b"<":
            found = _of_xml(ElementTree.fromstring(text, ElementTree.XMLParser(target=_Plain())))  # noqa: S314
        else:
            found = {}
    except (ValueError, RecursionError, ElementTree.ParseError):
        return None
    if not {_STORED, _FAILED, _OTHERS} & found.keys():
        return None
    failed = {uid: _number(item, _FAILURE) for uid, item in _named(found.get(_FAILED, [])).items()}
    return StoreAnswer(
        stored={
            uid: _number(item, _WARNING) or 0
            for uid, item in _named(found.get(_STORED, [])).items()
            if uid not in failed
        },
        failed=failed,
        others=tuple(_number(item, _FAILURE) for item in found.get(_OTHERS, []) if isinstance(item, dict)),
    )


def _named(items: list[Any]) -> dict[str, DataSet]:
    found = {}
    for item in items:
        uids = item.get(_INSTANCE) if isinstance(item, dict) else None
        if uids and isinstance(uids[0], str):
            found[uids[0].strip(" \0")] = item
    return found


def _number(item: DataSet, tag: str) -> int | None:
    """Return a US value, which some write as text."""
    values = item.get(tag) or [None]
    try:
        number = int(values[0])
    except (TypeError, ValueError):
        return None
    return number if 0 <= number <= 0xFFFF else None


def _of_json(said: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return a data set of the DICOM JSON Model (PS3.18 F.2)."""
    found = {}
    for tag, element in said.items():
        values = element.get("Value") if isinstance(element, dict) else None
        if isinstance(values, list):
            found[tag.upper()] = [_of_json(value) if isinstance(value, dict) else value for value in values]
    return found


def _of_xml(said: ElementTree.Element) -> dict[str, list[Any]]:
    """Return a data set of the Native DICOM Model (PS3.19 A.1), with or without its namespace."""
    found = {}
    for element in said:
        if _name(element) == "DicomAttribute":
            found[element.get("tag", "").upper()] = [
                _of_xml(value) if _name(value) == "Item" else (value.text or "").strip() for value in element
            ]
    return found


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


class _Plain(ElementTree.TreeBuilder):
    """Knows no document types, so that none can define entities that grow without end."""

    def doctype(self, name: str, pubid: str, system: str) -> None:
        raise ValueError("a document type is no part of a Store Instances Response")
