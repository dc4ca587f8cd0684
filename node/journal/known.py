"""Work that is asked for again: the job that stands for it already, brought up to what is held now."""

from __future__ import annotations

from sqlalchemy import Connection, select, update

from node.job import JobSpec
from node.journal import schema
from node.journal.rows import job_of, values_of

_job, _given = schema.job, schema.job_input


def known(connection: Connection, spec: JobSpec) -> int | None:
    """Return the job that stands for work; None: it is to be made.

    It is the same work in a new revision whenever what came later is left out of it. The job counts
    as one of that revision then, and rules on its results are asked again: what they had asked for of
    the revision before has been superseded with it.
    """
    row = connection.execute(select(_job).where(_job.c.key == spec.key).with_for_update()).first()
    if row is None:
        return None
    if job_of(row).spec.inputs != spec.inputs:
        inputs = values_of(spec)["inputs"]
        connection.execute(update(_job).where(_job.c.id == row.id).values(inputs=inputs, followed=False))
        for role, entry in spec.inputs.items():
            mine = _given.c.job_id == row.id, _given.c.role == role
            connection.execute(update(_given).where(*mine).values(revision=entry.revision))
    return int(row.id)
