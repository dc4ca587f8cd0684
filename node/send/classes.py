"""Which SOP Classes of ours a peer takes: asked in every association, so that it is known in time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from pydicom.uid import (
    UID,
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EncapsulatedPDFStorage,
    EnhancedSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    ParametricMapStorage,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from node.config import DimseDestination
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


def told(taken: Mapping[str, bool]) -> str:
    """Return in words which of our results a peer takes."""
    yes = ", ".join(name for uid, name in RESULT_CLASSES.items() if taken.get(uid))
    no = ", ".join(name for uid, name in RESULT_CLASSES.items() if taken.get(uid) is False)
    return "; ".join(filter(None, (f"takes {yes}" if yes else "", f"not {no}" if no else "")))


def lacking(destination: DimseDestination, taken: Mapping[str, bool]) -> Iterator[str]:
    """Yield what a destination is to be given and does not take, nor anything in its place."""

    def none_of(classes: tuple[str, ...]) -> bool:
        return not any(taken.get(uid, True) for uid in classes)

    if none_of(SEGMENTATIONS):
        yield "it takes no segmentation, so whatever is outlined and all that refers to it would stay here"
    if none_of(REPORTS):
        yield "it takes no structured report, of which every job has one"
    for extra in destination.also:
        if none_of(NEEDS[extra]):
            yield f'also names "{extra}", which it does not take'


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
