"""While one case computes, the next is loaded and the last one encoded; a second case pays no load."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from pydicom import dcmread

from node import flow
from node.accept import spool_file
from node.config import read_config
from node.job import JobState
from node.serve import open_node, utc_now
from pipelines.contract import folder_digest
from tests import toy_node
from tests.harness import wait_until
from tests.toy_node import small_ct

#: Goes on when a file beside it says so, and tells how often it was made ready.
CODE = (
    toy_node.CODE
    + """

from dataclasses import replace

COUNTS = {"load": 0, "analyze": 0}


class Waiting(Threshold):
    def load(self, device):
        COUNTS["load"] += 1

    def analyze(self, case):
        COUNTS["analyze"] += 1
        while not Path(__file__).with_name(f"go-{COUNTS['analyze']}").exists():
            time.sleep(0.02)
        said = f"Loads {COUNTS['load']}, cases {COUNTS['analyze']}."
        return replace(super().analyze(case), cautions=(said,))
"""
)
CARD = toy_node.CARD.replace("pipeline:Threshold", "pipeline:Waiting")

CONFIG = """\
[node]
data = "data"
[accept]
reserve_gb = 0.01
[accept.dimse]
enabled = false
[compute]
devices = ["cpu"]
isolation = "best"
[pipelines.toy-threshold]
folder = "{folder}"
sha256 = "{digest}"
[destinations.shelf]
transport = "folder"
path = "shelf"
[[rules]]
name = "every CT"
pipeline = "toy-threshold"
send_to = ["shelf"]
[rules.match]
Modality = "CT"
"""


@pytest.fixture
def toy(tmp_path) -> Path:
    folder = tmp_path / "toy_threshold"
    folder.mkdir()
    (folder / "card.toml").write_text(CARD)
    (folder / "pipeline.py").write_text(CODE)
    return folder


def test_load_and_encode_overlap_with_the_computing_of_others_and_a_pipeline_is_loaded_once(tmp_path, toy):
    config = tmp_path / "node.toml"
    config.write_text(CONFIG.format(folder=toy, digest=folder_digest(toy)))
    with open_node(read_config(config)) as node:
        told: dict[str, list[str]] = {}
        threads: dict[str, threading.Thread] = {}
        jobs = {}

        def begin(name: str) -> None:
            for file in small_ct(tmp_path / name, seed=name):
                instance = flow.receive(*spool_file(file, node.store), node)
            flow.plan(instance.series_uid, node)
            jobs[name] = node.journal.claim(utc_now())
            told[name] = said = []
            threads[name] = threading.Thread(
                target=flow.compute, args=(jobs[name], node, lambda step, _: said.append(step))
            )
            threads[name].start()

        def state(name: str) -> JobState:
            return node.journal.job(jobs[name].id).state

        try:
            begin("first")
            wait_until(lambda: told["first"][-1:] == ["compute"], "the first case computes", 60)
            begin("second")
            wait_until(lambda: told["second"] == ["wait", "load", "wait"], "the second one is loaded", 60)
            assert told["first"][-1] == "compute", "all the while"
            (toy / "go-1").touch()
            wait_until(lambda: state("first") is JobState.SENDING, "the first case is encoded", 60)
            wait_until(lambda: told["second"][-1] == "compute", "the second one computes", 60)
            assert state("second") is JobState.COMPUTING
            begin("third")
            wait_until(lambda: told["third"] == ["wait", "load", "wait"], "the third one is loaded", 60)
            assert told["second"][-1] == "compute"
            (toy / "go-2").touch()
            wait_until(lambda: told["third"][-1] == "compute", "the third one computes", 60)
            wait_until(lambda: state("second") is JobState.SENDING, "the second case is encoded", 60)
            assert told["third"][-1] == "compute", "while the third one computed"
        finally:
            for number in (1, 2, 3):
                (toy / f"go-{number}").touch()
            for thread in threads.values():
                thread.join(60)
        for number, name in enumerate(jobs, start=1):
            said = [dcmread(made.path).to_json() for made in node.journal.results(jobs[name].id)]
            assert any(f"Loads 1, cases {number}." in text for text in said), "made ready for the first alone"
