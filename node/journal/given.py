"""What destinations were given of the results of a job, and what of that no note rejects yet."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, select

from node.journal import schema
from node.journal.rows import result_of
from node.model import ResultObject

#: Kind of the objects that take others back; they are no results themselves.
REJECTION = "rejection-note"

_parcel, _result, _stand_in = schema.parcel, schema.result, schema.stand_in


def unrejected(connection: Connection, job_id: int, data: Path) -> dict[str, tuple[ResultObject, ...]]:
    """Return destination -> what it took, as it went there, and what no note for it refers to.

    A destination with nothing of that kind is not in it.
    """
    results = {
        row.sop_instance_uid: result_of(row, data)
        for row in connection.execute(
            select(_result).where(_result.c.job_id == job_id).order_by(_result.c.number)
        )
    }
    stand_ins = {
        row.sop_instance_uid: result_of(row, data)
        for row in connection.execute(select(_stand_in).where(_stand_in.c.job_id == job_id))
    }
    order = {uid: number for number, uid in enumerate(results)}
    parcels = connection.execute(
        select(_parcel).where(_parcel.c.job_id == job_id).order_by(_parcel.c.destination)
    ).all()
    rejected: dict[str, set[str]] = {}
    for row in parcels:
        if results[row.sop_instance_uid].kind == REJECTION:
            rejected.setdefault(row.destination, set()).update(results[row.sop_instance_uid].refers_to)
    given: dict[str, list[ResultObject]] = {}
    for row in sorted(parcels, key=lambda row: order[row.sop_instance_uid]):
        thing = results[row.sop_instance_uid]
        went = stand_ins.get(row.sent_as, thing)
        known = rejected.get(row.destination, set())
        if row.delivered_at and thing.kind != REJECTION and went.sop_instance_uid not in known:
            given.setdefault(row.destination, []).append(went)
    return {place: tuple(given[place]) for place in sorted(given)}
