"""One search among what the index knows: which studies, series or instances it finds, in which order."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Final

from node.journal import Holding
from node.show.asked import Asked, Place
from node.show.index import Entry, Index
from node.show.kept import SERIES, STUDY
from node.show.matching import Demand
from node.show.members import Members
from node.show.rows import Row, instance_row, keyword_or_none, series_row, study_row

#: Reading headers for one question takes no longer than this.
PATIENCE_S: Final = 15.0
STUDY_UID, SERIES_UID, _SOP_UID, _SOP_CLASS = 0x0020000D, 0x0020000E, 0x00080018, 0x00080016
#: What is known of a study as a whole.
OF_STUDY: Final = frozenset(
    {"ModalitiesInStudy", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances"}
)
_OF_SERIES: Final = frozenset({*STUDY, *SERIES, "NumberOfSeriesRelatedInstances"})

_Demands = Mapping[Place, Demand]


class Search:
    """One question.

    Attributes
    ----------
    unread
        Series that were left out because nobody has read their headers yet.
    cut_short
        Whether it took too long, so that there may be more.
    """

    def __init__(self, asked: Asked, index: Index, members: Members) -> None:
        self._asked, self._index, self._members = asked, index, members
        self._entries, self.unread = index.entries(asked.uids.get(STUDY_UID, ()))
        self._end = time.monotonic() + PATIENCE_S
        self.cut_short = False
        self._of_study, self._others = _parted(asked.demands, OF_STUDY)

    def studies(self) -> list[Row]:
        """Return the studies with a series that is searched for, newest first."""
        return self._studies({entry.study_uid for entry, _ in self._matching(self._others)})

    def series(self) -> list[Row]:
        """Return the series that are searched for, newest study first."""
        return [row for _, row in self._series(self._others)]

    def instances(self) -> Iterator[Row]:
        """Yield the instances that are searched for, newest study first."""
        of_series, own = _parted(self._others, _OF_SERIES)
        uids = self._asked.uids
        if _SOP_UID in uids:
            of_these = self._members.series_with(uids[_SOP_UID])
            self._entries = [entry for entry in self._entries if entry.series_uid in of_these]
        for entry, _ in self._series(of_series):

            def wants(one: Holding) -> bool:
                return all(
                    uid in uids.get(tag, (uid,))
                    for tag, uid in ((_SOP_UID, one.sop_instance_uid), (_SOP_CLASS, one.sop_class_uid))
                )

            few = _SOP_UID in uids or _SOP_CLASS in uids
            members = self._members.of(entry, wants if few else None)
            rows = [instance_row(one, entry, kept, self._index.read) for one, kept in members]
            for row in sorted(rows, key=lambda one: _number(one, "InstanceNumber")):
                if _fits(row, own):
                    yield row
                if self._is_late():
                    return

    def _series(self, demands: _Demands) -> list[tuple[Entry, Row]]:
        found = list(self._matching(demands))
        if self._of_study:
            rows = self._studies({entry.study_uid for entry, _ in found})
            uids = {row.values((STUDY_UID,))[0] for row in rows}
            found = [(entry, row) for entry, row in found if entry.study_uid in uids]
        found.sort(key=lambda one: _number(one[1], "SeriesNumber"))
        found.sort(key=lambda one: _date(one[1]), reverse=True)
        return found

    def _studies(self, uids: set[str]) -> list[Row]:
        by_study: dict[str, list[Entry]] = {uid: [] for uid in uids}
        for entry in self._entries:
            if entry.study_uid in by_study:
                by_study[entry.study_uid].append(entry)
        rows = [study_row(entries, self._index.read) for entries in by_study.values()]
        return sorted((row for row in rows if _fits(row, self._of_study)), key=_date, reverse=True)

    def _matching(self, demands: _Demands) -> Iterator[tuple[Entry, Row]]:
        for entry in self._entries:
            row = series_row(entry, self._index.read)
            if _fits(row, demands):
                yield entry, row
            if self._is_late():
                return

    def _is_late(self) -> bool:
        self.cut_short = self.cut_short or time.monotonic() > self._end
        return self.cut_short


def _parted(demands: _Demands, keywords: frozenset[str]) -> tuple[_Demands, _Demands]:
    """Return the demands on attributes of these keywords, and the others."""
    of_these = {p: d for p, d in demands.items() if keyword_or_none(p[0]) in keywords}
    return of_these, {p: d for p, d in demands.items() if p not in of_these}


def _fits(row: Row, demands: _Demands) -> bool:
    fits = all(demand(row.values(place)) for place, demand in demands.items())
    row.forget()
    return fits


def _date(row: Row) -> tuple[str, str, str]:
    """Return what orders studies; the series and instances of one stay together."""
    study = row.kept[0]
    return study.get("StudyDate", ""), study.get("StudyTime", ""), study.get("StudyInstanceUID", "")


def _number(row: Row, keyword: str) -> tuple[float, str]:
    own = row.kept[-1]
    try:
        number = float(own.get(keyword, ""))
    except ValueError:
        number = float("inf")
    return number, own.get("SOPInstanceUID", own.get("SeriesInstanceUID", ""))
