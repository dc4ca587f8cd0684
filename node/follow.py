"""What follows from results: rules on what a pipeline found are asked once its job has ended.

`node.flow.plan` asks them as well, of what is known when a series settles. This is for what is known
only later: it happens once for each job that gave results or refused, and if the node died in
between, it happens at the next start.
"""

from __future__ import annotations

from collections.abc import Sequence

from node.around import Around
from node.assign import Rule, assign, bind
from node.config import profiles_of
from node.failpoint import failpoint
from node.flow import Node
from node.job import Job, specs_of
from node.journal import Basis
from node.model import Route


def follow(job: Job, node: Node) -> list[Job]:
    """Queue what rules ask for, now that a job has ended, and let results go where they say.

    Rules on results are asked of the series that the results are filed with: the first input. Where it
    is in another revision by now, nothing is asked; where more of it still arrives, that is for later.

    Returns
    -------
    list of Job
        Those that were queued.
    """
    rules = [rule for rule in node.rules if any(want.pipeline == job.spec.pipeline for want in rule.results)]
    routes: list[Route] = []
    around = _around_first(job, node, rules) if rules else None
    if around is not None:
        series = around.held.series
        routes += assign(series, around.headers, rules, around.answer)
        cases = (bind(rule, series.study_uid, around) for rule in rules if rule.is_case)
        routes += [route for route in cases if route is not None]
    specs = specs_of(routes, around.series if around else {}, node.cards)
    failpoint("assign.followed")
    places = dict.fromkeys(place for spec in specs for place in spec.send_to)
    profiles = profiles_of(places, node.config.destinations, node.journal.takes)
    return node.journal.follow(job, specs, node.clock(), profiles, _basis(around) if around else None)


def _basis(around: Around) -> Basis:
    return Basis(series=around.held.series, seen=around.seen, patient_key=around.patient_key)


def _around_first(job: Job, node: Node, rules: Sequence[Rule]) -> Around | None:
    """Return the first input of a job and what is beside it; None if it is not as the job had it."""
    first = job.spec.inputs.get(next(iter(node.cards[job.spec.pipeline].inputs)))
    series = first and node.journal.series(first.series_uid)
    if not first or not series or series.revision != first.revision:
        return None
    return Around(series, node.journal, rules, first.revision)


def follow_all(node: Node) -> list[Job]:
    """Do so for every job that ended since the last time."""
    return [made for job in node.journal.unfollowed() for made in follow(job, node)]
