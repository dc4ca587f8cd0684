"""Every DIMSE status that we answer, and which error becomes which.

C-STORE response statuses are in PS3.4 table B.2-1; those of PS3.7 Annex C hold for every
service.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping

from pydicom import Dataset

from node.errors import (
    AcceptError,
    ContentConflict,
    IdentityMismatch,
    JournalUnavailable,
    MissingIdentity,
    NodeError,
    NotDicom,
    OutOfSpace,
)

SUCCESS = 0x0000  #: PS3.7 C.1.1
PROCESSING_FAILURE = 0x0110  #: PS3.7 Annex C; our own fault, worth another try
DUPLICATE_INSTANCE = 0x0111  #: PS3.7 Annex C; here: the same UID with other content
SOP_CLASS_NOT_SUPPORTED = 0x0122  #: PS3.7 Annex C; not the class of the presentation context
OUT_OF_RESOURCES = 0xA700  #: PS3.4 table B.2-1; the sender may try again later
MISMATCH = 0xA900  #: PS3.4 table B.2-1; data set does not match SOP class, or not the request
CANNOT_UNDERSTAND = 0xC000  #: PS3.4 table B.2-1; the sender need not try again

#: All of them, and what each means in our answers.
ANSWERS: Mapping[int, str] = {
    SUCCESS: "the object is on disk and in the journal, now or from before",
    PROCESSING_FAILURE: "a failure of the node; worth another try",
    DUPLICATE_INSTANCE: "other content under a known SOP Instance UID; kept apart, what was there stays",
    SOP_CLASS_NOT_SUPPORTED: "not the SOP class of the presentation context",
    OUT_OF_RESOURCES: "no room on disk, an object that is too large, or the journal is busy; try again later",
    MISMATCH: "a Study, Series or SOP Instance UID is absent, malformed, or not that of the request",
    CANNOT_UNDERSTAND: "the data set is cut off or is none",
}

#: Error Comment (0000,0902) is an LO: at most 64 characters.
LONGEST_COMMENT = 64

_OF_ERROR: tuple[tuple[type[NodeError], int], ...] = (
    (OutOfSpace, OUT_OF_RESOURCES),
    (JournalUnavailable, OUT_OF_RESOURCES),  # locked or full for now: the sender tries again
    (MissingIdentity, MISMATCH),
    (IdentityMismatch, MISMATCH),
    (ContentConflict, DUPLICATE_INSTANCE),
    (NotDicom, CANNOT_UNDERSTAND),
)
#: Troubles of the machine that may pass: disk full or over quota, too many open files, no
#: memory, or a disk that cannot be written for now.
_RESOURCES = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.EIO,
        errno.EROFS,
    }
)


def status_of(error: BaseException) -> int:
    """Return what a sender is answered when its object could not be taken."""
    for kind, status in _OF_ERROR:
        if isinstance(error, kind):
            return status
    if isinstance(error, AcceptError):
        return CANNOT_UNDERSTAND
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _RESOURCES):
        return OUT_OF_RESOURCES
    return PROCESSING_FAILURE


def comment_of(error: BaseException) -> str:
    """Return the Error Comment: our own sentence, or a general one for a foreign error."""
    sentence = str(error) if isinstance(error, AcceptError) else "The node could not store the object."
    if len(sentence) > LONGEST_COMMENT:
        sentence = sentence[: LONGEST_COMMENT - 3] + "..."
    return "".join(c if " " <= c <= "~" and c != "\\" else " " for c in sentence)


def answer(code: int, comment: str = "", tags: tuple[int, ...] = ()) -> Dataset:
    """Return the elements of an answer, as pynetdicom takes them (PS3.7 C.1)."""
    told = Dataset()
    told.Status = code
    if comment:
        told.ErrorComment = comment
    if tags:
        told.OffendingElement = list(tags)
    return told


def refusal(error: BaseException) -> Dataset:
    """Return the answer to a sender whose object could not be taken."""
    tags = error.tags if isinstance(error, AcceptError) else ()
    return answer(status_of(error), comment_of(error), tags)
