"""A job: one pipeline on one revision of one case, and the moves it may make.

            claimed               results on disk           all taken
 QUEUED -------------> COMPUTING ----------------> SENDING ----------> DONE
   ^                    |  |  |                      |
   +--------------------+  |  +--> REFUSED           +--> FAILED (refused for good, no tries left)
     another try           +-----> FAILED
                    no tries left
 FAILED --retry--> QUEUED (nothing made yet) or SENDING (results exist)
 REFUSED --retry of a job that it needs--> QUEUED
 QUEUED, COMPUTING, SENDING, FAILED --cancel--> CANCELLED
 SENDING, DONE, FAILED, CANCELLED (with results) --withdraw--> SENDING, now of the rejection alone

Waiting for a retry is not a state: it is a ``not_before`` in the future. So is waiting for a series
that a case lacks: when the time comes and it has not been superseded by a complete one, it is REFUSED.
And so is waiting for the result of another job: when that ends without one, it is REFUSED as well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from node.errors import foreseen
from node.model import Lack, Route, Series
from pipelines.contract import Card, InputRefused


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"  #: waits for a worker, perhaps until ``not_before``
    COMPUTING = "computing"  #: a worker has it
    SENDING = "sending"  #: results are on disk; some destination has not taken them all, or proved it
    DONE = "done"  #: every destination took every object, and is known to have it where that is asked for
    REFUSED = "refused"  #: the input is not fit for the pipeline; the reason is kept
    FAILED = "failed"  #: waits for a person
    CANCELLED = "cancelled"  #: a person said no, or a newer revision took its place


class Withdrawal(StrEnum):
    """Why an operator takes results back (IHE Imaging Object Change Management)."""

    QUALITY = "quality"  #: they are wrong, or not good enough
    SAFETY = "safety"  #: they may harm the patient
    WORKLIST = "worklist"  #: the images were of another patient or order than they said
    RETENTION = "retention"  #: they are to be kept no longer


QUEUED, COMPUTING, SENDING = JobState.QUEUED, JobState.COMPUTING, JobState.SENDING
DONE, REFUSED, FAILED, CANCELLED = JobState.DONE, JobState.REFUSED, JobState.FAILED, JobState.CANCELLED

TRANSITIONS: frozenset[tuple[JobState, JobState]] = frozenset(
    {
        (QUEUED, COMPUTING),  # claimed
        (QUEUED, CANCELLED),  # operator, or superseded by a newer revision
        (COMPUTING, SENDING),  # results on disk
        (COMPUTING, QUEUED),  # worker lost, or worth another try
        (COMPUTING, REFUSED),  # input not fit
        (COMPUTING, FAILED),  # no tries left, or no try can cure it
        (COMPUTING, CANCELLED),  # operator
        (SENDING, DONE),  # all taken, and proved where that is asked for
        (SENDING, FAILED),  # refused for good, or no tries left
        (SENDING, CANCELLED),  # operator
        (FAILED, QUEUED),  # operator: compute again
        (FAILED, SENDING),  # operator: send again, or withdrawn
        (FAILED, CANCELLED),  # operator
        (REFUSED, QUEUED),  # what it needs is computed again after all
        (SENDING, SENDING),  # operator: withdrawn before all was sent; or what was taken is not there
        (DONE, SENDING),  # operator: withdrawn, the rejection is owed
        (CANCELLED, SENDING),  # the same
    }
)

OPEN = frozenset({QUEUED, COMPUTING, SENDING})

INCOMPLETE: Final = "series-incomplete"  #: the code of a lack: a series is refused since it is not whole


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInput:
    """What one role of a job is bound to."""

    series_uid: str
    revision: int
    sop_instance_uids: tuple[str, ...]  #: the instances the rule selected, sorted
    caution: str = ""  #: what results must say of the series: `Settling.caution`


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What is to be done: everything that decides the content of the results.

    ``key`` is unique in the journal, so the same work cannot be queued twice. A job that was
    cancelled or has aged out gives its key back.
    """

    pipeline: str
    pipeline_version: str
    pipeline_digest: str  #: `Card.digest`
    study_uid: str
    inputs: Mapping[str, JobInput]  #: role -> input
    input_digest: str  #: SHA-256 over role, SOP Instance UID and content hash of every input
    rule: str
    send_to: tuple[str, ...]
    #: Names of the rules that bind several series, whose newest word this is; a newer one of any of
    #: them on this study supersedes it.
    case: tuple[str, ...] = ()
    lack: Lack | None = None  #: why there is nothing to compute: a role is bound to nothing
    #: role -> `key` of the work whose result it is; the job waits for that.
    needs: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """SHA-256 over input and pipeline digests; seeds the derived UIDs of the results."""
        return hashlib.sha256(
            f"{self.input_digest} {self.pipeline} {self.pipeline_digest}".encode()
        ).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One row of the journal's queue."""

    id: int
    spec: JobSpec
    state: JobState
    fence: int  #: grows at every claim; only the holder of the newest may commit results
    tries: int  #: claims so far in this state's work
    not_before: datetime  #: aware, UTC
    created_at: datetime  #: aware, UTC; when first asked for: Content Date and Time of the results
    reason_code: str  #: kebab-case, "" when there is nothing to say
    reason: str  #: a sentence for people


