"""What the node shows to those who ask: every instance held, and the results that still stand."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, exists, func, select

from node.journal import schema
from node.journal.database import Database
from node.journal.lineage import superseded_by
from node.journal.rows import job_of
from node.profile import Profile

_series, _instance, _job, _result = schema.series, schema.instance, schema.job, schema.result

_T = TypeVar("_T")

#: UIDs that one query names; databases have a limit.
_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """One SOP Instance that may be asked for."""

    sop_instance_uid: str
    sop_class_uid: str
    series_uid: str
    study_uid: str
    transfer_syntax_uid: str
    path: Path  #: Part 10 file
    is_result: bool = False  #: made here


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldSeries:
    """One series that came from outside, as it stands."""

    series_uid: str
    study_uid: str
    last_arrival_at: datetime  #: aware, UTC
    instances: int


class Holdings(Database):
    """The part of the journal that an origin server uses."""

    def held_series(self, since: datetime | None = None) -> list[HeldSeries]:
        """Return the series that have instances, those alone to which something came since then."""
        count = func.count(_instance.c.sop_instance_uid)
        columns = (_series.c.series_uid, _series.c.study_uid, _series.c.last_arrival_at)
        query = (
            select(*columns, count.label("n"))
            .join(_instance, _instance.c.series_uid == _series.c.series_uid)
            .group_by(*columns)
        )
        if since is not None:
            query = query.where(_series.c.last_arrival_at >= since)
        with self._reading() as connection:
            return [
                HeldSeries(
                    series_uid=row.series_uid,
                    study_uid=row.study_uid,
                    last_arrival_at=row.last_arrival_at,
                    instances=row.n,
                )
                for row in connection.execute(query)
            ]

    def series_counted(self) -> int:
        """Return how many series are known; another number than before tells that some aged out."""
        with self._reading() as connection:
            return int(connection.scalar(select(func.count()).select_from(_series)) or 0)

    def last_event(self) -> int:
        """Return the number of the newest move of any job; 0 before the first."""
        with self._reading() as connection:
            return int(connection.scalar(select(func.max(schema.event.c.id))) or 0)

    def studies_moved(self, after: int) -> set[str]:
        """Return the studies of the jobs that moved after this event."""
        moved = select(schema.event.c.job_id).where(schema.event.c.id > after)
        with self._reading() as connection:
            return set(connection.scalars(select(_job.c.study_uid).where(_job.c.id.in_(moved))))

    def holdings(self, study_uid: str, series_uid: str = "", sop_instance_uid: str = "") -> list[Holding]:
        """Return what is held of a study, series or instance: what came, then results that stand."""
        of_study = select(_series.c.series_uid).where(_series.c.study_uid == study_uid)
        came = select(_instance).where(_instance.c.series_uid.in_(of_study))
        if series_uid:
            came = came.where(_instance.c.series_uid == series_uid)
        if sop_instance_uid:
            came = came.where(_instance.c.sop_instance_uid == sop_instance_uid)
        with self._reading() as connection:
            rows = connection.execute(came.order_by(_instance.c.series_uid, _instance.c.sop_instance_uid))
            found = [self._holding(row, study_uid) for row in rows]
            results = list(self._standing(connection, [study_uid]))
        return found + [
            one
            for one in results
            if series_uid in ("", one.series_uid) and sop_instance_uid in ("", one.sop_instance_uid)
        ]

    def series_with(self, sop_instance_uids: Collection[str]) -> set[str]:
        """Return the series that these instances, held or made here, are of."""
        found: set[str] = set()
        with self._reading() as connection:
            for some in _by_some(sorted(sop_instance_uids)):
                for table in (_instance, _result):
                    query = select(table.c.series_uid).where(table.c.sop_instance_uid.in_(some))
                    found.update(connection.scalars(query))
        return found

    def first_of(self, series_uid: str) -> Holding | None:
        """Return the instance of a series that came first."""
        query = select(_instance).where(_instance.c.series_uid == series_uid)
        order = _instance.c.arrived_at, _instance.c.sop_instance_uid
        with self._reading() as connection:
            row = connection.execute(query.order_by(*order).limit(1)).first()
        return None if row is None else self._holding(row, row.study_uid)

    def standing(self, study_uids: Collection[str] | None = None) -> list[Holding]:
        """Return the results that stand, of these studies or of all.

        Neither withdrawn, nor superseded by a newer run, nor aged out; nor what came back from outside
        and is held like anything else that came.
        """
        with self._reading() as connection:
            if study_uids is None:
                study_uids = set(connection.scalars(select(_job.c.study_uid).where(_has_results())))
            return list(self._standing(connection, sorted(study_uids)))

    def was_held(self, study_uid: str, series_uid: str = "", sop_instance_uid: str = "") -> bool:
        """Return whether something was held once, or stood as a result, as far as that is remembered."""
        given = schema.job_input
        with self._reading() as connection:
            made = select(_result.c.job_id).join(_job, _job.c.id == _result.c.job_id)
            made = made.where(_job.c.study_uid == study_uid)
            for column, uid in (
                (_result.c.series_uid, series_uid),
                (_result.c.sop_instance_uid, sop_instance_uid),
            ):
                made = made.where(column == uid) if uid else made
            used = select(given.c.job_id).join(_job, _job.c.id == given.c.job_id)
            used = used.where(_job.c.study_uid == study_uid)
            used = used.where(given.c.series_uid == series_uid) if series_uid else used
            asked = [made] if sop_instance_uid else [made, used]
            return any(connection.execute(query.limit(1)).first() is not None for query in asked)

    def _standing(self, connection: Connection, study_uids: Sequence[str]) -> Iterator[Holding]:
        given: set[str] = set()
        for some in _by_some(study_uids):
            rows = connection.execute(_with_results(some)).all()
            jobs = {row.id: job_of(row) for row in rows}
            for_viewers = {row.id: _for_viewers(row.outcome) for row in rows}
            stand = [number for number, job in jobs.items() if superseded_by(connection, job) is None]
            for row in _results_of(connection, stand):
                wanted = for_viewers[row.job_id]
                # The same work done anew gives the same objects.
                if row.sop_instance_uid not in given and (not wanted or row.sop_instance_uid in wanted):
                    given.add(row.sop_instance_uid)
                    yield self._holding(row, jobs[row.job_id].spec.study_uid, is_result=True)

    def _holding(self, row: Row[Any], study_uid: str, *, is_result: bool = False) -> Holding:
        return Holding(
            sop_instance_uid=row.sop_instance_uid,
            sop_class_uid=row.sop_class_uid,
            series_uid=row.series_uid,
            study_uid=study_uid,
            transfer_syntax_uid=row.transfer_syntax_uid,
            path=self._data / row.path,
            is_result=is_result,
        )


def _by_some(all_of_them: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for at in range(0, len(all_of_them), _AT_ONCE):
        yield all_of_them[at : at + _AT_ONCE]


def _for_viewers(outcome: Mapping[str, Any] | None) -> frozenset[str]:
    """Return the results made for viewers, where there are others that say the same; empty: show all."""
    profiles = (outcome or {}).get("profiles", {})
    return frozenset(profiles.get(Profile().key) or next(iter(profiles.values()), ()))


def _has_results() -> Any:
    return exists().where(_result.c.job_id == _job.c.id, ~_result.c.aged_out)


def _with_results(study_uids: Iterable[str]) -> Any:
    return (
        select(_job)
        .where(_job.c.study_uid.in_(list(study_uids)), _job.c.withdrawn_at.is_(None), _has_results())
        .order_by(_job.c.id.desc())
    )


def _results_of(connection: Connection, jobs: Sequence[int]) -> Iterator[Row[Any]]:
    """Yield the results of some jobs, newest job first, without those that came back from outside."""
    came = exists().where(_instance.c.sop_instance_uid == _result.c.sop_instance_uid)
    for some in _by_some(jobs):
        query = select(_result).where(_result.c.job_id.in_(some), ~_result.c.aged_out, ~came)
        yield from connection.execute(query.order_by(_result.c.job_id.desc(), _result.c.number)).all()
