"""What a C-STORE status or a reason of STOW-RS means for us, each with its clause.

The status families are those of PS3.4 Table B.2-1; the general ones are in PS3.7 Annex C.
What the peer writes in Error Comment (0000,0902) is never told on: it may quote a header.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Verdict(StrEnum):
    """What a status means for the object that was sent."""

    STORED = "stored"
    WARNED = "warned"  #: stored, but not quite as sent
    BUSY = "busy"  #: not now
    REFUSED = "refused"  #: never
    UNTOLD = "untold"  #: not known: it may be stored or not


class Family(NamedTuple):
    """A range of status codes that mean the same."""

    first: int
    last: int
    verdict: Verdict
    sentence: str  #: "" for plain success
    clause: str

    def stored(self, name: str, code: str) -> str:
        """Return what is to be known of an object that was stored; "" for plain success."""
        if self.verdict is Verdict.WARNED:
            return f"{name} stored it, but {self.sentence} ({code})."
        return f"{name}: {self.sentence} ({code})." if self.sentence else ""

    def unstored(self, name: str, what: str, code: str) -> str:
        """Return why something was not stored."""
        did = {
            Verdict.BUSY: f"did not store {what}",
            Verdict.UNTOLD: f"may not have stored {what}",
        }.get(self.verdict, f"refused {what} for good")
        return f"{name} {did}: {self.sentence} ({code})."


#: Earlier entries win.
FAMILIES = (
    Family(0x0000, 0x0000, Verdict.STORED, "", "PS3.4 B.2.3"),
    Family(
        0x0111, 0x0111, Verdict.STORED, "it already had this SOP Instance", "PS3.7 C.5.7"
    ),  # ours never change under one UID, so what it has is what we sent
    Family(0xB000, 0xB000, Verdict.WARNED, "it changed some elements", "PS3.4 B.2.3"),
    Family(0xB006, 0xB006, Verdict.WARNED, "it discarded some elements", "PS3.4 B.2.3"),
    Family(
        0xB007, 0xB007, Verdict.WARNED, "it says the data set does not match its SOP Class", "PS3.4 B.2.3"
    ),
    Family(0xB000, 0xBFFF, Verdict.WARNED, "it warned without saying of what", "PS3.7 C.4.2"),
    Family(0x0001, 0x0001, Verdict.WARNED, "it did not support some elements", "PS3.7 C.4"),
    Family(0x0107, 0x0107, Verdict.WARNED, "it did not know some elements", "PS3.7 C.4.2"),
    Family(0x0116, 0x0116, Verdict.WARNED, "it found a value out of range", "PS3.7 C.4.3"),
    Family(0xA700, 0xA7FF, Verdict.BUSY, "it is out of resources", "PS3.4 B.2.3"),
    Family(0x0110, 0x0110, Verdict.BUSY, "it failed while processing", "PS3.7 C.5.15"),
    Family(0x0210, 0x0210, Verdict.BUSY, "it took the request for a repetition", "PS3.7 C.5.8"),
    Family(0x0213, 0x0213, Verdict.BUSY, "it is at the limit of its resources", "PS3.7 C.5.22"),
    Family(0xFE00, 0xFE00, Verdict.BUSY, "it cancelled the operation", "PS3.7 C.3"),
    Family(0xA900, 0xA9FF, Verdict.REFUSED, "the data set does not match its SOP Class", "PS3.4 B.2.3"),
    Family(0xC000, 0xCFFF, Verdict.REFUSED, "it cannot understand the data set", "PS3.4 B.2.3"),
    Family(0x0117, 0x0117, Verdict.REFUSED, "it takes the SOP Instance UID for invalid", "PS3.7 C.5.12"),
    Family(0x0122, 0x0122, Verdict.REFUSED, "it does not support this SOP Class", "PS3.7 C.5.24"),
    Family(0x0124, 0x0124, Verdict.REFUSED, "it does not allow us to store", "PS3.7 C.5.23"),
    Family(0x0105, 0x0121, Verdict.REFUSED, "it rejects the content", "PS3.7 C.5"),
    Family(0x0211, 0x0212, Verdict.REFUSED, "it does not understand the request", "PS3.7 C.5"),
)


def family_of(status: int) -> Family:
    """Return what a status means; one that no clause knows is tried again."""
    for family in FAMILIES:
        if family.first <= status <= family.last:
            return family
    return Family(status, status, Verdict.BUSY, "it answered with a status that DICOM does not know", "none")


#: What stands in the Failed SOP Sequence of STOW-RS (PS3.18 I.2.2) and is no status of C-STORE.
_FAILURES = {
    # A warning by its number; as a failure it is said of what was stored before. Ours never change.
    0xB00E: Family(
        0xB00E, 0xB00E, Verdict.STORED, "it already had this SOP Instance", "microsoft/dicom-server"
    ),
    0xC122: Family(0xC122, 0xC122, Verdict.REFUSED, "it does not take this transfer syntax", "PS3.18 I.2.2"),
}


def failure_of(reason: int | None) -> Family:
    """Return what a Failure Reason (0008,1197) means; None: there was none.

    What is no failure by its number did fail all the same, and is tried again.
    """
    if reason is None:
        return Family(0, 0, Verdict.BUSY, "it did not say why", "none")
    found = _FAILURES.get(reason) or family_of(reason)
    if reason == 0 or found.verdict is Verdict.WARNED:
        return Family(reason, reason, Verdict.BUSY, "it failed for a reason that is none", "none")
    return found
