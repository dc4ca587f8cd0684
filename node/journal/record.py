"""What arrives is written down: known, new, or at odds with what we hold."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, bindparam, insert, select, update
from sqlalchemy.exc import DataError, IntegrityError

from node.journal import schema
from node.journal.database import Database
from node.journal.quick import Transaction
from node.journal.rows import Recorded
from node.journal.together import Together
from node.model import Instance

_instance, _series = schema.instance, schema.series
# Built once: see `node.journal.quick`.
_HELD = select(
    _instance.c.sha256,
    _instance.c.transfer_syntax_uid,
    _instance.c.sop_class_uid,
    _instance.c.prior,
).where(_instance.c.sop_instance_uid == bindparam("uid"))
_KNOWN = (
    select(_series.c.study_uid, _series.c.last_arrival_at)
    .where(_series.c.series_uid == bindparam("uid"))
    .with_for_update()
)
_ADD = insert(_instance)
_AGAIN = (
    update(_instance)
    .where(_instance.c.sop_instance_uid == bindparam("uid"))
    .values(seen=_instance.c.seen + 1)
)
_MEANT = update(_instance).where(_instance.c.sop_instance_uid == bindparam("uid")).values(prior=False)
_BEGIN = insert(_series)
_TOUCH = (
    update(_series)
    .where(_series.c.series_uid == bindparam("uid"))
    .values(last_arrival_at=bindparam("at"), unsettled=True)
)
_NOTE = insert(schema.quarantine)


class Recording(Database):
    """The part of the journal that `node.flow.receive` uses."""

    def __init__(self, engine: Engine, data: Path) -> None:
        super().__init__(engine, data)
        self._recorder: Together[Instance, Recorded] = Together(
            self._record, alone=(IntegrityError, DataError)
        )

    def record_lazily(self) -> None:
        """Let a power cut take what was recorded last: see ``[accept] sync``. To be said before the first."""
        self._quick.is_durable = False

    def record(self, instance: Instance) -> Recorded:
        """Write down an instance, durably.

        The same bytes in the same encoding are only counted; but what was held as a prior alone, and comes
        from somebody who means it, settles anew. Anything else under a known SOP
        Instance UID, or a known series under another study, is a conflict: it is noted, and what
        we hold stays. What several associations bring at once is one transaction.
        """
        try:
            return self._recorder.do(instance)
        except IntegrityError:  # on PostgreSQL, another sender of the same instance was faster
            return self._recorder.do(instance)

    def _record(self, arrived: Sequence[Instance]) -> list[Recorded]:
        with self._writing_quickly() as transaction:
            held: dict[str, tuple[Any, ...]] = {}
            priors: set[str] = set()
            for uid in sorted({new.sop_instance_uid for new in arrived}):
                for *what, prior in transaction.rows(_HELD, {"uid": uid}):
                    held[uid] = tuple(what)
                    if prior:
                        priors.add(uid)
            known: dict[str, tuple[str, datetime]] = {}
            for uid in sorted({new.series_uid for new in arrived}):  # in order: others lock them as well
                for study_uid, last_arrival_at in transaction.rows(_KNOWN, {"uid": uid}):
                    known[uid] = study_uid, last_arrival_at
            old_series = set(known)
            rows: list[dict[str, object]] = []
            answers: list[Recorded] = []
            for new in arrived:
                content = (new.sha256, new.transfer_syntax_uid, new.sop_class_uid)
                study_uid, last_arrival_at = known.get(new.series_uid, (new.study_uid, new.arrived_at))
                if held.get(new.sop_instance_uid, content) != content:
                    answers.append(_conflict(transaction, new, "known SOP Instance UID, other content"))
                elif new.sop_instance_uid in held:
                    _seen_again(transaction, rows, new.sop_instance_uid)
                    if new.sop_instance_uid in priors and not new.prior:
                        priors.discard(new.sop_instance_uid)
                        _meant(transaction, rows, new)
                    answers.append(Recorded.SAME)
                elif study_uid != new.study_uid:
                    answers.append(_conflict(transaction, new, "known series, other study"))
                else:
                    held[new.sop_instance_uid] = content
                    known[new.series_uid] = (study_uid, max(last_arrival_at, new.arrived_at))
                    rows.append(self._row(new))
                    if new.prior:
                        priors.add(new.sop_instance_uid)
                    answers.append(Recorded.NEW)
            _arrive(transaction, rows, known, old_series)
            if rows:
                transaction.execute(_ADD, rows)
        return answers

    def _row(self, new: Instance) -> dict[str, object]:
        return {
            "sop_instance_uid": new.sop_instance_uid,
            "sop_class_uid": new.sop_class_uid,
            "series_uid": new.series_uid,
            "study_uid": new.study_uid,
            "transfer_syntax_uid": new.transfer_syntax_uid,
            "path": self._kept(new.path),
            "sha256": new.sha256,
            "size_bytes": new.size_bytes,
            "arrived_at": new.arrived_at,
            "sender": new.sender,
            "seen": 1,
            "policy": new.policy,
            "prior": new.prior,
        }


def _seen_again(transaction: Transaction, rows: Sequence[dict[str, Any]], uid: str) -> None:
    """Count an instance once more, be it in the table or just about to be written to it."""
    for row in rows:
        if row["sop_instance_uid"] == uid:
            row["seen"] += 1
            return
    transaction.execute(_AGAIN, {"uid": uid})


def _meant(transaction: Transaction, rows: Sequence[dict[str, Any]], new: Instance) -> None:
    """Let what was fetched as a prior alone count like any other, now that somebody sent it."""
    for row in rows:
        if row["sop_instance_uid"] == new.sop_instance_uid:
            row["prior"] = False
            return
    transaction.execute(_MEANT, {"uid": new.sop_instance_uid})
    transaction.execute(_TOUCH, {"uid": new.series_uid, "at": new.arrived_at})


def _arrive(
    transaction: Transaction,
    rows: Sequence[dict[str, object]],
    known: Mapping[str, tuple[str, datetime]],
    old_series: Collection[str],
) -> None:
    """Make or touch the series that new instances belong to."""
    for series_uid in dict.fromkeys(str(row["series_uid"]) for row in rows):
        study_uid, last_arrival_at = known[series_uid]
        if series_uid in old_series:
            transaction.execute(_TOUCH, {"uid": series_uid, "at": last_arrival_at})
        else:
            fresh = {"last_arrival_at": last_arrival_at, "revision": 0, "unsettled": True, "routing": ""}
            transaction.execute(_BEGIN, {"series_uid": series_uid, "study_uid": study_uid, **fresh})


def _conflict(transaction: Transaction, new: Instance, reason: str) -> Recorded:
    transaction.execute(
        _NOTE,
        {
            "sop_instance_uid": new.sop_instance_uid,
            "series_uid": new.series_uid,
            "study_uid": new.study_uid,
            "sha256": new.sha256,
            "sender": new.sender,
            "at": new.arrived_at,
            "reason": reason,
        },
    )
    return Recorded.CONFLICT
