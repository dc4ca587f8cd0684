"""Proof of arrival: what a destination took, and what is known of whether it has it.

A parcel that was taken and is to be proved has a ``prove_at``; while a job has one, it is not done.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    case,
    delete,
    exists,
    insert,
    select,
    update,
)

from node.config import SendTable
from node.job import JobState, next_try
from node.journal import schema
from node.journal.database import Database
from node.journal.given import REJECTION
from node.journal.moves import find_job, move_job
from node.journal.outbox import PROVE_AFTER, finish_job

_job, _result, _stand_in = schema.job, schema.result, schema.stand_in
_delivery, _parcel = schema.delivery, schema.parcel
_asked, _item = schema.commitment, schema.commitment_item
#: Who has it: the alternate that took it, or the destination itself.
_place = case((_parcel.c.via != "", _parcel.c.via), else_=_parcel.c.destination)
#: Objects in one transaction; whoever else writes waits for no more than that.
AT_ONCE = 50
#: Than an object had been asked for when it was seen, however often that is written down.
ONE_MORE: BindParameter[int] = bindparam("one_more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unproved:
    """An object that was taken and is not yet known to be there."""

    job_id: int
    destination: str  #: that it is owed to
    place: str  #: that has it: the destination, or the alternate that took it in its place
    sop_instance_uid: str  #: of the result
    sent_uid: str  #: SOP Instance UID under which it went: its own, or its stand-in's
    sop_class_uid: str  #: of what went
    series_uid: str  #: of what went
    study_uid: str
    delivered_at: datetime  #: aware, UTC
    asks: int  #: how often it was asked for since


class Proofs(Database):
    """The part of the journal that `node.prove` uses."""

    def unproved(
        self, place: str | None, now: datetime, *, most: int, other_than: Collection[str] = ()
    ) -> list[Unproved]:
        """Return what is to be asked for now at one place, the one that is due longest first.

        What of the same job is being sent there is waited for, and what is due in a moment goes with it,
        to ask for all of it at once.

        Parameters
        ----------
        place
            A destination, or the alternate of one; None: any, save those of ``other_than``.
        """
        here = _place == place if place is not None else _place.not_in(list(other_than))
        paused = exists().where(schema.pause.c.destination == _place)
        query = (
            _whole()
            .where(here, _parcel.c.prove_at <= now + PROVE_AFTER, ~paused, ~_being_sent(now))
            .order_by(_parcel.c.prove_at, _parcel.c.job_id, _result.c.number)
            .limit(most)
        )
        due = select(_parcel.c.job_id).where(here, _parcel.c.prove_at <= now, _sends()).limit(1)
        with self._reading() as connection:
            if connection.execute(due).first() is None:  # most often there is none, and that is soon known
                return []
            first = connection.execute(query.limit(1)).first()
            return _read(connection, query) if first and first.prove_at <= now else []

    def ask(
        self, transaction_uid: str, place: str, things: Sequence[Unproved], *, now: datetime, due_at: datetime
    ) -> None:
        """Write down, before it is asked, what a storage commitment is asked for.

        Parameters
        ----------
        due_at
            Without an answer they are asked for again then, in another transaction.
        """
        keys = dict.fromkeys((thing.job_id, thing.sop_instance_uid) for thing in things)
        with self._writing() as connection:
            _prune(connection)
            values = {"transaction_uid": transaction_uid, "destination": place}
            connection.execute(insert(_asked).values(**values, asked_at=now, due_at=due_at))
            items = [
                {"transaction_uid": transaction_uid, "job_id": job_id, "sop_instance_uid": uid}
                for job_id, uid in keys
            ]
            connection.execute(insert(_item), items)
            told = f"Asked in transaction {transaction_uid}; no answer yet."
            _set_all(connection, things, prove_at=due_at, proof=told, asks=ONE_MORE)

    def asked(self, transaction_uid: str) -> tuple[str, list[Unproved]]:
        """Return who was asked in a transaction, and for what of it the answer is still open.

        A transaction that is not ours, or of which nothing is open, gives ``("", [])``.
        """
        of_this = and_(
            _item.c.job_id == _parcel.c.job_id,
            _item.c.sop_instance_uid == _parcel.c.sop_instance_uid,
            _item.c.transaction_uid == transaction_uid,
        )
        query = _whole().join(_item, of_this).join(_asked, _asked.c.transaction_uid == transaction_uid)
        with self._reading() as connection:
            place = connection.scalar(
                select(_asked.c.destination).where(_asked.c.transaction_uid == transaction_uid)
            )
            found = _read(connection, query.where(_place == _asked.c.destination)) if place else []
        return (place or "", found) if found else ("", [])

    def awaits(self, transaction_uid: str) -> bool:
        """Return whether something was asked in a transaction and no report on it has come."""
        this = _asked.c.transaction_uid == transaction_uid, _asked.c.answered_at.is_(None)
        open_item = exists().where(_item.c.transaction_uid == transaction_uid)
        with self._reading() as connection:
            return bool(connection.scalar(select(and_(exists().where(*this), open_item))))

    def rejected_by(self, note: Unproved) -> Mapping[str, frozenset[str]]:
        """Return Series Instance UID -> what a rejection note takes back; nothing where it is none."""
        this = _result.c.job_id == note.job_id, _result.c.sop_instance_uid == note.sop_instance_uid
        named = select(_result.c.refers_to).where(*this, _result.c.kind == REJECTION)
        found: dict[str, frozenset[str]] = {}
        with self._reading() as connection:
            uids = connection.scalar(named) or []
            for table in (_result, _stand_in):
                things = select(table.c.series_uid, table.c.sop_instance_uid)
                these = table.c.job_id == note.job_id, table.c.sop_instance_uid.in_(uids)
                for series_uid, uid in connection.execute(things.where(*these)):
                    found[series_uid] = found.get(series_uid, frozenset()) | {uid}
        return found

    def answered(self, transaction_uid: str, now: datetime) -> None:
        """Write down that a report on a transaction came, whatever it said."""
        this = _asked.c.transaction_uid == transaction_uid, _asked.c.answered_at.is_(None)
        with self._writing() as connection:
            connection.execute(update(_asked).where(*this).values(answered_at=now))

    def prove(self, things: Sequence[Unproved], sentence: str, now: datetime, *, seen: bool = True) -> None:
        """Write down that these are there, and finish the jobs that waited for nothing else.

        Parameters
        ----------
        seen
            False: nobody was asked, because no proof is wanted any more.
        """
        at = now if seen else None
        for start in range(0, len(things), AT_ONCE):
            some = things[start : start + AT_ONCE]
            with self._writing() as connection:
                _set_all(connection, some, proved_at=at, prove_at=None, proof=sentence)
                _settle(connection, some)
                for job_id in sorted({thing.job_id for thing in some}):
                    finish_job(connection, job_id, now, self._data)

    def ask_again(self, things: Mapping[Unproved, str], at: datetime) -> None:
        """Write down when each of these is asked for again, and why it is not proved yet."""
        with self._writing() as connection:
            for why in set(things.values()):
                these = [thing for thing, said in things.items() if said == why]
                _set_all(connection, these, prove_at=at, proof=why, asks=ONE_MORE)

    def not_asked(self, things: Sequence[Unproved], why: str, *, now: datetime, until: datetime) -> None:
        """Put off these, and all else that is due at their place: it could not be asked."""
        places = {thing.place for thing in things}
        with self._writing() as connection:
            _set_all(connection, things, prove_at=until, proof=why, asks=ONE_MORE)
            connection.execute(
                update(_parcel)
                .where(_place.in_(places), _parcel.c.prove_at <= now, _sends())
                .values(prove_at=until, proof=why, asks=_parcel.c.asks + 1)
            )

    def lose(
        self,
        things: Mapping[Unproved, str],
        settings: SendTable,
        now: datetime,
        *,
        for_good: bool = False,
    ) -> None:
        """Owe again what was taken and is not there: a failed try of its delivery.

        Parameters
        ----------
        things
            Object -> a sentence on what is known of it.
        for_good
            Sending it again would not help: the delivery waits for a person, as it does after its
            last try.
        """
        by_delivery = groupby(
            sorted(things, key=lambda one: (one.job_id, one.destination, one.sop_instance_uid)),
            key=lambda one: (one.job_id, one.destination),
        )
        if not things:
            return
        with self._writing() as connection:
            for (job_id, destination), these in by_delivery:
                job = find_job(connection, job_id)
                owed = {
                    "delivered_at": None,
                    "status": None,
                    "sentence": "",
                    "sent_as": "",
                    "via": "",
                    "prove_at": None,
                    "asks": 0,
                }
                lost = [one for one in these if _set_all(connection, [one], **owed, proof=things[one])]
                if not lost:
                    continue
                _settle(connection, lost)
                this = and_(_delivery.c.job_id == job_id, _delivery.c.destination == destination)
                tries = 1 + (connection.scalar(select(_delivery.c.tries).where(this)) or 0)
                parked = for_good or tries >= settings.tries
                why = things[lost[0]] + (f" So it is with {len(lost) - 1} more." if len(lost) > 1 else "")
                why += f" It was sent {tries} time{'s'[: tries != 1]}." if parked else " It is sent again."
                not_before = next_try(now, tries, settings.first_retry_s, settings.longest_retry_s)
                told = {"tries": tries, "parked": parked, "code": "not-there", "reason": why}
                connection.execute(update(_delivery).where(this).values(**told, not_before=not_before))
                move_job(connection, job, JobState.SENDING, code="not-there", reason=why, now=now)
                finish_job(connection, job_id, now, self._data)


def _whole() -> Select[tuple[object, ...]]:
    """Return the query for what is unproved, with all that an `Unproved` tells."""
    went = and_(
        _stand_in.c.job_id == _parcel.c.job_id,
        _stand_in.c.sop_instance_uid == _parcel.c.sent_as,
    )
    this = and_(
        _result.c.job_id == _parcel.c.job_id, _result.c.sop_instance_uid == _parcel.c.sop_instance_uid
    )
    return (
        select(
            _parcel,
            _job.c.study_uid,
            _result.c.sop_class_uid,
            _result.c.series_uid,
            _stand_in.c.sop_class_uid.label("other_class_uid"),
            _stand_in.c.series_uid.label("other_series_uid"),
        )
        .join(_job, _job.c.id == _parcel.c.job_id)
        .join(_result, this)
        .outerjoin(_stand_in, went)
        .where(_job.c.state == JobState.SENDING, _parcel.c.prove_at.is_not(None))
    )


def _read(connection: Connection, query: Select[tuple[object, ...]]) -> list[Unproved]:
    return [
        Unproved(
            job_id=row.job_id,
            destination=row.destination,
            place=row.via or row.destination,
            sop_instance_uid=row.sop_instance_uid,
            sent_uid=row.sent_as or row.sop_instance_uid,
            sop_class_uid=row.other_class_uid or row.sop_class_uid,
            series_uid=row.other_series_uid or row.series_uid,
            study_uid=row.study_uid,
            delivered_at=row.delivered_at,
            asks=row.asks,
        )
        for row in connection.execute(query)
    ]


def _set_all(connection: Connection, things: Sequence[Unproved], **values: object) -> bool:
    """Change what is known of objects that still stand as they were seen; return whether any did."""
    if not things:
        return False
    these = [
        {
            "of_job": one.job_id,
            "to": one.destination,
            "uid": one.sop_instance_uid,
            "taken_at": one.delivered_at,
            **({"one_more": one.asks + 1} if values.get("asks") is ONE_MORE else {}),
        }
        for one in things
    ]
    changed = connection.execute(
        update(_parcel)
        .where(
            _parcel.c.job_id == bindparam("of_job"),
            _parcel.c.destination == bindparam("to"),
            _parcel.c.sop_instance_uid == bindparam("uid"),
            _parcel.c.delivered_at == bindparam("taken_at"),
            _parcel.c.prove_at.is_not(None),
            _sends(),
        )
        .values(**values),
        these,
    )
    return changed.rowcount > 0


def _sends() -> ColumnElement[bool]:
    return exists().where(_job.c.id == _parcel.c.job_id, _job.c.state == JobState.SENDING)


def _being_sent(now: datetime) -> ColumnElement[bool]:
    """Whether the delivery of an object lacks others that may be sent now."""
    other = _parcel.alias("other")
    return exists().where(
        other.c.job_id == _parcel.c.job_id,
        other.c.destination == _parcel.c.destination,
        other.c.delivered_at.is_(None),
        _delivery.c.job_id == other.c.job_id,
        _delivery.c.destination == other.c.destination,
        ~_delivery.c.parked,
        _delivery.c.not_before <= now,
        ~exists().where(schema.pause.c.destination == _delivery.c.destination),
    )


def _settle(connection: Connection, things: Sequence[Unproved]) -> None:
    """Forget what was asked about objects that are settled: what is said of them later is of no account."""
    still_open = exists().where(
        _parcel.c.job_id == _item.c.job_id,
        _parcel.c.sop_instance_uid == _item.c.sop_instance_uid,
        _parcel.c.prove_at.is_not(None),
        _place == bindparam("place"),
    )
    here = select(_asked.c.transaction_uid).where(_asked.c.destination == bindparam("place"))
    connection.execute(
        delete(_item).where(
            _item.c.job_id == bindparam("of_job"),
            _item.c.sop_instance_uid == bindparam("uid"),
            _item.c.transaction_uid.in_(here),
            ~still_open,
        ),
        [{"of_job": one.job_id, "uid": one.sop_instance_uid, "place": one.place} for one in things],
    )


def _prune(connection: Connection) -> None:
    """Strike the transactions that nothing waits for any more."""
    of_open = exists().where(_job.c.id == _item.c.job_id, _job.c.state == JobState.SENDING)
    connection.execute(delete(_item).where(~of_open))
    connection.execute(
        delete(_asked).where(~exists().where(_item.c.transaction_uid == _asked.c.transaction_uid))
    )
