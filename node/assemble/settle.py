"""When a series is complete enough to work on. C-STORE never says so; we infer it.

Quiet time is the weakest evidence and the only one always there. Too early costs a second
revision, never an instance; too late costs waiting. Both are decided here, from arguments alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

#: Evidence that more is coming holds a series back for this many quiet times, and no longer:
#: archives keep associations open for hours, and counts are sometimes wrong.
PATIENCE = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known beyond the clock."""

    open_associations: int = 0  #: that brought an instance of this series and have not ended
    received: int = 0  #: instances of the series in our custody
    expected: int | None = None  #: told by an archive (e.g. Number of Series Related Instances)


def is_settled(
    last_arrival: datetime, now: datetime, quiet_s: float, evidence: Evidence | None = None
) -> bool:
    """Say whether a series may be worked on.

    Parameters
    ----------
    last_arrival
        When its newest instance came (aware, UTC).
    now
        The clock (aware, UTC).
    quiet_s
        Nothing new for this long means settled.
    evidence
        What else is known; ``None`` is the clock alone.

    Notes
    -----
    A clock that was set back makes ``now`` earlier than ``last_arrival``. How long ago the arrival
    really was is then unknown; a difference of more than the quiet time in either direction counts
    as quiet, so that a series is not stuck until the clock has caught up.
    """
    evidence = evidence or Evidence()
    silent_s = abs((now - last_arrival).total_seconds())
    if evidence.expected is not None and evidence.received >= evidence.expected > 0:
        return True
    more_to_come = evidence.open_associations > 0 or evidence.expected is not None
    return silent_s >= quiet_s * (PATIENCE if more_to_come else 1.0)
