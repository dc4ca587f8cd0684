"""Work that is asked for again: the job that stands for it already, brought up to what is held now."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import Connection, Row, select, update

from node.job import JobSpec, JobState
from node.journal import schema
from node.journal.moves import given_back
from node.journal.needs import MISSING
from node.journal.rows import job_of, values_of

_job, _given, _need = schema.job, schema.job_input, schema.need


def needed_by(specs: Iterable[JobSpec]) -> set[str]:
    """Return the keys of the work whose results other work needs."""
    return {key for spec in specs for key in spec.needs.values()}


def known(connection: Connection, spec: JobSpec, needed: Collection[str]) -> int | None:
    """Return the job that stands for work; None: it is to be made.

    It is the same work in a new revision whenever what came later is left out of it. The job counts
    as one of that revision then, and rules on its results are asked again: what they had asked for of
    the revision before has been superseded with it.

    A job that can no longer give what is asked gives its key back. What was withdrawn keeps it: the
    same results would come of it again.

    Parameters
    ----------
    spec
        Asked for behind the work whose results it needs.
    needed
        As `needed_by` gives it.
    """
    row = connection.execute(select(_job).where(_job.c.key == spec.key).with_for_update()).first()
    if row is None:
        return None
    mine = _job.c.id == row.id
    if _lacks_what_is_made_now(connection, row, spec) or (spec.key in needed and _kept_no_outlines(row)):
        connection.execute(update(_job).where(mine).values(key=given_back(_job.c.id)))
        return None
    if job_of(row).spec.inputs != spec.inputs:
        inputs = values_of(spec)["inputs"]
        connection.execute(update(_job).where(mine).values(inputs=inputs, followed=False))
        for role, entry in spec.inputs.items():
            of_role = _given.c.job_id == row.id, _given.c.role == role
            connection.execute(update(_given).where(*of_role).values(revision=entry.revision))
    return int(row.id)


def _lacks_what_is_made_now(connection: Connection, row: Row[Any], spec: JobSpec) -> bool:
    """Whether a job was refused for want of a result that another job makes, or has made, by now."""
    if row.state != JobState.REFUSED or row.reason_code != MISSING:
        return False
    asked = connection.execute(select(_need.c.role, _need.c.needed_id).where(_need.c.job_id == row.id))
    before = {one.role: one.needed_id for one in asked}
    return any(
        connection.scalar(select(_job.c.id).where(_job.c.key == key)) != before.get(role)
        for role, key in spec.needs.items()
    )


def _kept_no_outlines(row: Row[Any]) -> bool:
    """Whether a job has results of the time when outlines were not kept beside them (before 0005)."""
    return row.withdrawn_at is None and row.outcome is not None and "outlines" not in row.outcome
