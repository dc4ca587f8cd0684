"""What destinations were, or may have been, given of a job, and what of that no note rejects yet."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, select

from node.job import JobState
from node.journal import schema
from node.journal.rows import result_of
from node.model import ResultObject

#: Kind of the objects that take others back; they are no results themselves.
REJECTION = "rejection-note"

_job, _parcel, _result, _stand_in = schema.job, schema.parcel, schema.result, schema.stand_in


def unrejected(connection: Connection, job_id: int, data: Path) -> dict[str, tuple[ResultObject, ...]]:
    """Return destination -> what it took or may have, as it went there, and what no note refers to.

    It may have what it was sent and did not answer for, and what an alternate took, or may have, in its
    place, which has it as well: alternates pass on what they were given. A note counts once it was
    taken, and before that as long as it is being sent: one that waits for a person, or was given up,
    rejects nothing.
    A destination with nothing of that kind is not in it.
    """
    results = connection.execute(
        select(_result).where(_result.c.job_id == job_id).order_by(_result.c.number)
    ).all()
    stand_ins = connection.execute(select(_stand_in).where(_stand_in.c.job_id == job_id)).all()
    things = {row.sop_instance_uid: result_of(row, data) for row in (*results, *stand_ins)}
    order = {row.sop_instance_uid: row.number for row in results}
    order |= {row.sop_instance_uid: order[row.stands_for] for row in stand_ins}
    being_sent = connection.scalar(select(_job.c.state).where(_job.c.id == job_id)) == JobState.SENDING
    given: dict[str, set[str]] = {}
    rejected: dict[str, set[str]] = {}
    for row in connection.execute(select(_parcel).where(_parcel.c.job_id == job_id)):
        uid, place = row.sop_instance_uid, row.via or row.destination
        if things[uid].kind == REJECTION:
            counts = row.delivered_at is not None or being_sent
            (rejected if counts else given).setdefault(place, set()).update(things[uid].refers_to)
        else:
            went = {row.sent_as if row.sent_as in things else uid} if row.delivered_at else set()
            given.setdefault(place, set()).update(went)
            given.setdefault(row.destination, set()).update(went)
            for tried_at, sent_uid in row.tried:
                given.setdefault(tried_at, set()).add(sent_uid)
                given[row.destination].add(sent_uid)
    left = {place: uids - rejected.get(place, set()) for place, uids in given.items()}
    return {
        place: tuple(things[uid] for uid in sorted(left[place], key=lambda uid: (order[uid], uid)))
        for place in sorted(left)
        if left[place]
    }
