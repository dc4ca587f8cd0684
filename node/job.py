"""A job: one pipeline on one revision of one case, and the moves it may make.

            claimed               results on disk           all taken
 QUEUED -------------> COMPUTING ----------------> SENDING ----------> DONE
   ^                    |  |  |                      |
   +--------------------+  |  +--> REFUSED           +--> FAILED (refused for good, no tries left)
     another try           +-----> FAILED
                    no tries left
 FAILED --retry--> QUEUED (nothing made yet) or SENDING (results exist)
 QUEUED, COMPUTING, SENDING, FAILED --cancel--> CANCELLED

Waiting for a retry is not a state: it is a ``not_before`` in the future.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from node.model import Route, Series


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"  #: waits for a worker, perhaps until ``not_before``
    COMPUTING = "computing"  #: a worker has it
    SENDING = "sending"  #: results are on disk; some destination has not taken them all
    DONE = "done"  #: every destination took every object
    REFUSED = "refused"  #: the input is not fit for the pipeline; the reason is kept
    FAILED = "failed"  #: waits for a person
    CANCELLED = "cancelled"  #: a person said no, or a newer revision took its place


TRANSITIONS: frozenset[tuple[JobState, JobState]] = frozenset(
    {
        (JobState.QUEUED, JobState.COMPUTING),  # claimed
        (JobState.QUEUED, JobState.CANCELLED),  # operator, or superseded by a newer revision
        (JobState.COMPUTING, JobState.SENDING),  # results on disk
        (JobState.COMPUTING, JobState.QUEUED),  # worker lost, or worth another try
        (JobState.COMPUTING, JobState.REFUSED),  # input not fit
        (JobState.COMPUTING, JobState.FAILED),  # no tries left, or no try can cure it
        (JobState.COMPUTING, JobState.CANCELLED),  # operator
        (JobState.SENDING, JobState.DONE),  # all taken
        (JobState.SENDING, JobState.FAILED),  # refused for good, or no tries left
        (JobState.SENDING, JobState.CANCELLED),  # operator
        (JobState.FAILED, JobState.QUEUED),  # operator: compute again
        (JobState.FAILED, JobState.SENDING),  # operator: send again
        (JobState.FAILED, JobState.CANCELLED),  # operator
    }
)

OPEN = frozenset({JobState.QUEUED, JobState.COMPUTING, JobState.SENDING})


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInput:
    """What one role of a job is bound to."""

    series_uid: str
    revision: int
    sop_instance_uids: tuple[str, ...]  #: the instances the rule selected, sorted


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What is to be done: everything that decides the content of the results.

    ``key`` is unique in the journal, so the same work cannot be queued twice.
    """

    pipeline: str
    pipeline_version: str
    pipeline_digest: str  #: `Card.digest`
    study_uid: str
    inputs: Mapping[str, JobInput]  #: role -> input
    input_digest: str  #: SHA-256 over role, SOP Instance UID and content hash of every input
    rule: str
    send_to: tuple[str, ...]

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
    created_at: datetime  #: aware, UTC; also the Content Date and Time of the results
    reason_code: str  #: kebab-case, "" when there is nothing to say
    reason: str  #: a sentence for people


def spec_of(route: Route, series: Series, *, version: str, digest: str) -> JobSpec:
    """Return the work that a route asks for on one revision of a series.

    Parameters
    ----------
    version, digest
        Of the pipeline's card.
    """
    inputs: dict[str, JobInput] = {}
    content: list[list[str]] = []
    for role, instances in sorted(route.inputs.items()):
        chosen = sorted(instances, key=lambda instance: instance.sop_instance_uid)
        inputs[role] = JobInput(
            series_uid=series.uid,
            revision=series.revision,
            sop_instance_uids=tuple(i.sop_instance_uid for i in chosen),
        )
        content += [[role, i.sop_instance_uid, i.sha256] for i in chosen]
    return JobSpec(
        pipeline=route.pipeline,
        pipeline_version=version,
        pipeline_digest=digest,
        study_uid=series.study_uid,
        inputs=inputs,
        input_digest=hashlib.sha256(json.dumps(content).encode()).hexdigest(),
        rule=route.rule,
        send_to=route.send_to,
    )


def next_try_s(tries: int, *, first_s: float = 5.0, longest_s: float = 900.0) -> float:
    """Return how long to wait before try number ``tries + 1``: doubling, with a ceiling."""
    return float(min(longest_s, first_s * 2.0 ** max(0, tries - 1)))
