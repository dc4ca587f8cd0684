"""Killed at every step of the main path: nothing acknowledged is lost, results arrive exactly once.

Each failpoint kills the process that passes it, once: the node for most of them, the worker for
those inside the worker. The node is started again, and the sender repeats what was not
acknowledged, as a modality does.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest

from node.failpoint import NAMES
from tests import toy_node
from tests.committing import CommittingPacs
from tests.harness import NodeProcess, being_received
from tests.toy_node import RESULTS_PER_JOB, received, send, small_ct

pytestmark = [pytest.mark.faults, pytest.mark.long]

#: Passed in the worker process; their death costs one try of the job and never the node.
IN_WORKER = ("compute.loaded", "compute.analyzed", "encode.written", "compute.staged")


def stored_digests(node: NodeProcess) -> dict[str, str]:
    """Return what the journal holds and the disk confirms: SOP Instance UID -> SHA-256."""
    data = node.folder / "data"
    with sqlite3.connect(data / "journal.sqlite") as journal:
        assert journal.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = journal.execute("SELECT sop_instance_uid, sha256, path FROM instance").fetchall()
    for uid, digest, path in rows:
        file = toy_node.pydicom.dcmread(data / path)
        assert hashlib.sha256(toy_node.encoded(file)).hexdigest() == digest, uid
    return {uid: digest for uid, digest, _ in rows}


@pytest.fixture(scope="module")
def ends(request, tmp_path_factory):
    """Return failpoint -> what comes of a kill there, for those that were chosen.

    Each has a node of its own, which mostly starts up or waits: so there are as many at once as
    there are processors.
    """
    chosen = {
        item.callspec.params["name"] for item in request.session.items if item.function is test_killed_at
    }
    with ThreadPoolExecutor(min(4, len(os.sched_getaffinity(0)))) as pool:
        yield {
            name: pool.submit(kill_at, name, tmp_path_factory.mktemp("crash"))
            for name in NAMES
            if name in chosen
        }
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", NAMES)
def test_killed_at(name, ends):
    ends[name].result()


def kill_at(name, tmp_path):
    """Run a node that is killed at a failpoint, start it again, and see that nothing is lost or doubled."""
    files = small_ct(tmp_path / "ct", slices=5)
    once = tmp_path / "once"
    once.mkdir()
    faults = {"RADNODE_FAILPOINTS": f"{name}=kill", "RADNODE_FAILPOINTS_ONCE": str(once)}
    if name.startswith("prove."):
        faults |= {"RADNODE_DESTINATIONS__ARCHIVE__PROOF": "commitment"}
        faults |= {"RADNODE_DESTINATIONS__ARCHIVE__PROOF_S": "1"}
    with CommittingPacs() as archive:
        node = toy_node.make_node(tmp_path / "node", archive.port)
        node.start(env=faults)
        acknowledged = send(files, node.port)
        if name in IN_WORKER:
            assert len(acknowledged) == len(files)
            node.wait_idle()
        else:
            node.wait_dead()
            node.start(env=faults)
            held = stored_digests(node)
            assert acknowledged.items() <= held.items(), "what was acknowledged is here, byte for byte"
            missing = [f for f in files if toy_node.uid_of_file(f) not in acknowledged]
            assert len(send(missing, node.port)) == len(missing)
            node.wait_idle()
        assert (once / name).exists(), "the failpoint was passed"

        status = node.status()
        assert node.stop() == 0
        assert len(stored_digests(node)) == len(files)
        found = received(archive)
    # A series that the crash cut in two may settle twice: each revision has its own results, once,
    # or is refused when it is too short.
    jobs = status["jobs"]
    done = jobs["done"]
    assert done >= 1
    assert sum(jobs.values()) == done + jobs["refused"] + jobs["cancelled"]
    assert len(found) == done * RESULTS_PER_JOB
    for uid, encodings in found.items():
        assert len(set(encodings)) == 1, f"{uid} was sent with two contents"
    data = node.folder / "data"
    assert not being_received(data)
    assert not list((data / "staging").iterdir())
