"""Jobs that take the result of another job as an input."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, exists, select

from node.job import Job, JobState
from node.journal import schema
from node.journal.database import Database
from node.journal.moves import move_job
from node.journal.rows import job_of
from node.model import Made
from pipelines.contract import InputRefused

_job, _need, _result = schema.job, schema.need, schema.result
#: Why a job ended that was to have the result of another one.
MISSING = "input-missing"
_UNMADE = (JobState.QUEUED, JobState.COMPUTING)
#: Beside the objects of a job: `node.compute.exchange.outlines`.
_OUTLINES = "outlines.zip"


def unmade(job_id: ColumnElement[int]) -> tuple[ColumnElement[bool], ...]:
    """Return what holds of the needs of a job that wait to be computed, or are being computed."""
    needed = _job.alias("needed")
    return _need.c.job_id == job_id, _need.c.needed_id == needed.c.id, needed.c.state.in_(_UNMADE)


def wake(connection: Connection, needed_id: int, now: datetime) -> None:
    """Queue again what was refused for want of a result that is now computed again."""
    needing = select(_need.c.job_id).where(_need.c.needed_id == needed_id)
    query = select(_job).where(_job.c.id.in_(needing)).order_by(_job.c.id)
    refused = _job.c.state == JobState.REFUSED, _job.c.reason_code == MISSING, _job.c.lack.is_(None)
    for row in connection.execute(query.where(*refused).with_for_update()).all():
        reason = f"Job {needed_id}, whose result it needs, is computed again."
        move_job(
            connection,
            job_of(row),
            JobState.QUEUED,
            reason=reason,
            now=now,
            not_before=now,
            tries=0,
            losses=0,
            followed=False,
        )
        wake(connection, row.id, now)


def waiting_for(connection: Connection, limit: int) -> list[tuple[Row[Any], str]]:
    """Return the jobs that wait for results of others, oldest first, each with a sentence."""
    waiting = select(_job).where(_job.c.state == JobState.QUEUED, exists().where(*unmade(_job.c.id)))
    return [
        (row, " ".join(_waits(connection, row.id)))
        for row in connection.execute(waiting.order_by(_job.c.id).limit(limit)).all()
    ]


def _waits(connection: Connection, job_id: int) -> Iterator[str]:
    query = select(_need.c.role, _job.c.id, _job.c.pipeline, _job.c.state).where(
        _need.c.job_id == job_id, _job.c.id == _need.c.needed_id, _job.c.state.in_(_UNMADE)
    )
    for row in connection.execute(query.order_by(_need.c.role)):
        yield f"Input {row.role!r} is a result of {row.pipeline}, job {row.id}, which is {row.state}."


class Needs(Database):
    """The part of the journal that knows what one job makes for another."""

    def made_for(self, job: Job) -> dict[str, Made]:
        """Return role -> what another job made for it.

        Raises
        ------
        InputRefused
            ``input-missing``: that job has none, or none that may be used any more.
        """
        made: dict[str, Made] = {}
        with self._reading() as connection:
            query = select(_need.c.role, _job).join(_job, _job.c.id == _need.c.needed_id)
            for row in connection.execute(query.where(_need.c.job_id == job.id)).all():
                if why := _unusable(connection, row):
                    sentence = f"Input {row.role!r} is a result of {row.pipeline}, {why}"
                    raise InputRefused(MISSING, sentence)
                first = select(_result.c.path).where(_result.c.job_id == row.id)
                path = connection.scalar(first.order_by(_result.c.number).limit(1))
                made[row.role] = Made(
                    pipeline=row.pipeline,
                    version=row.pipeline_version,
                    path=(self._data / str(path)).with_name(_OUTLINES),
                    sha256=row.outcome["outlines"],
                )
        return {role: made[role] for role in job.spec.needs}


def _unusable(connection: Connection, row: Row[Any]) -> str:
    """Say why the results of a job cannot be an input; "" if they can."""
    if row.withdrawn_at is not None:
        return f"which were withdrawn ({row.withdrawal}). Only another version of it gives others."
    aged = connection.scalars(select(_result.c.aged_out).where(_result.c.job_id == row.id)).all()
    if not aged:
        return f"{_ENDED.get(row.state, f'which is {row.state}')}: {row.reason}"
    if any(aged):
        return "which have aged out. Send the series again."
    if not (row.outcome or {}).get("outlines"):
        return "which outlined nothing."
    return ""


_ENDED = {
    JobState.REFUSED: "which refused this series",
    JobState.FAILED: "which failed on this series",
    JobState.CANCELLED: "which was cancelled for this series",
}
