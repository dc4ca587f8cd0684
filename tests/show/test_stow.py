"""What is brought over STOW-RS is stored and told, or refused with its reason (PS3.18 10.5)."""

from __future__ import annotations

import http.client
import io
import socket
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pydicom
import pytest

from node.multipart import Reader
from node.show.media import parse
from tests.harness import eventually, forget_peak, memory_mb
from tests.web_house import BOUNDARY, RELATED, House, make_file, multipart, uid_of

REFERENCED, FAILED, OTHERS = "00081199", "00081198", "0008119A"
SERIES = "1.2.3.2"


def reasons(answer) -> list[int]:
    return [item["00081197"]["Value"][0] for tag in (FAILED, OTHERS) for item in answer.values(tag)]


def told(answer, tag: str = REFERENCED) -> set[str]:
    return {item["00081155"]["Value"][0] for item in answer.values(tag)}


def test_all_that_was_stored_is_told_with_where_it_is_to_be_had(house: House) -> None:
    files = [make_file() for _ in range(3)]
    answer = house.bring(*files)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    assert told(answer) == {uid_of(f) for f in files} == house.held(SERIES)
    where = answer.values(REFERENCED)[0]["00081190"]["Value"][0]
    base = f"http://127.0.0.1:{house.port}/dicom-web/studies/1.2.3.1"
    assert where == f"{base}/series/1.2.3.2/instances/{uid_of(files[0])}"
    assert answer.values("00081190") == [base]


def test_what_was_stored_is_to_be_had_where_the_answer_says(house: House) -> None:
    file = make_file()
    where = house.bring(file).values(REFERENCED)[0]["00081190"]["Value"][0]
    answer = house.ask("GET", urlsplit(where).path, Accept='multipart/related; type="application/dicom"')
    assert answer.status == 200
    boundary = parse(answer.headers["content-type"]).parameters["boundary"]
    given = b"".join(event for event in Reader(boundary).feed(answer.body) if isinstance(event, bytes))
    assert pydicom.dcmread(io.BytesIO(given)) == pydicom.dcmread(io.BytesIO(file))


def test_what_is_stored_is_the_data_set_as_it_was_sent(house: House) -> None:
    file = make_file()
    assert house.bring(file).status == 200
    kept = house.journal.series(SERIES).instances[0]
    assert kept.path.read_bytes()[:128] == bytes(128)
    assert pydicom.dcmread(kept.path) == pydicom.dcmread(io.BytesIO(file))
    assert kept.sender == "stow"


def test_the_answer_can_be_had_as_xml(house: House) -> None:
    file = make_file()
    answer = house.bring(file, Accept="application/dicom+xml")
    assert answer.headers["content-type"].startswith("application/dicom+xml")
    root = ElementTree.fromstring(answer.body)  # noqa: S314  our own
    found = root.findall("DicomAttribute[@keyword='ReferencedSOPSequence']/Item/DicomAttribute")
    assert {one.get("keyword"): one.findtext("Value") for one in found}["ReferencedSOPInstanceUID"] == uid_of(
        file
    )


def test_one_bad_object_among_good_ones_is_told_apart(house: House) -> None:
    good, bad = make_file(), make_file(StudyInstanceUID=None)
    answer = house.bring(good, bad)
    assert answer.status == 202
    assert told(answer) == {uid_of(good)} and told(answer, FAILED) == {uid_of(bad)}
    assert reasons(answer) == [0xA900]
    assert 'radnode "The data set has no Study Instance UID."' in answer.headers["warning"]


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (b"this is no DICOM file, whatever it says" * 10, 0xC000),
        (b"", 0xC000),
        (make_file()[:-100], 0xC000),
        (make_file()[:200], 0xC000),
        (make_file(SeriesInstanceUID=None), 0xA900),
        (make_file(MediaStorageSOPInstanceUID="1.2.3.9"), 0xA900),
        (make_file(MediaStorageSOPClassUID="1.2.840.10008.1.3.10"), 0xC000),
        (make_file(MediaStorageSOPClassUID="1.2.3.4.5"), 0x0122),
        (make_file(TransferSyntaxUID="1.2.840.10008.1.2.4.100"), 0xC122),
        (make_file(TransferSyntaxUID="1.2.840.10008.1.2.1.99"), 0xC000),
    ],
    ids="text nothing cut-off only-meta no-series other-uid dicomdir class syntax no-deflate".split(),
)
def test_what_cannot_be_taken_is_refused_with_a_reason(house: House, file: bytes, reason: int) -> None:
    answer = house.bring(file)
    assert answer.status == 409
    assert reasons(answer) == [reason]
    assert "radnode" in answer.headers["warning"]
    assert "CANARY" not in answer.body.decode().upper()
    assert not house.spooled() and not house.held(SERIES)


