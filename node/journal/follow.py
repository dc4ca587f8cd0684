"""What follows from results: rules may ask for more once a job has ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, and_, exists, func, or_, select, update

from node.job import Job, JobSpec, JobState, merged
from node.journal import schema
from node.journal.database import Database
from node.journal.known import known, needed_by
from node.journal.moves import find_job, make_job, move_job
from node.journal.outbox import owe
from node.journal.patients import seen_of
from node.journal.rows import job_of, outcome_of
from node.model import Answer, Outcome, Series
from node.profile import Profile

_job, _given, _result, _series = schema.job, schema.job_input, schema.result, schema.series
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
MOST_AT_ONCE = 100  #: jobs that are read at a time
#: Pipeline, Series Instance UID, revision -> the job that answers for them; None: none so far.
Answers = Mapping[tuple[str, str, int], int | None]


@dataclass(frozen=True, kw_only=True)
class Basis:
    """What rules on results were asked of: it must still be so when what they asked for is queued."""

    series: Series  #: the first input of the job, as it was held
    #: Series Instance UID -> revision of what is beside it, which was looked at too; None: it was not.
    seen: Mapping[str, int] | None = None
    patient_key: str = ""  #: as `Patients.patient_key` gives it


def answering(connection: Connection, pipeline: str, series_uid: str, revision: int) -> int | None:
    """Return the newest job of a pipeline on a revision of a series that gave results or refused.

    What it said is about its first input, which is of the study that its results are filed in.
    """
    query = (
        select(_job.c.id, _job.c.inputs)
        .join(_given, _given.c.job_id == _job.c.id)
        .join(_series, _series.c.series_uid == _given.c.series_uid)
        .where(_given.c.series_uid == series_uid, _given.c.revision == revision)
        .where(_job.c.pipeline == pipeline, _job.c.study_uid == _series.c.study_uid, _ended)
        .order_by(_job.c.id.desc())
    )
    for row in connection.execute(query):
        first = next(iter(row.inputs.values()))  # they are in the order of the card
        if first["series_uid"] == series_uid:
            return int(row.id)
    return None


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

    def unfollowed(self) -> Iterator[Job]:
        """Yield the jobs that ended and of which rules on results were not asked yet, oldest first.

        Each once: one that cannot be followed holds up none behind it. Those with a series of which
        more still arrives are left for when it has settled.
        """
        arrives = exists().where(
            _given.c.job_id == _job.c.id, _given.c.series_uid == _series.c.series_uid, _series.c.unsettled
        )
        query = select(_job).where(~_job.c.followed, _ended, ~arrives).order_by(_job.c.id)
        last = 0
        while True:
            with self._reading() as connection:
                rows = connection.execute(query.where(_job.c.id > last).limit(MOST_AT_ONCE)).all()
            if not rows:
                return
            yield from map(job_of, rows)
            last = rows[-1].id

    def follow(
        self,
        job: Job,
        specs: Sequence[JobSpec],
        now: datetime,
        profiles: Mapping[str, Profile],
        basis: Basis | None = None,
    ) -> list[Job]:
        """Queue what rules ask for now that a job has ended, once, and send where they say.

        Nothing happens when the inputs of the job, or what ``basis`` says, are no longer so: rules will
        be asked anew then. What is known by its key is not queued again; its results go to further
        destinations, if rules name any.

        Parameters
        ----------
        profiles
            Destination -> what it is given.
        basis
            What the rules were asked of; None: of nothing, since its series is not as the job had it.

        Returns
        -------
        list of Job
            Those that were queued.
        """
        made = []
        with self._writing() as connection:
            if find_job(connection, job.id).spec.inputs != job.spec.inputs:
                return []
            if basis and not _holds(connection, basis):
                return []
            mine = update(_job).where(_job.c.id == job.id, ~_job.c.followed).values(followed=True)
            if not connection.execute(mine).rowcount:
                return []
            wanted = merged(specs)
            needed = needed_by(wanted)
            for spec in wanted:
                job_id = known(connection, spec, needed)
                if job_id is None:
                    reason = f"Rule {spec.rule!r} matched what came of job {job.id}."
                    made.append(make_job(connection, spec, reason=reason, now=now))
                else:
                    _send_also(connection, job_id, spec, now, profiles)
        return made


def _holds(connection: Connection, basis: Basis) -> bool:
    uid = basis.series.uid
    row = connection.execute(select(_series).where(_series.c.series_uid == uid).with_for_update()).first()
    if row is None or row.unsettled or row.revision != basis.series.revision:
        return False
    count = connection.scalar(select(func.count()).where(schema.instance.c.series_uid == uid))
    if count != len(basis.series.instances):
        return False
    return basis.seen is None or basis.seen == seen_of(connection, uid, row.study_uid, basis.patient_key)


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
