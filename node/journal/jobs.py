"""Jobs: the queue, the moves, the results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, exists, or_, select

from node.errors import EncodeError, IllegalTransition, NodeError
from node.job import Job, JobState
from node.journal import schema
from node.journal.database import Database
from node.journal.moves import find_job, move_job
from node.journal.needs import unmade, wake
from node.journal.outbox import fill_outbox, finish_job, reopen
from node.journal.rows import Event, event_of, instance_of, job_of, outcome_of, result_of
from node.journal.sought import looked
from node.model import Instance, Outcome, ResultObject
from node.profile import Profile
from pipelines.contract import InputRefused

_job, _result, _instance, _series = schema.job, schema.result, schema.instance, schema.series
#: What is kept of an `Outcome`, beside its objects.
_KEPT = tuple(part.name for part in fields(Outcome) if part.name != "objects")
#: The states that a job may be moved to without anything else happening at once.
_PLAIN = frozenset({JobState.QUEUED, JobState.REFUSED, JobState.FAILED, JobState.CANCELLED})


class Jobs(Database):
    """The part of the journal that `node.flow.compute` and the operator's commands use."""

    def claim(self, now: datetime) -> Job | None:
        """Take the oldest job that waits and may begin: COMPUTING under a new fence, one more try.

        A case, complete or not, waits as long as a series of its study or its patient still arrives,
        which may change it; one that needs the result of another as long as that is queued or computing.
        """
        mine = _series.alias("mine")
        patients = select(mine.c.patient_key).where(
            mine.c.study_uid == _job.c.study_uid, mine.c.patient_key != ""
        )
        of_case = or_(
            _series.c.study_uid == _job.c.study_uid, _series.c.patient_key.in_(patients.correlate(_job))
        )
        arrives = exists().where(_series.c.unsettled, of_case)
        oldest = (
            select(_job)
            .where(_job.c.state == JobState.QUEUED, _job.c.not_before <= now)
            .where(or_(_job.c.case_of == [], ~arrives), ~exists().where(*unmade(_job.c.id)))
            .order_by(_job.c.id)
            .limit(1)
        )
        with self._reading() as connection:  # most often there is none, and nobody need wait for that
            if connection.execute(oldest).first() is None:
                return None
        with self._writing() as connection:
            row = connection.execute(oldest.with_for_update(skip_locked=True)).first()
            if row is None:
                return None
            return move_job(
                connection,
                job_of(row),
                JobState.COMPUTING,
                reason="A worker took it.",
                now=now,
                fence=row.fence + 1,
                tries=row.tries + 1,
            )

    def move(
        self,
        job: Job,
        to: JobState,
        *,
        code: str = "",
        reason: str,
        now: datetime,
        not_before: datetime | None = None,
    ) -> Job:
        """Move a job, if it still is as the caller saw it, and write down why.

        To COMPUTING, SENDING and DONE only `claim`, `save_results`, `retry` and `finish` move it,
        which do in the same transaction what must go with it.

        Parameters
        ----------
        job
            As the caller knows it: its state and fence must still be those of the journal.
        not_before
            When it may be claimed or sent; None leaves that as it is.

        Raises
        ------
        IllegalTransition
            No such move exists, or somebody else moved or claimed the job meanwhile.
        """
        if to not in _PLAIN:
            raise IllegalTransition(f"Job {job.id} cannot become {to} by a move alone.")
        with self._writing() as connection:
            return move_job(connection, job, to, code=code, reason=reason, now=now, not_before=not_before)

    def save_results(
        self, job: Job, outcome: Outcome, now: datetime, profiles: Mapping[str, Profile] | None = None
    ) -> Job:
        """Make results exist: frozen, and owed to the destinations. COMPUTING to SENDING.

        Where there is nothing to send or nowhere to send it, the job is DONE at once.

        Parameters
        ----------
        profiles
            Destination -> what it is given of ``outcome.profiles``; without one it is given all.

        Raises
        ------
        IllegalTransition
            The job was claimed anew or cancelled meanwhile; these results are to be discarded.
        EncodeError
            Two of the objects have the same SOP Instance UID.
        """
        uids = [thing.sop_instance_uid for thing in outcome.objects]
        if len(set(uids)) != len(uids):
            raise EncodeError(f"Job {job.id} gave two objects with the same SOP Instance UID.")
        wanted = {
            place: outcome.profiles[profile.key]
            for place, profile in (profiles or {}).items()
            if profile.key in outcome.profiles
        }
        told = {name: getattr(outcome, name) for name in _KEPT}
        with self._writing() as connection:
            moved = move_job(
                connection,
                job,
                JobState.SENDING,
                reason=f"{len(uids)} result object{'s'[: len(uids) != 1]} on disk.",
                now=now,
                outcome=told,
            )
            fill_outbox(
                connection, moved, outcome, [self._kept(o.path) for o in outcome.objects], now, wanted
            )
            return finish_job(connection, job.id, now, self._data) or moved

    def job(self, job_id: int) -> Job:
        """Return a job; `NodeError` when there is none with that number."""
        with self._reading() as connection:
            return find_job(connection, job_id)

    def jobs(self, state: JobState | None = None, limit: int = 100) -> list[Job]:
        """Return jobs, newest first."""
        query = select(_job).order_by(_job.c.id.desc()).limit(limit)
        if state is not None:
            query = query.where(_job.c.state == state)
        with self._reading() as connection:
            return [job_of(row) for row in connection.execute(query)]

    def events(self, job_id: int) -> tuple[Event, ...]:
        """Return every move of a job, oldest first."""
        table = schema.event
        query = select(table).where(table.c.job_id == job_id).order_by(table.c.id)
        with self._reading() as connection:
            return tuple(event_of(row) for row in connection.execute(query))

    def instances_of(self, job: Job) -> Mapping[str, tuple[Instance, ...]]:
        """Return what each role of a job is bound to, in the order of the job.

        Raises
        ------
        InputRefused
            One is bound to nothing, and the time in which that could change is over.
        NodeError
            An instance has aged out.
        """
        lack = job.spec.lack
        if lack and lack.then != "proceed":
            with self._reading() as connection:
                raise InputRefused(lack.code, lack.sentence + looked(connection, job.id))
        given: dict[str, tuple[Instance, ...]] = {}
        with self._reading() as connection:
            for role, entry in job.spec.inputs.items():
                rows = connection.execute(select(_instance).where(_instance.c.series_uid == entry.series_uid))
                held = {row.sop_instance_uid: row for row in rows}
                missing = [uid for uid in entry.sop_instance_uids if uid not in held]
                if missing:
                    raise NodeError(
                        f"{len(missing)} instances of job {job.id} are no longer here; send the series again."
                    )
                given[role] = tuple(instance_of(held[uid], self._data) for uid in entry.sop_instance_uids)
        return given

    def results(self, job_id: int) -> tuple[ResultObject, ...]:
        """Return the objects that a job made, in the order in which it gave them."""
        query = select(_result).where(_result.c.job_id == job_id).order_by(_result.c.number)
        with self._reading() as connection:
            return tuple(result_of(row, self._data) for row in connection.execute(query))

    def result_paths(self) -> set[Path]:
        """Return the files of all results that have not aged out."""
        query = select(_result.c.path).where(~_result.c.aged_out)
        with self._reading() as connection:
            return {self._data / path for path in connection.scalars(query)}

    def outcome(self, job_id: int) -> Outcome | None:
        """Return what the worker reported of a job; None when it has no results."""
        objects = self.results(job_id)
        with self._reading() as connection:
            told = connection.scalar(select(_job.c.outcome).where(_job.c.id == job_id))
        if told is None:
            return None
        return outcome_of(told, objects)

    def retry(self, job_id: int, now: datetime) -> Job:
        """Do as an operator asks: a failed job sends again what is owed, or computes again.

        One that was withdrawn owes its rejection alone.

        Raises
        ------
        IllegalTransition
            The job has not failed.
        NodeError
            Its input or its results have aged out.
        """
        with self._writing() as connection:
            job = find_job(connection, job_id)
            if job.state is not JobState.FAILED:
                raise IllegalTransition(f"Job {job_id} is {job.state}; only a failed job can be retried.")
            # Results that aged out are made again: the same input gives the same objects.
            kept = _result.c.job_id == job_id, ~_result.c.aged_out
            if connection.scalar(select(exists().where(*kept))):
                reopen(connection, job_id, now)
                moved = move_job(
                    connection, job, JobState.SENDING, reason="An operator asked to send again.", now=now
                )
                return finish_job(connection, job_id, now, self._data) or moved
            if _is_withdrawn(connection, job_id):
                raise NodeError(f"Job {job_id} was withdrawn, and its rejection has aged out.")
            if not _all_held(connection, job):
                raise NodeError(f"The instances of job {job_id} have aged out; send the series again.")
            wake(connection, job_id, now)
            return move_job(
                connection,
                job,
                JobState.QUEUED,
                reason="An operator asked to compute again.",
                now=now,
                not_before=now,
                tries=0,
                losses=0,
                key=job.spec.key,  # given back, if the series had aged out
            )

    def cancel(self, job_id: int, now: datetime) -> Job:
        """Do as an operator asks: the job ends, whatever it is at; what was sent stays sent.

        Of one that was withdrawn that is the end only where its rejection failed; the same work is
        not done again then.
        """
        with self._writing() as connection:
            job = find_job(connection, job_id)
            if _is_withdrawn(connection, job_id):
                if job.state is JobState.SENDING:
                    raise IllegalTransition(
                        f"Job {job_id} was withdrawn; its rejection is owed until it is taken everywhere, "
                        "or fails."
                    )
                return move_job(
                    connection,
                    job,
                    JobState.CANCELLED,
                    code="rejection-given-up",
                    reason="Rejection given up by an operator; tell the archive by hand.",
                    now=now,
                    key=_job.c.key,
                )
            return move_job(
                connection,
                job,
                JobState.CANCELLED,
                code="cancelled",
                reason="An operator cancelled it.",
                now=now,
            )

    def recover(self, now: datetime, *, tries: int | None = None) -> list[Job]:
        """Take up what a node that died left behind. Only the holder of the data lock may.

        A job that was computing is queued again: the first time at no cost, then each lost claim
        counts as a try. A job whose last receipt came just before the end is finished.

        Parameters
        ----------
        tries
            How many tries a job has; one that has spent them fails, so that input that kills
            the whole node does not do so for ever.

        Returns
        -------
        list of Job
            Those that had been computing.
        """
        with self._writing() as connection:
            rows = connection.execute(
                select(_job).where(_job.c.state == JobState.COMPUTING).order_by(_job.c.id)
            ).all()
            moved = []
            for row in rows:
                spent = row.tries if row.losses else row.tries - 1
                over = tries is not None and spent >= tries
                moved.append(
                    move_job(
                        connection,
                        job_of(row),
                        JobState.FAILED if over else JobState.QUEUED,
                        code="worker-lost",
                        reason="The node ended while a worker had it.",
                        now=now,
                        not_before=now,
                        tries=spent,
                        losses=row.losses + 1,
                    )
                )
            sending = select(_job.c.id).where(_job.c.state == JobState.SENDING).order_by(_job.c.id)
            for job_id in connection.scalars(sending).all():
                finish_job(connection, job_id, now, self._data)
            return moved


def _is_withdrawn(connection: Connection, job_id: int) -> bool:
    return connection.scalar(select(_job.c.withdrawn_at).where(_job.c.id == job_id)) is not None


def _all_held(connection: Connection, job: Job) -> bool:
    for entry in job.spec.inputs.values():
        query = select(_instance.c.sop_instance_uid).where(_instance.c.series_uid == entry.series_uid)
        if not set(entry.sop_instance_uids) <= set(connection.scalars(query)):
            return False
    return True
