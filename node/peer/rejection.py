"""What an association rejection means (PS3.8 Table 9-21), for us who asked."""

from __future__ import annotations

from typing import NamedTuple


class Rejection(NamedTuple):
    """Why an association was rejected."""

    passing: bool
    sentence: str
    remedy: str


#: (source, reason) of A-ASSOCIATE-RJ, PS3.8 Table 9-21.
_REJECTIONS = {
    (1, 2): ("application context not supported", "See whether a DICOM service listens there."),
    (1, 3): ("calling AE title not recognised", "Make our AE title known to it."),
    (1, 7): ("called AE title not recognised", "Compare ae_title of the destination with its own."),
    (2, 2): ("protocol version not supported", "See whether a DICOM service listens there."),
    (3, 1): ("temporary congestion", ""),
    (3, 2): ("local limit exceeded", ""),
}


def rejection_of(result: int, source: int, reason: int) -> Rejection:
    """Return what an association rejection means.

    Parameters
    ----------
    result
        1 permanent, 2 transient.
    source, reason
        As in PS3.8 Table 9-21. Source 3, the presentation layer, knows only passing reasons,
        whatever the peer calls them.
    """
    sentence, remedy = _REJECTIONS.get(
        (source, reason), ("no reason given", "Ask who runs it what it expects of us.")
    )
    return Rejection(passing=result == 2 or source == 3, sentence=sentence, remedy=remedy)
