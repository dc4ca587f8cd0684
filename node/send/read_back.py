"""What a destination took is looked for in it, as anybody would who wants to read it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from node.peer.query import Archive

#: Once an object has not been found so often, and the time for it is over, it is not there.
FEWEST_LOOKS: Final = 3


def present(series: Iterable[tuple[str, str]], archive: Archive) -> frozenset[str]:
    """Return the SOP Instance UIDs that an archive has of some series.

    Parameters
    ----------
    series
        Study Instance UID and Series Instance UID of each.

    Raises
    ------
    PeerUnreachable, PeerBusy, PeerRefused
        It could not be asked, or will not have us ask.
    """
    return frozenset(
        uid
        for study_uid, series_uid in dict.fromkeys(series)
        for uid in archive.instances(study_uid, series_uid)
    )


def look_again_at(
    looks: int, now: datetime, next_at: datetime, delivered_at: datetime, proof_s: float
) -> datetime | None:
    """Return when to look again for what was not found; None: it is not there.

    An archive may need a while before it lists what it took.

    Parameters
    ----------
    looks
        How often it was looked for, this time included.
    next_at
        When it would be, were there no end to it.
    """
    end = delivered_at + timedelta(seconds=proof_s)
    if now >= end:
        return None if looks >= FEWEST_LOOKS else next_at
    return min(next_at, end)
