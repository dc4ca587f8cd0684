"""Pauses: nothing is sent to, or asked of, a destination that an operator holds back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, exists, insert, select, update

from node.errors import NodeError
from node.journal import schema
from node.journal.database import Database

_delivery, _pause = schema.delivery, schema.pause


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Since when a destination is held back, and why."""

    since: datetime  #: aware, UTC
    reason: str


class Pauses(Database):
    """The part of the journal that ``radnode pause`` and ``radnode resume`` use.

    What is owed waits. An alternate does not take it in its place: a pause is what the operator
    wants, not a fault of the destination.
    """

    def pause(self, destination: str, reason: str, now: datetime) -> Pause:
        """Hold a destination back; one that was before keeps its time and takes the new reason."""
        this = _pause.c.destination == destination
        with self._writing() as connection:
            since = connection.scalar(select(_pause.c.since).where(this))
            if since is None:
                connection.execute(insert(_pause).values(destination=destination, since=now, reason=reason))
            else:
                connection.execute(update(_pause).where(this).values(reason=reason))
        return Pause(since=since or now, reason=reason)

    def resume(self, destination: str, now: datetime) -> None:
        """Let a destination have what it is owed, at once.

        Raises
        ------
        NodeError
            It was not held back.
        """
        owed = exists().where(
            schema.parcel.c.job_id == _delivery.c.job_id,
            schema.parcel.c.destination == _delivery.c.destination,
            schema.parcel.c.delivered_at.is_(None),
        )
        with self._writing() as connection:
            gone = connection.execute(delete(_pause).where(_pause.c.destination == destination))
            if gone.rowcount != 1:
                raise NodeError(f"{destination!r} is not paused.")
            connection.execute(
                update(_delivery)
                .where(_delivery.c.destination == destination, ~_delivery.c.parked, owed)
                .values(not_before=now)
            )

    def paused(self) -> Mapping[str, Pause]:
        """Return the destinations that are held back."""
        with self._reading() as connection:
            rows = connection.execute(select(_pause).order_by(_pause.c.destination)).all()
        return {row.destination: Pause(since=row.since, reason=row.reason) for row in rows}
