"""``radnode explain``: why a series settled, what the rules say of it, and of the study it is part of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from node.analyze import series_in
from node.around import Among, headers_of
from node.assemble import read_headers
from node.assign import (
    Ask,
    CaseExplanation,
    Explanation,
    Held,
    as_dict,
    cases_as_dict,
    explain,
    explain_cases,
    keywords_of,
    nothing_yet,
    parse_rules,
    under,
)
from node.compute import installed
from node.config import Config
from node.errors import ConfigError
from node.evidence import decisions
from node.journal import Journal, Settled
from node.model import Series
from node.serve import utc_now


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What there is to say of one series."""

    series: Series
    unreadable: tuple[str, ...]  #: a sentence for each header that cannot be read
    rules: list[Explanation]
    cases: list[CaseExplanation]  #: of its study
    jobs: list[dict[str, Any]]  #: as `Journal.jobs_of` gives them
    settlings: list[Settled]  #: what decided about each revision
    waits: str  #: what it waits for, where it still arrives

    def as_dict(self) -> dict[str, Any]:
        """Return the same for programs."""
        return {
            "settlings": [
                {"revision": one.revision, "at": one.at.isoformat(), **asdict(one.settling)}
                for one in self.settlings
            ],
            "waits": self.waits,
            "rules": as_dict(self.rules),
            "cases": cases_as_dict(self.cases),
            "jobs": self.jobs,
        }

    @property
    def how_it_settled(self) -> list[str]:
        """What is told of its revisions, for people: a line each."""
        lines = [
            f"  revision {one.revision}, {one.at.isoformat()[:19]}Z: {one.settling.sentence}"
            for one in self.settlings
        ]
        return [*lines, f"  {self.waits}"] if self.waits else lines


def explained(what: str, config: Config) -> list[Told]:
    """Explain a series of the node by UID, or those found in a file or folder.

    Raises
    ------
    ConfigError
        The rules or pipelines cannot be used, or there is no such series or file.
    """
    cards = installed(config.pipelines)
    rules = under(parse_rules(config.rules, cards), config.accept.policies)
    with _series(what, config) as found:
        chosen = found.chosen
        read = {series.uid: read_headers(series.instances) for series in chosen}
        look = partial(headers_of, keywords=keywords_of(rules))
        around = Among([Held(series=series, read=look) for series in (*chosen, *found.beside)], found.ask)
        return [
            Told(
                series=series,
                unreadable=tuple(read[series.uid][1]),
                rules=explain(series, read[series.uid][0], rules, cards, around.answer),
                cases=explain_cases(rules, series.study_uid, around),
                jobs=found.jobs,
                settlings=found.settlings,
                waits=found.waits,
            )
            for series in chosen
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """The series that are asked about, and what is known of a single one."""

    chosen: list[Series]
    beside: list[Series] = field(default_factory=list)
    ask: Ask = nothing_yet
    jobs: list[dict[str, Any]] = field(default_factory=list)
    settlings: list[Settled] = field(default_factory=list)
    waits: str = ""


@contextmanager
def _series(what: str, config: Config) -> Iterator[_Found]:
    """Open the series that are asked about, those beside them, and jobs and results of a single one."""
    if Path(what).exists():
        with series_in(Path(what)) as found:
            yield _Found(chosen=found)
        return
    if "/" in what:
        raise ConfigError(f"There is no file or folder {what}.")
    journal = Journal.open(config.node.data, create=False)
    try:
        series = journal.series(what)
        if series is None:
            raise ConfigError(f"The node holds no series {what}, and there is no such file or folder.")
        beside = {one.uid: one for one in journal.settled_in(study_uid=series.study_uid)}
        if patient_key := journal.patient_of(series.study_uid):
            beside |= {one.uid: one for one in journal.settled_in(patient_key=patient_key)}
        beside.pop(what, None)
        revisions = {one.uid: one.revision for one in (series, *beside.values())}
        _, decision = decisions(journal, config, utc_now(), {}).get(what, (None, None))
        yield _Found(
            chosen=[series],
            beside=list(beside.values()),
            ask=lambda name, uid: journal.answer(name, uid, revisions[uid]),
            jobs=journal.jobs_of(what),
            settlings=journal.settlings(what),
            waits=decision.sentence if decision else "",
        )
    finally:
        journal.close()
