"""Withdrawals: results are taken back, wherever they went."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, and_, delete, func, insert, literal, not_, select, update

from node.errors import IllegalTransition, NodeError
from node.job import Job, JobState, Withdrawal
from node.journal import schema
from node.journal.database import Database
from node.journal.given import REJECTION, unrejected
from node.journal.lineage import repeated_by
from node.journal.moves import find_job, move_job
from node.journal.outbox import finish_job
from node.model import ResultObject

_job, _result, _instance = schema.job, schema.result, schema.instance
_delivery, _parcel = schema.delivery, schema.parcel

#: Destination -> objects.
Given = Mapping[str, tuple[ResultObject, ...]]


class Withdrawals(Database):
    """The part of the journal that `radnode withdraw` uses."""

    def to_reject(self, job_id: int) -> Given:
        """Return what each destination took or may have of a job, that no note rejects yet.

        Raises
        ------
        NodeError
            There is no such job, or nothing of it can be withdrawn.
        """
        with self._reading() as connection:
            given = unrejected(connection, job_id, self._data)
            _check(connection, job_id, given)
            return given

    def notes(self, job_id: int) -> int:
        """Return how many rejection notes a job has."""
        query = select(func.count()).where(_result.c.job_id == job_id, _result.c.kind == REJECTION)
        with self._reading() as connection:
            return int(connection.scalar(query) or 0)

    def alike(self, job: Job) -> list[Path]:
        """Return the files that tell of the patient and study of a job: its reports first."""
        same_study = select(_job.c.id).where(_job.c.study_uid == job.spec.study_uid)
        made = select(_result).where(_result.c.job_id.in_(same_study), ~_result.c.aged_out)
        held = select(_instance.c.path).where(_instance.c.study_uid == job.spec.study_uid)
        with self._reading() as connection:
            rows = sorted(
                connection.execute(made).all(),
                key=lambda row: (row.job_id != job.id, not row.kind.startswith("sr-"), row.number),
            )
            paths = [*(row.path for row in rows), *connection.scalars(held.order_by(_instance.c.path))]
        return [self._data / path for path in paths]

    def withdraw(
        self,
        job_id: int,
        reason: Withdrawal,
        *,
        seen: Given,
        notes: Mapping[str, ResultObject],
        now: datetime,
    ) -> Job | None:
        """Withdraw the results of a job: what is undelivered stays here, the notes are owed.

        Parameters
        ----------
        seen
            What `to_reject` said. None is returned, and nothing happens, when more was taken since.
        notes
            Destination -> the note that rejects what it was given. Where destinations were given
            the same, they have the same note.

        Raises
        ------
        NodeError
            As `to_reject`.
        """
        with self._writing() as connection:
            find_job(connection, job_id)
            given = unrejected(connection, job_id, self._data)
            job = _check(connection, job_id, given)
            if given != seen or given.keys() != notes.keys():
                return None
            note = _result.c.job_id == job_id, _result.c.kind == REJECTION
            of_note = _parcel.c.sop_instance_uid.in_(select(_result.c.sop_instance_uid).where(*note))
            # Notes that waited for a person are not: others are owed now.
            kept = and_(of_note, literal(job.state is JobState.SENDING))
            connection.execute(
                delete(_parcel).where(
                    _parcel.c.job_id == job_id, _parcel.c.delivered_at.is_(None), not_(kept)
                )
            )
            connection.execute(  # whether what is taken back has arrived is of no account any more
                update(_parcel)
                .where(_parcel.c.job_id == job_id, _parcel.c.prove_at.is_not(None), not_(of_note))
                .values(prove_at=None, proof="Withdrawn before it was known to be there.")
            )
            self._owe(connection, job_id, notes, now)
            whither = f"a rejection goes to {', '.join(notes)}" if notes else "no destination had taken any"
            moved = move_job(
                connection,
                job,
                JobState.SENDING,
                code="withdrawn",
                reason=f"An operator withdrew the results ({reason}); {whither}.",
                now=now,
                withdrawn_at=now,
                withdrawal=str(reason),
            )
            return finish_job(connection, job_id, now, self._data) or moved

    def _owe(
        self, connection: Connection, job_id: int, notes: Mapping[str, ResultObject], now: datetime
    ) -> None:
        """Make the notes results of the job, due at once."""
        last = connection.scalar(select(func.max(_result.c.number)).where(_result.c.job_id == job_id)) or 0
        different = {note.sop_instance_uid: note for note in notes.values()}
        for number, note in enumerate(different.values(), start=last + 1):
            connection.execute(
                insert(_result).values(
                    job_id=job_id,
                    number=number,
                    kind=note.kind,
                    sop_instance_uid=note.sop_instance_uid,
                    sop_class_uid=note.sop_class_uid,
                    series_uid=note.series_uid,
                    transfer_syntax_uid=note.transfer_syntax_uid,
                    path=self._kept(note.path),
                    sha256=note.sha256,
                    refers_to=list(note.refers_to),
                    aged_out=False,
                )
            )
        for place, note in notes.items():
            this = _delivery.c.job_id == job_id, _delivery.c.destination == place
            fresh = {"tries": 0, "not_before": now, "parked": False, "code": "", "reason": ""}
            if not connection.execute(update(_delivery).where(*this).values(**fresh)).rowcount:
                # An alternate, which was owed nothing before.
                connection.execute(insert(_delivery).values(job_id=job_id, destination=place, **fresh))
            connection.execute(
                insert(_parcel).values(
                    job_id=job_id, destination=place, sop_instance_uid=note.sop_instance_uid, sentence=""
                )
            )


def _check(connection: Connection, job_id: int, given: Given) -> Job:
    """Return the job, if there is something that can be withdrawn."""
    job = find_job(connection, job_id)
    row = connection.execute(select(_job).where(_job.c.id == job_id)).one()
    if job.state in (JobState.QUEUED, JobState.COMPUTING):
        raise IllegalTransition(
            f"Job {job_id} is {job.state}: it has no results yet. `radnode cancel {job_id}` stops it."
        )
    if not connection.scalar(select(func.count()).where(_result.c.job_id == job_id)):
        raise IllegalTransition(
            f"Job {job_id} is {job.state} and has no results, so there are none to withdraw."
        )
    if row.withdrawn_at is not None and not given:
        when = row.withdrawn_at.isoformat(timespec="seconds")
        raise IllegalTransition(f"Job {job_id} was withdrawn already ({row.withdrawal}) at {when}.")
    if (again := repeated_by(connection, job)) is not None:
        raise NodeError(
            f"Job {again} did the work of job {job_id} again, and its results are the same objects; "
            f"withdraw job {again} first."
        )
    return job
