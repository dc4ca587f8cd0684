"""C-GET and WADO-RS into the spool, C-MOVE to a door: against Orthanc, DCMTK, and archives that misbehave."""

from __future__ import annotations

import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import JPEGLosslessSV1
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

from node.accept import Store, accept, retrieve
from node.accept.retrieve import MOST_CONTEXTS, Asked, get, move, storage_contexts
from node.accept.retrieve_web import wado
from node.config import AcceptTable, DimseSource
from node.errors import NodeError, OutOfSpace, PeerBusy, PeerRefused, PeerUnreachable
from node.peer.query import archive_of
from node.peer.tls import client_context
from node.peer.web import Web
from tests import archives, phantoms, toy_case
from tests.harness import being_received, free_port, listens, wait_until
from tests.orthanc import Orthanc, missing
from tests.peers import RecordingPacs

needs_orthanc = pytest.mark.skipif(missing() is not None, reason=f"apt-get install {missing()}")
needs_dcmqrscp = pytest.mark.skipif(shutil.which("dcmqrscp") is None, reason="apt-get install dcmtk")
CT = "1.2.840.10008.5.1.4.1.1.2"
BOUNDARY = "a-boundary"
KIND = {"Content-Type": f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'}


class Taken:
    """A store that takes custody of what comes, and remembers what it took."""

    def __init__(self, folder: Path, **limits) -> None:
        self.store = Store(folder, AcceptTable(reserve_gb=0, **limits))
        self.instances = []
        self.error: Exception | None = None

    def receive(self, spool, request):
        if self.error:
            raise self.error
        self.instances.append(accept(spool, request, self.store, now=datetime.now(UTC)))
        return self.instances[-1]

    @property
    def uids(self) -> set[str]:
        return {one.sop_instance_uid for one in self.instances}

    def left(self) -> list[Path]:
        return being_received(self.store.instances.parent)


@pytest.fixture
def taken(tmp_path: Path) -> Taken:
    return Taken(tmp_path / "data")


def asked_for(files, *, without: int = 0, **more) -> Asked:
    found = phantoms.instances_of(files)
    classes = {one.sop_instance_uid: one.sop_class_uid for one in found}
    return Asked(
        study_uid=found[0].study_uid,
        series_uid=found[0].series_uid,
        classes=dict(list(classes.items())[without:]),
        **more,
    )


def source(port: int, **more) -> DimseSource:
    place = {"transport": "dimse", "host": "127.0.0.1", "port": port, "ae_title": "ARCHIVE", "timeout_s": 3.0}
    return DimseSource.model_validate({**place, **more})


def got(entry: DimseSource, asked: Asked, taken: Taken):
    return get(entry, asked, ae_title="RADNODE", tls=None, store=taken.store, receive=taken.receive)


def fetched(port: int, asked: Asked, taken: Taken, max_object_bytes: int = 1 << 30):
    web = Web(f"http://127.0.0.1:{port}/dicom-web", timeout_s=3.0)
    return wado(
        web,
        asked,
        sender="cloud",
        store=taken.store,
        receive=taken.receive,
        max_object_bytes=max_object_bytes,
    )


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory):
    with Orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        archives.make_known(running)
        yield running


@needs_orthanc
def test_a_series_comes_by_c_get_byte_for_byte(orthanc, taken: Taken, tmp_path: Path) -> None:
    files = toy_case.write_ct(tmp_path / "a", "20240105")
    orthanc.store(*files)
    came = got(source(orthanc.dicom_port, ae_title="ORTHANC"), asked_for(files, prior=True), taken)
    assert came.stored == taken.uids == set(asked_for(files).classes) and came.note == ""
    for one in taken.instances:
        sent = next(f for f in files if pydicom.dcmread(f).SOPInstanceUID == one.sop_instance_uid)
        assert pydicom.dcmread(one.path) == pydicom.dcmread(sent)
        assert one.prior and one.sender == "ORTHANC"
    assert taken.left() == []


@needs_orthanc
def test_a_series_comes_by_wado_as_it_is_kept(orthanc, taken: Taken, tmp_path: Path) -> None:
    compressed = pydicom.data.get_testdata_file("SC_rgb_jpeg_gdcm.dcm")
    files = [Path(shutil.copy(compressed, tmp_path / "one.dcm"))]
    orthanc.store(*files)
    came = fetched(orthanc.port, asked_for(files), taken)
    assert came.stored == set(asked_for(files).classes)
    (one,) = taken.instances
    assert one.transfer_syntax_uid == pydicom.dcmread(files[0]).file_meta.TransferSyntaxUID
    assert pydicom.dcmread(one.path).PixelData == pydicom.dcmread(files[0]).PixelData
    assert one.sender == "cloud"


