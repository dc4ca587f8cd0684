"""Ask a destination whether it is there, C-ECHO (PS3.4 A), and which of our results it takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.config import DimseDestination
from node.peer.association import GuardedAE
from node.send.classes import NEEDS, REPORTS, RESULT_CLASSES, SEGMENTATIONS, taken_of

VERIFICATION = "1.2.840.10008.1.1"
SUCCESS = 0x0000  # PS3.7 C


class Answer(NamedTuple):
    """What a destination answered."""

    complaint: str  #: "" when all is well, else a sentence that says what went wrong
    taken: Mapping[str, bool]  #: SOP Class UID -> whether it takes it; of those that could be asked


def echo(destination: DimseDestination, calling_ae: str) -> Answer:
    """Return what a destination answers to a C-ECHO and to our SOP Classes; nothing is stored."""
    ae = GuardedAE(calling_ae)
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = destination.timeout_s
    for uid in (VERIFICATION, *RESULT_CLASSES):
        ae.add_requested_context(uid, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    try:
        association = ae.associate(destination.host, destination.port, ae_title=destination.ae_title)
    except OSError as error:  # the name cannot be resolved
        return Answer(f"no answer: {error.strerror}", {})
    if not association.is_established:
        if association.is_rejected:
            return Answer(f"it rejects the association; does it know the AE title {calling_ae}?", {})
        return Answer("no answer; is it running, and are host and port right?", {})
    try:
        taken = taken_of(association)
        if not taken.pop(VERIFICATION, False):
            return Answer("", taken)  # it stores, but has no C-ECHO: as good an answer
        answer = association.send_c_echo()
        status = answer.get("Status") if answer else None
        well = status == SUCCESS
        return Answer("" if well else "it took the association but did not answer the C-ECHO", taken)
    finally:
        association.release()


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
