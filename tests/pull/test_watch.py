"""Studies that appear in an archive."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

import pytest
from pydantic import ValidationError

from node.config import Watch
from node.errors import ConfigError
from node.peer.query import Found, check_match
from node.pull import watch
from node.pull.watch import asked, look, news
from tests import archives
from tests.pull.test_execute import pacs
from tests.test_cases import opened

TODAY = date(2026, 3, 1)


def study(uid: str, instances: str = "") -> Found:
    values = {"StudyInstanceUID": (uid,)}
    return Found(
        level="STUDY", values=values | ({"NumberOfStudyRelatedInstances": (instances,)} if instances else {})
    )


def test_the_days_that_are_asked_for_begin_before_today_and_have_no_end() -> None:
    assert asked(Watch(), TODAY) == {"StudyDate": "20260228-"}
    assert asked(Watch(days=0, match={"ModalitiesInStudy": "CT"}), TODAY) == {
        "StudyDate": "20260301-",
        "ModalitiesInStudy": "CT",
    }
    assert asked(Watch(match={"StudyDate": "20200101"}), TODAY) == {"StudyDate": "20200101"}


def test_what_is_new_or_has_grown_is_news() -> None:
    found = [
        study("1.1", "5"),
        study("1.2", "5"),
        study("1.3", "4"),
        study("1.4"),
        study("1.5"),
        study("1.6", "1"),
    ]
    seen = {"1.1": 4, "1.2": 5, "1.3": 9, "1.4": 3, "1.6": None}
    assert news(found, seen) == {"1.1": 5, "1.5": None, "1.6": 1}


def test_a_look_has_fetched_what_is_new_and_the_next_one_nothing(tmp_path) -> None:
    told = []

    def answer(event):
        told.append(event.identifier.StudyDate)
        yield 0xFF00, archives.match(StudyInstanceUID="1.2.3", NumberOfStudyRelatedInstances=7)
        yield 0x0000, None

    with archives.scripted_find(answer) as port:
        source = {
            "transport": "dimse",
            "ae_title": "ARCHIVE",
            "host": "127.0.0.1",
            "port": port,
            "timeout_s": 3,
        }
        more = pacs(source) + "[sources.pacs.watch]\ndays = 3650\n"
        with opened(tmp_path / "node", more) as (node, now):
            now[0] = datetime(2026, 3, 1, 12, tzinfo=UTC)
            assert look("pacs", node) == 1 and look("pacs", node) == 0
            assert node.journal.due_pull("pacs", now[0]).study_uid == "1.2.3"
            assert told[0] == "20160303-"


def test_trouble_is_told_and_ends_with_the_trouble(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(watch, "MOST_STUDIES", 1)
    silent = [True]

    def answer(_event):
        if silent[0]:
            yield 0xA700, None
            return
        yield 0xFF00, archives.match(StudyInstanceUID="1.2.3")
        yield 0x0000, None

    with archives.scripted_find(answer) as port:
        source = {
            "transport": "dimse",
            "ae_title": "ARCHIVE",
            "host": "127.0.0.1",
            "port": port,
            "timeout_s": 3,
        }
        with opened(tmp_path / "node", pacs(source) + "[sources.pacs.watch]\n") as (node, _):
            assert look("pacs", node) == 0
            assert "out of resources" in node.journal.status()["pulls"]["sources"]["pacs"]
            silent[0] = False
            assert look("pacs", node) == 1
            assert "say more in match" in node.journal.status()["pulls"]["sources"]["pacs"]


@pytest.mark.parametrize(
    ("match", "told"),
    [
        (
            {"ModalityInStudy": "CT"},
            "'ModalityInStudy' is no DICOM keyword that an archive can be asked for; "
            "did you mean 'ModalitiesInStudy'?",
        ),
        ({"PixelData": "1"}, "'PixelData' is no DICOM keyword that an archive can be asked for."),
        ({"PatientID": "a\nb"}, "what PatientID is to match has control characters, or is too long"),
    ],
)
def test_a_match_that_cannot_be_asked_is_no_configuration_and_pull_says_the_same(match, told: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(told.removesuffix("."))):
        Watch(match=match)
    with pytest.raises(ConfigError, match=re.escape(told[1:])):
        check_match(match)
