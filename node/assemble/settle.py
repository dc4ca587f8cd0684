"""When a series is complete enough to work on. C-STORE never says so; we infer it.

The evidence, the strongest first: an operator's word; how many instances an archive counts
(Number of Series Related Instances, PS3.4 C.3.4); whether an association that brought some is open;
how long nothing new came. Quiet time is the weakest and the only one always there.

Too early costs a second revision, never an instance; too late costs waiting. An archive may receive at
the same time as we do, so that its count is what has come so far; it may lag behind, or be wrong; it may
lose a study. So a count is believed to be whole where the archive said it before our last instance came,
and says it still; otherwise it only confirms the quiet time. All is decided here, from arguments alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from node.model import Count, SettledBy, Settling

#: Evidence that more is coming holds a series back for this many quiet times, and no longer, unless
#: the configuration says "wait": archives keep associations open for hours, and counts are sometimes wrong.
PATIENCE: Final = 6.0
#: A moment without anything new, as a part of the quiet time: then an archive is asked, and believed.
CALM: Final = 0.2
LONGEST_CALM_S: Final = 5.0
SOONEST_S: Final = 1.0  #: an archive is not asked sooner again about a series that stands still ...
LATEST_S: Final = 300.0  #: ... and not later, as long as it is waited for

Incomplete = Literal["proceed", "refuse", "wait"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of a series that arrives."""

    last_arrival_at: datetime  #: of its newest instance (aware, UTC)
    held: int = 1  #: instances in our custody
    counts: tuple[Count, ...] = ()  #: the last answers of those who are asked
    asks: tuple[str, ...] = ()  #: names of those who are asked, answered or not
    open_associations: int = 0  #: that brought an instance of it and have not ended
    is_ordered: bool = False  #: an operator said of just these instances that they will do


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether a series may be worked on, and why."""

    sentence: str  #: why; or what it waits for
    settling: Settling | None  #: None: it is waited for

    @property
    def settled(self) -> bool:
        """Whether it may be worked on."""
        return self.settling is not None


def calm_s(quiet_s: float) -> float:
    """Return how long nothing new must come until an archive is asked, and is believed."""
    return min(LONGEST_CALM_S, CALM * quiet_s)


def decide(evidence: Evidence, now: datetime, quiet_s: float, incomplete: Incomplete = "proceed") -> Decision:
    """Decide about a series.

    Parameters
    ----------
    now
        The clock (aware, UTC).
    quiet_s
        Nothing new for this long means settled, where nothing else is known.
    incomplete
        What becomes of a series of which an archive counts more than ever came.

    Notes
    -----
    A clock that was set back makes ``now`` earlier than the last arrival. How long ago that
    really was is then unknown; a difference of more than the quiet time in either direction counts
    as quiet, so that a series is not stuck until the clock has caught up.
    """
    silent_s = abs((now - evidence.last_arrival_at).total_seconds())
    most = _most(evidence.counts)
    if evidence.is_ordered:
        return _settle(evidence, silent_s, "operator", _ordered(evidence.held, most))
    if most is not None and most[1] > evidence.held:
        return _awaited(evidence, silent_s, quiet_s, most, incomplete)
    if most is not None and most[1] == evidence.held:
        told = f"{_all(evidence.held)} that {most[0]} counts {'is' if evidence.held == 1 else 'are'} here"
        wait_s = quiet_s
        if not evidence.open_associations and _was_ahead(evidence, quiet_s):
            wait_s = calm_s(quiet_s)
        if silent_s >= wait_s:
            return _settle(evidence, silent_s, "count", f"{told}.")
        return _wait(f"{told}. It settles when nothing new came for {wait_s:g} s.")
    wait_s = quiet_s * (PATIENCE if evidence.open_associations else 1.0)
    if silent_s < wait_s:
        why = f", because {_associations(evidence)}" if evidence.open_associations else ""
        return _wait(f"It settles when nothing new came for {wait_s:g} s{why}.")
    return _settle(evidence, silent_s, "quiet", f"Nothing new for {wait_s:g} s; {_beside(evidence)}.")


def to_ask(count: Count | None, last_arrival_at: datetime, now: datetime, quiet_s: float) -> bool:
    """Say whether an archive is to be asked (again) how many instances a series has.

    At once, so that it is seen to know more than we hold; when nothing new came for a moment; and more
    and more seldom as long as it is waited for.
    """
    if count is None or now < count.asked_at:  # or the clock was set back
        return True
    silent_s, moment_s = abs((now - last_arrival_at).total_seconds()), calm_s(quiet_s)
    if silent_s < moment_s:
        return False
    if count.asked_at < last_arrival_at + timedelta(seconds=moment_s):
        return True
    pause_s = min(LATEST_S, max(SOONEST_S, moment_s, silent_s / 4.0))
    return (now - count.asked_at).total_seconds() >= pause_s


def _awaited(
    evidence: Evidence, silent_s: float, quiet_s: float, most: tuple[str, int], incomplete: Incomplete
) -> Decision:
    """Decide about a series of which an archive counts more than came."""
    source, expected = most
    wait_s, held = quiet_s * PATIENCE, evidence.held
    told = f"{source} counts {expected} and {held} came"
    if incomplete == "wait":
        return _wait(f"{told}. It waits until the others come, or an operator settles it.")
    if silent_s < wait_s:
        return _wait(f"{told}. The others are waited for until nothing new came for {wait_s:g} s.")
    then = "it is refused" if incomplete == "refuse" else "it goes on with a caution"
    sentence = f"Nothing new for {wait_s:g} s although {told}: {then}."
    return _settle(evidence, silent_s, "patience", sentence, is_refused=incomplete == "refuse")


def _ordered(held: int, most: tuple[str, int] | None) -> str:
    """Say that an operator ended the waiting, and what he goes on without."""
    said = "An operator said that it is not waited for any more"
    if most is None or most[1] <= held:
        return f"{said}."
    return f"{said}, although {most[0]} counts {most[1]} and {held} came: it goes on with a caution."


def _was_ahead(evidence: Evidence, quiet_s: float) -> bool:
    """Whether an archive counted what is held before we held it, and said so again afterwards."""
    calm = evidence.last_arrival_at + timedelta(seconds=calm_s(quiet_s))
    return any(
        one.instances == evidence.held and one.since <= evidence.last_arrival_at and one.asked_at >= calm
        for one in evidence.counts
    )


def _most(counts: Sequence[Count]) -> tuple[str, int] | None:
    """Return who counts most, and how many; None where nobody knows the series."""
    known = [(one.source, one.instances) for one in counts if one.instances]
    return max(known, key=lambda one: one[1], default=None)


def _beside(evidence: Evidence) -> str:
    """Say what is known beside the quiet time."""
    most = _most(evidence.counts)
    told = []
    if evidence.open_associations:
        told.append(_associations(evidence))
    if most is not None:  # it lags behind, or does not keep all
        told.append(f"{most[0]} counts no more than {most[1]} of the {evidence.held} here")
    elif evidence.asks:
        told.append(f"{' and '.join(evidence.asks)} could not say how many there are")
    else:
        told.append("nobody is asked how many there are")
    return "; ".join(told)


def _associations(evidence: Evidence) -> str:
    count = evidence.open_associations
    return f"{count} association{'s'[: count != 1]} that brought it {'is' if count == 1 else 'are'} open"


def _all(held: int) -> str:
    return "The only instance" if held == 1 else f"All {held} instances"


def _caution(evidence: Evidence) -> str:
    """Return what results must say of a series that settles; "" where all is well, or nobody is asked."""
    source, counted = _most(evidence.counts) or ("", 0)
    if counted > evidence.held:
        return f"the series is not whole: {source} counts {counted} instances, {evidence.held} came"
    if counted < evidence.held and evidence.asks:
        return f"whether the series is whole is not known: {' and '.join(evidence.asks)} could not say"
    return ""


def _wait(sentence: str) -> Decision:
    return Decision(sentence=sentence, settling=None)


def _settle(
    evidence: Evidence, silent_s: float, by: SettledBy, sentence: str, *, is_refused: bool = False
) -> Decision:
    settling = Settling(
        by=by,
        sentence=sentence,
        held=evidence.held,
        silent_s=round(silent_s, 1),
        associations=evidence.open_associations,
        counts={one.source: one.instances for one in evidence.counts},
        caution=_caution(evidence),
        is_refused=is_refused,
    )
    return Decision(sentence=sentence, settling=settling)
