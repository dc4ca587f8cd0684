"""What a rule says of a series: every clause is judged on every instance.

An instance is NO for a rule when any clause is no; else UNKNOWN when any is unknown; else YES.
The rule matches the series when at least one instance is YES and none is UNKNOWN. The YES
instances become the input, so a localizer inside a series is left out (and the explanation says
so), while a tag missing from some slices never silently gives a shorter volume.

In an enhanced multi-frame instance a value that is not at the top level is looked for in the
shared, then in the per-frame functional groups (PS3.3 C.7.6.16). There a clause must hold for
every frame: rules choose instances, not frames.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydicom import Dataset
from pydicom.multival import MultiValue

from node import INSTANCE_CREATOR_UID
from node.assign.allowed import is_barred
from node.assign.operators import Kind, Verdict
from node.assign.rule import Clause, Want
from node.model import Instance, Series

#: Longer than any value worth a rule (LT, PS3.5 6.2); a peer chooses it, so there is a limit.
LONGEST_TEXT = 10_240
MOST_VALUES = 1_000

Values = tuple[str | float, ...]  #: of one element, text trimmed; () is missing or empty


@dataclass(frozen=True, slots=True)
class Unreadable:
    """There is a value, but not one that can be compared."""

    why: str


Reading = Values | Unreadable


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One want on one series, in the order of ``series.instances``."""

    want: Want
    series: Series
    own: bool  #: made by this node, so nothing else counts
    barred: bool  #: it came under policies that keep it from this rule
    by_clause: tuple[tuple[Verdict, ...], ...]  #: [clause][instance]
    by_instance: tuple[Verdict, ...]

    @property
    def matched(self) -> bool:
        """Whether the rule wants this series in this role."""
        may = not self.own and not self.barred
        return may and Verdict.YES in self.by_instance and Verdict.UNKNOWN not in self.by_instance

    @property
    def chosen(self) -> tuple[Instance, ...]:
        """The instances that become the input."""
        pairs = zip(self.series.instances, self.by_instance, strict=True)
        return tuple(instance for instance, verdict in pairs if verdict is Verdict.YES)


def judge(want: Want, series: Series, headers: Mapping[str, Dataset]) -> Judgement:
    """Judge every clause of what a rule wants in a role on every instance of a series.

    Parameters
    ----------
    headers
        By SOP Instance UID; an instance without one is unknown to every clause.
    """
    ordered = [headers.get(instance.sop_instance_uid) for instance in series.instances]
    by_clause = tuple(tuple(judge_clause(clause, header) for header in ordered) for clause in want.clauses)
    return Judgement(
        want=want,
        series=series,
        own=any(header is not None and is_own(header) for header in ordered),
        barred=is_barred(want, series),
        by_clause=by_clause,
        by_instance=tuple(
            _all_of([verdicts[index] for verdicts in by_clause] or [_bare(header)])
            for index, header in enumerate(ordered)
        ),
    )


def is_own(header: Dataset) -> bool:
    """Say whether this node made the instance: own results never start jobs."""
    return read(header, "InstanceCreatorUID", "text") == [(INSTANCE_CREATOR_UID,)]


def judge_clause(clause: Clause, header: Dataset | None) -> Verdict:
    """Judge one clause on one instance (all frames of it)."""
    if header is None:
        return Verdict.UNKNOWN
    return _all_of([_judge_reading(clause, found) for found in read(header, clause.keyword, clause.kind)])


def _judge_reading(clause: Clause, found: Reading) -> Verdict:
    if clause.present is not None:
        there = isinstance(found, Unreadable) or bool(found)
        return Verdict.YES if there == clause.present else Verdict.NO
    if isinstance(found, Unreadable):
        return Verdict.UNKNOWN
    if not found:
        return clause.missing
    return Verdict.YES if all(test.holds(found) for test in clause.tests) else Verdict.NO


def _bare(header: Dataset | None) -> Verdict:
    """Judge an instance by a rule without clauses, which wants everything that can be read."""
    return Verdict.UNKNOWN if header is None else Verdict.YES


def _all_of(verdicts: list[Verdict]) -> Verdict:
    for strongest in (Verdict.NO, Verdict.UNKNOWN):
        if strongest in verdicts:
            return strongest
    return Verdict.YES


def read(header: Dataset, keyword: str, kind: Kind) -> list[Reading]:
    """Return the values of an element: one reading, or one per frame if frames differ in having it.

    Never raises, whatever the header holds.
    """
    try:
        if keyword in header:
            return [_values(header[keyword].value, kind)]
        for item in header.get("SharedFunctionalGroupsSequence") or ():
            for found in _in_groups(item, keyword):
                return [_values(found, kind)]
        readings: list[Reading] = []
        for frame in header.get("PerFrameFunctionalGroupsSequence") or ():
            inside = [_values(found, kind) for found in _in_groups(frame, keyword)]
            readings.append(inside[0] if inside else ())
    except Exception as error:  # noqa: BLE001  # pydicom converts late, and raises anything on a bad header
        return [Unreadable(type(error).__name__)]
    return readings if any(readings) else [()]


def _in_groups(item: Dataset, keyword: str) -> Iterator[Any]:
    """Find a keyword in the macros of one functional groups item."""
    for element in item:
        if element.VR == "SQ" and not element.tag.is_private:
            for macro in element.value:
                if keyword in macro:
                    yield macro[keyword].value


def _values(value: Any, kind: Kind) -> Reading:
    if kind == "other":
        return ("present",) if value is not None and len(value) else ()
    several = list(value) if isinstance(value, MultiValue | list | tuple) else [value]
    if len(several) > MOST_VALUES:
        return Unreadable("too many values")
    texts = [str(one).strip(" \0") for one in several if one is not None]
    if any(len(text) > LONGEST_TEXT for text in texts):
        return Unreadable("too long")
    texts = [text for text in texts if text]
    if kind == "text":
        return tuple(texts)
    try:
        numbers = tuple(_years(text) if kind == "years" else float(text) for text in texts)
    except ValueError:
        return Unreadable("not a number")
    return numbers if all(abs(n) < float("inf") for n in numbers) else Unreadable("not a finite number")


_DAYS = {"D": 1.0, "W": 7.0, "M": 365.25 / 12, "Y": 365.25}


def _years(age: str) -> float:
    """Convert an Age String such as ``018M`` (PS3.5 6.2) to years."""
    if not re.fullmatch(r"[0-9]{3}[DWMY]", age):
        raise ValueError(age)
    return int(age[:3]) * _DAYS[age[3]] / _DAYS["Y"]