def specs_of(
    routes: Sequence[Route], series: Mapping[str, Series], cards: Mapping[str, Card]
) -> list[JobSpec]:
    """Return the work that routes ask for, each behind the work whose results it needs.

    What is needed and nobody asked for has no destinations: its results are kept, not sent.
    """
    made: dict[tuple[str, str], JobSpec] = {}  # a result may be needed in two roles

    def add(route: Route) -> JobSpec:
        route, card = _without_refused(route, series), cards[route.pipeline]
        needed = (
            {}
            if route.lack and route.lack.then != "proceed"
            else {r: add(_needed(route, cards, r)) for r in card.inputs if card.inputs[r].result}
        )
        spec = spec_of(route, series, card, {role: one.key for role, one in needed.items()})
        return made.setdefault((spec.key, spec.rule), spec)

    for route in routes:
        add(route)
    return list(made.values())


def _without_refused(route: Route, series: Mapping[str, Series]) -> Route:
    """Return a route; where one of its series is refused because some of it is missing, it lacks that."""
    settlings = {role: series[chosen[0].series_uid].settling for role, chosen in route.inputs.items()}
    refused = {role: one.sentence for role, one in settlings.items() if one and one.is_refused}
    if (route.lack and route.lack.then != "proceed") or not refused:
        return route
    sentence = " ".join(
        told if len(route.inputs) == 1 else f"Input {role!r}: {told}" for role, told in refused.items()
    )
    return replace(route, lack=Lack(code=INCOMPLETE, sentence=sentence, roles=tuple(refused)))


def _needed(route: Route, cards: Mapping[str, Card], role: str) -> Route:
    """Return what asks for the result that is a role: on the same first series, other roles by name."""
    card = cards[route.pipeline]
    needed = cards[card.inputs[role].result]
    first, *others = needed.series_inputs
    inputs = {first: route.inputs[next(iter(card.series_inputs))]}
    inputs |= {other: route.inputs[other] for other in others if other in route.inputs}
    return replace(route, pipeline=needed.name, inputs=inputs, send_to=(), lack=None)


