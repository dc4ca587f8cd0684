"""Which studies and series there are, and what their headers say of them; in memory alone.

The journal knows nothing of patients, so that the headers have to be read: one of each series, newest
first, in a thread of the index. Whoever asks waits a little for those still unread. An entry takes about
two kilobytes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset

from node.header import read_header
from node.header.value import PARSE_ERRORS
from node.journal import Holding, Journal
from node.log import describe, get_log
from node.show.kept import SERIES, STUDY, Kept, keep
from pipelines.contract import InputRefused

log = get_log("show")

LOOK_EVERY_S: Final = 1.0  #: how often the index asks the journal by itself
WAIT_S: Final = 3.0  #: how long a question waits for headers that are still unread
#: An arrival may be told to the journal so long after it, while another one was told already.
_LATE: Final = timedelta(seconds=60)
_EARLIEST: Final = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Entry:
    """One series."""

    series_uid: str
    study_uid: str
    came_at: datetime = _EARLIEST  #: when the newest instance came; results have none
    came: int = 0  #: instances from outside
    made: Mapping[str, Holding] = field(default_factory=dict)  #: results of ours
    study: Kept | None = None  #: None: its header was not read yet
    series: Kept | None = None
    first: Path | None = None  #: the file that was read

    @property
    def instances(self) -> int:
        """How many instances there are."""
        return self.came + len(self.made)


class Index:
    """The entries of all series; may be asked by any number of threads.

    Parameters
    ----------
    read
        Reads a header at bounded cost.
    """

    def __init__(self, journal: Journal, read: Callable[[Path], Dataset] = read_header) -> None:
        self._journal, self.read = journal, read
        self._lock = threading.RLock()  #: over the entries
        self._changed = threading.Condition(self._lock)
        self._looking = threading.Lock()  #: one asks the journal at a time
        self._entries: dict[str, Entry] = {}
        self._of_study: dict[str, set[str]] = {}
        self._results: dict[str, set[str]] = {}  # study -> series in which results are
        self._unread: dict[str, None] = {}  # series, the newest last
        self._newest: datetime | None = None
        self._counted, self._event, self._ready = 0, 0, False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="index", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def entries(self, study_uids: Iterable[str] = (), *, wait_s: float = WAIT_S) -> tuple[list[Entry], int]:
        """Return the series as they stand now, and how many of them are not read yet and left out.

        Parameters
        ----------
        study_uids
            Of these studies alone, which are read before all others; none: of all.
        wait_s
            How long to wait for headers.
        """
        end = time.monotonic() + wait_s
        wanted = list(study_uids)
        if self._ready or not self._thread.is_alive():
            self.look()
        with self._changed:
            while not self._ready and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)
            mine = {uid for study in wanted for uid in self._of_study.get(study, ())} if wanted else None
            for uid in (mine or set()) & self._unread.keys():
                self._unread[uid] = self._unread.pop(uid)  # next
            self._changed.notify_all()
            while self._lacks(mine) and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)
            found = [
                self._entries[uid]
                for uid in (self._entries if mine is None else mine)
                if uid in self._entries
            ]
            known = [one for one in found if one.study is not None]
            return known, len(found) - len(known) + (not self._ready)

    def _lacks(self, mine: set[str] | None) -> bool:
        if mine is None:
            return bool(self._unread)
        return any(uid in self._entries and self._entries[uid].study is None for uid in mine)

    def look(self) -> None:
        """Take up what the journal knows by now."""
        with self._looking:
            journal = self._journal
            event = journal.last_event()
            since = None if self._newest is None else self._newest - _LATE
            counted, arrived = journal.series_counted(), journal.held_series(since)
            moved = (
                None
                if not self._ready
                else journal.studies_moved(self._event)
                if event > self._event
                else set()
            )
            with self._lock:
                new = sum(
                    one.series_uid not in self._entries or not self._entries[one.series_uid].came
                    for one in arrived
                )
                gone = self._ready and counted != self._counted + new
            if gone:  # or came at a time that lies back, where the clock was put right
                arrived = journal.held_series()
            if gone and moved is not None:
                moved |= self._results.keys()
            made = journal.standing(moved) if moved is None or moved else []
            with self._changed:
                for one in arrived:
                    entry = self._entry(one.series_uid, one.study_uid)
                    entry.came, entry.came_at = one.instances, one.last_arrival_at
                    self._newest = max(self._newest or one.last_arrival_at, one.last_arrival_at)
                if gone:
                    held = {one.series_uid for one in arrived}
                    self._drop({uid for uid, entry in self._entries.items() if entry.came} - held)
                self._take_results(made, self._results.keys() if moved is None else moved)
                self._counted = sum(entry.came > 0 for entry in self._entries.values())
                self._event, self._ready = event, True
                self._changed.notify_all()

    def _take_results(self, made: Sequence[Holding], studies: Iterable[str]) -> None:
        for study in list(studies):
            for uid in self._results.pop(study, ()):
                self._entries[uid].made = {}
        by_series: dict[tuple[str, str], dict[str, Holding]] = {}
        for one in made:
            by_series.setdefault((one.study_uid, one.series_uid), {})[one.sop_instance_uid] = one
        for (study, series), holdings in by_series.items():
            self._entry(series, study).made = holdings
            self._results.setdefault(study, set()).add(series)
        self._drop(uid for uid, entry in list(self._entries.items()) if not entry.instances)

    def _entry(self, series_uid: str, study_uid: str) -> Entry:
        entry = self._entries.get(series_uid)
        if entry is None:
            entry = self._entries[series_uid] = Entry(series_uid, study_uid)
            self._of_study.setdefault(study_uid, set()).add(series_uid)
            self._unread[series_uid] = None
        return entry

    def _drop(self, series_uids: Iterable[str]) -> None:
        for uid in series_uids:
            entry = self._entries.get(uid)
            if entry is None:
                continue
            entry.came = 0
            if entry.made:  # results may stand in a series of the same name
                continue
            del self._entries[uid]
            self._unread.pop(uid, None)
            self._of_study[entry.study_uid].discard(uid)
            if not self._of_study[entry.study_uid]:
                del self._of_study[entry.study_uid]

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
                while self._read_next() and not self._stop.is_set():
                    pass
            except Exception as error:  # noqa: BLE001  the index goes on whatever one look met
                log.error("loop_error", name="index", error=describe(error))
                self._stop.wait(LOOK_EVERY_S)
            with self._changed:
                if not self._unread:
                    self._changed.wait(LOOK_EVERY_S)

    def _read_next(self) -> bool:
        """Read the header of the series that is wanted most; say whether there was any."""
        with self._lock:
            if not self._unread:
                return False
            uid = next(reversed(self._unread))
            entry = self._entries[uid]
            made = next(iter(entry.made.values()), None)
        study, series, path = self._told(uid, entry.study_uid, made)
        with self._changed:
            entry.study, entry.series, entry.first = self._shared(study), series, path
            self._unread.pop(uid, None)
            self._changed.notify_all()
        return True

    def _told(
        self, series_uid: str, study_uid: str, made: Holding | None
    ) -> tuple[dict[str, str], dict[str, str], Path | None]:
        """Return what a header says of study and series; of one that cannot be read, its UIDs alone."""
        study: dict[str, str] = {}
        series: dict[str, str] = {}
        path = None
        try:
            holding = self._journal.first_of(series_uid) or made
            if holding is not None:
                path = holding.path
                header = self.read(path)
                study, series = keep(header, STUDY), keep(header, SERIES)
        except InputRefused as error:
            log.warning("header_unreadable", series_uid=series_uid, reason=error.sentence)
        except PARSE_ERRORS as error:  # one header holds up no other
            log.error("header_unreadable", series_uid=series_uid, error=describe(error))
        return study | {"StudyInstanceUID": study_uid}, series | {"SeriesInstanceUID": series_uid}, path

    def _shared(self, study: Kept) -> Kept:
        """Return what was kept of a study, once for all of its series that say the same."""
        for uid in self._of_study.get(study["StudyInstanceUID"], ()):
            other = self._entries[uid].study
            if other is not None and other == study:
                return other
        return study