@needs_orthanc
def test_a_compressed_series_comes_by_c_get_as_it_is_kept(orthanc, taken: Taken, tmp_path: Path) -> None:
    files = [Path(shutil.copy(pydicom.data.get_testdata_file("SC_rgb_jpeg_gdcm.dcm"), tmp_path / "one.dcm"))]
    orthanc.store(*files)
    assert got(source(orthanc.dicom_port, ae_title="ORTHANC"), asked_for(files), taken).note == ""
    (one,) = taken.instances
    assert one.transfer_syntax_uid == JPEGLosslessSV1 or one.transfer_syntax_uid == (
        pydicom.dcmread(files[0]).file_meta.TransferSyntaxUID
    )


@needs_orthanc
def test_c_move_brings_a_series_to_the_door(orthanc, tmp_path: Path) -> None:
    files = toy_case.write_ct(tmp_path / "a", "20220105")
    orthanc.store(*files)
    with RecordingPacs(sop_classes=[CT]) as door:
        archives.make_known(orthanc, port=door.port)
        entry = source(orthanc.dicom_port, ae_title="ORTHANC")
        note = move(
            entry,
            asked_for(files),
            ae_title="RADNODE",
            door="here",
            tls=None,
            arrived=lambda: len(door.received),
        )
        assert note == "" and set(door.uids) == set(asked_for(files).classes)


@needs_orthanc
def test_an_archive_that_does_not_know_us_is_told_with_the_remedy(orthanc, tmp_path: Path) -> None:
    files = toy_case.write_ct(tmp_path / "a", "20220105")
    archives.make_known(orthanc, "STRANGER")
    entry = source(orthanc.dicom_port, ae_title="ORTHANC")
    with pytest.raises(NodeError) as raised:
        move(entry, asked_for(files), ae_title="NOBODY", door="here:11112", tls=None, arrived=lambda: 0)
    assert raised.value.then in ("retry", "fail")


@pytest.fixture
def dcmqrscp(tmp_path: Path):
    """Run DCMTK's archive with a series in it; it knows nowhere to send to."""
    port = free_port()
    files = toy_case.write_ct(tmp_path / "in", "20240105")
    (tmp_path / "db").mkdir()
    config = tmp_path / "dcmqrscp.cfg"
    config.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nARCHIVE {tmp_path / 'db'} RW (9, 1024mb) ANY\nAETable END\n"
    )
    process = subprocess.Popen(["dcmqrscp", "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: listens(port), "dcmqrscp listens", 10)
        subprocess.run(["storescu", "-aec", "ARCHIVE", "127.0.0.1", str(port), *map(str, files)], check=True)
        yield port, files
    finally:
        process.terminate()
        process.wait()


@needs_dcmqrscp
def test_dcmtks_archive_gives_by_c_get_and_does_not_know_where_to_move(dcmqrscp, taken: Taken) -> None:
    port, files = dcmqrscp
    assert got(source(port), asked_for(files), taken).stored == set(asked_for(files).classes)
    with pytest.raises(PeerRefused, match="let it know AE RADNODE at here:11112"):
        move(
            source(port), asked_for(files), ae_title="RADNODE", door="here:11112", tls=None, arrived=lambda: 0
        )


@needs_orthanc
def test_an_archive_is_asked_and_gives_over_tls_and_a_stranger_is_not_believed(
    taken: Taken, tmp_path: Path, certificates
) -> None:
    mine, theirs = certificates.client, certificates.server
    speaking = {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(theirs.certificate),
        "DicomTlsPrivateKey": str(theirs.key),
        "DicomTlsTrustedCertificates": str(certificates.authority),
    }
    tls = {"certificate": mine.certificate, "key": mine.key, "authorities": certificates.authority}
    files = toy_case.write_ct(tmp_path / "in", "20240105")
    with archives.SetOrthanc(tmp_path, speaking) as orthanc:
        archives.make_known(orthanc)
        orthanc.store(*files)
        place = archives.dimse_source(orthanc, tls=True)
        config = archives.config_with(place, tls=tls)
        entry, asked = config.sources["archive"], asked_for(files)
        assert archive_of(entry, config).count(asked.study_uid, asked.series_uid) == len(files)
        context = client_context(config.tls)
        came = get(entry, asked, ae_title="RADNODE", tls=context, store=taken.store, receive=taken.receive)
        assert came.stored == set(asked.classes)
        suspicious = archives.config_with(place, tls={**tls, "authorities": certificates.strangers})
        with pytest.raises(PeerUnreachable, match="TLS"):
            archive_of(entry, suspicious).series(asked.study_uid)


@needs_dcmqrscp
def test_what_was_not_asked_for_is_refused_and_the_rest_is_kept(dcmqrscp, taken: Taken) -> None:
    port, files = dcmqrscp
    came = got(source(port), asked_for(files, without=1), taken)
    assert len(came.stored) == 1 and came.refused == 1 and "not asked for" in came.note
    assert taken.uids == came.stored and taken.left() == []


@needs_dcmqrscp
def test_success_is_not_said_before_custody(dcmqrscp, taken: Taken) -> None:
    port, files = dcmqrscp
    taken.error = OutOfSpace("The disk is full.")
    with pytest.raises(PeerBusy, match="2 were not taken: The disk is full"):
        got(source(port), asked_for(files), taken)
    assert taken.left() == []


def test_a_retrieval_asks_for_at_most_128_contexts() -> None:
    syntaxes = [f"1.2.{number}" for number in range(16)]
    few = storage_contexts([f"1.9.{number}" for number in range(5)], syntaxes)
    assert len(few) == 80 and all(len(context.transfer_syntax) == 1 for context in few)
    many = storage_contexts([f"1.9.{number}" for number in range(300)], syntaxes)
    assert len(many) == MOST_CONTEXTS - 1 and all(len(context.transfer_syntax) == 16 for context in many)


@pytest.fixture
def scripted():
    """Run a retrieve SCP that answers as told; return its port."""
    servers = []

    def start(event, handler, model) -> int:
        ae = AE(ae_title="ARCHIVE")
        ae.supported_contexts = [build_context(model)]
        ae.add_supported_context(CT, scu_role=True, scp_role=True)
        servers.append(ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(event, handler)]))
        return servers[-1].server_address[1]

    yield start
    for server in servers:
        server.shutdown()


