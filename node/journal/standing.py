"""How it stands with each destination: what it is owed, took, and is known to have."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, and_, case, func, select, true

from node.job import JobState
from node.journal import schema

_job, _parcel, _pause = schema.job, schema.parcel, schema.pause


def standing(connection: Connection, job_id: int | None = None) -> list[dict[str, Any]]:
    """Return one entry per destination that was ever owed something or is paused, as plain JSON.

    Keys: ``destination``; ``owed``, ``unproved`` (it took them and is not known to have them),
    ``proved`` and ``taken`` (no proof was wanted), counts of objects; ``since`` (the oldest of the
    unproved was taken), ``next_ask``, ``why`` (what is known of that one); ``via``, how many objects
    each alternate took in its place; ``paused_since`` and ``pause``, the reason for it.

    Parameters
    ----------
    job_id
        Of this job alone, and of the destinations that were ever owed its results.
    """
    mine = true() if job_id is None else _parcel.c.job_id == job_id
    open_job = _job.c.state.in_([JobState.SENDING, JobState.FAILED])
    owed = and_(_parcel.c.delivered_at.is_(None), open_job)
    unproved = and_(_parcel.c.prove_at.is_not(None), _job.c.state == JobState.SENDING)
    proved = _parcel.c.proved_at.is_not(None)
    taken = and_(_parcel.c.delivered_at.is_not(None), _parcel.c.prove_at.is_(None), ~proved)
    counts = {
        name: func.sum(case((which, 1), else_=0)).label(name)
        for name, which in (("owed", owed), ("unproved", unproved), ("proved", proved), ("taken", taken))
    }
    query = (
        select(_parcel.c.destination, *counts.values())
        .join(_job, _job.c.id == _parcel.c.job_id)
        .where(mine)
        .group_by(_parcel.c.destination)
    )
    found: dict[str, dict[str, Any]] = {}
    for row in connection.execute(query):
        found[row.destination] = {name: int(getattr(row, name) or 0) for name in counts}
    waiting = (
        select(_parcel)
        .join(_job, _job.c.id == _parcel.c.job_id)
        .where(mine, unproved)
        .order_by(_parcel.c.destination, _parcel.c.delivered_at)
    )
    oldest: dict[str, dict[str, Any]] = {}
    for row in connection.execute(waiting):
        told = {"since": row.delivered_at.isoformat(), "next_ask": row.prove_at.isoformat(), "why": row.proof}
        first = oldest.setdefault(row.destination, told)
        first["next_ask"] = min(first["next_ask"], told["next_ask"])
    elsewhere = (
        select(_parcel.c.destination, _parcel.c.via, func.count().label("count"))
        .where(mine, _parcel.c.via != "", _parcel.c.delivered_at.is_not(None))
        .group_by(_parcel.c.destination, _parcel.c.via)
        .order_by(_parcel.c.via)
    )
    via: dict[str, dict[str, int]] = {}
    for destination, alternate, count in connection.execute(elsewhere):
        via.setdefault(destination, {})[alternate] = int(count)
    pauses = {row.destination: row for row in connection.execute(select(_pause))}
    return [
        {
            "destination": name,
            **(found.get(name) or dict.fromkeys(counts, 0)),
            **(oldest.get(name) or {"since": None, "next_ask": None, "why": ""}),
            "via": via.get(name, {}),
            "paused_since": pauses[name].since.isoformat() if name in pauses else None,
            "pause": pauses[name].reason if name in pauses else "",
        }
        for name in sorted({*found, *pauses} if job_id is None else found)
    ]
