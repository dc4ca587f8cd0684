"""Where earlier studies were looked for, for the cases that lack one."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, and_, exists, insert, or_, select

from node.job import Job, JobState
from node.journal import schema
from node.journal.database import Database
from node.journal.needs import MISSING
from node.journal.rows import job_of

_job, _sought = schema.job, schema.sought

#: A case that was refused is looked after for so long: an archive may have been down while it waited.
AFTERWARDS_S: Final = 3600.0
MOST_AT_ONCE: Final = 20


class Sought(Database):
    """The part of the journal that `node.pull.priors` uses."""

    def lacking(self, source: str, now: datetime) -> list[Job]:
        """Return the cases that lack a series and for which a source was not asked yet, oldest first."""
        asked = exists().where(_sought.c.job_id == _job.c.id, _sought.c.source == source)
        refused = and_(
            _job.c.state == JobState.REFUSED,
            _job.c.reason_code == MISSING,
            _job.c.changed_at >= now - timedelta(seconds=AFTERWARDS_S),
        )
        query = (
            select(_job)
            .where(_job.c.lack.is_not(None), or_(_job.c.state == JobState.QUEUED, refused), ~asked)
            .order_by(_job.c.id)
            .limit(MOST_AT_ONCE)
        )
        with self._reading() as connection:
            return [job_of(row) for row in connection.execute(query).all()]

    def seek(self, job_id: int, source: str, found: int, now: datetime) -> None:
        """Write down that a source was asked for the prior of a job, and how many studies are fetched."""
        with self._writing() as connection:
            known = select(_sought.c.job_id).where(_sought.c.job_id == job_id, _sought.c.source == source)
            if connection.scalar(known) is None:
                connection.execute(insert(_sought).values(job_id=job_id, source=source, at=now, found=found))


def looked(connection: Connection, job_id: int) -> str:
    """Return a sentence that says in which archives the prior of a job was looked for; "" for none."""
    query = select(_sought).where(_sought.c.job_id == job_id, _sought.c.found >= 0).order_by(_sought.c.source)
    told = [f"{row.source} ({_many(row.found)})" for row in connection.execute(query).all()]
    return f" It was looked for in {' and '.join(told)}." if told else ""


def _many(found: int) -> str:
    if not found:
        return "which has none"
    return "1 study was asked for" if found == 1 else f"{found} studies were asked for"
