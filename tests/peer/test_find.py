"""C-FIND against Orthanc and against archives that misbehave."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from node.errors import ConfigError, PeerBusy, PeerRefused, PeerUnreachable
from node.peer import find
from node.peer.query import archive_of
from tests import archives, phantoms, toy_case
from tests.orthanc import Orthanc, missing

needs_orthanc = pytest.mark.skipif(missing() is not None, reason=f"apt-get install {missing()}")
STUDY, SERIES = "1.2.3.4", "1.2.3.4.5"


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory):
    folder = tmp_path_factory.mktemp("orthanc")
    with Orthanc(folder) as running:
        archives.make_known(running)
        running.store(*toy_case.write_ct(folder / "a", "20240105"))
        running.store(*toy_case.write_ct(folder / "b", "20210203"))
        running.store(*toy_case.write_mr(folder / "c", "t1", slices=3, study="mr"))
        yield running


def asked(source) -> find.DimseArchive:
    config = archives.config_with(source)
    return archive_of(config.sources["archive"], config)


def scripted(port: int, **more) -> find.DimseArchive:
    source = {
        "transport": "dimse",
        "ae_title": "ARCHIVE",
        "host": "127.0.0.1",
        "port": port,
        "timeout_s": 3.0,
    }
    return asked({**source, **more})


@needs_orthanc
def test_an_archive_tells_its_studies_series_and_instances(orthanc, tmp_path: Path) -> None:
    archive = asked(archives.dimse_source(orthanc))
    studies = archive.studies({"ModalitiesInStudy": "CT"}, most=10)
    assert len(studies) == 2
    (new,) = archive.studies({"StudyDate": "20240101-", "ModalitiesInStudy": "CT"}, most=10)
    assert new.one("StudyDate") == "20240105" and new.instances == 2
    (series,) = archive.series(new.uid)
    assert series.one("Modality") == "CT" and series.instances == 2
    files = toy_case.write_ct(tmp_path, "20240105")
    uids = {one.sop_instance_uid for one in phantoms.instances_of(files)}
    assert archive.instances(new.uid, series.uid) == uids
    assert archive.count(new.uid, series.uid) == 2
    assert {one.one("SOPClassUID") for one in archive.images(new.uid, series.uid)} == {
        "1.2.840.10008.5.1.4.1.1.2"
    }


@needs_orthanc
def test_what_the_archive_has_not_is_counted_as_nothing(orthanc) -> None:
    archive = asked(archives.dimse_source(orthanc))
    assert archive.studies({"PatientID": "NOBODY-HAS-THIS"}, most=10) == []
    assert archive.series("1.2.3.404") == []
    assert archive.count("1.2.3.404", "1.2.3.405") == 0


@needs_orthanc
def test_no_more_studies_than_wanted_are_taken(orthanc) -> None:
    assert len(asked(archives.dimse_source(orthanc)).studies({}, most=1)) == 1


def test_a_question_that_cannot_be_asked_is_refused_before_anybody_is_called() -> None:
    archive = scripted(1)
    for match in ({"NoSuchKeyword": "x"}, {"PixelData": "x"}, {"PatientID": "a\nb"}):
        with pytest.raises(ConfigError):
            archive.studies(match, most=1)


def test_nobody_there_is_unreachable() -> None:
    with pytest.raises(PeerUnreachable, match="ARCHIVE at"):
        scripted(1).series(STUDY)


def test_an_archive_that_takes_no_queries_says_so() -> None:
    def nothing(_event):
        yield 0x0000, None

    with (
        archives.scripted_find(nothing, contexts=["1.2.840.10008.1.1"]) as port,
        pytest.raises(PeerRefused),
    ):
        scripted(port).series(STUDY)


@pytest.mark.parametrize(
    ("status", "error"),
    [(0xA700, PeerBusy), (0xA900, PeerRefused), (0xC001, PeerRefused), (0x0122, PeerRefused)],
)
def test_each_failure_of_a_query_is_told_as_what_it_is(status, error) -> None:
    def failing(_event):
        yield status, None

    with archives.scripted_find(failing) as port, pytest.raises(error, match=f"{status:04X}"):
        scripted(port).series(STUDY)


def test_an_endless_answer_is_cancelled_and_then_left(monkeypatch) -> None:
    monkeypatch.setattr(find, "CANCEL_S", 0.5)
    cancelled = []

    def endless(event):
        number = 0
        while number < 100_000:
            number += 1
            time.sleep(0.005)  # or pynetdicom does not come to hear of it
            cancelled.append(event.is_cancelled)
            yield 0xFF00, archives.match(StudyInstanceUID=f"1.2.3.{number}")

    with archives.scripted_find(endless) as port:
        begun = time.monotonic()
        assert len(scripted(port).studies({}, most=20)) == 20
        assert time.monotonic() - begun < 10
    assert any(cancelled)


def test_an_archive_that_obeys_a_cancel_ends_well() -> None:
    def obedient(event):
        for number in range(1, 100_000):
            time.sleep(0.005)
            if event.is_cancelled:
                yield 0xFE00, None
                return
            yield 0xFF00, archives.match(StudyInstanceUID=f"1.2.3.{number}")

    with archives.scripted_find(obedient) as port:
        begun = time.monotonic()
        assert len(scripted(port).studies({}, most=5)) == 5
        assert time.monotonic() - begun < find.CANCEL_S


def test_more_bytes_than_any_answer_has_end_the_association(monkeypatch) -> None:
    monkeypatch.setattr(find, "MOST_BYTES", 50_000)

    def long_winded(_event):
        for number in range(1, 1000):
            yield 0xFF00, archives.match(StudyInstanceUID=f"1.2.3.{number}", StudyDescription="x" * 60_000)

    with archives.scripted_find(long_winded) as port, pytest.raises(PeerUnreachable):
        scripted(port).studies({}, most=1000)


def test_an_archive_that_falls_silent_is_unreachable() -> None:
    def silent(_event):
        time.sleep(3)
        yield 0x0000, None

    with archives.scripted_find(silent) as port, pytest.raises(PeerUnreachable, match="did not answer"):
        scripted(port, timeout_s=0.5).series(STUDY)


def test_uids_that_are_none_or_were_not_asked_for_are_dropped() -> None:
    def lying(_event):
        good = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": SERIES}
        yield 0xFF00, archives.match(**good)
        yield 0xFF00, archives.match(**good)  # twice
        yield 0xFF00, archives.match(StudyInstanceUID=STUDY)  # no series
        yield 0xFF00, archives.match(StudyInstanceUID="9.9.9", SeriesInstanceUID="1.2.3.4.6")
        yield 0xFF00, archives.match(StudyInstanceUID=STUDY, SeriesInstanceUID="../../etc/passwd")
        yield 0x0000, None

    with archives.scripted_find(lying) as port:
        assert [one.uid for one in scripted(port).series(STUDY)] == [SERIES]


def test_unknown_attributes_and_other_character_sets_are_understood() -> None:
    def foreign(_event):
        answer = archives.match(
            SpecificCharacterSet=["", "ISO 2022 IR 87"],
            SeriesInstanceUID=SERIES,
            SeriesDescription="胸部",
            Modality="CT",
        )
        answer.add_new(0x00091001, "LO", "private")
        answer.add_new(0x7FE11010, "OB", b"\0\1")
        yield 0xFF01, answer
        yield 0x0000, None

    with archives.scripted_find(foreign) as port:
        (found,) = scripted(port).series(STUDY)
    assert found.one("SeriesDescription") == "胸部"
    assert found.study_uid == STUDY  # it was asked for, and need not be told again


def test_instances_are_counted_where_the_archive_has_no_number() -> None:
    def countless(event):
        if event.identifier.QueryRetrieveLevel == "SERIES":
            yield 0xFF00, archives.match(StudyInstanceUID=STUDY, SeriesInstanceUID=SERIES)
        else:
            for number in range(7):
                yield 0xFF00, archives.match(SOPInstanceUID=f"{SERIES}.{number}")
        yield 0x0000, None

    with archives.scripted_find(countless) as port:
        assert scripted(port).count(STUDY, SERIES) == 7


def test_an_archive_that_can_neither_count_nor_list_cannot_say() -> None:
    def ignorant(event):
        if event.identifier.QueryRetrieveLevel == "SERIES":
            yield 0xFF00, archives.match(StudyInstanceUID=STUDY, SeriesInstanceUID=SERIES)
            yield 0x0000, None
        else:
            yield 0xA900, None

    with archives.scripted_find(ignorant) as port:
        assert scripted(port).count(STUDY, SERIES) is None


def test_no_name_and_no_birth_date_is_ever_asked_for() -> None:
    said = set()

    def listening(event):
        said.update(element.keyword for element in event.identifier)
        yield 0x0000, None

    with archives.scripted_find(listening) as port:
        archive = scripted(port)
        archive.studies({"PatientID": "1"}, most=1)
        archive.series(STUDY)
        archive.images(STUDY, SERIES)
    assert not said & {"PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber"}
    assert {"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"} <= said
