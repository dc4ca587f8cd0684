"""Which earlier studies an archive is asked for, and which are fetched."""

from __future__ import annotations

from datetime import timedelta

import pytest

from node.peer.query import Found
from node.pull.priors import MOST_PRIORS, may_fit, seek
from pipelines.contract import InputRefused
from tests import archives, phantoms, toy_case
from tests.pull.test_execute import pacs
from tests.test_cases import opened, settle

PATIENT = "4711"


class Archive:
    """Answers C-FIND with studies of one series each: date -> what is said beside it."""

    def __init__(self, studies: dict[str, dict[str, str]]) -> None:
        self.studies = studies
        self.asked: list[dict[str, str]] = []
        self.is_down = False

    def answer(self, event):
        question = event.identifier
        if self.is_down:
            yield 0xA700, None
            return
        if question.QueryRetrieveLevel == "STUDY":
            self.asked.append({"PatientID": question.PatientID, "StudyDate": question.StudyDate})
            for number, (day, said) in enumerate(self.studies.items()):
                study = {
                    key: value for key, value in said.items() if key in ("PatientID", "IssuerOfPatientID")
                }
                yield (
                    0xFF00,
                    archives.match(
                        **{"PatientID": PATIENT, **study}, StudyDate=day[:8], StudyInstanceUID=f"1.{number}"
                    ),
                )
        else:
            number = int(question.StudyInstanceUID.split(".")[-1])
            said = list(self.studies.values())[number]
            series = {key: value for key, value in said.items() if key in ("Modality", "SeriesDescription")}
            yield 0xFF00, archives.match(**{"Modality": "CT", **series}, SeriesInstanceUID=f"1.{number}.1")
        yield 0x0000, None


