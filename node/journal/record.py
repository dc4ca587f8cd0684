"""What arrives is written down: known, new, or at odds with what we hold."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, insert, select, update
from sqlalchemy.exc import DataError, IntegrityError

from node.journal import schema
from node.journal.database import Database
from node.journal.rows import Recorded
from node.journal.together import Together
from node.model import Instance

_instance, _series = schema.instance, schema.series
# Built once: to build a statement costs more than SQLite takes to answer it.
_HELD = select(
    _instance.c.sop_instance_uid,
    _instance.c.sha256,
    _instance.c.transfer_syntax_uid,
    _instance.c.sop_class_uid,
    _instance.c.prior,
).where(_instance.c.sop_instance_uid.in_(bindparam("uids", expanding=True)))
_KNOWN = (
    select(_series.c.series_uid, _series.c.study_uid, _series.c.last_arrival_at)
    .where(_series.c.series_uid.in_(bindparam("uids", expanding=True)))
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


class Recording(Database):
    """The part of the journal that `node.flow.receive` uses."""

    def __init__(self, engine: Engine, data: Path) -> None:
        super().__init__(engine, data)
        self._recorder: Together[Instance, Recorded] = Together(
            self._record, alone=(IntegrityError, DataError)
        )

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
        uids = sorted({new.sop_instance_uid for new in arrived})
        series_uids = sorted({new.series_uid for new in arrived})
        with self._writing() as connection:
            held: dict[str, tuple[Any, ...]] = {}
            priors: set[str] = set()
            for uid, *content, prior in connection.execute(_HELD, {"uids": uids}):
                held[uid] = tuple(content)
                if prior:
                    priors.add(uid)
            known = {
                uid: (study_uid, last_arrival_at)
                for uid, study_uid, last_arrival_at in connection.execute(_KNOWN, {"uids": series_uids})
            }
            old_series = set(known)
            rows: list[dict[str, object]] = []
            answers: list[Recorded] = []
            for new in arrived:
                content = (new.sha256, new.transfer_syntax_uid, new.sop_class_uid)
                study_uid, last_arrival_at = known.get(new.series_uid, (new.study_uid, new.arrived_at))
                if held.get(new.sop_instance_uid, content) != content:
                    answers.append(_conflict(connection, new, "known SOP Instance UID, other content"))
                elif new.sop_instance_uid in held:
                    _seen_again(connection, rows, new.sop_instance_uid)
                    if new.sop_instance_uid in priors and not new.prior:
                        priors.discard(new.sop_instance_uid)
                        _meant(connection, rows, new)
                    answers.append(Recorded.SAME)
                elif study_uid != new.study_uid:
                    answers.append(_conflict(connection, new, "known series, other study"))
                else:
                    held[new.sop_instance_uid] = content
                    known[new.series_uid] = (study_uid, max(last_arrival_at, new.arrived_at))
                    rows.append(self._row(new))
                    if new.prior:
                        priors.add(new.sop_instance_uid)
                    answers.append(Recorded.NEW)
            _arrive(connection, rows, known, old_series)
            if rows:
                connection.execute(_ADD, rows)
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


def _seen_again(connection: Connection, rows: Sequence[dict[str, Any]], uid: str) -> None:
    """Count an instance once more, be it in the table or just about to be written to it."""
    for row in rows:
        if row["sop_instance_uid"] == uid:
            row["seen"] += 1
            return
    connection.execute(_AGAIN, {"uid": uid})


def _meant(connection: Connection, rows: Sequence[dict[str, Any]], new: Instance) -> None:
    """Let what was fetched as a prior alone count like any other, now that somebody sent it."""
    for row in rows:
        if row["sop_instance_uid"] == new.sop_instance_uid:
            row["prior"] = False
            return
    connection.execute(_MEANT, {"uid": new.sop_instance_uid})
    connection.execute(_TOUCH, {"uid": new.series_uid, "at": new.arrived_at})


def _arrive(
    connection: Connection,
    rows: Sequence[dict[str, object]],
    known: Mapping[str, tuple[str, datetime]],
    old_series: Collection[str],
) -> None:
    """Make or touch the series that new instances belong to."""
    for series_uid in dict.fromkeys(str(row["series_uid"]) for row in rows):
        study_uid, last_arrival_at = known[series_uid]
        if series_uid in old_series:
            connection.execute(_TOUCH, {"uid": series_uid, "at": last_arrival_at})
        else:
            fresh = {"last_arrival_at": last_arrival_at, "revision": 0, "unsettled": True, "routing": ""}
            connection.execute(_BEGIN, {"series_uid": series_uid, "study_uid": study_uid, **fresh})


def _conflict(connection: Connection, new: Instance, reason: str) -> Recorded:
    connection.execute(
        insert(schema.quarantine).values(
            sop_instance_uid=new.sop_instance_uid,
            series_uid=new.series_uid,
            study_uid=new.study_uid,
            sha256=new.sha256,
            sender=new.sender,
            at=new.arrived_at,
            reason=reason,
        )
    )
    return Recorded.CONFLICT
