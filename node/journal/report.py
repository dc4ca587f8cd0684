"""How things stand, in plain numbers."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from node.job import JobState
from node.journal import schema
from node.journal.database import Database
from node.journal.follow import unfollowed
from node.journal.lineage import superseded_by
from node.journal.needs import waiting_for
from node.journal.pulls import pulls_told
from node.journal.rows import job_of
from node.journal.settlings import counts, incomplete
from node.journal.sought import looked
from node.journal.standing import standing

#: Lists in a report are cut at this length; the counts beside them are whole.
LONGEST_LIST = 50
LAST = 10  #: of what nobody needs to act on, only so many are shown


class Report(Database):
    """The part of the journal that `radnode status` and the console use."""

    def status(self) -> dict[str, Any]:
        """Return what there is, as plain JSON.

        Keys: ``instances``, ``series``, ``arriving`` (list), ``incomplete``
        (the last series that settled without what an archive counts), ``unrouted`` (count, list with
        reasons), ``jobs`` (count by state), ``failed`` and ``refused`` (lists, with series and
        reasons; of the refused the last ones), ``unfollowed`` (count of the jobs that ended and of which
        rules on results were not asked yet), ``waiting`` (list: several series of a study of which
        one is lacking, or jobs that need the result of another), ``withdrawn`` (the last ones),
        ``deliveries`` (objects ``delivered`` and ``pending``, and those ``parked``; ``troubled``
        lists what failed last), ``destinations`` (as `node.journal.standing`),
        ``pulls`` (what is fetched from archives: counts, ``troubled``, and the ``sources`` that cannot be
        asked), ``quarantined``, ``events`` (the last ones, newest first).
        """
        with self._reading() as connection:
            return {
                "instances": _count(connection, select(func.count()).select_from(schema.instance)),
                "series": _count(connection, select(func.count()).select_from(schema.series)),
                "arriving": _arriving(connection),
                "incomplete": incomplete(connection, LAST),
                "unrouted": _unrouted(connection),
                "jobs": _jobs(connection),
                "unfollowed": _count(connection, unfollowed()),
                "failed": _ended(connection, JobState.FAILED, LONGEST_LIST),
                "refused": _ended(connection, JobState.REFUSED, LAST),
                "waiting": _waiting(connection),
                "withdrawn": _withdrawn(connection),
                "deliveries": _deliveries(connection),
                "destinations": standing(connection),
                "pulls": pulls_told(connection, LONGEST_LIST),
                "quarantined": _count(connection, select(func.count()).select_from(schema.quarantine)),
                "events": _events(connection),
            }

    def jobs_of(self, series_uid: str) -> list[dict[str, Any]]:
        """Return the jobs that had a series as an input, oldest first, as plain JSON.

        Beside what `status` tells of a job: ``destinations``, how it stands with each (`standing`).
        """
        table, given = schema.job, schema.job_input
        mine = select(given.c.job_id).where(given.c.series_uid == series_uid)
        with self._reading() as connection:
            rows = connection.execute(select(table).where(table.c.id.in_(mine)).order_by(table.c.id))
            return [
                {**_told(connection, row), "destinations": standing(connection, row.id)} for row in rows.all()
            ]


def _count(connection: Connection, query: Select[Any]) -> int:
    return int(connection.scalar(query) or 0)


def _arriving(connection: Connection) -> list[dict[str, Any]]:
    table = schema.series
    query = (
        select(table.c.series_uid, table.c.last_arrival_at, func.count().label("instances"))
        .join(schema.instance, schema.instance.c.series_uid == table.c.series_uid)
        .where(table.c.unsettled)
        .group_by(table.c.series_uid, table.c.last_arrival_at)
        .order_by(table.c.last_arrival_at.desc())
        .limit(LONGEST_LIST)
    )
    rows = connection.execute(query).all()
    said = counts(connection) if rows else {}
    return [
        {
            "series_uid": row.series_uid,
            "instances": row.instances,
            "last_arrival_at": row.last_arrival_at.isoformat(),
            "counts": {one.source: one.instances for one in said.get(row.series_uid, ())},
        }
        for row in rows
    ]


def _unrouted(connection: Connection) -> dict[str, Any]:
    table = schema.series
    ours = select(schema.result.c.series_uid).union(select(schema.stand_in.c.series_uid))
    these = (~table.c.unsettled, table.c.routing.startswith("unrouted"), table.c.series_uid.not_in(ours))
    query = select(table).where(*these).order_by(table.c.last_arrival_at.desc()).limit(LONGEST_LIST)
    return {
        "count": _count(connection, select(func.count()).select_from(table).where(*these)),
        "series": [
            {"series_uid": row.series_uid, "reason": row.routing.removeprefix("unrouted: ")}
            for row in connection.execute(query)
        ],
    }


def _jobs(connection: Connection) -> dict[str, int]:
    counted = connection.execute(select(schema.job.c.state, func.count()).group_by(schema.job.c.state))
    found = {state: int(count) for state, count in counted}
    return {state.value: found.get(state.value, 0) for state in JobState}


def _ended(connection: Connection, state: JobState, limit: int) -> list[dict[str, Any]]:
    """Return the jobs that ended in a state, the last one first."""
    table = schema.job
    query = select(table).where(table.c.state == state).order_by(table.c.changed_at.desc()).limit(limit)
    return [_told(connection, row) for row in connection.execute(query).all()]


def _waiting(connection: Connection) -> list[dict[str, Any]]:
    table = schema.job
    these = table.c.state == JobState.QUEUED, table.c.lack.is_not(None)
    query = select(table).where(*these).order_by(table.c.not_before).limit(LONGEST_LIST)
    lacking = [
        {
            **_told(connection, row),
            "reason": row.lack["sentence"] + looked(connection, row.id),
            "until": row.not_before.isoformat(),
        }
        for row in connection.execute(query).all()
    ]
    return lacking + [
        {**_told(connection, row), "reason": reason, "until": ""}
        for row, reason in waiting_for(connection, LONGEST_LIST)
    ]


def _withdrawn(connection: Connection) -> list[dict[str, Any]]:
    table = schema.job
    query = select(table).where(table.c.withdrawn_at.is_not(None)).order_by(table.c.withdrawn_at.desc())
    return [_told(connection, row) for row in connection.execute(query.limit(LAST)).all()]


def _told(connection: Connection, row: Row[Any]) -> dict[str, Any]:
    return {
        "job": row.id,
        "pipeline": row.pipeline,
        "version": row.pipeline_version,
        "rule": row.rule,
        "series_uids": sorted({given["series_uid"] for given in row.inputs.values()}),
        "inputs": _inputs(connection, row),
        "state": row.state,
        "code": row.reason_code,
        "reason": row.reason,
        "superseded_by": superseded_by(connection, job_of(row)),
        "withdrawal": row.withdrawal,
        "withdrawn_at": row.withdrawn_at.isoformat() if row.withdrawn_at else None,
    }


def _inputs(connection: Connection, row: Row[Any]) -> list[dict[str, Any]]:
    """Return which series has which role; its Series Number is "" once it has aged out."""
    table, uids = schema.series, [given["series_uid"] for given in row.inputs.values()]
    query = select(table.c.series_uid, table.c.number).where(table.c.series_uid.in_(uids))
    numbers = {one.series_uid: one.number for one in connection.execute(query)}
    return [
        {
            "role": role,
            "series_uid": given["series_uid"],
            "series_number": numbers.get(given["series_uid"], ""),
        }
        for role, given in row.inputs.items()
    ]


def _deliveries(connection: Connection) -> dict[str, Any]:
    parcel, delivery, job = schema.parcel, schema.delivery, schema.job
    owed = (
        select(func.count())
        .select_from(parcel)
        .join(job, job.c.id == parcel.c.job_id)
        .join(
            delivery,
            (delivery.c.job_id == parcel.c.job_id) & (delivery.c.destination == parcel.c.destination),
        )
        .where(parcel.c.delivered_at.is_(None), job.c.state.in_([JobState.SENDING, JobState.FAILED]))
    )
    troubled = connection.execute(
        select(delivery)
        .join(job, job.c.id == delivery.c.job_id)
        .where(delivery.c.code != "", job.c.state.in_([JobState.SENDING, JobState.FAILED]))
        .order_by(delivery.c.job_id.desc())
        .limit(LONGEST_LIST)
    )
    taken = select(func.count()).select_from(parcel).where(parcel.c.delivered_at.is_not(None))
    return {
        "delivered": _count(connection, taken),
        "pending": _count(connection, owed.where(~delivery.c.parked)),
        "parked": _count(connection, owed.where(delivery.c.parked)),
        "troubled": [
            {
                "job": row.job_id,
                "destination": row.destination,
                "tries": row.tries,
                "parked": row.parked,
                "next_try": None if row.parked else row.not_before.isoformat(),
                "code": row.code,
                "reason": row.reason,
            }
            for row in troubled
        ],
    }


def _events(connection: Connection) -> list[dict[str, Any]]:
    table = schema.event
    query = (
        select(table, schema.job.c.pipeline)
        .join(schema.job, schema.job.c.id == table.c.job_id)
        .order_by(table.c.id.desc())
        .limit(LAST)
    )
    return [
        {
            "at": row.at.isoformat(),
            "job": row.job_id,
            "pipeline": row.pipeline,
            "to": row.to_state,
            "code": row.code,
            "reason": row.reason,
        }
        for row in connection.execute(query)
    ]
