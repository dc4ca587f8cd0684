"""What is to be fetched from archives: asked for once, tried until it is here, known after a restart."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import Connection, Row, delete, func, insert, or_, select, update

from node.config import SendTable
from node.errors import NodeError
from node.job import next_try
from node.journal import schema
from node.journal.database import Database
from node.model import Instance

_pull, _watched, _instance, _series = schema.pull, schema.watched, schema.instance, schema.series
_setting = schema.setting
_COMPLAINT: Final = "source "  #: begins the names of settings that say why a source could not be asked

WAITING: Final = "waiting"
DONE: Final = "done"
FAILED: Final = "failed"
#: A study that nothing was tried of for so long is not being fetched: whoever sends it now means it.
UNDER_WAY_S: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """One request."""

    id: int
    source: str  #: name in [sources]
    study_uid: str
    series_uid: str  #: "": the whole study
    prior: bool  #: as an earlier study of a patient, which is to start nothing of its own
    state: Literal["waiting", "done", "failed"]
    tries: int  #: failed so far
    expected: int | None  #: instances that the archive has of it; None: not asked yet
    received: int  #: of them, here
    reason: str  #: why it was put off or failed

    @property
    def is_open(self) -> bool:
        """Whether it is still to be fetched."""
        return self.state == WAITING


class Pulls(Database):
    """The part of the journal that `node.pull` uses."""

    #: Study Instance UID of what is being fetched as a prior -> until when (in this process).
    _priors: Mapping[str, datetime] = {}

    def ask_pull(
        self, source: str, study_uid: str, series_uid: str = "", *, prior: bool = False, now: datetime
    ) -> int:
        """Have something fetched; return the number of the request.

        What is waiting to be fetched already is asked for once. It is a prior only as long as nobody
        wants it for itself.
        """
        same = (
            _pull.c.source == source,
            _pull.c.study_uid == study_uid,
            _pull.c.series_uid == series_uid,
            _pull.c.state == WAITING,
        )
        with self._writing() as connection:
            row = connection.execute(select(_pull).where(*same).with_for_update()).first()
            if row is not None:
                if row.prior and not prior:
                    connection.execute(update(_pull).where(_pull.c.id == row.id).values(prior=False))
                return int(row.id)
            made = connection.execute(
                insert(_pull).values(
                    source=source,
                    study_uid=study_uid,
                    series_uid=series_uid,
                    prior=prior,
                    state=WAITING,
                    tries=0,
                    not_before=now,
                    asked_at=now,
                    changed_at=now,
                    received=0,
                    reason="",
                )
            )
            return int(made.inserted_primary_key[0]) if made.inserted_primary_key else 0

    def due_pull(self, source: str, now: datetime) -> Pull | None:
        """Return what is to be fetched next from a source: what a case waits for first."""
        query = (
            select(_pull)
            .where(_pull.c.source == source, _pull.c.state == WAITING, _pull.c.not_before <= now)
            .order_by(_pull.c.prior.desc(), _pull.c.not_before, _pull.c.id)
            .limit(1)
        )
        with self._reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else _pull_of(row)

    def pulls(self, ids: Collection[int]) -> list[Pull]:
        """Return requests by their numbers."""
        with self._reading() as connection:
            rows = connection.execute(select(_pull).where(_pull.c.id.in_(ids)).order_by(_pull.c.id)).all()
        return [_pull_of(row) for row in rows]

    def advance_pull(self, pull: Pull, now: datetime, expected: int | None, received: int) -> None:
        """Write down how far a request is; what it brings from now on is what was asked for."""
        self._change_pull(pull, now, expected=expected, received=received)

    def finish_pull(self, pull: Pull, now: datetime, received: int, note: str = "") -> None:
        """Write down that all of it is here, perhaps with something to be known."""
        self._change_pull(pull, now, state=DONE, received=received, reason=note)

    def put_off_pull(self, pull: Pull, error: NodeError, retry: SendTable, now: datetime) -> Pull:
        """Write down that a try failed: what may pass is tried again, as [send] says, else it has failed.

        Returns
        -------
        Pull
            As it is now.
        """
        tries = pull.tries + 1
        again = error.then == "retry" and tries < retry.tries
        wait = next_try(now, tries, retry.first_retry_s, retry.longest_retry_s)
        self._change_pull(
            pull,
            now,
            state=WAITING if again else FAILED,
            tries=tries,
            not_before=wait if again else now,
            reason=str(error),
        )
        return self.pulls([pull.id])[0]

    def disown_pulls(self, sources: Collection[str], now: datetime) -> int:
        """Give up what is to be fetched from sources that the configuration no longer has."""
        gone = _pull.c.state == WAITING, _pull.c.source.not_in(sources)
        reason = "[sources] no longer has the archive that it was to come from."
        with self._writing() as connection:
            values = {"state": FAILED, "changed_at": now, "reason": reason}
            return connection.execute(update(_pull).where(*gone).values(**values)).rowcount

    def is_prior(self, study_uid: str, now: datetime) -> bool:
        """Return whether what arrives of a study now is fetched as a prior; asks no database."""
        until = self._priors.get(study_uid)
        return until is not None and now <= until

    def as_asked(self, instance: Instance) -> Instance:
        """Return an instance that arrives as what it is: a prior, if it comes because we asked for one."""
        if instance.prior or not self.is_prior(instance.study_uid, instance.arrived_at):
            return instance
        return replace(instance, prior=True)

    def refresh_priors(self, now: datetime) -> None:
        """Look up what is fetched as a prior, for `is_prior`: that is what has begun and not ended.

        One that failed counts for a while as well: an archive may go on after we have hung up.
        """
        since = now - timedelta(seconds=UNDER_WAY_S)
        wanted = select(_pull.c.study_uid).where(~_pull.c.prior, _pull.c.changed_at >= since)
        these = _pull.c.prior, _pull.c.state != DONE, _pull.c.changed_at >= since
        query = select(_pull.c.study_uid, _pull.c.changed_at).where(
            *these, _pull.c.study_uid.not_in(wanted.where(_pull.c.state != DONE))
        )
        with self._reading() as connection:
            rows = connection.execute(query).all()
        self._priors = {row.study_uid: row.changed_at + timedelta(seconds=UNDER_WAY_S) for row in rows}

    def held_of(self, study_uid: str, series_uid: str) -> dict[str, bool]:
        """Return the SOP Instance UIDs that we hold of a series -> whether as a prior alone."""
        query = select(_instance.c.sop_instance_uid, _instance.c.prior).where(
            _instance.c.series_uid == series_uid, _instance.c.study_uid == study_uid
        )
        with self._reading() as connection:
            return {row.sop_instance_uid: row.prior for row in connection.execute(query)}

    def made_here(self, series_uids: Collection[str]) -> set[str]:
        """Return those of some series that hold our own results: they are never fetched."""
        with self._reading() as connection:
            return {
                uid
                for table in (schema.result, schema.stand_in)
                for uid in connection.scalars(
                    select(table.c.series_uid).where(table.c.series_uid.in_(series_uids)).distinct()
                )
            }

    def want_for_itself(self, series_uids: Collection[str]) -> int:
        """Let series that are held as priors be planned like any others: somebody wants them now."""
        these = _instance.c.series_uid.in_(series_uids), _instance.c.prior
        with self._writing() as connection:
            changed = list(connection.scalars(select(_instance.c.series_uid).where(*these).distinct()))
            if changed:
                connection.execute(update(_instance).where(*these).values(prior=False))
                touched = update(_series).where(_series.c.series_uid.in_(changed))
                connection.execute(touched.values(unsettled=True))
        return len(changed)

    def watched(self, source: str) -> dict[str, int | None]:
        """Return the studies that were seen in a source -> how many instances they had."""
        query = select(_watched.c.study_uid, _watched.c.instances).where(_watched.c.source == source)
        with self._reading() as connection:
            return {row.study_uid: row.instances for row in connection.execute(query)}

    def see(
        self,
        source: str,
        fresh: Mapping[str, int | None],
        now: datetime,
        *,
        forgotten: datetime | None = None,
    ) -> int:
        """Have fetched what is new in a source, and remember it.

        Parameters
        ----------
        fresh
            Study Instance UID -> how many instances it has now.
        forgotten
            What was last seen before is forgotten.

        Returns
        -------
        int
            How many studies are to be fetched.
        """
        for study_uid in fresh:  # before they are remembered: asked for twice is better than never
            self.ask_pull(source, study_uid, now=now)
        old = _watched.c.source == source, _watched.c.seen_at < (forgotten or now)
        with self._writing() as connection:
            if forgotten is not None:
                connection.execute(delete(_watched).where(*old))
            if fresh:
                these = _watched.c.source == source, _watched.c.study_uid.in_(list(fresh))
                connection.execute(delete(_watched).where(*these))
                rows = [
                    {"source": source, "study_uid": uid, "instances": instances, "seen_at": now}
                    for uid, instances in fresh.items()
                ]
                connection.execute(insert(_watched), rows)
        return len(fresh)

    def complain(self, source: str, sentence: str) -> None:
        """Keep why a source could not be asked the last time, for those who look; "": it could."""
        mine = _setting.c.name == _COMPLAINT + source
        with self._reading() as connection:
            if (connection.scalar(select(_setting.c.value).where(mine)) or "") == sentence:
                return
        with self._writing() as connection:
            connection.execute(delete(_setting).where(mine))
            if sentence:
                connection.execute(insert(_setting).values(name=_COMPLAINT + source, value=sentence))

    def _change_pull(self, pull: Pull, now: datetime, **values: Any) -> None:
        with self._writing() as connection:
            change = update(_pull).where(_pull.c.id == pull.id)
            connection.execute(change.values(changed_at=now, **values))
        self.refresh_priors(now)


def pulls_told(connection: Connection, limit: int) -> dict[str, Any]:
    """Return how things stand with what is fetched, for `node.journal.report`."""
    counted = connection.execute(select(_pull.c.state, func.count()).group_by(_pull.c.state))
    found = {state: int(count) for state, count in counted}
    troubled = or_(_pull.c.state == FAILED, _pull.c.tries > 0)
    query = select(_pull).where(troubled, _pull.c.state != DONE).order_by(_pull.c.changed_at.desc())
    complaints = select(_setting).where(_setting.c.name.startswith(_COMPLAINT)).order_by(_setting.c.name)
    return {
        **{state: found.get(state, 0) for state in (WAITING, DONE, FAILED)},
        "sources": {
            row.name.removeprefix(_COMPLAINT): row.value for row in connection.execute(complaints).all()
        },
        "troubled": [
            {
                "source": row.source,
                "study_uid": row.study_uid,
                "state": row.state,
                "tries": row.tries,
                "received": row.received,
                "expected": row.expected,
                "reason": row.reason,
            }
            for row in connection.execute(query.limit(limit)).all()
        ],
    }


def _pull_of(row: Row[Any]) -> Pull:
    return Pull(
        id=row.id,
        source=row.source,
        study_uid=row.study_uid,
        series_uid=row.series_uid,
        prior=row.prior,
        state=row.state,
        tries=row.tries,
        expected=row.expected,
        received=row.received,
        reason=row.reason,
    )
