"""What follows from results: rules on what a pipeline found are asked once its job has ended.

`node.flow.plan` asks them as well, of what is known when a series settles. This is for what is known
only later: it happens once for each job that gave results or refused, and if the node died in
between, it happens at the next start.
"""

from __future__ import annotations

from node.around import Around
from node.assign import assign, bind
from node.config import profiles_of
from node.failpoint import failpoint
from node.flow import Node
from node.job import Job, specs_of
from node.model import Route, Series


def follow(job: Job, node: Node) -> list[Job]:
    """Queue what rules ask for, now that a job has ended, and let results go where they say.

    Returns
    -------
    list of Job
        Those that were queued.
    """
    rules = [rule for rule in node.rules if any(want.pipeline == job.spec.pipeline for want in rule.results)]
    routes: list[Route] = []
    held: dict[str, Series] = {}
    for uid, revision in (
        {(one.series_uid, one.revision) for one in job.spec.inputs.values()} if rules else ()
    ):
        series = node.journal.series(uid)
        if series is None or series.revision != revision:  # that revision is asked about no more
            continue
        around = Around(series, node.journal, rules, revision)
        routes += assign(series, around.headers, rules, around.answer)
        cases = (bind(rule, series.study_uid, around) for rule in rules if rule.is_case)
        routes += [route for route in cases if route is not None]
        held |= around.series
    specs = specs_of(routes, held, node.cards)
    failpoint("assign.followed")
    places = dict.fromkeys(place for spec in specs for place in spec.send_to)
    profiles = profiles_of(places, node.config.destinations, node.journal.takes)
    return node.journal.follow(job, specs, node.clock(), profiles)


def follow_all(node: Node) -> list[Job]:
    """Do so for every job that ended since the last time."""
    return [made for job in node.journal.unfollowed() for made in follow(job, node)]