def test_an_object_of_another_study_than_the_one_asked_for_is_refused(house: House) -> None:
    here, there = make_file(), make_file(StudyInstanceUID="1.2.3.99", SeriesInstanceUID="1.2.3.98")
    answer = house.bring(here, there, study="1.2.3.1")
    assert answer.status == 202
    assert told(answer) == {uid_of(here)} and told(answer, FAILED) == {uid_of(there)}
    assert reasons(answer) == [0xA900]
    assert house.bring(there, study="1.2.3.1").status == 409
    assert not house.held("1.2.3.98")


def test_the_same_object_twice_is_stored_once_and_told_twice(house: House) -> None:
    file = make_file()
    assert house.bring(file, file).status == 200
    assert house.bring(file).status == 200
    assert len(house.held(SERIES)) == 1


def test_other_content_under_a_known_uid_is_refused_and_what_is_held_stays(house: House) -> None:
    file = make_file(SOPInstanceUID="2.25.7")
    house.bring(file)
    answer = house.bring(make_file(SOPInstanceUID="2.25.7", PatientName="Other^One"))
    assert answer.status == 409 and reasons(answer) == [0x0111]
    kept = house.journal.series(SERIES).instances[0]
    assert pydicom.dcmread(kept.path).PatientName == "Canary^Patient"


def test_a_full_disk_is_told_as_out_of_resources(open_house: Callable[..., House]) -> None:
    full = open_house(accept={"reserve_gb": 1e8})
    answer = full.bring(make_file())
    assert answer.status == 503 and reasons(answer) == [0xA700]
    assert "retry-after" in answer.headers


def test_a_single_object_needs_no_multipart(house: House) -> None:
    file = make_file()
    answer = house.ask("POST", "/dicom-web/studies", file, Content_Type="application/dicom")
    assert answer.status == 200 and told(answer) == {uid_of(file)}


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        'multipart/related; type="application/dicom+json"; boundary=x',
        'multipart/related; type="application/dicom+xml"; boundary=x',
        "multipart/form-data; boundary=x",
        "",
    ],
)
def test_what_is_no_dicom_is_an_unsupported_media_type(house: House, kind: str) -> None:
    answer = house.ask("POST", "/dicom-web/studies", multipart(make_file()), Content_Type=kind)
    assert answer.status == 415
    assert 'multipart/related; type="application/dicom"' in answer.json["detail"]


def test_a_compressed_body_is_refused_unread(house: House) -> None:
    answer = house.ask("POST", "/dicom-web/studies", b"x", Content_Type=RELATED, Content_Encoding="gzip")
    assert answer.status == 415 and answer.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("boundary", ["", "x" * 201, '"a b;c"', "ü"])
def test_a_boundary_that_is_none_is_a_bad_request(house: House, boundary: str) -> None:
    kind = f"multipart/related; type=application/dicom; boundary={boundary}"
    answer = house.ask("POST", "/dicom-web/studies", b"x", Content_Type=kind)
    assert answer.status == 400


def test_another_boundary_than_the_one_named_is_a_bad_request(house: House) -> None:
    body = multipart(make_file(rows=128), boundary="another")
    answer = house.ask("POST", "/dicom-web/studies", body, Content_Type=RELATED)
    assert answer.status == 400
    assert "boundary" in answer.json["detail"]


