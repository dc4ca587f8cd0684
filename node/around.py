"""What is around a settled series: the other series of its study, and earlier studies of its patient.

`Around` asks the journal; `Among` knows a few series and no more. Headers are read from disk when a
rule asks for them, since the journal holds nothing of what they say.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property, partial
from hashlib import sha256
from threading import Lock
from typing import Any

from pydicom import Dataset

from node.assemble import read_headers
from node.assign import Ask, Held, Rule, keywords_of, nothing_yet
from node.journal import Journal
from node.model import Answer, Instance, Series


class Around:
    """A settled series, and what is beside it at this moment.

    Parameters
    ----------
    series
        As it is held now; the journal does not count it as settled yet.
    rules
        What they look at is read, and nothing else.
    revision
        Of the series, as it will be; what was found in another one does not count.
    """

    def __init__(
        self, series: Series, journal: Journal, rules: Iterable[Rule], revision: int | None = None
    ) -> None:
        rules = tuple(rules)
        self._revisions = {series.uid: series.revision + 1 if revision is None else revision}
        self._answers: dict[tuple[str, str, int], Answer | None] = {}
        self._journal = journal
        self._keywords = keywords_of(rules)
        self._known: dict[str, Held] = {}
        self.held = self._held(series)
        self.patient_key = journal.patient_key(self.held.patient[0])
        #: Series Instance UID -> revision of what is beside it; None where no rule asks for that.
        self.seen: Mapping[str, int] | None = None
        if any(rule.is_case for rule in rules):
            self.seen = journal.beside(series.uid, series.study_uid, self.patient_key)

    @property
    def headers(self) -> Mapping[str, Dataset]:
        """The readable headers of the series by SOP Instance UID."""
        return self.held.headers

    @property
    def series(self) -> Mapping[str, Series]:
        """All series that were looked at, by Series Instance UID."""
        return {uid: held.series for uid, held in self._known.items()}

    @property
    def known(self) -> dict[str, Any]:
        """What the journal is told of the series when it is planned."""
        answers = {asked: answer and answer.job_id for asked, answer in self._answers.items()}
        return {
            "seen": self.seen,
            "patient_key": self.patient_key,
            "number": self.held.number,
            "answers": answers,
        }

    def study(self, study_uid: str) -> list[Held]:
        """Return the settled series of a study, this one among them if it is of it."""
        mine = [self.held] if self.held.series.study_uid == study_uid else []
        return [*mine, *self._others(self._journal.settled_in(study_uid=study_uid))]

    def patient(self, study_uid: str) -> list[Held]:
        """Return the settled series of the other studies of the patient of a study."""
        is_mine = self.held.series.study_uid == study_uid
        patient_key = self.patient_key if is_mine else self._journal.patient_of(study_uid)
        if not patient_key:
            return []
        mine = [self.held] if not is_mine and patient_key == self.patient_key else []
        others = self._others(self._journal.settled_in(patient_key=patient_key))
        return [*mine, *(held for held in others if held.series.study_uid != study_uid)]

    def touched(self, rule: str) -> set[str]:
        """Return the studies whose case of a rule has this series, or waits for one of its patient."""
        return self._cases.get(rule, set())

    def answer(self, pipeline: str, series_uid: str) -> Answer | None:
        """Return what a pipeline said of a series as it stands; None: nothing so far."""
        revision = self._revisions.get(series_uid) or self._known[series_uid].series.revision
        asked = pipeline, series_uid, revision
        if asked not in self._answers:
            self._answers[asked] = self._journal.answer(*asked)
        return self._answers[asked]

    @cached_property
    def _cases(self) -> Mapping[str, set[str]]:
        return self._journal.cases_of(self.held.series.uid, self.patient_key)

    def _others(self, found: Iterable[Series]) -> list[Held]:
        return [self._held(series) for series in found if series.uid != self.held.series.uid]

    def _held(self, series: Series) -> Held:
        if series.uid not in self._known:
            read = partial(headers_of, keywords=self._keywords)
            self._known[series.uid] = Held(series=series, read=read)
        return self._known[series.uid]


#: Digest of some instances and of what was kept -> their headers, the last used one last.
_kept: OrderedDict[str, Mapping[str, Dataset]] = OrderedDict()
_kept_lock = Lock()
MOST_KEPT = 200  #: groups of instances
LARGEST_KEPT_BYTES = 256 * 1024  #: of one group; slices that say the same count once


def headers_of(instances: Sequence[Instance], keywords: frozenset[str]) -> Mapping[str, Dataset]:
    """Return the readable headers of instances, cut down to some elements.

    They are remembered: each series of a study is looked at again whenever another one settles.
    """
    asked = [*sorted(keywords), *(f"{one.path} {one.sha256}" for one in instances)]
    key = sha256("\n".join(asked).encode()).hexdigest()
    with _kept_lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    headers, unreadable = read_headers(instances, keywords)
    different = {_said(header): header for header in headers.values()}
    if unreadable or sum(len(value) for said in different for _, value in said) > LARGEST_KEPT_BYTES:
        return headers  # a disk may fail for a moment
    headers = {uid: different[_said(header)] for uid, header in headers.items()}
    with _kept_lock:
        _kept[key] = headers
        while len(_kept) > MOST_KEPT:
            _kept.popitem(last=False)
    return headers


def _said(header: Dataset) -> tuple[tuple[int, bytes], ...]:
    """Return what a header says; of what is not plain bytes (a sequence) only that it is too much."""
    elements = [header.get_item(tag) for tag in header.keys()]  # noqa: SIM118  as they were read
    how = repr((header.original_encoding, header.original_character_set)).encode()
    said = (
        (element.tag, element.value if isinstance(element.value, bytes) else bytes(LARGEST_KEPT_BYTES + 1))
        for element in elements
        if element is not None and element.value is not None
    )
    return ((0, how), *said)


class Among:
    """Series that are known to be all there are: in a folder, or to be explained."""

    def __init__(self, held: Sequence[Held], ask: Ask = nothing_yet) -> None:
        self._held, self._ask = held, ask

    def study(self, study_uid: str) -> list[Held]:
        """Return the series of a study."""
        return [one for one in self._held if one.series.study_uid == study_uid]

    def patient(self, study_uid: str) -> list[Held]:
        """Return the series of the other studies of the patient of a study."""
        ids = {one.patient[0] for one in self.study(study_uid)} - {""}
        if len(ids) != 1:
            return []
        return [one for one in self._held if one.series.study_uid != study_uid and one.patient[0] in ids]

    def touched(self, _rule: str) -> Collection[str]:
        """Return no study: nothing was planned yet."""
        return ()

    def answer(self, pipeline: str, series_uid: str) -> Answer | None:
        """Return what a pipeline said of a series."""
        return self._ask(pipeline, series_uid)
