"""Hostile pipelines are contained and reported, and the next job is done as if nothing had been."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import socket
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from node.compute import LocalEngine, Staging, supervisor
from node.compute.exchange import read_findings
from node.compute.sandbox import landlock
from node.config import ComputeTable
from node.errors import FindingsInvalid, MemoryExceeded, NodeError, PipelineFailed, TimedOut, WorkerLost
from pipelines.contract import Card, Findings, read_card
from tests.bundles import threshold_config, write_bundle
from tests.compute.job_maker import JOB
from tests.compute.malicious_pipelines import task, volumes, write_hostile
from tests.paths import REPOSITORY

pytestmark = pytest.mark.skipif(landlock.version() < 1, reason="needs a kernel with Landlock")

numbers = itertools.count(1)


class Node:
    """As much of a node as there is around the step that runs on a device."""

    def __init__(self, data: Path, devices: tuple[str, ...]) -> None:
        self.pipelines, self.data = data.parent / "pipelines", data
        self.journal, self.instances = data / "journal.sqlite", data / "instances"
        self.instances.mkdir(parents=True)
        self.pipelines.mkdir()
        self.journal.write_bytes(b"canary")
        (self.instances / "1.2.3.dcm").write_bytes(b"canary")
        config = ComputeTable(devices=devices, memory_gb=1.0, scratch_gb=0.2)
        self.engine = LocalEngine(config, scratch=data / "scratch", readable=[self.pipelines])
        self.good = write_hostile(self.pipelines, "good")

    def run(self, card: Card, *, timeout_s: float = 200.0) -> Findings:
        """Do a job with a pipeline, up to the findings as the node takes them."""
        job_id = next(numbers)
        exchange = self.data / "staging" / str(job_id)
        self.engine.run(task(card, exchange, job_id), timeout_s=timeout_s, on_progress=lambda *_: None)
        return read_findings(exchange, card, {"ct": volumes()["ct"].image})

    def is_unharmed(self) -> bool:
        """Say whether everything is as it was, and the next job is done."""
        assert self.journal.read_bytes() == b"canary"
        assert [file.read_bytes() for file in self.instances.iterdir()] == [b"canary"]
        labels = self.run(self.good).labelmap
        return labels is not None and int(labels.sum()) == 1


@pytest.fixture(scope="module")
def node(tmp_path_factory) -> Iterator[Node]:
    """With two workers for pipelines, so that the good one keeps its own."""
    made = Node(tmp_path_factory.mktemp("node") / "data", ("cpu", "cpu"))
    yield made
    made.engine.close()


@pytest.fixture
def narrow_node(tmp_path: Path) -> Iterator[Node]:
    """With one, which all have to use."""
    made = Node(tmp_path / "data", ("cpu",))
    yield made
    made.engine.close()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server.getsockname()[1]
        with pytest.raises(BlockingIOError):  # nobody came
            server.accept()


#: What it is called -> when it attacks, how, what it becomes, and what is said of it.
ATTACKS: dict[str, tuple[str, str, type[NodeError], str]] = {
    "network_at_import": (
        "at_import",
        "socket.create_connection(('127.0.0.1', {port}))",
        PipelineFailed,
        "network-at-import failed while being imported: PermissionError .* may not use the network",
    ),
    "network_past_python": (
        "at_analyze",
        """
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.socket(2, 1, 0) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        """,
        PipelineFailed,
        "network-past-python failed while analyzing: PermissionError .* Operation not permitted",
    ),
    "journal_reader": (
        "at_load",
        "Path('{journal}').read_bytes()",
        PipelineFailed,
        "journal-reader failed while loading: PermissionError .* Permission denied: '.*journal.sqlite'",
    ),
    "store_cutter": (
        "at_analyze",
        "os.truncate('{instances}/1.2.3.dcm', 0)",
        PipelineFailed,
        "store-cutter failed while analyzing: PermissionError .* Permission denied: '.*1.2.3.dcm'",
    ),
    "case_changer": (
        "at_analyze",
        "open('../given/case/array-1.npy', 'r+b').write(b'x' * 500)",
        PipelineFailed,
        "case-changer failed while analyzing: PermissionError .* Permission denied",
    ),
    "fork_bomb": (
        "at_analyze",
        "while True:\n    os.fork()",
        PipelineFailed,
        "fork-bomb failed while analyzing: PermissionError .* may not start processes",
    ),
    "program_starter": (
        "at_import",
        "subprocess.run(['sh', '-c', 'sleep 600 &'])",
        PipelineFailed,
        "program-starter failed while being imported: .* may not start processes .subprocess.Popen 'sh'",
    ),
    "node_killer": (
        "at_analyze",
        "os.kill(os.getppid(), signal.SIGKILL)",
        PipelineFailed,
        "node-killer failed while analyzing: PermissionError .* Operation not permitted",
    ),
    "endless_loop": ("at_analyze", "while True: pass", TimedOut, "took longer than 3 s"),
    "endless_wait_in_native_code": (
        "at_analyze",
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 60)); ctypes.PyDLL(None).sleep(600)",
        TimedOut,
        "took longer than 3 s",
    ),
    "memory_hog": (
        "at_analyze",
        "np.ones(1 << 30)",
        MemoryExceeded,
        "memory-hog needs more memory than there is",
    ),
    "shared_memory_hog": (
        "at_analyze",
        """
        held = []
        while True:
            held.append(mmap.mmap(-1, 64 << 20))
            held[-1].write(bytes(64 << 20))
            time.sleep(0.02)
        """,
        MemoryExceeded,
        "GB of memory, more than the 1.0 GB of .compute. memory_gb",
    ),
    "disk_hog": (
        "at_analyze",
        """
        for number in range(1000):
            Path(str(number)).write_bytes(bytes(20 << 20))
        """,
        WorkerLost,
        "The worker wrote more than the 0.2 GB of .compute. scratch_gb, and was killed",
    ),
    "nameless_disk_hog": (
        "at_analyze",
        """
        held = []
        while True:
            held.append(open("x", "wb", 0))
            os.unlink("x")
            held[-1].write(bytes(20 << 20))
        """,
        WorkerLost,
        "The worker wrote more than the 0.2 GB of .compute. scratch_gb, and was killed",
    ),
    "file_hog": (
        "at_analyze",
        "held = [open('/dev/null') for _ in range(100_000)]",
        PipelineFailed,
        "file-hog failed while analyzing: OSError .* Too many open files",
    ),
    "thread_hog": (
        "at_analyze",
        """
        threading.stack_size(32768)
        while True:
            threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
        """,
        NodeError,
        "The worker started [0-9]+ threads; 4096 are the most|can't start new thread",
    ),
    "segfault": ("at_analyze", "ctypes.string_at(0)", WorkerLost, "died of signal 11"),
    "leaver": ("at_import", "os._exit(0)", WorkerLost, "left with exit code 0"),
    "exiter": ("at_load", "sys.exit(0)", PipelineFailed, "exiter failed while loading: SystemExit"),
    "pipe_closer": (
        "at_analyze",
        "[os.close(number) for number in pipes()]; time.sleep(60)",
        WorkerLost,
        "closed its pipe|died",
    ),
    "talker_of_nonsense": (
        "at_analyze",
        "say(nonsense=True); time.sleep(60)",
        WorkerLost,
        "talked nonsense .an unknown message. and was ended",
    ),
    "canceller": (
        "at_analyze",
        "say(error={'code': 'cancelled', 'sentence': 'An operator did it.'}); time.sleep(60)",
        NodeError,
        "An operator did it",
    ),
    "liar": (
        "at_analyze",
        "say(result={}); time.sleep(60)",
        FindingsInvalid,
        "What liar left cannot be used: there is no folder findings",
    ),
    "pickler": (
        "at_analyze",
        """
        os.mkdir("findings")
        np.save("findings/labelmap.npy", np.array([print], object), allow_pickle=True)
        Path("findings/findings.json").write_text('{"labelmap": "uint8"}')
        say(result={})
        time.sleep(60)
        """,
        FindingsInvalid,
        "What pickler left cannot be used",
    ),
    "writer_of_much": (
        "at_analyze",
        """
        os.mkdir("findings")
        os.truncate(os.open("findings/findings.json", 66), 150 << 20)
        say(result={})
        time.sleep(60)
        """,
        FindingsInvalid,
        "What writer-of-much left cannot be used: findings.json has 157286400 bytes",
    ),
    "finder_of_much": (
        "at_analyze",
        "labels = np.zeros((4, 4000, 4000), np.uint8)",
        FindingsInvalid,
        "finder-of-much broke its contract",
    ),
}


#: Of each kind of attack another one is in the default run.
SLOW = {
    "endless_loop",
    "shared_memory_hog",
    "nameless_disk_hog",
    "thread_hog",
    "pipe_closer",
    "writer_of_much",
    "an_expression",
    "an_open_loader",
}


def rows(names: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in names]


@pytest.mark.parametrize("name", rows(ATTACKS))
def test_an_attack_is_contained_and_told(name: str, node: Node, port: int) -> None:
    moment, code, kind, said = ATTACKS[name]
    places: dict[str, Any] = {"port": port, "journal": node.journal, "instances": node.instances}
    code = re.sub(r"\{(\w+)\}", lambda found: str(places.get(found[1], found[0])), code)
    card = write_hostile(node.pipelines, name, **{moment: code})
    with pytest.raises(kind, match=said):
        node.run(card, timeout_s=3.0 if kind is TimedOut else 200.0)
    assert node.is_unharmed()


TAMPER = """
import node.compute.confined, node.compute.exchange.findings, node.compute.load
def falsified(findings, folder):
    findings.labelmap[:] = 1
    genuine(findings, folder)