def test_a_body_that_ends_too_soon_is_bad_and_what_was_whole_is_stored_and_told(house: House) -> None:
    first, second = make_file(), make_file()
    body = multipart(first, second)
    for cut in (len(body) - 100, len(body) - len(f"--{BOUNDARY}--\r\n")):
        answer = house.ask("POST", "/dicom-web/studies", body[:cut], Content_Type=RELATED)
        assert answer.status == 400
        assert uid_of(first) in told(answer)
        assert "without its closing boundary" in answer.headers["warning"]
    assert uid_of(first) in house.held(SERIES)
    assert not house.spooled()


def test_a_sender_that_leaves_in_the_middle_leaves_nothing_half_behind(house: House) -> None:
    whole, rest = make_file(), make_file(rows=256)
    body = multipart(whole, rest)
    with house.connect() as line:
        head = f"POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: {RELATED}\r\n"
        line.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:-5000])
        assert eventually(lambda: house.held(SERIES) and house.spooled())
    assert eventually(lambda: not house.spooled())
    assert house.held(SERIES) == {uid_of(whole)}


def test_nobody_is_asked_for_a_body_that_would_be_refused(house: House) -> None:
    with house.connect() as line:
        line.sendall(
            b"POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
            b"Content-Length: 1000000000\r\nExpect: 100-continue\r\n\r\n"
        )
        assert line.recv(4096).startswith(b"HTTP/1.1 415 ")


def test_a_body_that_is_wanted_is_asked_for(house: House) -> None:
    body = multipart(make_file())
    with house.connect() as line:
        head = f"POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: {RELATED}\r\n"
        line.sendall(f"{head}Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n".encode())
        assert line.recv(4096).startswith(b"HTTP/1.1 100 ")
        line.sendall(body)
        assert line.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_a_body_may_come_in_chunks_of_any_size(house: House) -> None:
    files = [make_file() for _ in range(2)]
    body = multipart(*files)
    pieces = [body[at : at + 7] for at in range(0, len(body), 7)]
    answer = house.ask("POST", "/dicom-web/studies", iter(pieces), Content_Type=RELATED)
    assert answer.status == 200 and told(answer) == {uid_of(f) for f in files}


def test_a_request_that_brings_nothing_is_a_bad_request(house: House) -> None:
    assert house.bring().status == 400
    assert house.ask("POST", "/dicom-web/studies", b"", Content_Type=RELATED).status == 400


def test_a_part_of_another_kind_or_encoding_is_refused_and_the_others_are_stored(house: House) -> None:
    good = make_file()
    heads = ["Content-Type: image/jpeg\r\n", "Content-Transfer-Encoding: base64\r\n", ""]
    body = b"".join(f"--{BOUNDARY}\r\n{head}\r\n".encode() + good + b"\r\n" for head in heads)
    body += f"--{BOUNDARY}--".encode()
    answer = house.ask("POST", "/dicom-web/studies", body, Content_Type=RELATED)
    assert answer.status == 202 and reasons(answer) == [0xC000, 0xC000] and told(answer) == {uid_of(good)}


def test_ten_thousand_tiny_parts_are_each_answered(house: House) -> None:
    answer = house.bring(*[b"x"] * 10_000, make_file())
    assert answer.status == 202
    assert len(reasons(answer)) == 10_000 and len(told(answer)) == 1