def asked(classes=None) -> Asked:
    return Asked(study_uid="1.2", series_uid="1.2.3", classes=classes or {"1.2.3.1": CT})


@pytest.fixture
def moving(scripted):
    """Run a C-MOVE SCP that sends nothing and gives these answers; return its port."""
    with RecordingPacs(sop_classes=[CT]) as door:

        def start(*answers, wait_s: float = 0.0) -> int:
            def handler(_event):
                yield "127.0.0.1", door.port, {"contexts": [build_context(CT)]}
                yield 1
                time.sleep(wait_s)
                yield from answers

            return scripted(evt.EVT_C_MOVE, handler, retrieve.STUDY_ROOT_MOVE)

        yield start


def moved(port: int, arrived=lambda: 0, **more) -> str:
    entry = source(port, **more)
    return move(entry, asked(), ae_title="RADNODE", door="here", tls=None, arrived=arrived)


@pytest.mark.parametrize(
    ("code", "error"), [(0xA701, PeerBusy), (0xA702, PeerBusy), (0xA900, PeerRefused), (0xC123, PeerBusy)]
)
def test_each_failure_of_a_move_is_told_as_what_it_is(moving, code: int, error) -> None:
    with pytest.raises(error, match=f"{code:04X}"):
        moved(moving((code, None)))


def test_a_silent_archive_is_waited_for_no_longer_than_something_arrives(moving) -> None:
    port = moving((0xA702, None), wait_s=4)
    begun = time.monotonic()
    with pytest.raises(PeerUnreachable, match="nothing happened"):
        moved(port, timeout_s=0.2)
    assert time.monotonic() - begun < 3


def test_an_archive_that_says_nothing_while_instances_arrive_is_waited_for(moving) -> None:
    begun = time.monotonic()
    with pytest.raises(PeerBusy, match="A702"):
        moved(moving((0xA702, None), wait_s=2.5), timeout_s=0.2, arrived=lambda: int(time.monotonic() * 10))
    assert time.monotonic() - begun > 2.4


def test_what_arrives_is_looked_at_while_an_archive_says_nothing(moving) -> None:
    looks = []
    moved(moving((0x0000, None), wait_s=3.5), timeout_s=5, arrived=lambda: looks.append(1) or 0)
    assert 2 <= len(looks) <= 10


def test_an_archive_that_knows_no_retrieval_says_so(scripted) -> None:
    port = scripted(evt.EVT_C_MOVE, lambda _event: iter(()), "1.2.840.10008.1.1")
    with pytest.raises(PeerRefused):
        move(source(port), asked(), ae_title="RADNODE", door="here", tls=None, arrived=lambda: 0)


def multipart(files, *, end: str = "--", extra: str = "") -> bytes:
    parts = b"".join(
        f"--{BOUNDARY}\r\nContent-Type: application/dicom{extra}\r\n\r\n".encode()
        + file.read_bytes()
        + b"\r\n"
        for file in files
    )
    return parts + f"--{BOUNDARY}{end}\r\n".encode()