def spec_of(
    route: Route,
    series: Series | Mapping[str, Series],
    card: Card,
    needs: Mapping[str, str] = MappingProxyType({}),
) -> JobSpec:
    """Return the work that a route asks for.

    Parameters
    ----------
    series
        By Series Instance UID, each in its revision; or the only one.
    needs
        Role -> key of the work whose result it is; another result makes other work of this.
    """
    by_uid = {series.uid: series} if isinstance(series, Series) else series
    inputs: dict[str, JobInput] = {}
    content: list[list[str]] = []
    for role in (role for role in card.inputs if role in route.inputs):
        chosen = sorted(route.inputs[role], key=lambda instance: instance.sop_instance_uid)
        one = by_uid[chosen[0].series_uid]
        inputs[role] = JobInput(
            series_uid=one.uid,
            revision=one.revision,
            sop_instance_uids=tuple(i.sop_instance_uid for i in chosen),
            caution=one.settling.caution if one.settling else "",
        )
        content += [[role, i.sop_instance_uid, i.sha256] for i in chosen]
        content += [[role, "caution", inputs[role].caution]] * bool(inputs[role].caution)
    content += [[role, "result", key] for role, key in needs.items()]
    if route.lack:
        content.append([route.lack.code, route.lack.sentence])
    content.sort()
    study_uid = by_uid[next(iter(inputs.values())).series_uid].study_uid  # the first is never a prior
    return JobSpec(
        pipeline=route.pipeline,
        pipeline_version=card.version,
        pipeline_digest=card.digest,
        study_uid=study_uid,
        inputs=inputs,
        input_digest=hashlib.sha256(json.dumps(content).encode()).hexdigest(),
        rule=route.rule,
        send_to=route.send_to,
        case=route.case,
        lack=route.lack,
        needs=dict(needs),
    )


def merged(specs: Sequence[JobSpec]) -> list[JobSpec]:
    """Make one of specs with the same key: the work is done once and sent wherever any asks."""
    merged: dict[str, JobSpec] = {}
    for spec in specs:
        first = merged.setdefault(spec.key, spec)
        if first is not spec:
            places = tuple(dict.fromkeys(first.send_to + spec.send_to))
            rule, case = f"{first.rule}, {spec.rule}", first.case + spec.case
            merged[spec.key] = replace(first, rule=rule, send_to=places, case=case)
    return list(merged.values())


def next_try(now: datetime, tries: int, first_s: float = 5.0, longest_s: float = 900.0) -> datetime:
    """Return when to try again after ``tries`` tries: the wait doubles, with a ceiling."""
    wait_s = min(longest_s, first_s * 2.0 ** min(60, max(0, tries - 1)))
    return now + timedelta(seconds=wait_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What becomes of a claimed job that gave no results, in the words of `Journal.move`."""

    to: JobState
    code: str
    reason: str
    not_before: datetime | None = None


def after_error(job: Job, error: Exception, now: datetime, tries: int) -> Ending | None:
    """Return what an error makes of a claimed job; None where it is in other hands already.

    Parameters
    ----------
    error
        Whatever stopped the work. One that nobody foresaw counts like a lost worker: a job must
        not wait for ever because a disk was full for a moment.
    tries
        How many a job has.
    """
    if job.spec.lack and isinstance(error, InputRefused) and job.spec.lack.then == "skip":
        return Ending(to=CANCELLED, code="skipped", reason=error.sentence)
    if isinstance(error, InputRefused):
        return Ending(to=REFUSED, code=error.code, reason=" ".join([error.sentence, *_cautions(job.spec)]))
    known = foreseen(error)
    if known.then == "leave":
        return None
    if known.then == "retry" and job.tries < tries:
        not_before = next_try(now, job.tries)
        return Ending(to=QUEUED, code=known.code, reason=str(known), not_before=not_before)
    return Ending(to=FAILED, code=known.code, reason=str(known))


def _cautions(spec: JobSpec) -> list[str]:
    """Return what a refusal must say of its series: what is missing may be why it is not fit.

    A series that is refused since it is not whole says so already.
    """
    told = spec.lack.roles if spec.lack and spec.lack.code == INCOMPLETE else ()
    said = {role: one.caution for role, one in spec.inputs.items() if one.caution and role not in told}
    if len(spec.inputs) == 1:
        return [f"{caution[0].upper()}{caution[1:]}." for caution in said.values()]
    return [f"Input {role!r}: {caution}." for role, caution in said.items()]
