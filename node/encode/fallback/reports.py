"""A structured report as another class of report, where its content is allowed there.

The classes differ in what may stand in them and how it may hang together (PS3.3 Tables A.35.1-2,
A.35.2-2, A.35.3-2, A.35.13-2), not in how it is written, so a report changes its class by name alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
)

from node.encode.material import NotApplicable

_TEXTUAL = frozenset("TEXT CODE DATETIME DATE TIME UIDREF PNAME COMPOSITE IMAGE WAVEFORM CONTAINER".split())
_PLANAR = _TEXTUAL | {"NUM", "SCOORD", "TCOORD"}
#: SOP Class -> value types that may stand in it.
_VALUE_TYPES = {
    BasicTextSRStorage: _TEXTUAL,
    EnhancedSRStorage: _PLANAR,
    ComprehensiveSRStorage: _PLANAR,
    Comprehensive3DSRStorage: _PLANAR | {"SCOORD3D"},
}
#: Without relationships by reference, and with less depth.
_SIMPLE = frozenset({BasicTextSRStorage, EnhancedSRStorage})
_VALUES = frozenset("TEXT CODE NUM DATETIME DATE TIME UIDREF PNAME".split())
#: What may have properties, or be inferred from something.
_SAYS = frozenset({"TEXT", "CODE", "NUM"})

_SELECTED_FROM = {"SCOORD": ("IMAGE",), "TCOORD": ("SCOORD", "IMAGE", "WAVEFORM")}


def to_class(dataset: Dataset, target: str) -> None:
    """Let a report be of another class.

    Raises
    ------
    NotApplicable
        Its content is not allowed there; the sentence names what stands in the way.
    """
    obstacle = next(_obstacles(dataset, target), "")
    if obstacle:
        raise NotApplicable(f"It cannot be a {UID(target).name}: {obstacle}.")
    dataset.SOPClassUID = target


def _obstacles(parent: Dataset, target: str) -> Iterator[str]:
    above = str(parent.ValueType)
    for child in parent.get("ContentSequence") or ():
        how = str(child.RelationshipType)
        if "ReferencedContentItemIdentifier" in child:
            if target in _SIMPLE:
                yield "it refers to its own content"
            continue
        kind = str(child.ValueType)
        if kind not in _VALUE_TYPES[UID(target)]:
            yield f"there may be no {kind} in it"
        if target in _SIMPLE and not _simple(above, how, kind):
            yield f"there {above} may not stand in relation {how} with {kind}"
        yield from _obstacles(child, target)


def _simple(above: str, how: str, kind: str) -> bool:
    """Return whether the classes below Comprehensive allow a relationship between two value types."""
    match how:
        case "CONTAINS":
            return above == "CONTAINER"
        case "HAS OBS CONTEXT":
            return above == "CONTAINER" and kind in _VALUES | {"COMPOSITE", "CONTAINER"}
        case "HAS ACQ CONTEXT":
            return above in ("CONTAINER", "IMAGE", "WAVEFORM", "COMPOSITE", "NUM") and kind in _VALUES
        case "HAS CONCEPT MOD":
            return kind in ("TEXT", "CODE")
        case "HAS PROPERTIES" if above == "PNAME":
            return kind in _VALUES - {"NUM"}
        case "HAS PROPERTIES" | "INFERRED FROM":
            return above in _SAYS and kind != "CONTAINER"
        case "SELECTED FROM":
            return kind in _SELECTED_FROM.get(above, ())
    return False
