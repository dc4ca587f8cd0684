"""Which SOP Classes of ours a peer takes: asked in every association, so that it is known in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from pydicom.uid import (
    UID,
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EncapsulatedPDFStorage,
    EnhancedSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    ImplicitVRLittleEndian,
    KeyObjectSelectionDocumentStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    ParametricMapStorage,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from node.model import ResultObject, StandIn
from node.profile import EXTRAS, LABELMAP_CLASS, Extra


class Negotiated(Protocol):
    """What a transport calls before it sends, and whenever it has learnt what the peer takes."""

    def __call__(
        self,
        lacking: Sequence[ResultObject],
        taken: Mapping[str, bool],
        hoped: Mapping[str, bool] = MappingProxyType({}),
    ) -> Mapping[str, StandIn]:
        """Return what goes in place of what: SOP Instance UID -> stand-in, for all that cannot go as it is.

        Parameters
        ----------
        lacking
            What is still to be sent. Nothing: there is only something to be remembered.
        taken
            SOP Class UID -> whether the peer takes it, as far as that was seen.
        hoped
            The same where it was not.
        """


#: What we send or could send, and its name for people in a word or two.
RESULT_CLASSES: Mapping[str, str] = {
    str(SegmentationStorage): "segmentation",
    LABELMAP_CLASS: "label map",
    str(Comprehensive3DSRStorage): "Comprehensive 3D SR",
    str(ComprehensiveSRStorage): "Comprehensive SR",
    str(EnhancedSRStorage): "Enhanced SR",
    str(BasicTextSRStorage): "Basic Text SR",
    str(KeyObjectSelectionDocumentStorage): "key objects",
    str(ParametricMapStorage): "parametric map",
    str(MultiFrameTrueColorSecondaryCaptureImageStorage): "multi-frame secondary capture",
    str(SecondaryCaptureImageStorage): "single-frame secondary capture",
    str(EncapsulatedPDFStorage): "PDF",
    str(GrayscaleSoftcopyPresentationStateStorage): "presentation state",
    str(RTStructureSetStorage): "RT structure set",
}

#: Of these a destination needs one for outlines ...
SEGMENTATIONS = (str(SegmentationStorage), LABELMAP_CLASS)
#: ... one for its report (how far down one of Comprehensive 3D SR goes, its content decides) ...
REPORTS = (str(Comprehensive3DSRStorage), str(ComprehensiveSRStorage), str(EnhancedSRStorage))
#: ... and one for each extra.
NEEDS: Mapping[Extra, tuple[str, ...]] = {
    "fractional": (str(SegmentationStorage),),
    "parametric-map": (
        str(ParametricMapStorage),
        str(MultiFrameTrueColorSecondaryCaptureImageStorage),
    ),
    "rtstruct": (str(RTStructureSetStorage),),
    "presentation-state": (str(GrayscaleSoftcopyPresentationStateStorage),),
    "secondary-capture": (str(MultiFrameTrueColorSecondaryCaptureImageStorage),),
    "pdf": (str(EncapsulatedPDFStorage),),
    "key-objects": (str(KeyObjectSelectionDocumentStorage),),
}

#: Results of presentation context negotiation (PS3.8 Table 9-18).
_ACCEPTED, _NO_SYNTAX = 0, 4


def taken_of(association: Any) -> dict[str, bool]:
    """Return SOP Class UID -> whether the peer takes it, of an established association.

    A class that it knows but in no transfer syntax that we offered is not taken, unless only such
    were offered as a peer may well lack.
    """
    taken: dict[str, bool] = {}
    contexts = [*association.accepted_contexts, *association.rejected_contexts]
    for context in contexts:
        uid = str(context.abstract_syntax)
        if context.result == _ACCEPTED:
            taken[uid] = True
        elif context.result != _NO_SYNTAX or ImplicitVRLittleEndian in context.transfer_syntax:
            taken.setdefault(uid, False)
    return taken


def told(taken: Mapping[str, bool]) -> str:
    """Return in words which of our results a peer takes."""
    yes = ", ".join(name for uid, name in RESULT_CLASSES.items() if taken.get(uid))
    no = ", ".join(name for uid, name in RESULT_CLASSES.items() if taken.get(uid) is False)
    return "; ".join(filter(None, (f"takes {yes}" if yes else "", f"not {no}" if no else "")))


def class_name(uid: str) -> str:
    """Return the name of a SOP Class."""
    return "Label Map Segmentation Storage" if uid == LABELMAP_CLASS else UID(uid).name


def remedy(thing: ResultObject, destination: str) -> str:
    """Return what can be done about an object that a destination does not take."""
    table = f"[destinations.{destination}]"
    ours = ""
    if thing.kind == "seg":
        ours = f', or set segmentation = "binary" in {table} for the jobs to come'
    elif thing.kind in EXTRAS:
        ours = f', or take "{thing.kind}" out of also in {table} for the jobs to come'
    elif thing.kind.startswith("sr-"):
        ours = f", or choose another report in {table} for the jobs to come"
    return f"Have it store {class_name(thing.sop_class_uid)}{ours}."
