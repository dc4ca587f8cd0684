"""What tells whether a series is whole: what archives count, what an operator said, what decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select, update

from node.errors import NodeError
from node.journal import schema
from node.journal.database import Database
from node.journal.rows import settling_of
from node.model import Count, Settling

_series, _instance, _settling, _count = schema.series, schema.instance, schema.settling, schema.count
_told: tuple[ColumnElement[Any], ...] = (
    _settling.c.series_uid,
    _settling.c.held,
    _settling.c.decided_by,
    _settling.c.evidence,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """How one revision of a series came about."""

    revision: int
    at: datetime  #: aware, UTC
    settling: Settling


class Settlings(Database):
    """The part of the journal that knows why a series was taken to be whole."""

    def counted(self, series_uid: str, source: str, instances: int | None, asked_at: datetime) -> None:
        """Write down what an archive answered, asked at a moment, of how many instances a series has."""
        this = _count.c.series_uid == series_uid, _count.c.source == source
        with self._writing() as connection:
            before = connection.execute(select(_count).where(*this).with_for_update()).first()
            if before is None:
                row = {"series_uid": series_uid, "source": source, "instances": instances}
                connection.execute(insert(_count).values(**row, since=asked_at, asked_at=asked_at))
                return
            since = before.since if before.instances == instances else asked_at
            told = {"instances": instances, "since": since, "asked_at": asked_at}
            connection.execute(update(_count).where(*this).values(**told))

    def settle(self, series_uid: str, now: datetime) -> int:
        """Do as an operator asks: a series is no longer waited for, as it is at this moment.

        Returns
        -------
        int
            How many instances it has.

        Raises
        ------
        NodeError
            The node does not hold it, or it has settled.
        """
        with self._writing() as connection:
            row = connection.execute(select(_series).where(_series.c.series_uid == series_uid)).first()
            if row is None:
                raise NodeError(f"The node holds no series {series_uid}.")
            if not row.unsettled:
                raise NodeError(f"Series {series_uid} is not waited for: it has settled.")
            mine = select(func.count()).where(_instance.c.series_uid == series_uid)
            held = int(connection.scalar(mine) or 0)
            order = Settling(by="operator", sentence="An operator said so.", held=held, silent_s=0.0)
            keep_settling(connection, series_uid, row.revision + 1, order, now)
            return held

    def settlings(self, series_uid: str) -> list[Settled]:
        """Return what decided about each revision of a series, oldest first."""
        query = (
            select(*_told, _settling.c.revision, _settling.c.at)
            .join(_series, _series.c.series_uid == _settling.c.series_uid)
            .where(_settling.c.series_uid == series_uid, _settling.c.revision <= _series.c.revision)
            .order_by(_settling.c.revision)
        )
        with self._reading() as connection:
            return [
                Settled(revision=row.revision, at=row.at, settling=settling_of(row))
                for row in connection.execute(query)
            ]


def keep_settling(
    connection: Connection, series_uid: str, revision: int, settling: Settling, now: datetime
) -> None:
    """Write down what decided about a revision; what an operator had said of it is taken up in that."""
    this = _settling.c.series_uid == series_uid, _settling.c.revision == revision
    connection.execute(delete(_settling).where(*this))
    evidence = asdict(settling)
    row = {"held": evidence.pop("held"), "decided_by": evidence.pop("by"), "evidence": evidence}
    connection.execute(insert(_settling).values(series_uid=series_uid, revision=revision, at=now, **row))


def settlings_now(connection: Connection, these: ColumnElement[bool]) -> dict[str, Settling]:
    """Return Series Instance UID -> what decided about its present revision, of the settled among these."""
    query = (
        select(*_told)
        .join(_series, _series.c.series_uid == _settling.c.series_uid)
        .where(these, ~_series.c.unsettled, _settling.c.revision == _series.c.revision)
    )
    return {row.series_uid: settling_of(row) for row in connection.execute(query)}


def orders(connection: Connection) -> Mapping[str, int]:
    """Return Series Instance UID -> instances of those still arriving that an operator will have settled."""
    ordered = and_(
        _series.c.unsettled,
        _settling.c.series_uid == _series.c.series_uid,
        _settling.c.revision == _series.c.revision + 1,
        _settling.c.decided_by == "operator",
    )
    query = select(_settling.c.series_uid, _settling.c.held).where(ordered)
    return {row.series_uid: row.held for row in connection.execute(query)}


def incomplete(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """Return the series that settled without what an archive counts, as they stand, the last one first.

    They ran out of patience, or an operator said so.
    """
    query = (
        select(*_told, _settling.c.revision, _settling.c.at)
        .join(_series, _series.c.series_uid == _settling.c.series_uid)
        .where(
            _settling.c.revision == _series.c.revision, _settling.c.decided_by.in_(("patience", "operator"))
        )
        .order_by(_settling.c.at.desc())
    )
    lacking = (row for row in connection.execute(query) if _lacks(row.held, row.evidence))
    return [
        {
            "series_uid": row.series_uid,
            "revision": row.revision,
            "at": row.at.isoformat(),
            "instances": row.held,
            "counts": row.evidence["counts"],
            "reason": row.evidence["sentence"],
        }
        for row in islice(lacking, limit)
    ]


def _lacks(held: int, evidence: Mapping[str, Any]) -> bool:
    """Whether an archive counted more instances than were held."""
    return any(counted is not None and counted > held for counted in evidence["counts"].values())


def counts(connection: Connection) -> Mapping[str, list[Count]]:
    """Return Series Instance UID -> what archives count, of those still arriving; by name of the source."""
    query = (
        select(_count)
        .join(_series, _series.c.series_uid == _count.c.series_uid)
        .where(_series.c.unsettled)
        .order_by(_count.c.source)
    )
    found: dict[str, list[Count]] = {}
    for row in connection.execute(query):
        said = {"instances": row.instances, "since": row.since, "asked_at": row.asked_at}
        found.setdefault(row.series_uid, []).append(Count(source=row.source, **said))
    return found
