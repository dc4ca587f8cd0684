"""Deliveries: which destination still lacks what, what went there, and how."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path

from sqlalchemy import Connection, and_, delete, exists, insert, select, update

from node.errors import NodeError
from node.job import Job, JobState
from node.journal import schema
from node.journal.database import Database
from node.journal.given import REJECTION, unrejected
from node.journal.moves import find_job, move_job
from node.journal.rows import Delivery, result_of
from node.model import Outcome, Receipt, ResultObject, StandIn

_delivery, _parcel = schema.delivery, schema.parcel
#: Objects of a job are taken one by one; they are asked for together.
PROVE_AFTER = timedelta(seconds=1)
#: Something of this delivery has not been taken yet.
_owed = exists().where(
    _parcel.c.job_id == _delivery.c.job_id,
    _parcel.c.destination == _delivery.c.destination,
    _parcel.c.delivered_at.is_(None),
)


class Outbox(Database):
    """The part of the journal that `node.flow.deliver` uses."""

    def due(
        self, now: datetime, destination: str | None = None, *, other_than: Collection[str] = ()
    ) -> list[Delivery]:
        """Return what may be sent now, oldest job first: one entry per job and destination.

        Parameters
        ----------
        destination
            Only what this one is owed; None: what any is owed, save those of ``other_than``.
        """
        result = schema.result
        mine = _delivery.c.destination == destination
        if destination is None:
            mine = _delivery.c.destination.not_in(list(other_than))
        to_here = and_(
            _parcel.c.job_id == _delivery.c.job_id, _parcel.c.destination == _delivery.c.destination
        )
        of_this = and_(
            result.c.job_id == _parcel.c.job_id, result.c.sop_instance_uid == _parcel.c.sop_instance_uid
        )
        query = (
            select(_delivery.c.destination, _delivery.c.tries.label("failed_tries"), result)
            .join(schema.job, schema.job.c.id == _delivery.c.job_id)
            .join(_parcel, to_here)
            .join(result, of_this)
            .where(
                schema.job.c.state == JobState.SENDING,
                mine,
                ~_delivery.c.parked,
                ~exists().where(schema.pause.c.destination == _delivery.c.destination),
                _delivery.c.not_before <= now,
                _parcel.c.delivered_at.is_(None),
            )
            .order_by(_delivery.c.job_id, _delivery.c.destination, result.c.number)
        )
        with self._reading() as connection:
            rows = connection.execute(query).all()
            # A rejection names what it names, also where something stood in for that later.
            earlier = self._earlier(connection, {row.job_id for row in rows if row.kind != REJECTION})
        return [
            Delivery(
                job_id=job_id,
                destination=place,
                objects=tuple(result_of(row, self._data) for row in owed),
                tries=tries,
                earlier=earlier.get((job_id, place), {}),
            )
            for (job_id, place, tries), owed in groupby(
                rows, key=lambda row: (row.job_id, row.destination, row.failed_tries)
            )
        ]

    def _earlier(
        self, connection: Connection, job_ids: Collection[int]
    ) -> dict[tuple[int, str], dict[str, ResultObject]]:
        """Return (job, destination) -> result -> the stand-in that the destination took for it."""
        stand_in = schema.stand_in
        went = and_(_parcel.c.job_id == stand_in.c.job_id, _parcel.c.sent_as == stand_in.c.sop_instance_uid)
        query = (
            select(_parcel.c.destination, stand_in)
            .join(stand_in, went)
            .where(_parcel.c.job_id.in_(list(job_ids)), _parcel.c.delivered_at.is_not(None))
        )
        found: dict[tuple[int, str], dict[str, ResultObject]] = {}
        for row in connection.execute(query) if job_ids else ():
            thing = result_of(row, self._data)
            found.setdefault((row.job_id, row.destination), {})[row.stands_for] = thing
        return found

    def keep_stand_ins(self, job_id: int, made: Mapping[str, StandIn]) -> Mapping[str, StandIn]:
        """Write down, before any is sent, what stands in for results of a job; return it.

        What was written down before is returned with the hash that it had then.

        Parameters
        ----------
        made
            SOP Instance UID of the result -> its stand-in; what has none is passed over.
        """
        stand_in = schema.stand_in
        things = {uid: one.thing for uid, one in made.items() if one.thing is not None}
        uids = [thing.sop_instance_uid for thing in things.values()]
        if not uids:
            return made
        known = select(stand_in.c.sop_instance_uid, stand_in.c.sha256).where(
            stand_in.c.job_id == job_id, stand_in.c.sop_instance_uid.in_(uids)
        )
        with self._writing() as connection:
            held = {row.sop_instance_uid: row.sha256 for row in connection.execute(known)}
            rows = [
                {
                    "job_id": job_id,
                    "stands_for": uid,
                    "kind": thing.kind,
                    "sop_instance_uid": thing.sop_instance_uid,
                    "sop_class_uid": thing.sop_class_uid,
                    "series_uid": thing.series_uid,
                    "transfer_syntax_uid": thing.transfer_syntax_uid,
                    "path": self._kept(thing.path),
                    "sha256": thing.sha256,
                    "refers_to": list(thing.refers_to),
                }
                for uid, thing in things.items()
                if thing.sop_instance_uid not in held
            ]
            if rows:
                connection.execute(insert(stand_in), rows)
        return {
            uid: replace(
                one, thing=replace(one.thing, sha256=held.get(one.thing.sop_instance_uid, one.thing.sha256))
            )
            if one.thing is not None
            else one
            for uid, one in made.items()
        }

    def keep(self, job_id: int, receipt: Receipt, *, prove: bool = False) -> None:
        """Write down that a destination took an object. The first receipt counts.

        Parameters
        ----------
        prove
            Whether it is to be seen there before the job is done. Results that were withdrawn
            meanwhile need not be.
        """
        this = and_(
            _parcel.c.job_id == job_id,
            _parcel.c.destination == receipt.destination,
            _parcel.c.sop_instance_uid == receipt.sop_instance_uid,
        )
        with self._writing() as connection:
            find_job(connection, job_id)
            if not connection.scalar(select(exists().where(this))):
                _keep_late(connection, job_id, receipt)
                prove = False
            connection.execute(
                update(_parcel)
                .where(this, _parcel.c.delivered_at.is_(None))
                .values(
                    delivered_at=receipt.at,
                    status=receipt.status,
                    sentence=receipt.sentence,
                    sent_as=receipt.sent_as,
                    via=receipt.via,
                    prove_at=receipt.at + PROVE_AFTER if prove else None,
                    proof="",
                    asks=0,
                )
            )

    def receipts(self, job_id: int) -> tuple[Receipt, ...]:
        """Return what the destinations answered for the results of a job, in order of time."""
        query = (
            select(_parcel)
            .where(_parcel.c.job_id == job_id, _parcel.c.delivered_at.is_not(None))
            .order_by(_parcel.c.delivered_at, _parcel.c.destination)
        )
        with self._reading() as connection:
            return tuple(
                Receipt(
                    sop_instance_uid=row.sop_instance_uid,
                    destination=row.destination,
                    status=row.status,
                    sentence=row.sentence,
                    at=row.delivered_at,
                    sent_as=row.sent_as,
                    via=row.via,
                )
                for row in connection.execute(query)
            )

    def finish(self, job_id: int, now: datetime) -> Job | None:
        """Move a job that is sending: to DONE when all is taken, and proved where that is asked for; to
        FAILED when all that is left waits for a person. None: something is still to be tried or proved,
        or the job is not sending."""
        with self._writing() as connection:
            return finish_job(connection, job_id, now, self._data)

    def finish_all(self, now: datetime) -> list[Job]:
        """Finish the jobs of which nothing is left to be tried or proved, and that nobody finished.

        The last receipt may have been kept, and the journal not have taken what comes of it.
        """
        job = schema.job
        unproved = exists().where(_parcel.c.job_id == job.c.id, _parcel.c.prove_at.is_not(None))
        tried = exists().where(_delivery.c.job_id == job.c.id, ~_delivery.c.parked, _owed)
        left = select(job.c.id).where(job.c.state == JobState.SENDING, ~unproved, ~tried).order_by(job.c.id)
        with self._reading() as connection:
            job_ids = connection.scalars(left).all()
        return [ended for job_id in job_ids if (ended := self.finish(job_id, now))]


def fill_outbox(
    connection: Connection,
    job: Job,
    outcome: Outcome,
    kept: list[str],
    now: datetime,
    wanted: Mapping[str, Collection[str]],
) -> None:
    """Freeze the results of a job and owe each destination those that it wants.

    What an earlier computation of the same job left is replaced.

    Parameters
    ----------
    kept
        Where each object lies, relative to the data folder.
    wanted
        Destination -> SOP Instance UIDs; one that is not in it wants everything.
    """
    for table in (schema.commitment_item, _parcel, _delivery, schema.stand_in, schema.result):
        connection.execute(delete(table).where(table.c.job_id == job.id))
    if not outcome.objects:
        return
    results = [
        {
            "job_id": job.id,
            "number": number,
            "kind": thing.kind,
            "sop_instance_uid": thing.sop_instance_uid,
            "sop_class_uid": thing.sop_class_uid,
            "series_uid": thing.series_uid,
            "transfer_syntax_uid": thing.transfer_syntax_uid,
            "path": path,
            "sha256": thing.sha256,
            "refers_to": list(thing.refers_to),
            "aged_out": False,
        }
        for number, (thing, path) in enumerate(zip(outcome.objects, kept, strict=True), start=1)
    ]
    connection.execute(insert(schema.result), results)
    everything = [thing.sop_instance_uid for thing in outcome.objects]
    for place in dict.fromkeys(job.spec.send_to):
        mine = wanted.get(place, everything)
        owe(connection, job.id, place, [uid for uid in everything if uid in mine], now)


def owe(connection: Connection, job_id: int, place: str, uids: Sequence[str], now: datetime) -> None:
    """Owe a destination some results of a job, due at once."""
    fresh = {"tries": 0, "not_before": now, "parked": False, "code": "", "reason": ""}
    connection.execute(insert(_delivery).values(job_id=job_id, destination=place, **fresh))
    parcels = [
        {"job_id": job_id, "destination": place, "sop_instance_uid": uid, "sentence": ""} for uid in uids
    ]
    if parcels:
        connection.execute(insert(_parcel), parcels)


def _keep_late(connection: Connection, job_id: int, receipt: Receipt) -> None:
    """Take up what was under way when its job was withdrawn: it is to be rejected as well."""
    job, result = schema.job, schema.result
    withdrawn = connection.scalar(select(job.c.withdrawn_at).where(job.c.id == job_id)) is not None
    uid = receipt.sop_instance_uid
    ours = exists().where(result.c.job_id == job_id, result.c.sop_instance_uid == uid)
    if not (withdrawn and connection.scalar(select(ours))):
        raise NodeError(f"Job {job_id} owes {receipt.destination!r} no object {uid}.")
    parcel = {"job_id": job_id, "destination": receipt.destination, "sop_instance_uid": uid, "sentence": ""}
    connection.execute(insert(_parcel).values(parcel))
    found = find_job(connection, job_id)
    if found.state is JobState.DONE:
        reason = "A destination took an object while the job was withdrawn."
        move_job(connection, found, JobState.SENDING, code="withdrawn", reason=reason, now=receipt.at)


def finish_job(connection: Connection, job_id: int, now: datetime, data: Path) -> Job | None:
    """Do what `Outbox.finish` says, inside a transaction.

    Parameters
    ----------
    data
        The data folder.
    """
    job = find_job(connection, job_id)
    unproved = _parcel.c.job_id == job_id, _parcel.c.prove_at.is_not(None)
    if job.state is not JobState.SENDING or connection.scalar(select(exists().where(*unproved))):
        return None
    left = connection.execute(
        select(_delivery).where(_delivery.c.job_id == job_id, _owed).order_by(_delivery.c.destination)
    ).all()
    withdrawal = connection.scalar(select(schema.job.c.withdrawal).where(schema.job.c.id == job_id))
    if not left and withdrawal:
        went = select(exists().where(_parcel.c.job_id == job_id))
        nothing_went = not connection.scalar(went)
        if standing := unrejected(connection, job_id, data):
            reason = (
                f"{', '.join(standing)} took more while the job was withdrawn; "
                f"`radnode withdraw {job_id} --reason {withdrawal}` rejects that too."
            )
            return move_job(connection, job, JobState.FAILED, code="not-all-rejected", reason=reason, now=now)
        reason = f"Withdrawn ({withdrawal}); "
        reason += "nothing is sent." if nothing_went else "the rejection was taken wherever results had been."
        return move_job(connection, job, JobState.DONE, code="withdrawn", reason=reason, now=now)
    if not left:
        reason = _all_taken(connection, job)
        return move_job(connection, job, JobState.DONE, reason=reason, now=now)
    if all(row.parked for row in left):
        reason = " ".join(f"{row.destination}: {row.reason}" for row in left)
        return move_job(connection, job, JobState.FAILED, code=left[0].code, reason=reason, now=now)
    return None


def _all_taken(connection: Connection, job: Job) -> str:
    places = len(set(job.spec.send_to))
    if not places:
        return "There is no destination to send results to; they are kept here."
    seen = select(_parcel.c.destination).where(_parcel.c.job_id == job.id, _parcel.c.proved_at.is_not(None))
    proved = connection.scalars(seen.distinct().order_by(_parcel.c.destination)).all()
    known = ""
    if len(proved) == places:
        known = " and are known to be there"
    elif proved:
        known = f", and are known to be there at {' and '.join(proved)}"
    return f"All results were taken by {places} destination{'s'[: places != 1]}{known}."


def reopen(connection: Connection, job_id: int, now: datetime) -> None:
    """Make everything that a job still owes due at once, parked or not, with fresh tries."""
    connection.execute(
        update(_delivery)
        .where(_delivery.c.job_id == job_id, _owed)
        .values(tries=0, not_before=now, parked=False, code="", reason="")
    )