genuine = node.compute.confined.write_findings
node.compute.confined.write_findings = falsified
node.compute.load.validate = lambda *_: []
threading.Thread(target=lambda: [time.sleep(0.01) for _ in range(1000)], daemon=True).start()
"""


def test_what_a_pipeline_changes_in_its_process_reaches_no_other(narrow_node: Node) -> None:
    tamperer = write_hostile(narrow_node.pipelines, "tamperer", at_import=TAMPER)
    falsified = narrow_node.run(tamperer)
    assert falsified.labelmap is not None
    assert falsified.labelmap.all()  # of itself it may say what it likes
    assert narrow_node.is_unharmed()
    assert narrow_node.run(tamperer) is not None


def test_a_pipeline_is_warm_for_its_own_next_case(node: Node) -> None:
    counts = "global calls; calls += 1; labels[2, 2, :calls] = 1"
    counter = write_hostile(node.pipelines, "counter", at_import="calls = 0", at_analyze=counts)
    found = [node.run(counter).labelmap for _ in range(2)]
    assert [int(labels.sum()) for labels in found if labels is not None] == [2, 3]


def test_what_is_left_behind_is_gone_before_the_next_case(node: Node) -> None:
    nests = """
    assert os.listdir() == [], os.listdir()
    for _ in range(300):
        os.mkdir("d" * 200)
        os.chdir("d" * 200)
    os.chdir(os.environ["HOME"])
    """
    nester = write_hostile(node.pipelines, "nester", at_analyze=nests)
    node.run(nester)
    node.run(nester)
    assert node.is_unharmed()


def test_findings_nested_without_end_are_discarded_with_their_case(node: Node) -> None:
    nests = """
    os.mkdir("findings")
    os.chdir("findings")
    for _ in range(1500):
        os.mkdir("d")
        os.chdir("d")
    raise ValueError
    """
    nester = write_hostile(node.pipelines, "deep_nester", at_analyze=nests)
    staging, job = Staging(node.data), replace(JOB, id=next(numbers))
    exchange, _ = staging.folders(job)
    with pytest.raises(PipelineFailed, match="deep-nester failed while analyzing: ValueError"):
        node.engine.run(task(nester, exchange, job.id), timeout_s=200.0, on_progress=lambda *_: None)
    assert (exchange / "findings" / "d").exists()
    staging.discard(job)
    assert not exchange.exists()
    assert node.is_unharmed()


def test_an_answer_ahead_of_time_is_not_taken_for_that_of_another_job(node: Node) -> None:
    twice = write_hostile(node.pipelines, "twice", at_analyze="say(result={}); say(result={}); time.sleep(2)")
    with pytest.raises(FindingsInvalid, match="there is no folder findings"):
        node.run(twice)
    assert node.is_unharmed()


class Payload:
    """Runs a program when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch pwned",))


