"""QIDO-RS over a few studies, with dicomweb-client as the judge where it can ask for the same."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pydicom
import pytest
from pydicom.dataelem import RawDataElement

from tests import phantoms
from tests.show.served import Answer, Served, texts
from tests.toy_node import small_ct

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

NAMES = {"A": "Müller^Jörg", "B": "Yamada^Tarou=山田^太郎=やまだ^たろう", "C": "Doe^Jane"}


def a_study(folder: Path, key: str, number: int) -> list[Path]:
    """Write three slices of a study of its own, and one slice of a second series."""

    def about(dataset, *_):
        dataset.PatientID = f"ID-{key}"
        dataset.StudyDate, dataset.StudyTime = f"2020010{number}", f"0{number}3000"
        dataset.AccessionNumber = f"ACC{key}"
        dataset.StudyDescription = f"Study {key}"
        request = pydicom.Dataset()
        request.ScheduledProcedureStepID, request.RequestedProcedureID = f"SPS-{key}", f"RP-{key}"
        dataset.RequestAttributesSequence = [request]

    files = []
    for series, slices in (("one", 3), ("two", 1)):
        made = small_ct(
            folder / f"{key}-{series}", seed=f"{key}-{series}", slices=max(2, slices), patient_name=NAMES[key]
        )
        for position, file in enumerate(made[:slices]):
            dataset = pydicom.dcmread(file)
            about(dataset)
            dataset.StudyInstanceUID = phantoms.uid_of("study", key)
            dataset.SeriesNumber = 1 if series == "one" else 2
            dataset.InstanceNumber = slices - position
            if series == "two":
                dataset.Modality = "MR"
            dataset.save_as(file)
            files.append(file)
    return files


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("query")
    with Served(folder / "data") as running:
        for number, key in enumerate(NAMES, 1):
            running.hold(*a_study(folder, key, number))
        yield running


def found(served: Served, query: str) -> list[str]:
    """Return the patients of the studies that a query finds, in order."""
    answer = served.get(f"/studies?{query}")
    assert answer.status == 200, answer.body
    return [uid.removeprefix("ID-") for uid in texts(answer.json, "00100020")]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "CBA"),
        ("PatientID=ID-A", "A"),
        ("00100020=ID-A", "A"),
        ("PatientID=ID-?", "CBA"),
        ("PatientID=ID-A*", "A"),
        ("PatientID=", "CBA"),
        ("PatientName=m%C3%BCller*", "A"),
        (f"PatientName={quote('山田*')}", "B"),
        ("PatientName=doe%5Ejane", "C"),
        ("StudyDate=20200102", "B"),
        ("StudyDate=20200102-", "CB"),
        ("StudyDate=-20200102", "BA"),
        ("StudyDate=20200101-20200102&StudyTime=0200-0300", "B"),
        ("AccessionNumber=ACCB", "B"),
        ("ModalitiesInStudy=MR", "CBA"),
        ("ModalitiesInStudy=US,XA", ""),
        ("NumberOfStudyRelatedInstances=4", "CBA"),
        ("Modality=MR&PatientID=ID-C", "C"),
        ("RequestAttributesSequence.ScheduledProcedureStepID=SPS-B", "B"),
        ("00400275.00401001=RP-A", "A"),
        ("KVP=120", "CBA"),
        ("KVP=119", ""),
        (f"StudyInstanceUID={phantoms.uid_of('study', 'A')},{phantoms.uid_of('study', 'C')}", "CA"),
        ("limit=1", "C"),
        ("limit=1&offset=1", "B"),
        ("offset=3", ""),
        ("limit=0", ""),
    ],
)
def test_studies_are_found(served: Served, query: str, expected: str):
    assert "".join(found(served, query)) == expected


def test_a_study_tells_what_the_standard_demands_and_what_is_counted(served: Served):
    (study,) = served.get("/studies?PatientID=ID-B").json
    for tag in "00080020 00080030 00080050 00080056 00080061 00080090 00081190 00100010 00100020 00100030 00100040 0020000D 00200010 00201206 00201208".split():  # noqa: E501
        assert tag in study, tag
    assert study["00080061"]["Value"] == ["CT", "MR"]
    assert study["00201206"]["Value"] == [2]
    assert study["00201208"]["Value"] == [4]
    assert study["00100010"]["Value"][0] == {
        "Alphabetic": "Yamada^Tarou",
        "Ideographic": "山田^太郎",
        "Phonetic": "やまだ^たろう",
    }
    where = study["00081190"]["Value"][0]
    assert where == f"{served.url}/studies/{phantoms.uid_of('study', 'B')}"


def test_series_and_instances_are_found_in_order_with_dicomweb_client(served: Served):
    study = phantoms.uid_of("study", "A")
    series = served.client.search_for_series(study)
    assert [s["00200011"]["Value"] for s in series] == [[1], [2]]
    assert [s["00201209"]["Value"] for s in series] == [[3], [1]]
    first = series[0]["0020000E"]["Value"][0]
    instances = served.client.search_for_instances(study, first)
    assert [one["00200013"]["Value"] for one in instances] == [[1], [2], [3]]
    assert instances[0]["00280010"]["Value"] == [48]
    assert instances[0]["00083002"]["Value"] == ["1.2.840.10008.1.2.1"]
    sop = instances[2]["00080018"]["Value"][0]
    (one,) = served.client.search_for_instances(search_filters={"SOPInstanceUID": sop})
    assert one["0020000E"]["Value"] == [first]
    assert one["00100020"]["Value"] == ["ID-A"]
    assert len(served.client.search_for_instances(search_filters={"InstanceNumber": 2})) == 3
    assert len(served.client.search_for_series(search_filters={"Modality": "MR"})) == 3


def test_all_pages_together_are_all_there_is(served: Served):
    client = served.client
    assert len(client.search_for_instances(limit=5, get_remaining=True)) == 12
    assert len(client.search_for_series(limit=4, get_remaining=True)) == 6
    uids = [one["00080018"]["Value"][0] for one in client.search_for_instances(limit=5, get_remaining=True)]
    assert len(set(uids)) == 12


def test_more_is_told_of_by_a_warning(served: Served):
    assert served.get("/studies?limit=1").headers["warning"] == (
        '299 radnode "There are 2 additional results that can be requested."'
    )
    assert "additional results" in served.get("/instances?limit=11").headers["warning"]
    assert "warning" not in served.get("/instances?limit=12").headers
    assert "warning" not in served.get("/studies").headers


def test_fuzzy_matching_is_not_done_and_that_is_told(served: Served):
    answer = served.get("/studies?PatientName=Miller&fuzzymatching=true")
    assert answer.json == []
    assert "fuzzymatching" in answer.headers["warning"]
    assert "warning" not in served.get("/studies?fuzzymatching=false").headers


def test_attributes_are_included_by_keyword_tag_or_all(served: Served):
    study = phantoms.uid_of("study", "A")
    (told, *_) = served.get(
        f"/studies/{study}/series?includefield=PatientName,KVP&includefield=00081030"
    ).json
    assert told["00100010"]["Value"] == [{"Alphabetic": "Müller^Jörg"}]
    assert told["00180060"]["Value"] == [120]
    assert told["00081030"]["Value"] == ["Study A"]
    (plain, *_) = served.get(f"/studies/{study}/series").json
    assert "00100010" not in plain
    (whole, *_) = served.get(f"/studies/{study}/instances?includefield=all").json
    assert "00200037" in whole and "7FE00010" not in whole


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("Patient=1", "'Patient'"),
        ("PatientID=1&PatientID=2", "PatientID"),
        ("PatientID=1&00100020=1", "PatientID"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("offset=1e3", "offset"),
        ("StudyDate=2020-01-01", "StudyDate"),
        ("StudyInstanceUID=1.2'%20OR%20'1'='1", "StudyInstanceUID"),
        ("PatientID=%00", "PatientID"),
        ("%3Cscript%3Ealert(1)%3C/script%3E=1", "A parameter"),
        ("PixelData=1", "PixelData"),
        ("PatientName.PatientID=1", "PatientName"),
        ("includefield=Nonsense", "Nonsense"),
        ("fuzzymatching=perhaps", "fuzzymatching"),
        ("SOPInstanceUID=1.2", "SOPInstanceUID"),
        ("NumberOfStudyRelatedSeries=many", "NumberOfStudyRelatedSeries"),
        ("&".join(f"includefield={n:08X}" for n in range(300)), "200"),
    ],
)
def test_a_query_that_cannot_be_meant_is_refused_with_a_sentence(served: Served, query: str, names: str):
    answer = served.get(f"/studies?{query}")
    assert answer.status == 400
    assert names in answer.sentence and answer.sentence.endswith(".")
    assert "<" not in answer.sentence


@pytest.mark.parametrize(
    "text", ["' OR 1=1 --", '"; DROP TABLE instance; --', "%", "_", "\\", "(.*)+$", "${jndi:x}"]
)
def test_text_with_an_injection_in_it_is_text(served: Served, text: str):
    assert served.get(f"/studies?StudyDescription={quote(text)}").json == []
    assert "".join(found(served, "")) == "CBA"


def test_what_is_not_held_is_no_result(served: Served):
    answer = served.get("/studies/1.2.3/series")
    assert (answer.status, answer.body) == (200, b"[]")
    assert served.client.search_for_series("1.2.3") == []


def test_an_answer_comes_as_json_or_as_xml(served: Served):
    assert served.get("/studies").headers["content-type"] == "application/dicom+json"
    assert served.get("/studies", "application/json").headers["content-type"] == "application/json"
    in_xml = 'multipart/related; type="application/dicom+xml"'
    xml = served.get("/studies", in_xml)
    assert xml.body.count(b"<NativeDicomModel") == 3
    assert (
        served.get("/studies?PatientID=nobody", 'multipart/related; type="application/dicom+xml"').status
        == 204
    )
    assert served.get("/studies", "text/html").status == 406


def test_what_has_just_arrived_is_found_at_once_and_what_has_gone_is_not(tmp_path: Path):
    with Served(tmp_path / "data") as served:
        assert served.get("/studies").json == []
        files = small_ct(tmp_path / "ct", slices=3)
        (first, *_) = served.hold(*files[:2])
        assert served.get("/studies").json[0]["00201208"]["Value"] == [2]
        served.hold(files[2])
        assert served.get("/studies").json[0]["00201208"]["Value"] == [3]
        assert len(served.client.search_for_instances(first.study_uid)) == 3
        served.journal.plan(
            first.series_uid, expected_count=3, specs=[], reason="none", now=datetime.now(UTC)
        )
        served.store.remove(served.journal.forget(first.series_uid))
        assert served.get("/studies").json == []
        assert served.get(f"/studies/{first.study_uid}/instances").json == []


def test_a_header_that_cannot_be_read_leaves_its_uids_and_does_not_hold_up_the_others(tmp_path: Path):
    with Served(tmp_path / "data") as served:
        good = served.hold(*small_ct(tmp_path / "good", seed="good", slices=2))[0]
        bad = served.hold(*small_ct(tmp_path / "bad", seed="bad", slices=2))
        for one in bad:
            one.path.write_bytes(b"no DICOM any more")
        told = set(texts(served.get("/series").json, "0020000E"))
        assert told == {good.series_uid, bad[0].series_uid}
        assert len(served.get(f"/studies/{bad[0].study_uid}/instances").json) == 2


def test_what_comes_after_the_clock_was_put_back_is_found(tmp_path: Path):
    with Served(tmp_path / "data") as served:
        served.hold(*small_ct(tmp_path / "one", seed="one", slices=2), at=datetime(2030, 1, 2, tzinfo=UTC))
        assert len(served.get("/studies").json) == 1
        served.hold(*small_ct(tmp_path / "two", seed="two", slices=2), at=datetime(2030, 1, 1, tzinfo=UTC))
        assert len(served.get("/series").json) == 2


@pytest.mark.parametrize(
    ("keyword", "vr", "said"),
    [
        ("RequestAttributesSequence", "LO", b"no sequence "),
        ("Rows", "LO", b"many"),
        ("Columns", "DS", b"1.5 "),
        ("BitsAllocated", "FD", b"\0\0\0\0\0\0\xf8\x7f"),
        ("StudyDescription", "SQ", b""),
        ("PatientName", "OB", b"Doe^"),
    ],
)
def test_an_object_that_lies_about_its_vrs_blinds_nobody(tmp_path: Path, keyword: str, vr: str, said: bytes):
    with Served(tmp_path / "data") as served:
        honest = served.hold(*small_ct(tmp_path / "honest", seed="honest", slices=2)[:1])[0]
        lying = served.hold(*small_ct(tmp_path / "lying", seed="lying", slices=2)[:1])[0]
        dataset = pydicom.dcmread(lying.path)
        tag = pydicom.tag.Tag(keyword)
        dataset[tag] = RawDataElement(tag, vr, len(said), said, 0, False, True)
        dataset.save_as(lying.path)
        assert (said if said else b"SQ\0\0\0\0\0\0") in lying.path.read_bytes()
        for level in ("studies", "series", "instances"):
            for more in ("", f"?{keyword}=" if level == "instances" else ""):
                answer = served.get(f"/{level}{more}")
                assert answer.status == 200, answer.body
                assert set(texts(answer.json, "0020000D")) == {honest.study_uid, lying.study_uid}


def test_those_who_ask_while_headers_are_read_wait_a_little_and_hear_what_is_missing(tmp_path: Path):
    served = Served(tmp_path / "data")
    read, asked, go_on = served.origin.index.read, [], threading.Event()

    def slowly(path: Path) -> pydicom.Dataset:
        asked.append(path)
        if len(asked) > 1:
            go_on.wait(30)
        return read(path)

    served.origin.index.read = slowly
    with served:
        for number in range(3):
            served.hold(*small_ct(tmp_path / str(number), seed=str(number), slices=2)[:1])
        answer: Answer = served.get("/series")
        assert len(answer.json) < 3
        assert "not read yet" in answer.headers["warning"]
        go_on.set()
        answer = served.get("/series")
        assert len(answer.json) == 3 and "warning" not in answer.headers


@pytest.mark.parametrize("query", ["instances?includefield=all", "series?KVP=120&includefield=KVP"])
def test_headers_are_in_memory_one_at_a_time(served: Served, monkeypatch: pytest.MonkeyPatch, query: str):
    read, alive, most = served.origin.index.read, weakref.WeakSet(), []

    def watched(path: Path) -> pydicom.Dataset:
        gc.collect()
        most.append(len(alive))
        alive.add(header := read(path))
        return header

    monkeypatch.setattr(served.origin.index, "read", watched)
    monkeypatch.setattr(pydicom.Dataset, "__hash__", object.__hash__)
    assert len(served.get(f"/{query}").json) >= 6
    assert len(most) >= 6 and max(most) <= 1


def test_bytes_of_one_series_in_memory_are_few(served: Served):
    entries, unread = served.origin.index.entries()
    assert unread == 0 and len(entries) == 6
    shared = {id(entry.study) for entry in entries}
    assert len(shared) == 3, "what is said of a study is kept once"
