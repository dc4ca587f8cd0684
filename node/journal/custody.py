"""Instances and series: what we hold, what still arrives, what may go."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, exists, func, insert, or_, select, update

from node.config import KeepTable
from node.errors import NodeError
from node.job import OPEN, Job, JobSpec, JobState, merged
from node.journal import schema
from node.journal.follow import Answers, answering
from node.journal.known import known, needed_by
from node.journal.moves import given_back, make_job, move_job
from node.journal.needs import MISSING
from node.journal.patients import seen_of
from node.journal.record import Recording
from node.journal.rows import Arriving, instance_of, job_of
from node.journal.settlings import counts, keep_settling, orders, settlings_now
from node.model import Series, Settling

_of_series = schema.job_input.c.series_uid


class Custody(Recording):
    """The part of the journal that `node.flow.receive`, `plan` and `age_out` use."""

    def known_paths(self) -> set[Path]:
        """Return the file of every instance we hold."""
        with self._reading() as connection:
            return {self._data / path for path in connection.scalars(select(schema.instance.c.path))}

    def arriving(self) -> list[Arriving]:
        """Return the series with instances that came after their last revision."""
        table = schema.series
        query = (
            select(table.c.series_uid, table.c.study_uid, table.c.last_arrival_at, func.count().label("n"))
            .join(schema.instance, schema.instance.c.series_uid == table.c.series_uid)
            .where(table.c.unsettled)
            .group_by(table.c.series_uid, table.c.study_uid, table.c.last_arrival_at)
            .order_by(table.c.last_arrival_at, table.c.series_uid)
        )
        with self._reading() as connection:
            rows = connection.execute(query).all()
            counted, ordered = (counts(connection), orders(connection)) if rows else ({}, {})
        return [
            Arriving(
                series_uid=row.series_uid,
                study_uid=row.study_uid,
                count=row.n,
                last_arrival_at=row.last_arrival_at,
                counts=tuple(counted.get(row.series_uid, ())),
                is_ordered=ordered.get(row.series_uid) == row.n,
            )
            for row in rows
        ]

    def series(self, series_uid: str) -> Series | None:
        """Return a series with all instances held now, sorted by SOP Instance UID.

        Its revision is the last one that settled: 0 when none has.
        """
        table = schema.instance
        with self._reading() as connection:
            row = connection.execute(
                select(schema.series).where(schema.series.c.series_uid == series_uid)
            ).first()
            if row is None:
                return None
            instances = connection.execute(
                select(table).where(table.c.series_uid == series_uid).order_by(table.c.sop_instance_uid)
            ).all()
            settled = settlings_now(connection, schema.series.c.series_uid == series_uid)
        return Series(
            uid=series_uid,
            study_uid=row.study_uid,
            revision=row.revision,
            instances=tuple(instance_of(one, self._data) for one in instances),
            settling=settled.get(series_uid),
        )

    def routing(self, series_uid: str) -> str:
        """Return why a series has no jobs, or what is to be known about its routing; "" at first."""
        query = select(schema.series.c.routing).where(schema.series.c.series_uid == series_uid)
        with self._reading() as connection:
            return (connection.scalar(query) or "").removeprefix("unrouted: ")

    def reconsider(self, routing: str) -> int:
        """Let every series that no rule wanted be planned anew, if routing changed since the last call.

        The revision that nothing was made of is taken back, so that it does not grow by this.

        Parameters
        ----------
        routing
            Everything that decides which series go where, in any form; only its digest is kept.

        Returns
        -------
        int
            How many series there are to plan.
        """
        table, setting = schema.series, schema.setting
        digest = hashlib.sha256(routing.encode()).hexdigest()
        with self._writing() as connection:
            this = setting.c.name == "routing"
            if connection.scalar(select(setting.c.value).where(this)) == digest:
                return 0
            connection.execute(delete(setting).where(this))
            connection.execute(insert(setting).values(name="routing", value=digest))
            return connection.execute(
                update(table)
                .where(~table.c.unsettled, table.c.routing.startswith("unrouted"))
                .values(unsettled=True, revision=table.c.revision - 1)
            ).rowcount

    def plan(
        self,
        series_uid: str,
        *,
        expected_count: int,
        specs: Sequence[JobSpec],
        reason: str,
        now: datetime,
        seen: Mapping[str, int] | None = None,
        patient_key: str = "",
        number: str = "",
        answers: Answers = MappingProxyType({}),
        settling: Settling | None = None,
    ) -> list[Job]:
        """Settle a series into its next revision and queue the work that it asks for, at once.

        Nothing happens when the series no longer has ``expected_count`` instances, or when there
        is more beside it than was ``seen``: it will be planned anew then. Work that is already
        known by its key is not queued again, unless it was cancelled or has aged out; it counts as
        work on this revision from now on. Of earlier revisions, queued work that nothing asks for any
        more is cancelled, and failed work of a pipeline that this revision is given to; likewise of
        earlier states of a case.

        Parameters
        ----------
        reason
            Why no rule wants the series, or what should be known about its routing.
        seen
            Series Instance UID -> revision of the other settled series of its study and patient,
            which ``specs`` were made with; None: they are of this series alone.
        patient_key
            As `Patients.patient_key` gives it.
        number
            Series Number.
        answers
            What `Followed.answer` said of results that ``specs`` were made with. Nothing happens when
            there are others by now.
        settling
            What decided that it is whole, or no longer waited for; None: nobody had to.

        Returns
        -------
        list of Job
            Those that were queued.
        """
        with self._writing() as connection:
            row = connection.execute(
                select(schema.series).where(schema.series.c.series_uid == series_uid).with_for_update()
            ).first()
            count = connection.scalar(select(func.count()).where(schema.instance.c.series_uid == series_uid))
            if row is None or not row.unsettled or count != expected_count:
                return []
            if seen is not None and seen != seen_of(connection, series_uid, row.study_uid, patient_key):
                return []
            if any(job_id != answering(connection, *asked) for asked, job_id in answers.items()):
                return []
            revision = row.revision + 1
            wanted = merged([_at_revision(spec, series_uid, revision) for spec in specs])
            routing = reason if wanted else f"unrouted: {reason.removeprefix('unrouted: ')}"
            connection.execute(
                update(schema.series)
                .where(schema.series.c.series_uid == series_uid)
                .values(
                    revision=revision,
                    unsettled=False,
                    settled_at=now,
                    routing=routing,
                    number=number,
                    patient_key=patient_key,
                )
            )
            if settling is not None:
                keep_settling(connection, series_uid, revision, settling, now)
            _supersede(connection, series_uid, revision, wanted, now)
            needed = needed_by(wanted)
            return [
                make_job(connection, spec, reason=_why(spec), now=now)
                for spec in wanted
                if known(connection, spec, needed) is None
            ]

    def expired(self, now: datetime, keep: KeepTable) -> list[str]:
        """Return the UIDs of the series that retention lets go, oldest first.

        Never one that still arrives, nor one with a job that still computes or sends.
        """
        job, series, given = schema.job, schema.series, schema.job_input
        used = select(given.c.job_id).join(job, job.c.id == given.c.job_id)
        of_this = given.c.series_uid == series.c.series_uid
        any_job = exists(used.where(of_this))
        open_job = exists(used.where(and_(of_this, job.c.state.in_([state.value for state in OPEN]))))
        failed_job = exists(used.where(and_(of_this, job.c.state == JobState.FAILED)))
        query = (
            select(series.c.series_uid, series.c.last_arrival_at, any_job, failed_job)
            .where(~series.c.unsettled, ~open_job)
            .order_by(series.c.last_arrival_at)
        )
        with self._reading() as connection:
            rows = connection.execute(query).all()
        gone = []
        for series_uid, last_arrival_at, has_job, has_failed in rows:
            days = keep.failed_days if has_failed else keep.done_days if has_job else keep.unrouted_days
            if last_arrival_at + timedelta(days=days) < now:
                gone.append(series_uid)
        return gone

    def forget(self, series_uid: str) -> list[Path]:
        """Strike a series from what we hold; return the files that are now nobody's.

        These are its instances and the results made of it. The jobs, their history and that the
        results were ours stay known. Sent again, the series is analysed again, except by a
        pipeline that refused what it was given, which would refuse it again, and by one whose results were
        withdrawn, which would make the same again.

        Raises
        ------
        NodeError
            A job still computes or sends something of it.
        """
        job, result, given = schema.job, schema.result, schema.job_input
        mine = select(given.c.job_id).where(given.c.series_uid == series_uid)
        study = select(schema.series.c.study_uid).where(schema.series.c.series_uid == series_uid)
        with self._writing() as connection:
            busy = connection.scalar(
                select(job.c.id).where(job.c.id.in_(mine), job.c.state.in_([s.value for s in OPEN])).limit(1)
            )
            if busy is not None:
                raise NodeError(f"Job {busy} still works on this series; cancel it first.")
            table = schema.instance
            paths = list(connection.scalars(select(table.c.path).where(table.c.series_uid == series_uid)))
            # What was made of a later study, with this as the earlier one, goes when that goes.
            filed_in = connection.scalar(study)
            connection.execute(delete(table).where(table.c.series_uid == series_uid))
            for told in (schema.settling, schema.count):
                connection.execute(delete(told).where(told.c.series_uid == series_uid))
            connection.execute(delete(schema.series).where(schema.series.c.series_uid == series_uid))
            mine = mine.join(job, job.c.id == given.c.job_id).where(job.c.study_uid == filed_in)
            made = and_(result.c.job_id.in_(mine), ~result.c.aged_out)
            paths += connection.scalars(select(result.c.path).where(made))
            connection.execute(update(result).where(made).values(aged_out=True))
            ended = or_(
                job.c.state.in_([JobState.DONE, JobState.FAILED]),
                # What was lacking may be there next time.
                and_(
                    job.c.state == JobState.REFUSED,
                    or_(job.c.lack.is_not(None), job.c.reason_code == MISSING),
                ),
            )
            gone = job.c.id.in_(mine), ended, job.c.withdrawn_at.is_(None)
            connection.execute(update(job).where(*gone).values(key=given_back(job.c.id)))
        return [self._data / path for path in paths]


def _at_revision(spec: JobSpec, series_uid: str, revision: int) -> JobSpec:
    inputs = {
        role: replace(entry, revision=revision) if entry.series_uid == series_uid else entry
        for role, entry in spec.inputs.items()
    }
    return replace(spec, inputs=inputs)


def _why(spec: JobSpec) -> str:
    if spec.lack is None:
        return f"Rule {spec.rule!r} matched."
    waits = f" It waits {spec.lack.wait_s:g} s for what may still come." if spec.lack.wait_s else ""
    return f"Rule {spec.rule!r} matched in part. {spec.lack.sentence}{waits}"


def _supersede(
    connection: Connection, series_uid: str, revision: int, wanted: Sequence[JobSpec], now: datetime
) -> None:
    job = schema.job
    keys = [spec.key for spec in wanted]
    done_anew = and_(
        job.c.state == JobState.FAILED,
        job.c.withdrawn_at.is_(None),  # it owes a rejection
        job.c.pipeline.in_([s.pipeline for s in wanted]),
    )
    open_ones = select(job).where(or_(job.c.state == JobState.QUEUED, done_anew), job.c.key.not_in(keys))
    of_series = job.c.id.in_(select(schema.job_input.c.job_id).where(_of_series == series_uid))
    rows = connection.execute(open_ones.where(of_series).with_for_update()).all()
    _cancel(connection, rows, f"Revision {revision} of the series took its place.", now)
    for spec in wanted:
        if spec.case:
            beside = open_ones.where(job.c.study_uid == spec.study_uid, job.c.pipeline == spec.pipeline)
            rows = connection.execute(beside.with_for_update()).all()
            same = [row for row in rows if not set(row.case_of).isdisjoint(spec.case)]
            _cancel(connection, same, "A later series of the study took part in a new one.", now)


def _cancel(connection: Connection, rows: Sequence[Row[Any]], reason: str, now: datetime) -> None:
    for row in rows:
        move_job(connection, job_of(row), JobState.CANCELLED, code="superseded", reason=reason, now=now)