LOADER = """
import torch
from pathlib import Path
class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.load(Path(__file__).parents[1] / "models" / "payload.pt", weights_only=False)
"""

#: What the configuration of a hostile bundle holds, and what is said of it.
BUNDLES: dict[str, tuple[dict[str, Any], str]] = {
    "an_expression": (
        {"network_def": "$__import__('socket').create_connection(('127.0.0.1', 9))"},
        "may not use the network",
    ),
    "a_script": ({"network_def": {"_target_": "scripts.attack.Network"}}, "may not start processes"),
    "an_open_loader": ({"network_def": {"_target_": "scripts.loader.Network"}}, "[Ww]eights.only"),
}


@pytest.mark.parametrize("name", rows(BUNDLES))
def test_a_hostile_bundle_is_contained_and_told(name: str, node: Node) -> None:
    changes, said = BUNDLES[name]
    card = write_bundle(node.pipelines / name, threshold_config() | changes)
    folder = card.folder
    (folder / "models").mkdir()
    torch.save(Payload(), folder / "models" / "payload.pt")
    (folder / "scripts").mkdir()
    (folder / "scripts" / "__init__.py").touch()
    (folder / "scripts" / "attack.py").write_text("import os\nos.system('touch pwned')\n")
    (folder / "scripts" / "loader.py").write_text(LOADER)
    with pytest.raises(PipelineFailed, match=rf"(?s)tiny failed while loading: .*({said})"):
        node.run(read_card(folder / "card.toml"))
    assert node.is_unharmed()


