"""The only place where the state of a job changes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, String, cast, func, insert, literal, select, update

from node.errors import IllegalTransition, NodeError
from node.job import TRANSITIONS, Job, JobSpec, JobState
from node.journal import schema
from node.journal.rows import job_of, values_of


def find_job(connection: Connection, job_id: int) -> Job:
    """Return a job as it stands now; nobody else changes it before the transaction ends."""
    row = connection.execute(select(schema.job).where(schema.job.c.id == job_id).with_for_update()).first()
    if row is None:
        raise NodeError(f"There is no job {job_id}.")
    return job_of(row)


def given_back(job_id: ColumnElement[int]) -> ColumnElement[str]:
    """Return what takes the place of a key that new work may have: it is unlike any digest."""
    return literal("given back by ") + cast(job_id, String)


def make_job(connection: Connection, spec: JobSpec, *, reason: str, now: datetime) -> Job:
    """Queue new work.

    Where an earlier job was asked for the same, its time of creation stays: the same objects under
    the same UIDs come of it then, and an archive that has them meets nothing new.
    """
    table = schema.job
    same = (
        table.c.input_digest == spec.input_digest,
        table.c.pipeline == spec.pipeline,
        table.c.pipeline_digest == spec.pipeline_digest,
    )
    first_at = connection.scalar(select(func.min(table.c.created_at)).where(*same))
    row = connection.execute(
        insert(schema.job)
        .values(
            **values_of(spec),
            state=JobState.QUEUED,
            fence=0,
            tries=0,
            losses=0,
            not_before=now + timedelta(seconds=spec.lack.wait_s) if spec.lack else now,
            created_at=first_at or now,
            changed_at=now,
            reason_code="",
            reason="",
            followed=False,
        )
        .returning(schema.job)
    ).one()
    if spec.inputs:
        rows = [
            {"job_id": row.id, "role": role, "series_uid": entry.series_uid, "revision": entry.revision}
            for role, entry in spec.inputs.items()
        ]
        connection.execute(insert(schema.job_input), rows)
    for role, key in spec.needs.items():
        needed = select(table.c.id).where(table.c.key == key).scalar_subquery()
        connection.execute(insert(schema.need).values(job_id=row.id, role=role, needed_id=needed))
    _note(connection, row.id, None, JobState.QUEUED, 0, "", reason, now)
    return job_of(row)


def move_job(
    connection: Connection,
    job: Job,
    to: JobState,
    *,
    reason: str,
    now: datetime,
    code: str = "",
    not_before: datetime | None = None,
    **changes: Any,
) -> Job:
    """Move a job, if it is still in the state and under the fence that the caller saw.

    One that is cancelled gives its key back, unless ``changes`` name one: the same work may be asked
    for again.

    Raises
    ------
    IllegalTransition
        No such move exists, or somebody else moved or claimed the job meanwhile.
    """
    if (job.state, to) not in TRANSITIONS:
        raise IllegalTransition(f"Job {job.id} is {job.state}; from there it cannot become {to}.")
    table = schema.job
    row = connection.execute(
        update(table)
        .where(table.c.id == job.id, table.c.state == job.state, table.c.fence == job.fence)
        .values(
            state=to,
            reason_code=code,
            reason=reason,
            changed_at=now,
            **({"not_before": not_before} if not_before else {}),
            **({"key": given_back(table.c.id)} if to is JobState.CANCELLED else {}) | changes,
        )
        .returning(table)
    ).first()
    if row is None:
        raise IllegalTransition(
            f"Job {job.id} is no longer {job.state} under fence {job.fence}; what was done for it "
            "meanwhile is not used."
        )
    _note(connection, job.id, job.state, to, row.fence, code, reason, now)
    return job_of(row)


def _note(
    connection: Connection,
    job_id: int,
    from_state: JobState | None,
    to_state: JobState,
    fence: int,
    code: str,
    reason: str,
    now: datetime,
) -> None:
    connection.execute(
        insert(schema.event).values(
            job_id=job_id,
            at=now,
            from_state=from_state,
            to_state=to_state,
            fence=fence,
            code=code,
            reason=reason,
        )
    )