def test_parts_are_taken_as_they_come(taken: Taken, tmp_path: Path) -> None:
    files = toy_case.write_ct(tmp_path / "a", "20240105")
    with archives.scripted_web(lambda _: (206, KIND, multipart(files[:1]))) as (port, told):
        came = fetched(port, asked_for(files), taken)
    assert len(came.stored) == 1 and taken.uids == came.stored  # status 206: what is lacking is not here
    assert told[0].headers["Accept"] == 'multipart/related; type="application/dicom"; transfer-syntax=*'
    assert (
        told[0].path
        == f"/dicom-web/studies/{asked_for(files).study_uid}/series/{asked_for(files).series_uid}"
    )


def test_a_truncated_answer_keeps_what_was_whole_and_nothing_else(taken: Taken, tmp_path: Path) -> None:
    files = toy_case.write_ct(tmp_path / "a", "20240105")
    body = multipart(files)
    cut = body[: len(body) - files[1].stat().st_size // 2]
    with archives.scripted_web(lambda _: (200, KIND, cut)) as (port, _), pytest.raises(PeerUnreachable):
        fetched(port, asked_for(files), taken)
    assert len(taken.instances) == 1 and taken.left() == []


def test_objects_of_another_series_or_study_are_refused(taken: Taken, tmp_path: Path) -> None:
    files = toy_case.write_ct(tmp_path / "a", "20240105")
    others = toy_case.write_ct(tmp_path / "b", "20210105")
    with archives.scripted_web(lambda _: (200, KIND, multipart([*others, *files]))) as (port, _):
        came = fetched(port, asked_for(files), taken)
        assert taken.uids == set(asked_for(files).classes) and came.refused == 2
        unlisted = Asked(study_uid="1.2.3", series_uid="1.2.3.4", classes=None)
        assert fetched(port, unlisted, taken).refused == 4
    assert len(taken.instances) == 2 and taken.left() == []


def test_an_object_that_lies_about_itself_is_refused(taken: Taken, tmp_path: Path) -> None:
    files = toy_case.write_ct(tmp_path / "a", "20240105")
    others = toy_case.write_ct(tmp_path / "b", "20210105")
    lie = pydicom.dcmread(others[0])
    lie.file_meta.MediaStorageSOPInstanceUID = next(iter(asked_for(files).classes))
    lie.save_as(tmp_path / "lie.dcm")
    with archives.scripted_web(lambda _: (200, KIND, multipart([tmp_path / "lie.dcm"]))) as (port, _):
        came = fetched(port, asked_for(files), taken)
    assert came.stored == set() and came.refused == 1 and taken.left() == []


def test_ten_thousand_parts_that_nobody_asked_for_are_not_heard_out(taken: Taken, tmp_path: Path) -> None:
    others = toy_case.write_ct(tmp_path / "b", "20210105")
    body = multipart([others[0]] * 2000)
    files = toy_case.write_ct(tmp_path / "a", "20240105")
    with (
        archives.scripted_web(lambda _: (200, KIND, body)) as (port, _),
        pytest.raises(PeerRefused, match="not asked for"),
    ):
        fetched(port, asked_for(files), taken)


def test_an_answer_without_end_is_bounded(taken: Taken, tmp_path: Path) -> None:
    files = toy_case.write_ct(tmp_path / "a", "20240105")
    with (
        archives.scripted_web(lambda _: (200, KIND, multipart(files * 20))) as (port, _),
        pytest.raises(PeerRefused, match="more than"),
    ):
        fetched(port, asked_for(files), taken, max_object_bytes=1000)


def test_a_part_that_is_no_dicom_is_refused_and_the_next_one_kept(taken: Taken, tmp_path: Path) -> None:
    files = toy_case.write_ct(tmp_path / "a", "20240105")
    (tmp_path / "text").write_bytes(b"<html>no such thing</html>" * 100)
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "meta").write_bytes(files[1].read_bytes()[:150])
    body = multipart([tmp_path / "text", tmp_path / "empty", tmp_path / "meta", files[0]])
    with archives.scripted_web(lambda _: (200, KIND, body)) as (port, _):
        came = fetched(port, asked_for(files), taken)
    assert len(came.stored) == 1 and came.refused == 3 and taken.left() == []


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (200, {"Content-Type": "application/json"}, PeerRefused),
        (200, {"Content-Type": "multipart/related"}, PeerRefused),
        (200, {"Content-Type": "multipart/related; boundary=other"}, PeerRefused),
        (401, {}, PeerRefused),
        (406, {}, PeerRefused),
        (302, {"Location": "http://192.0.2.1/"}, PeerRefused),
        (410, {}, PeerBusy),
        (503, {}, PeerBusy),
    ],
)
def test_each_refusal_of_a_retrieval_is_told_as_what_it_is(
    taken: Taken, tmp_path: Path, status: int, headers, error
) -> None:
    files = toy_case.write_ct(tmp_path / "a", "20240105")
    body = multipart(files)
    with archives.scripted_web(lambda _: (status, headers, body * 9)) as (port, _), pytest.raises(error):
        fetched(port, asked_for(files), taken)
    assert taken.instances == []
