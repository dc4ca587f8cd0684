"""The HTTP door of a real node: what it says is stored is there after every death, and is analysed."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pydicom
import pytest

from node.accept import decodable_syntaxes
from node.journal import Journal
from tests import orthanc, toy_node
from tests.harness import NodeProcess, being_received, wait_until
from tests.paths import SHARED, needs_shared
from tests.peers import RecordingPacs
from tests.toy_node import RESULTS_PER_JOB, small_ct, uid_of_file
from tests.web_house import RELATED, make_file, multipart, uid_of

needs_orthanc = pytest.mark.skipif(
    orthanc.missing() is not None, reason=f"Debian package {orthanc.missing()} is not installed"
)


def ask(node: NodeProcess, method: str, path: str, body: bytes | None = None, **headers: str):
    """Return status and content of an answer of a node."""
    line = http.client.HTTPConnection("127.0.0.1", node.web, timeout=60)
    try:
        line.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = line.getresponse()
        return answer.status, answer.read()
    finally:
        line.close()


def bring(node: NodeProcess, files: Iterable[bytes]) -> tuple[int, set[str]]:
    """Store over STOW-RS; return the status and what is told as stored."""
    body = multipart(*files)
    status, said = ask(node, "POST", "/dicom-web/studies", body, Content_Type=RELATED)
    stored = json.loads(said).get("00081199", {}).get("Value", [])
    return status, {item["00081155"]["Value"][0] for item in stored}


def held(node: NodeProcess) -> set[str]:
    """Return what the journal of a node holds and its disk confirms."""
    journal = Journal.open(node.folder / "data", create=False)
    try:
        return {
            str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)
            for path in journal.known_paths()
        }
    finally:
        journal.close()


def test_what_is_brought_is_analysed_and_killed_at_once_it_is_still_there(tmp_path: Path) -> None:
    files = small_ct(tmp_path / "ct")
    with RecordingPacs() as archive:
        node = toy_node.make_node(tmp_path / "node", archive.port)
        node.start()
        try:
            assert ask(node, "GET", "/healthz")[0] == 200
            status, stored = bring(node, [file.read_bytes() for file in files])
            node.kill()  # the answer was read a moment ago
            assert status == 200 and stored == {uid_of_file(file) for file in files}
            assert held(node) == stored
            node.start(env={"RADNODE_SHOW__ENABLED": "false"})
            assert node.port and not node.web, "the door can be kept shut"
            now = node.wait_idle()
            assert now["jobs"]["done"] == 1
            assert len(archive.received) == RESULTS_PER_JOB
        finally:
            node.kill()
    assert "Canary" not in node.log.read_text()


@pytest.mark.faults
@pytest.mark.parametrize(
    "place",
    [
        pytest.param("accept.synced", marks=pytest.mark.slow),
        "accept.renamed",
        pytest.param("accept.recorded", marks=pytest.mark.slow),
    ],
)
def test_killed_in_the_middle_nothing_is_told_that_is_not_there(tmp_path: Path, place: str) -> None:
    """The node dies at the third object; who brought them heard nothing, and brings them again."""
    files = [make_file() for _ in range(5)]
    node = NodeProcess(
        tmp_path / "node", '[node]\ndata = "data"\n[accept]\nreserve_gb = 0\n[accept.dimse]\nport = 0\n'
    )
    node.start(env={"RADNODE_FAILPOINTS": f"{place}=kill@3"})
    with pytest.raises((OSError, http.client.HTTPException)):
        bring(node, files)
    node.wait_dead()
    assert held(node) <= {uid_of(file) for file in files}  # several are taken at once: some, or none
    node.start()
    try:
        assert bring(node, files) == (200, held(node))
        assert len(held(node)) == 5
    finally:
        node.kill()


def test_sigterm_lets_what_is_being_brought_come_to_its_end(tmp_path: Path) -> None:
    config = '[node]\ndata = "data"\ndrain_s = 20\n[accept]\nreserve_gb = 0\n[accept.dimse]\nport = 0\n'
    node = NodeProcess(tmp_path / "node", config)
    node.start()
    try:
        body = multipart(make_file(rows=64), make_file(rows=64))
        with socket.create_connection(("127.0.0.1", node.web), timeout=20) as line:
            head = f"POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: {RELATED}\r\n"
            line.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:-100])
            wait_until(lambda: being_received(node.folder / "data"), "it is being received")
            ending = threading.Thread(target=node.stop)
            ending.start()
            wait_until(lambda: '"draining"' in node.log.read_text(), "the node drains")
            time.sleep(0.3)
            with pytest.raises(OSError):
                ask(node, "GET", "/healthz")
            line.sendall(body[-100:])
            assert line.recv(4096).startswith(b"HTTP/1.1 200 ")
        ending.join()
    finally:
        node.kill()
    assert len(held(node)) == 2
    assert '"stopped"' in node.log.read_text()


def is_taken(file: Path) -> bool:
    """Say whether a file is in a transfer syntax that the node decodes, as it says at the DIMSE door."""
    try:
        return str(pydicom.filereader.read_file_meta_info(file).TransferSyntaxUID) in decodable_syntaxes()
    except (pydicom.errors.InvalidDicomError, AttributeError):
        return False


@needs_orthanc
@needs_shared
def test_orthanc_brings_whole_studies_over_dicomweb(tmp_path: Path) -> None:
    """Real objects in every transfer syntax that we take, sent by the STOW-RS client of Orthanc."""
    files = [file for file in sorted((SHARED / "ct_transfer_syntaxes").iterdir()) if is_taken(file)]
    assert len(files) > 10
    node = NodeProcess(
        tmp_path / "node", '[node]\ndata = "data"\n[accept]\nreserve_gb = 0\n[accept.dimse]\nport = 0\n'
    )
    node.start()
    folder = tmp_path / "orthanc"
    folder.mkdir()
    try:
        with orthanc.Orthanc(folder) as archive:
            sent = set()
            for file in files:
                with suppress(AssertionError):  # what it does not take itself
                    archive.store(file)
                    sent.add(uid_of_file(file))
            url = {"Url": f"http://127.0.0.1:{node.web}/dicom-web/"}
            assert archive.ask("PUT", "/dicom-web/servers/radnode", json.dumps(url).encode())[0] == 200
            resources = json.loads(archive.ask("GET", "/instances")[1])
            order = json.dumps({"Resources": resources, "Synchronous": True}).encode()
            status, said = archive.ask("POST", "/dicom-web/servers/radnode/stow", order)
            assert status == 200, said
        assert sent and held(node) == sent
    finally:
        node.kill()