def test_many_who_bring_at_once_are_all_told_the_truth(house: House) -> None:
    batches = [[make_file() for _ in range(5)] for _ in range(8)]
    answers = {}

    def go(number: int) -> None:
        answers[number] = told(house.bring(*batches[number]))

    threads = [threading.Thread(target=go, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answers[n] for n in range(8)] == [{uid_of(f) for f in batch} for batch in batches]
    assert len(house.held(SERIES)) == 40


def test_a_sender_feels_how_fast_the_disk_is(house: House) -> None:
    going = threading.Event()
    house.before_receiving = going.wait
    body = multipart(*(make_file(rows=1024) for _ in range(12)))
    with house.connect() as line:
        line.settimeout(1.0)
        head = f"POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: {RELATED}\r\n"
        line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        line.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
        with pytest.raises(TimeoutError):
            line.sendall(body)
        assert house.ask("GET", "/healthz", timeout_s=5).status == 200
        going.set()


def test_an_answer_that_nobody_can_read_is_refused_before_the_body_is_read(house: House) -> None:
    answer = house.bring(make_file(), Accept="text/html")
    assert answer.status == 406 and "application/dicom+json" in answer.json["detail"]
    assert not house.held(SERIES)


@pytest.mark.parametrize("path", ["..%2f..", "1.2'%20OR%201=1", "1" * 65, "%00", "1.2.3/../..", "{7*7}"])
def test_a_study_that_is_no_uid_is_no_resource(house: House, path: str) -> None:
    answer = house.ask("POST", f"/dicom-web/studies/{path}", multipart(make_file()), Content_Type=RELATED)
    assert answer.status == 404


def test_dicomweb_client_stores_and_hears_of_it(house: House) -> None:
    api = pytest.importorskip("dicomweb_client.api")
    files = [make_file() for _ in range(3)]
    client = api.DICOMwebClient(f"http://127.0.0.1:{house.port}/dicom-web")
    answer = client.store_instances([pydicom.dcmread(io.BytesIO(f)) for f in files])
    assert {item.ReferencedSOPInstanceUID for item in answer.ReferencedSOPSequence} == {
        uid_of(f) for f in files
    }
    assert house.held(SERIES) == {uid_of(f) for f in files}


def test_a_connection_is_kept_for_the_next_request(house: House) -> None:
    line = http.client.HTTPConnection("127.0.0.1", house.port, timeout=10)
    for _ in range(3):
        line.request("POST", "/dicom-web/studies", multipart(make_file()), {"Content-Type": RELATED})
        assert line.getresponse().read()
        first = line.sock
        assert first is not None
    line.close()


@pytest.mark.slow
def test_a_part_of_a_gigabyte_takes_no_memory(house: House) -> None:
    def pieces():
        begin = make_file()
        yield f"--{BOUNDARY}\r\n\r\n".encode() + begin[:-600]
        for _ in range(1024):
            yield bytes(1 << 20)
        yield f"\r\n--{BOUNDARY}--".encode()

    forget_peak()
    before_mb = memory_mb("VmHWM")
    answer = house.ask("POST", "/dicom-web/studies", pieces(), 300, Content_Type=RELATED)
    assert answer.status == 409  # its data set is nonsense, which is known at its end
    assert memory_mb("VmHWM") - before_mb < 50


def test_who_brings_something_is_under_the_policy_that_fits_him(open_house: Callable[..., House]) -> None:
    house = open_house(
        accept={
            "policies": {
                "scanners": {"calling": ["CT1"]},
                "elsewhere": {"hosts": ["10.0.0.0/8"]},
                "here": {"hosts": ["127.0.0.0/8"], "called": ["RADNODE"]},
            }
        }
    )
    assert house.bring(make_file()).status == 200
    assert house.journal.series(SERIES).instances[0].policy == "here"


def test_who_fits_no_policy_may_bring_nothing(open_house: Callable[..., House]) -> None:
    house = open_house(accept={"policies": {"scanners": {"calling": ["CT1"]}}})
    answer = house.bring(make_file())
    assert answer.status == 403 and "policy" in answer.json["detail"]
    assert not house.held(SERIES)


def test_titles_of_callers_do_not_matter_over_http(open_house: Callable[..., House]) -> None:
    assert open_house(accept={"callers": ["CT1"]}).bring(make_file()).status == 200


def test_a_policy_slows_down_who_brings_too_much(open_house: Callable[..., House]) -> None:
    house = open_house(accept={"policies": {"slow": {"instances_per_minute": 60}}})
    begun = time.monotonic()
    assert house.bring(*(make_file() for _ in range(3))).status == 200
    assert time.monotonic() - begun > 1.5
