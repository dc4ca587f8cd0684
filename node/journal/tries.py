"""Tries: what may have arrived, what failed, when to try again, what waits for a person."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType

from sqlalchemy import ColumnElement, Connection, and_, exists, select, true, update

from node.config import SendTable
from node.errors import IllegalTransition, NodeError, PeerBusy, PeerRefused, SendError
from node.job import JobState, next_try
from node.journal import schema
from node.journal.database import Database
from node.journal.moves import find_job
from node.journal.rows import Delivery

_delivery, _parcel = schema.delivery, schema.parcel

#: Place -> SOP Instance UID of a result -> that of what may have arrived there: its own, or its stand-in's.
Begun = Mapping[str, Mapping[str, str]]


class Tries(Database):
    """The part of the journal that `node.flow.deliver` tells of its tries."""

    def begin(self, owed: Delivery, place: str, going: Mapping[str, str]) -> dict[str, str]:
        """Write down, before any is sent, what may arrive: its answer may be lost.

        Parameters
        ----------
        place
            Where it goes: the destination, or an alternate of it.
        going
            SOP Instance UID of a result -> that of what goes: its own, or its stand-in's.

        Returns
        -------
        dict
            Those of ``going`` that no earlier try left in doubt.

        Raises
        ------
        IllegalTransition
            This is not owed like that any more: withdrawn or cancelled meanwhile. Nothing may be sent.
        """
        with self._writing() as connection:
            find_job(connection, owed.job_id)
            query = select(_parcel.c.sop_instance_uid, _parcel.c.tried).where(_waits(owed))
            as_seen = connection.scalar(select(exists().where(_stands(owed))))
            tried = {row.sop_instance_uid: row.tried for row in connection.execute(query)}
            if not as_seen or len(tried) < len(owed.objects):
                raise IllegalTransition(f"Job {owed.job_id} no longer owes {owed.destination} what it did.")
            new = {uid: sent for uid, sent in going.items() if [place, sent] not in tried[uid]}
            for uid, sent in new.items():
                _set_tried(connection, owed, uid, [*tried[uid], [place, sent]])
            return new

    def put_off(
        self,
        owed: Delivery,
        error: NodeError,
        settings: SendTable,
        now: datetime,
        begun: Begun = MappingProxyType({}),
    ) -> None:
        """Write down that a try failed: the next comes later, or none before a person looked at it.

        Nothing happens where the delivery is in other hands: it was withdrawn, cancelled, tried anew.

        Parameters
        ----------
        begun
            What `begin` returned. Where all who were asked said no, none has it.
        """
        if error.then == "leave":
            return
        job_id, place, told = owed.job_id, owed.destination, {"code": error.code, "reason": str(error)}
        if isinstance(error, PeerBusy | PeerRefused):
            self.disbelieve(owed, begun)
        tries = owed.tries + 1
        if error.then == "retry" and tries < settings.tries:
            # A destination may say when it wants to be asked again; it cannot put us off for ever.
            asked_s = min(error.again_s if isinstance(error, SendError) else 0.0, settings.longest_retry_s)
            not_before = max(
                next_try(now, tries, settings.first_retry_s, settings.longest_retry_s),
                now + timedelta(seconds=asked_s),
            )
            self.postpone(job_id, place, not_before=not_before, seen=owed, **told)
        else:
            self.park(job_id, place, seen=owed, **told)

    def disbelieve(self, owed: Delivery, begun: Begun) -> None:
        """Strike what was begun at some places and has not been taken: they answered that they did not.

        Parameters
        ----------
        begun
            What `begin` returned, or some of it.
        """
        if not any(begun.values()):
            return
        with self._writing() as connection:
            find_job(connection, owed.job_id)
            query = select(_parcel.c.sop_instance_uid, _parcel.c.tried).where(_waits(owed))
            for uid, tried in connection.execute(query).all():
                left = [[place, sent] for place, sent in tried if begun.get(place, {}).get(uid) != sent]
                _set_tried(connection, owed, uid, left)

    def postpone(
        self,
        job_id: int,
        destination: str,
        *,
        code: str,
        reason: str,
        not_before: datetime,
        seen: Delivery | None = None,
    ) -> None:
        """Count a failed try and set when the next may begin; with ``seen``, if it still stands so."""
        self._told(job_id, destination, seen, code=code, reason=reason, not_before=not_before)

    def park(
        self, job_id: int, destination: str, *, code: str, reason: str, seen: Delivery | None = None
    ) -> None:
        """Count a failed try and let the delivery wait for a person; with ``seen``, as in `postpone`."""
        self._told(job_id, destination, seen, code=code, reason=reason, parked=True)

    def _told(self, job_id: int, destination: str, seen: Delivery | None, **values: object) -> None:
        this = and_(_delivery.c.job_id == job_id, _delivery.c.destination == destination)
        as_seen = and_(_stands(seen), exists().where(_waits(seen))) if seen else true()
        with self._writing() as connection:
            find_job(connection, job_id)
            changed = connection.execute(
                update(_delivery).where(this, as_seen).values(tries=_delivery.c.tries + 1, **values)
            )
            if changed.rowcount != 1 and seen is None:
                raise NodeError(f"Job {job_id} has nothing for a destination {destination!r}.")


def _stands(seen: Delivery) -> ColumnElement[bool]:
    """Whether a delivery is still as a sender saw it, and its job still sends."""
    job = schema.job
    return and_(
        _delivery.c.job_id == seen.job_id,
        _delivery.c.destination == seen.destination,
        _delivery.c.tries == seen.tries,
        ~_delivery.c.parked,
        exists().where(job.c.id == seen.job_id, job.c.state == JobState.SENDING).correlate(None),
    )


def _waits(seen: Delivery) -> ColumnElement[bool]:
    """Whether an object that a sender saw to be owed has not been taken yet."""
    return and_(
        _parcel.c.job_id == seen.job_id,
        _parcel.c.destination == seen.destination,
        _parcel.c.sop_instance_uid.in_([thing.sop_instance_uid for thing in seen.objects]),
        _parcel.c.delivered_at.is_(None),
    )


def _set_tried(connection: Connection, owed: Delivery, uid: str, tried: list[list[str]]) -> None:
    this = and_(_parcel.c.job_id == owed.job_id, _parcel.c.destination == owed.destination)
    connection.execute(update(_parcel).where(this, _parcel.c.sop_instance_uid == uid).values(tried=tried))