@pytest.fixture
def looking(tmp_path):
    """Return what lets a current study arrive, looks in an archive, and returns what is fetched from it."""

    def look(archive: Archive, *, patient: str = PATIENT, more: str = "", times: int = 1, **headers):
        with archives.scripted_find(archive.answer) as port:
            source = {"transport": "dimse", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": port}
            with opened(tmp_path / "node", more + pacs({**source, "timeout_s": 3, "priors": True})) as (
                node,
                now,
            ):
                files = toy_case.write_ct(tmp_path / "current", "20250607", PatientID=patient, **headers)
                assert len(settle(files, node)) == 1
                could = [seek("pacs", node) for _ in range(times)]
                fetched = []
                while pull := node.journal.due_pull("pacs", now[0]):
                    assert pull.prior
                    fetched.append(pull.series_uid)
                    node.journal.finish_pull(pull, now[0], 0)
                now[0] += timedelta(hours=1)
                with pytest.raises(InputRefused) as refused:
                    node.journal.instances_of(node.journal.claim(now[0]))
                return fetched, could, refused.value.sentence

    return look


def test_the_nearest_earlier_studies_are_fetched_and_no_others(looking) -> None:
    archive = Archive(
        {"20200101": {}, "20260101": {}, "20250607": {}, "20241231": {}, "20230101": {}, "": {}}
    )
    fetched, _, reason = looking(archive)
    assert fetched == ["1.3.1", "1.4.1"] and len(fetched) == MOST_PRIORS
    assert archive.asked == [{"PatientID": PATIENT, "StudyDate": "-20250606"}]
    assert reason.endswith("It was looked for in pacs (2 studies were asked for).")


def test_a_study_of_somebody_else_is_not_fetched_whatever_the_archive_says(looking) -> None:
    archive = Archive({"20240101": {"PatientID": "47110"}, "20230101": {"IssuerOfPatientID": "ELSEWHERE"}})
    fetched, _, reason = looking(archive, IssuerOfPatientID="HERE")
    assert fetched == [] and reason.endswith("pacs (which has none).")


def test_studies_whose_series_cannot_fit_are_passed_over(looking) -> None:
    archive = Archive({"20250101": {"Modality": "MR"}, "20240101": {}, "20230101": {"Modality": "SR"}})
    rule = '[[rules]]\nname = "asked"\npipeline = "toy-change"\n[rules.match]\nModality = "CT"\n'
    fetched, _, _ = looking(archive, more=rule)
    assert fetched == ["1.1.1"]


@pytest.mark.parametrize("patient", ["UNKNOWN", "0", "47*", "4?11", "47\x0711"])
def test_a_patient_id_that_says_nothing_or_matches_others_never_asks(looking, patient: str) -> None:
    archive = Archive({"20240101": {"PatientID": patient}})
    fetched, could, reason = looking(archive, patient=patient)
    assert archive.asked == [] and fetched == [] and could == [True]
    assert "looked for in" not in reason


def test_each_archive_is_asked_once_for_a_case_and_again_only_if_it_could_not_answer(looking) -> None:
    archive = Archive({"20240101": {}})
    looking(archive, times=3)
    assert len(archive.asked) == 1


def test_an_archive_that_is_down_is_asked_again(looking) -> None:
    archive = Archive({})
    archive.is_down = True
    _, could, reason = looking(archive, times=2)
    assert could == [False, False] and "looked for in" not in reason


def test_a_case_that_an_archive_refuses_does_not_hold_up_the_next(tmp_path) -> None:
    archive = Archive({"20240101": {"PatientID": "4712"}})

    def answer(event):
        if event.identifier.get("PatientID") == PATIENT:
            return iter([(0xC001, None)])
        return archive.answer(event)

    with archives.scripted_find(answer) as port:
        source = {"transport": "dimse", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": port}
        with opened(tmp_path / "node", pacs({**source, "timeout_s": 3, "priors": True})) as (node, now):
            for patient, day in ((PATIENT, "20250607"), ("4712", "20250608")):
                assert len(settle(toy_case.write_ct(tmp_path / day, day, PatientID=patient), node)) == 1
            assert not seek("pacs", node), "one is to be asked for again"
            assert node.journal.due_pull("pacs", now[0]).series_uid == "1.0.1"
            assert "C001" in node.journal.status()["pulls"]["sources"]["pacs"]
            assert len(node.journal.lacking("pacs", now[0])) == 1


def test_only_what_an_archive_says_can_speak_against_a_role(tmp_path) -> None:
    clauses = 'Modality = "CT"\nSeriesDescription = "*lung*"\nImageType = { has = "ORIGINAL" }\n'
    rule = f'[[rules]]\nname = "asked"\npipeline = "toy-change"\n[rules.match]\n{clauses}'
    with opened(tmp_path / "node", rule) as (node, _):
        (want,) = (one for one in node.rules[-1].wants if one.study == "prior")
    told = {"SeriesInstanceUID": ("1.2",), "Modality": ("CT",)}
    assert may_fit(want, Found(level="SERIES", values=told))
    assert may_fit(want, Found(level="SERIES", values={**told, "SeriesDescription": ("Thin Lung",)}))
    assert not may_fit(want, Found(level="SERIES", values={**told, "SeriesDescription": ("Abdomen",)}))
    assert not may_fit(want, Found(level="SERIES", values={**told, "Modality": ("MR",)}))


def test_a_prior_starts_nothing_by_rules_of_one_series_either_until_somebody_sends_it(tmp_path) -> None:
    rule = '[[rules]]\nname = "alone"\npipeline = "lung-density"\n[rules.match]\nModality = "CT"\n'
    files = toy_case.write_ct(tmp_path / "old", "20200101", PatientID=PATIENT)
    with opened(tmp_path / "node", rule) as (node, now):
        node.journal.ask_pull("pacs", phantoms.instances_of(files)[0].study_uid, prior=True, now=now[0])
        node.journal.refresh_priors(now[0])
        assert settle(files, node) == [], "it came because we asked for it"
        node.journal.finish_pull(node.journal.due_pull("pacs", now[0]), now[0], 2)
        assert [job.spec.pipeline for job in settle(files, node)].count("lung-density") == 1
