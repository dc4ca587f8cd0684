"""What the headers of single instances say, remembered for the series that were looked at last."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset

from node.header import read_header
from node.journal import Holding, Journal
from node.show.index import Entry
from node.show.kept import INSTANCE, Kept, keep
from pipelines.contract import InputRefused

#: Instances that are remembered; each takes about a kilobyte.
MOST_KEPT: Final = 20_000

_Members = list[tuple[Holding, Kept]]


class Members:
    """The instances of series; may be asked by any number of threads."""

    def __init__(self, journal: Journal, read: Callable[[Path], Dataset] = read_header) -> None:
        self._journal, self._read = journal, read
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[Hashable, _Members]] = OrderedDict()

    def series_with(self, sop_instance_uids: Collection[str]) -> set[str]:
        """Return the series that these instances are of."""
        return self._journal.series_with(sop_instance_uids)

    def of(self, entry: Entry, wants: Callable[[Holding], bool] | None = None) -> _Members:
        """Return the instances of a series with what their headers say.

        Parameters
        ----------
        wants
            Those of which the headers are to be read; None: all.
        """
        state = entry.came, entry.came_at, frozenset(entry.made)
        with self._lock:
            known = self._kept.get(entry.series_uid)
            if known is not None and known[0] == state:
                self._kept.move_to_end(entry.series_uid)
                return [one for one in known[1] if wants is None or wants(one[0])]
        holdings = self._journal.holdings(entry.study_uid, entry.series_uid)
        found = [(one, self._said(one)) for one in holdings if wants is None or wants(one)]
        if wants is None and len(found) == entry.instances <= MOST_KEPT:
            self._remember(entry.series_uid, state, found)
        return found

    def _said(self, holding: Holding) -> Kept:
        try:
            return keep(self._read(holding.path), INSTANCE)
        except InputRefused:
            return {}

    def _remember(self, series_uid: str, state: Hashable, found: _Members) -> None:
        with self._lock:
            self._kept[series_uid] = state, found
            while sum(len(members) for _, members in self._kept.values()) > MOST_KEPT:
                self._kept.popitem(last=False)
