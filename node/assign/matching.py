"""Give each role one series of those that fit it, and no series two roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """What came of it."""

    bound: Mapping[str, str]  #: role -> series
    missing: tuple[str, ...]  #: roles for which none is left
    unclear: tuple[str, ...] = ()  #: roles that could as well have another one, when none is missing


def match(fits: Mapping[str, Sequence[str]]) -> Matching:
    """Bind as many roles as can be, those with the fewest candidates first.

    It depends on neither the order of the roles nor on that of the candidates, except for which of
    several roles is said to be missing: then it is one that stands later.

    Parameters
    ----------
    fits
        Role -> the series that fit it.
    """
    candidates = {role: sorted(fits[role]) for role in sorted(fits, key=lambda role: len(fits[role]))}
    bound = _bind(candidates)
    missing = tuple(role for role in fits if role not in bound)
    unclear: tuple[str, ...] = ()
    if not missing:
        unclear = tuple(
            role for role in fits if len(_bind(_without(candidates, role, bound[role]))) == len(fits)
        )
    return Matching(bound=bound, missing=missing, unclear=unclear)


def _without(candidates: Mapping[str, Sequence[str]], role: str, series: str) -> dict[str, Sequence[str]]:
    return {**candidates, role: [one for one in candidates[role] if one != series]}


def _bind(candidates: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return a largest matching, role -> series (Kuhn's augmenting paths)."""
    serves: dict[str, str] = {}  # series -> role

    def augment(role: str, tried: set[str]) -> bool:
        for series in candidates[role]:
            if series not in tried:
                tried.add(series)
                if series not in serves or augment(serves[series], tried):
                    serves[series] = role
                    return True
        return False

    for role in candidates:
        augment(role, set())
    return {role: series for series, role in serves.items()}
