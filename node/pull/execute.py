"""Fetch what was asked for: series by series, what is lacking of each, until the archive has no more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from node import flow
from node.accept import Request, Spool, chosen_classes
from node.accept.retrieve import Asked, get, move
from node.accept.retrieve_web import wado
from node.config import DimseSource, Source, WebSource
from node.errors import PeerBusy, PeerRefused, foreseen
from node.flow import Node
from node.journal import Pull
from node.log import get_log
from node.model import Instance
from node.peer.query import Archive, Found, archive_of
from node.peer.tls import client_context
from node.peer.web import Web

log = get_log("pull")

TELL_EVERY_S = 1.0  #: how often the journal is told how far a request is
LOOK_EVERY_S = 0.25  #: for what an archive sends after it said that it had sent it
MOST_SERIES_LACKING = 5  #: that are named in a sentence


def fetch(pull: Pull, node: Node, is_stopping: Callable[[], bool] = lambda: False) -> Pull:
    """Fetch what was asked for, and write down what became of it.

    What the node holds of it already is not fetched again, and its own results never are.

    Returns
    -------
    Pull
        As it is now.
    """
    log.info("pull_begun", name=pull.source, study_uid=pull.study_uid, series_uid=pull.series_uid)
    try:
        node.journal.advance_pull(pull, node.clock(), None, 0)  # what arrives of it from now on is a prior
        note = _Fetch(pull, node, is_stopping).run()
        node.journal.finish_pull(pull, node.clock(), note.received, note.sentence)
        log.info("pull_done", name=pull.source, study_uid=pull.study_uid, count=note.received)
    except Exception as error:  # noqa: BLE001  one request must not hold up those behind it
        known = foreseen(error)
        after = node.journal.put_off_pull(pull, known, node.config.send, node.clock())
        log.warning(
            "pull_failed",
            name=pull.source,
            study_uid=pull.study_uid,
            state=after.state,
            count=after.received,
            reason=str(known),
        )
    return node.journal.pulls([pull.id])[0]


@dataclass(frozen=True, slots=True)
class _Note:
    received: int
    sentence: str


@dataclass
class _Fetch:
    """One try of one request."""

    pull: Pull
    node: Node
    is_stopping: Callable[[], bool]
    expected: int = 0
    passed_over: int = 0  #: instances of SOP Classes that we do not take
    _told_at: float = field(default=float("-inf"))

    def run(self) -> _Note:
        source = self.node.config.sources[self.pull.source]
        archive = archive_of(source, self.node.config)
        asked = list(self._asked(archive))
        self.expected = sum(len(one.classes or ()) for one in asked)
        self._mean(asked)
        lacking: list[str] = []
        notes: list[str] = []
        for one in asked:
            if self.is_stopping():
                raise PeerBusy("The node stopped.")
            if one.classes is not None and not self._lacking(one):
                continue
            self._tell(asked, at_once=True)
            note = self._retrieve(one, source, asked)
            notes += [note] if note else []
            if missing := self._lacking(one):
                lacking.append(f"{missing} of {len(one.classes or ())} of series {one.series_uid}.")
            elif one.classes is None and not self._held(one):
                lacking.append(f"All of series {one.series_uid}.")
        self._mean(asked)
        received = self._received(asked)
        self._tell(asked, at_once=True)
        if lacking:
            more = (
                f" And {len(lacking) - MOST_SERIES_LACKING} series more."
                if len(lacking) > MOST_SERIES_LACKING
                else ""
            )
            told = " ".join(lacking[:MOST_SERIES_LACKING])
            raise PeerBusy(f"Instances have not come: {told}{more} {' '.join(dict.fromkeys(notes))}".strip())
        if self.passed_over:
            notes.append(f"{self.passed_over} more are of SOP Classes that [accept.dimse] does not take.")
        return _Note(received, " ".join(dict.fromkeys(notes)))

    def _mean(self, asked: list[Asked]) -> None:
        """Let what is held as a prior count like any other, unless it is still asked for as one."""
        (now,) = self.node.journal.pulls([self.pull.id])
        if not now.prior:
            self.node.journal.want_for_itself([one.series_uid for one in asked])

    def _asked(self, archive: Archive) -> Iterator[Asked]:
        """Yield what is to come: the series that the archive has, without our own results.

        Raises
        ------
        PeerRefused
            It has nothing of it.
        """
        pull, journal = self.pull, self.node.journal
        found = [one for one in archive.series(pull.study_uid) if pull.series_uid in ("", one.uid)]
        if not found:
            what = f"series {pull.series_uid}" if pull.series_uid else f"study {pull.study_uid}"
            raise PeerRefused(f"{archive.place} has no {what}.")
        ours = journal.made_here([one.uid for one in found])
        taken = frozenset(chosen_classes(self.node.config.accept.dimse.sop_classes))
        for one in found:
            if one.uid not in ours:
                classes = self._listed(archive, one, taken)
                yield Asked(study_uid=pull.study_uid, series_uid=one.uid, classes=classes, prior=pull.prior)

    def _listed(self, archive: Archive, series: Found, taken: frozenset[str]) -> dict[str, str] | None:
        """Return the instances of a series that we take, with their classes; None: it does not list them."""
        try:
            images = archive.images(self.pull.study_uid, series.uid)
        except PeerRefused as error:
            log.info("not_listed", series_uid=series.uid, reason=str(error))
            return None
        if not images and series.instances != 0:  # a series has instances
            return None
        classes = {one.uid: one.one("SOPClassUID") for one in images}
        wanted = {uid: sop_class for uid, sop_class in classes.items() if not sop_class or sop_class in taken}
        self.passed_over += len(classes) - len(wanted)
        return wanted

    def _retrieve(self, one: Asked, source: Source, asked: list[Asked]) -> str:
        """Have a series brought here; return what is to be known of that."""
        node, config = self.node, self.node.config

        def receive(spool: Spool, request: Request) -> Instance:
            instance = flow.receive(spool, request, node)
            self._tell(asked)
            return instance

        if isinstance(source, WebSource):
            tls = client_context(config.tls) if source.url.startswith("https:") else None
            web = Web(source.url, timeout_s=source.timeout_s, token_file=source.token_file, tls=tls)
            return wado(
                web,
                one,
                sender=self.pull.source,
                store=node.store,
                receive=receive,
                max_object_bytes=int(config.accept.max_object_gb * 1e9),
            ).note
        tls = client_context(config.tls) if source.tls else None
        ae_title = config.node.ae_title
        if source.retrieve == "get":
            came = get(source, one, ae_title=ae_title, tls=tls, store=node.store, receive=receive)
            return came.note
        note = self._move(one, source, ae_title, asked)
        self._wait(one, source, asked)
        return note

    def _move(self, one: Asked, source: DimseSource, ae_title: str, asked: list[Asked]) -> str:
        config = self.node.config

        def arrived() -> int:
            self._tell(asked)
            return self._held(one)

        return move(
            source,
            one,
            ae_title=ae_title,
            door=f"port {config.accept.dimse.port} of this machine",
            tls=client_context(config.tls) if source.tls else None,
            arrived=arrived,
        )

    def _wait(self, one: Asked, source: DimseSource, asked: list[Asked]) -> None:
        """Wait for what an archive said that it had sent, as long as more of it comes."""
        held, end = -1, 0.0
        while self._lacking(one) and not self.is_stopping():
            if (now := self._held(one)) != held:
                held, end = now, time.monotonic() + source.timeout_s
            if time.monotonic() > end:
                return
            self._tell(asked)
            time.sleep(LOOK_EVERY_S)

    def _held(self, one: Asked) -> int:
        return len(self.node.journal.held_of(one.study_uid, one.series_uid))

    def _lacking(self, one: Asked) -> int:
        """Return how many instances of a series are not here; of one that is not listed, nobody knows."""
        held = self.node.journal.held_of(one.study_uid, one.series_uid)
        return len((one.classes or {}).keys() - held.keys())

    def _received(self, asked: list[Asked]) -> int:
        return sum(len(one.classes) - self._lacking(one) for one in asked if one.classes is not None) + sum(
            self._held(one) for one in asked if one.classes is None
        )

    def _tell(self, asked: list[Asked], *, at_once: bool = False) -> None:
        """Write down how far it is, now and then."""
        if at_once or time.monotonic() > self._told_at + TELL_EVERY_S:
            self._told_at = time.monotonic()
            received = self._received(asked)
            expected = None if any(one.classes is None for one in asked) else self.expected
            self.node.journal.advance_pull(self.pull, self.node.clock(), expected, received)
