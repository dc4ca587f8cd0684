"""QIDO-RS against Orthanc and against servers that page, do not page, or never come to an end."""

from __future__ import annotations

import json
from collections.abc import Iterable
from urllib.parse import parse_qs, urlsplit

import pytest

from node.errors import ConfigError, PeerBusy, PeerRefused, PeerUnreachable
from node.peer import qido
from node.peer.query import archive_of
from tests import archives, toy_case
from tests.orthanc import Orthanc, missing

needs_orthanc = pytest.mark.skipif(missing() is not None, reason=f"apt-get install {missing()}")
STUDY, SERIES = "1.2.3.4", "1.2.3.4.5"
JSON = {"Content-Type": "application/dicom+json"}


def asked(source) -> qido.WebArchive:
    config = archives.config_with(source)
    return archive_of(config.sources["archive"], config)


def studies(uids: Iterable[str]) -> bytes:
    return json.dumps([{"0020000D": {"vr": "UI", "Value": [uid]}} for uid in uids]).encode()


def wanted(one: archives.Asked) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(urlsplit(one.path).query).items()}


def paging(count: int, at_once: int):
    """Answer like a server with so many studies, of which it gives so many at once."""
    uids = [f"1.2.3.{number}" for number in range(count)]

    def answer(one: archives.Asked) -> archives.Page:
        query = wanted(one)
        begin, limit = int(query.get("offset", 0)), min(int(query["limit"]), at_once)
        page = uids[begin : begin + limit]
        if not page:
            return 204, {}, b""
        more = {"Warning": '299 {SERVICE}: "There are additional results that can be requested"'}
        return 200, JSON | (more if begin + limit < count else {}), studies(page)

    return answer


@needs_orthanc
def test_an_archive_tells_its_studies_series_and_instances(tmp_path) -> None:
    with Orthanc(tmp_path) as orthanc:
        orthanc.store(*toy_case.write_ct(tmp_path / "a", "20240105"))
        orthanc.store(*toy_case.write_ct(tmp_path / "b", "20210203"))
        archive = asked(archives.web_source(orthanc.port))
        assert len(archive.studies({}, most=10)) == 2
        (new,) = archive.studies({"StudyDate": "20240101-20241231"}, most=10)
        assert new.one("StudyDate") == "20240105" and new.instances == 2
        (series,) = archive.series(new.uid)
        assert series.one("Modality") == "CT"
        assert archive.count(new.uid, series.uid) == 2
        assert len(archive.instances(new.uid, series.uid)) == 2
        assert archive.images(new.uid, series.uid)[0].one("SOPClassUID") == "1.2.840.10008.5.1.4.1.1.2"
        assert archive.count("1.2.3.404", "1.2.3.405") == 0
        assert archive.studies({"PatientID": "NOBODY"}, most=5) == []


@pytest.mark.parametrize("at_once", [10_000, 100, 1])
def test_two_hundred_and_fifty_studies_come_page_by_page(at_once: int) -> None:
    with archives.scripted_web(paging(250, at_once)) as (port, _):
        found = asked(archives.web_source(port)).studies({}, most=1000)
    assert len({one.uid for one in found}) == 250


def test_a_server_that_knows_no_paging_gives_all_at_once() -> None:
    body = studies(f"1.2.3.{number}" for number in range(250))
    with archives.scripted_web(lambda _: (200, JSON, body)) as (port, told):
        assert len(asked(archives.web_source(port)).studies({}, most=1000)) == 250
    assert len(told) == 2  # the second gave nothing new


def test_an_endless_server_is_left_where_enough_was_told() -> None:
    def endless(one: archives.Asked) -> archives.Page:
        begin = int(wanted(one).get("offset", 0))
        return 200, JSON, studies(f"1.2.3.{number}" for number in range(begin, begin + 50))

    with archives.scripted_web(endless) as (port, told):
        assert len(asked(archives.web_source(port)).studies({}, most=120)) == 120
    assert len(told) <= 4


def test_endless_pages_end_with_the_time(monkeypatch) -> None:
    monkeypatch.setattr(qido, "LONGEST_S", 0.2)

    def endless(one: archives.Asked) -> archives.Page:
        return 200, JSON, studies([f"1.2.3.{wanted(one).get('offset', 0)}"])

    with archives.scripted_web(endless) as (port, _), pytest.raises(PeerBusy, match="the end"):
        asked(archives.web_source(port)).studies({}, most=10_000_000)