def test_weights_that_are_a_program_are_refused(node: Node) -> None:
    folder = node.pipelines / "pickled"
    (folder / "models").mkdir(parents=True)
    torch.save(Payload(), folder / "models" / "model.pt")
    sha256 = hashlib.sha256((folder / "models" / "model.pt").read_bytes()).hexdigest()
    weights = f'weights = "models/model.pt"\nweights_sha256 = "{sha256}"\noutput = "labels"'
    network = {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 1}
    card = write_bundle(folder, threshold_config() | {"network_def": network}, bundle=weights)
    with pytest.raises(PipelineFailed, match=r"model\.pt cannot be loaded: it holds more than tensors"):
        node.run(card)
    assert node.is_unharmed()


def test_code_from_outside_is_not_run_where_it_is_not_shut_in(node: Node, tmp_path, monkeypatch) -> None:
    """A worker with a second thread, as some numerical library might bring one along."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, threading\n"
        "if any('node.compute.worker' in word for word in sys.orig_argv):\n"
        "    threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    genuine = supervisor._environment
    path = f"{REPOSITORY}:{tmp_path}"
    monkeypatch.setattr(supervisor, "_environment", lambda *said: {**genuine(*said), "PYTHONPATH": path})
    for isolation in ("required", "best"):
        config = ComputeTable(devices=("cpu",), isolation=isolation)
        engine = LocalEngine(config, scratch=tmp_path / "scratch", readable=[node.pipelines])
        try:
            lax = task(node.good, tmp_path / isolation, next(numbers))
            if isolation == "best":
                engine.run(lax, timeout_s=200, on_progress=lambda *_: None)
                continue
            with pytest.raises(PipelineFailed, match=r"not run in a worker that is not shut in.*2 threads"):
                engine.run(lax, timeout_s=200, on_progress=lambda *_: None)
        finally:
            engine.close()
