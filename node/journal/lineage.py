"""Which run of a pipeline on a series took the place of which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, exists, select

from node.job import Job
from node.journal import schema
from node.journal.database import Database
from node.journal.rows import job_of
from node.model import Predecessor

_job, _result = schema.job, schema.result
_has_results = exists().where(_result.c.job_id == _job.c.id)


class Lineage(Database):
    """The part of the journal that knows earlier and later runs."""

    def predecessors(self, job: Job) -> tuple[Predecessor, ...]:
        """Return the reports of the run that the results of this job supersede.

        That is the newest earlier run of the same pipeline, in whatever version, on the same series
        of the same study, which has results and was not withdrawn. Nothing later than the job
        counts, so that its next try sees the same.
        """
        with self._reading() as connection:
            earlier = _newest(connection, job, later=False)
            if earlier is None:
                return ()
            query = (
                select(_result)
                .where(_result.c.job_id == earlier, _result.c.kind.startswith("sr-"))
                .order_by(_result.c.number)
            )
            return tuple(
                Predecessor(
                    study_uid=job.spec.study_uid,
                    series_uid=row.series_uid,
                    sop_class_uid=row.sop_class_uid,
                    sop_instance_uid=row.sop_instance_uid,
                )
                for row in connection.execute(query)
            )


def superseded_by(connection: Connection, job: Job) -> int | None:
    """Return the number of the newest run that took the place of this one, if it has results."""
    return _newest(connection, job, later=True)


def repeated_by(connection: Connection, job: Job) -> int | None:
    """Return the number of a later job that did the very same work, so that its results are the same
    objects, unless they were withdrawn."""
    same = (row for row in _kin(connection, job) if _work(row) == _work(job.spec))
    later = [row.id for row in same if row.id > job.id and row.withdrawn_at is None]
    return later[-1] if later else None


def _newest(connection: Connection, job: Job, *, later: bool) -> int | None:
    """Return the number of the newest run before, or after, this one.

    What is done anew under a new number, after its series had aged out, gives the same objects as
    at first: it stands where it stood at first.
    """
    rows = _kin(connection, job)
    first: dict[tuple[str, str], int] = {_work(job.spec): job.id}
    for row in rows:
        first[_work(row)] = min(row.id, first.get(_work(row), row.id))
    mine = first[_work(job.spec)]
    found = [
        (first[_work(row)], row.id)
        for row in rows
        if (first[_work(row)] > mine if later else first[_work(row)] < mine)
        and row.withdrawn_at is None
        and _overlaps(job, job_of(row))
    ]
    return max(found)[1] if found else None


def _kin(connection: Connection, job: Job) -> Sequence[Row[Any]]:
    """Return the jobs with results of the same pipeline on one of the same series, oldest first."""
    given = schema.job_input
    series_uids = [entry.series_uid for entry in job.spec.inputs.values()]
    query = (
        select(_job)
        .where(
            _job.c.pipeline == job.spec.pipeline,
            _job.c.study_uid == job.spec.study_uid,
            _job.c.id.in_(select(given.c.job_id).where(given.c.series_uid.in_(series_uids))),
            _has_results,
        )
        .order_by(_job.c.id)
    )
    return connection.execute(query).all()


def _work(job: Any) -> tuple[str, str]:
    return job.input_digest, job.pipeline_digest


def _overlaps(job: Job, other: Job) -> bool:
    """Whether both are about the same: two rules may give one pipeline different parts of a series."""
    mine, theirs = job.spec.inputs, other.spec.inputs
    return mine.keys() == theirs.keys() and all(
        entry.series_uid == theirs[role].series_uid
        and not set(entry.sop_instance_uids).isdisjoint(theirs[role].sop_instance_uids)
        for role, entry in mine.items()
    )