def test_more_than_a_page_may_have_is_not_read(monkeypatch) -> None:
    monkeypatch.setattr(qido, "MOST_PAGE_BYTES", 10_000)
    with (
        archives.scripted_web(lambda _: (200, JSON, b" " * 20_000)) as (port, _),
        pytest.raises(PeerRefused, match="more than"),
    ):
        asked(archives.web_source(port)).studies({}, most=10)


@pytest.mark.parametrize(
    "body", [b"<html>", b'{"a": 1}', b"[" * 100_000, b"\xff\xfe", b'[{"0020000D": {"Value": [']
)
def test_what_is_no_list_of_matches_is_refused(body: bytes) -> None:
    with archives.scripted_web(lambda _: (200, JSON, body)) as (port, _), pytest.raises(PeerRefused):
        asked(archives.web_source(port)).studies({}, most=10)


def test_what_is_malformed_in_a_match_is_left_out() -> None:
    said = [
        {"0020000D": {"vr": "UI", "Value": [STUDY]}, "00080020": "20240101", "00081030": {"Value": [None]}},
        {"0020000D": {"vr": "UI", "Value": ["../../x"]}},
        {"0020000D": {"vr": "UI", "Value": [{"a": 1}]}},
        {"0020000D": {"vr": "UI"}},
        "no match at all",
        {"0020000D": {"vr": "UI", "Value": ["1.2.5"]}, "00201208": {"vr": "IS", "Value": [12]}},
        {"0020000D": {"vr": "UI", "Value": ["1.2.6"]}, "00201208": {"vr": "IS", "Value": ["-3"]}},
    ]
    with archives.scripted_web(lambda _: (200, JSON, json.dumps(said).encode())) as (port, _):
        found = asked(archives.web_source(port)).studies({}, most=10)
    assert {one.uid: one.instances for one in found} == {STUDY: None, "1.2.5": 12, "1.2.6": None}


def test_a_match_of_another_study_than_was_asked_is_dropped() -> None:
    said = [{"0020000D": {"Value": ["9.9"]}, "0020000E": {"Value": [SERIES]}}]
    with archives.scripted_web(lambda _: (200, JSON, json.dumps(said).encode())) as (port, _):
        assert asked(archives.web_source(port)).series(STUDY) == []


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, PeerRefused), (401, PeerRefused), (302, PeerRefused), (429, PeerBusy), (503, PeerBusy)],
)
def test_each_status_is_told_as_what_it_is(status: int, error: type[Exception]) -> None:
    headers = {"Location": "http://192.0.2.1/"}
    with (
        archives.scripted_web(lambda _: (status, headers, b"Patient DOE^JANE")) as (port, told),
        pytest.raises(error, match=str(status)) as raised,
    ):
        asked(archives.web_source(port)).studies({}, most=10)
    assert "DOE" not in str(raised.value) and len(told) == 1


def test_a_study_that_is_not_there_has_no_series_but_a_wrong_address_is_told() -> None:
    with archives.scripted_web(lambda _: (404, {}, b"")) as (port, _):
        archive = asked(archives.web_source(port))
        assert archive.series(STUDY) == []
        with pytest.raises(PeerRefused, match="is url its DICOMweb service"):
            archive.studies({}, most=1)


def test_an_answer_that_breaks_off_is_no_answer() -> None:
    short = {"Content-Length": "10000", **JSON}
    with archives.scripted_web(lambda _: (200, short, b"[")) as (port, _), pytest.raises(PeerUnreachable):
        asked(archives.web_source(port)).studies({}, most=1)


def test_a_query_with_an_injection_in_it_stays_one_value() -> None:
    with archives.scripted_web(lambda _: (204, {}, b"")) as (port, told):
        archive = asked(archives.web_source(port))
        archive.studies({"PatientID": "1&limit=99999#/../x y"}, most=5)
        for evil in ("1.2/../../instances", "1.2?x=1", "..", "1.2%2f"):
            with pytest.raises(ConfigError):
                archive.series(evil)
    (one,) = told
    assert wanted(one)["PatientID"] == "1&limit=99999#/../x y" and wanted(one)["limit"] == "5"
    assert urlsplit(one.path).path == "/dicom-web/studies"
