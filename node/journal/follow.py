"""What follows from results: rules may ask for more once a job has ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, and_, exists, func, or_, select, update

from node.job import Job, JobSpec, JobState, merged
from node.journal import schema
from node.journal.database import Database
from node.journal.known import known
from node.journal.moves import find_job, make_job, move_job
from node.journal.outbox import owe
from node.journal.rows import job_of, outcome_of
from node.model import Answer, Outcome
from node.profile import Profile

_job, _given, _result = schema.job, schema.job_input, schema.result
_has_results = exists().where(_result.c.job_id == _job.c.id, ~_result.c.aged_out)
#: Such a job has said what it has to say: it gave results which still count, or refused.
_ended = or_(
    _job.c.state == JobState.REFUSED,
    and_(
        _job.c.state.in_([JobState.SENDING, JobState.DONE, JobState.FAILED]),
        _job.c.withdrawn_at.is_(None),
        _has_results,
    ),
)
MOST_AT_ONCE = 100  #: jobs
#: Pipeline, Series Instance UID, revision -> the job that answers for them; None: none so far.
Answers = Mapping[tuple[str, str, int], int | None]


def answering(connection: Connection, pipeline: str, series_uid: str, revision: int) -> int | None:
    """Return the newest job of a pipeline on a revision of a series that gave results or refused."""
    of_series = select(_given.c.job_id).where(
        _given.c.series_uid == series_uid, _given.c.revision == revision
    )
    query = select(_job.c.id).where(_job.c.pipeline == pipeline, _job.c.id.in_(of_series), _ended)
    return connection.scalar(query.order_by(_job.c.id.desc()).limit(1))


def unfollowed() -> Select[Any]:
    """Return how to count the jobs that ended and of which rules on results were not asked yet."""
    return select(func.count()).select_from(_job).where(~_job.c.followed, _ended)


class Followed(Database):
    """The part of the journal that `node.follow` uses."""

    def answer(self, pipeline: str, series_uid: str, revision: int) -> Answer | None:
        """Return what a pipeline said of a revision of a series; None: nothing so far."""
        with self._reading() as connection:
            job_id = answering(connection, pipeline, series_uid, revision)
            if job_id is None:
                return None
            row = connection.execute(select(_job).where(_job.c.id == job_id)).one()
        if row.state == JobState.REFUSED:
            return Answer(job_id=job_id, outcome=Outcome(objects=()), refused=row.reason_code)
        return Answer(job_id=job_id, outcome=outcome_of(row.outcome, ()))

    def unfollowed(self) -> list[Job]:
        """Return the jobs that ended and of which rules on results were not asked yet, oldest first."""
        query = select(_job).where(~_job.c.followed, _ended).order_by(_job.c.id).limit(MOST_AT_ONCE)
        with self._reading() as connection:
            return [job_of(row) for row in connection.execute(query)]

    def follow(
        self, job: Job, specs: Sequence[JobSpec], now: datetime, profiles: Mapping[str, Profile]
    ) -> list[Job]:
        """Queue what rules ask for now that a job has ended, once, and send where they say.

        What is known by its key is not queued again; its results go to further destinations, if
        rules name any.

        Parameters
        ----------
        profiles
            Destination -> what it is given.

        Returns
        -------
        list of Job
            Those that were queued.
        """
        made = []
        with self._writing() as connection:
            mine = update(_job).where(_job.c.id == job.id, ~_job.c.followed).values(followed=True)
            if not connection.execute(mine).rowcount:
                return []
            for spec in merged(specs):
                job_id = known(connection, spec)
                if job_id is None:
                    reason = f"Rule {spec.rule!r} matched what came of job {job.id}."
                    made.append(make_job(connection, spec, reason=reason, now=now))
                else:
                    _send_also(connection, job_id, spec, now, profiles)
        return made


def _send_also(
    connection: Connection, job_id: int, spec: JobSpec, now: datetime, profiles: Mapping[str, Profile]
) -> None:
    """Let the results of a job, if it has or will have any, go where a rule says as well."""
    job = find_job(connection, job_id)
    row = connection.execute(select(_job.c.withdrawn_at, _job.c.outcome).where(_job.c.id == job_id)).one()
    places = [place for place in spec.send_to if place not in job.spec.send_to]
    ended = job.state in (JobState.REFUSED, JobState.CANCELLED)
    if not places or ended or row.withdrawn_at is not None:
        return
    everywhere = [*job.spec.send_to, *places]
    connection.execute(update(_job).where(_job.c.id == job_id).values(send_to=everywhere))
    has_results = _result.c.job_id == job_id, ~_result.c.aged_out
    uids = connection.scalars(
        select(_result.c.sop_instance_uid).where(*has_results).order_by(_result.c.number)
    ).all()
    if not uids:
        return
    for place in places:
        wanted = (row.outcome or {}).get("profiles", {}).get(profiles[place].key, uids)
        owe(connection, job_id, place, wanted, now)
    if job.state is not JobState.SENDING:
        reason = f"Rule {spec.rule!r} sends the results to {_listed(places)} as well."
        move_job(connection, job, JobState.SENDING, reason=reason, now=now)


def _listed(places: Iterable[str]) -> str:
    return " and ".join(places)
