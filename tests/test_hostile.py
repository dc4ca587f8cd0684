"""Hostile pipelines in a whole node: each job fails and says why, the next is done, nothing is harmed."""

from __future__ import annotations

import re
from hashlib import sha256

import pytest

from node import flow
from node.accept import spool_file
from node.compute.sandbox import landlock
from node.config import read_config
from node.flow import Node
from node.job import JobState
from node.model import Series
from node.serve import open_node
from tests import toy_node
from tests.compute.malicious_pipelines import write_hostile

pytestmark = pytest.mark.skipif(landlock.version() < 1, reason="needs a kernel with Landlock")

#: Name -> when it attacks, how, and what is said of its job.
ATTACKS = {
    "journal_eraser": (
        "at_load",
        "Path('{data}/journal.sqlite').write_bytes(b'')",
        r"journal-eraser failed while loading: PermissionError .*Permission denied: '.*journal\.sqlite'",
    ),
    "store_eraser": (
        "at_analyze",
        "[os.unlink(os.path.join('{data}/instances', name)) for name in os.listdir('{data}/instances')]",
        r"store-eraser failed while analyzing: PermissionError .*Permission denied: '.*instances'",
    ),
    "caller": (
        "at_import",
        "socket.create_connection(('127.0.0.1', 104))",
        r"caller failed while being imported: PermissionError .* may not use the network",
    ),
    "forger": (
        "at_analyze",
        "labels = np.zeros((1, 1, 1), np.uint8)",
        r"forger broke its contract: .*shape",
    ),
}

CONFIG = """\
[node]
data = "data"
[accept]
reserve_gb = 0
[compute]
devices = ["cpu"]
tries = 1
[destinations.out]
transport = "folder"
path = "out"
"""
PIPELINE = """\
[pipelines.{card.name}]
folder = "{card.folder}"
sha256 = "{card.digest}"
[[rules]]
name = "{card.name}"
pipeline = "{card.name}"
send_to = ["out"]
[rules.match]
Modality = "CT"
"""


def custody(node: Node, series_uid: str) -> tuple[dict[str, str], Series | None]:
    """Return the hash of every file in the store, and what the journal says of a series."""
    files = node.store.instances.rglob("*.dcm")
    return {str(file): sha256(file.read_bytes()).hexdigest() for file in files}, node.journal.series(
        series_uid
    )


def test_a_hostile_pipeline_costs_its_own_job_and_nothing_else(tmp_path):
    data = tmp_path / "data"
    cards = [
        write_hostile(tmp_path / "pipelines", name, **{moment: code.replace("{data}", str(data))})
        for name, (moment, code, _) in ATTACKS.items()
    ]
    cards.append(write_hostile(tmp_path / "pipelines", "good"))
    (tmp_path / "node.toml").write_text(CONFIG + "".join(PIPELINE.format(card=card) for card in cards))
    with open_node(read_config(tmp_path / "node.toml")) as node:
        for file in toy_node.small_ct(tmp_path / "ct"):
            instance = flow.receive(*spool_file(file, node.store), node)
        jobs = {job.spec.pipeline: job.id for job in flow.plan(instance.series_uid, node)}
        before = custody(node, instance.series_uid)
        assert len(before[0]) == 8
        while job := node.journal.claim(node.clock()):
            flow.compute(job, node, lambda *_: None)
        assert custody(node, instance.series_uid) == before
        for name, (_, _, said) in ATTACKS.items():
            job = node.journal.job(jobs[name.replace("_", "-")])
            assert job.state is JobState.FAILED
            assert re.match(said, job.reason), job.reason
        assert node.journal.job(jobs["good"]).state is JobState.SENDING
        assert node.journal.results(jobs["good"])
        assert node.journal.results(jobs["forger"]) == ()
