"""The sending end of a node, with a clock that a test turns: results on disk, real archives, no workers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text

from node import flow, prove
from node.config import Config
from node.flow import Node
from node.job import Job, JobState
from node.journal import Journal
from node.model import Outcome
from node.peer.commitment import Report
from tests.journal_makers import NOON, a_job
from tests.peers import Peer
from tests.send.conftest import picture, report, saved

SETTINGS = {"first_retry_s": 5.0, "longest_retry_s": 100.0, "tries": 4}


def dimse(peer: Peer, **more: Any) -> dict[str, Any]:
    """Return [destinations.<name>] for a peer, by DIMSE."""
    place = {"ae_title": peer.ae_title, "host": peer.host, "port": peer.port}
    return {"transport": "dimse", "timeout_s": 3.0, "proof_s": 60.0, **place, **more}


class Bench:
    """Delivers and proves when it is told to."""

    def __init__(self, folder: Path, destinations: Mapping[str, Mapping[str, Any]], **send: Any) -> None:
        self.folder, self.now = folder, NOON
        self.journal = Journal.open(folder)
        self.configure(destinations, **send)

    def configure(self, destinations: Mapping[str, Mapping[str, Any]], **send: Any) -> None:
        """Go on as a node that was started anew with another configuration."""
        config = Config.model_validate({"destinations": destinations, "send": {**SETTINGS, **send}})
        parts: dict[str, Any] = dict.fromkeys(("store", "staging", "engine"))
        self.node = Node(
            config=config, journal=self.journal, cards={}, rules=(), clock=lambda: self.now, **parts
        )

    def reopen(self) -> None:
        """Forget all that is not in the journal."""
        self.journal.close()
        self.journal = Journal.open(self.folder)
        self.node = Node(**{**vars(self.node), "journal": self.journal})

    def job(self, *send_to: str, series: str = "1.2.3") -> Job:
        """Return a job that is sending: a picture, and a report that refers to it."""
        job = a_job(self.journal, series=series, send_to=send_to or ("archive",), at=self.now)
        folder = self.folder / "results" / str(job.id)
        folder.mkdir(parents=True)
        pixels, words = picture(f"2.25.{job.id}.1"), report(f"2.25.{job.id}.2")
        pixels.StudyInstanceUID = words.StudyInstanceUID = job.spec.study_uid
        seg = saved(pixels, folder)
        sr = saved(words, folder, refers_to=(seg.sop_instance_uid,))
        outcome = Outcome(objects=(seg, sr), summary=(), notes=(), seconds={})
        return self.journal.save_results(self.journal.claim(self.now), outcome, self.now)

    def deliver(self) -> None:
        for owed in self.journal.due(self.now):
            flow.deliver(owed, self.node)

    def prove(self) -> None:
        for name in (*self.node.config.destinations, None):
            while prove.prove(name, self.node):
                pass

    def after(self, seconds: float) -> None:
        """Let time pass, then do all that is due."""
        self.now += timedelta(seconds=seconds)
        self.deliver()
        self.prove()

    def state(self, job: Job) -> JobState:
        return self.journal.job(job.id).state

    def reason(self, job: Job) -> str:
        return self.journal.job(job.id).reason

    def proofs(self, job: Job) -> dict[str, str]:
        """Return what is known of each object: its last number -> the sentence."""
        query = text("SELECT sop_instance_uid, proof FROM parcel WHERE job_id = :id")
        engine = create_engine(f"sqlite:///{self.folder / 'journal.sqlite'}")
        with engine.connect() as connection:
            rows = connection.execute(query, {"id": job.id}).all()
        engine.dispose()
        return {uid.rpartition(".")[2]: proof for uid, proof in rows}

    def standing(self, name: str = "archive") -> dict[str, Any]:
        (found,) = [one for one in self.journal.status()["destinations"] if one["destination"] == name]
        return found

    def hear(self, asked: Any, archive: Any, *, caller: str = "ARCHIVE", **told: Any) -> int:
        """Hear the truth about a request, or what a test says instead, over another association."""
        committed, failed = archive.verdict(asked)
        said = {"transaction_uid": asked.transaction_uid, "committed": committed, "failed": failed, **told}
        return prove.hear(Report(**said), self.node, caller)
