"""Orthanc as judge: what it says of what it has, by storage commitment, C-FIND and QIDO-RS."""

from __future__ import annotations

import json
import threading

import pytest

from node import prove
from node.accept import DimseDoor, Store
from node.config import AcceptTable
from node.job import JobState
from tests import orthanc as debian
from tests.archives import make_known
from tests.harness import wait_until
from tests.journal_makers import after
from tests.proof_bench import Bench

pytestmark = pytest.mark.skipif(
    debian.missing() is not None, reason=f"{debian.missing()} is missing; install that Debian package"
)


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory):
    with debian.Orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


@pytest.fixture(autouse=True)
def empty(orthanc):
    """Let each test begin with an archive that has nothing."""
    for patient in json.loads(orthanc.ask("GET", "/patients")[1]):
        orthanc.ask("DELETE", f"/patients/{patient}")


def by_dimse(orthanc, proof):
    place = {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": orthanc.dicom_port}
    return {"transport": "dimse", "timeout_s": 5.0, "proof_s": 20.0, "proof": proof, **place}


def by_web(orthanc, proof):
    url = f"http://127.0.0.1:{orthanc.port}/dicom-web"
    return {"transport": "stow", "url": url, "timeout_s": 5.0, "proof_s": 20.0, "proof": proof}


@pytest.fixture
def door(tmp_path):
    """An open DIMSE door; what it hears goes to the node that is put into the list."""
    nodes = []
    opened = DimseDoor(
        AcceptTable.model_validate({"dimse": {"port": 0}}),
        "RADNODE",
        Store(tmp_path / "door", AcceptTable()),
        lambda _spool, _request: None,
        on_commitment=lambda report, caller: prove.hear(report, nodes[0], caller),
    )
    port = opened.start()
    yield port, nodes
    opened.drain(1.0, threading.Event())
    opened.stop()


def forget(orthanc, uid):
    """Have Orthanc lose an instance."""
    _, answer = orthanc.ask("POST", "/tools/lookup", uid.encode())
    (found,) = [one["ID"] for one in json.loads(answer) if one["Type"] == "Instance"]
    assert orthanc.ask("DELETE", f"/instances/{found}")[0] == 200


def test_orthanc_commits_itself_over_an_association_of_its_own_and_tells_what_it_lost(
    tmp_path, orthanc, door
):
    port, nodes = door
    make_known(orthanc, port=port)
    bench = Bench(tmp_path, {"archive": by_dimse(orthanc, "commitment")})
    nodes.append(bench.node)
    job = bench.job()
    bench.deliver()
    forget(orthanc, f"2.25.{job.id}.2")
    bench.after(2)
    wait_until(lambda: bench.standing()["unproved"] == 0, "Orthanc reports", within_s=20)
    assert bench.state(job) is JobState.SENDING
    assert bench.proofs(job)["1"].startswith("archive committed itself to keep it")
    assert "it has no such object (failure reason 0112" in bench.proofs(job)["2"]
    bench.after(6)
    bench.after(2)
    wait_until(lambda: bench.state(job) is JobState.DONE, "Orthanc reports again", within_s=20)
    assert len(bench.journal.receipts(job.id)) == 2


@pytest.mark.parametrize("transport", [by_dimse, by_web])
def test_orthanc_lists_what_it_has_and_what_it_lost_is_sent_again(tmp_path, orthanc, transport):
    bench = Bench(tmp_path, {"archive": transport(orthanc, "query")})
    job = bench.job()
    bench.deliver()
    forget(orthanc, f"2.25.{job.id}.2")
    bench.after(2)
    by = "C-FIND" if transport is by_dimse else "QIDO-RS"
    assert bench.proofs(job) == {
        "1": f"Seen at archive by {by}.",
        "2": f"archive does not list it yet, asked by {by}.",
    }
    while bench.now < after(40):
        bench.after(5)
    assert bench.state(job) is JobState.DONE
    assert bench.reason(job) == "All results were taken by 1 destination and are known to be there."
    events = [event.code for event in bench.journal.events(job.id)]
    assert events.count("not-there") == 1
