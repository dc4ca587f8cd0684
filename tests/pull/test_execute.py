"""One request: what is lacking is fetched, what is here already and what is ours is not."""

from __future__ import annotations

import json
from datetime import timedelta

import pydicom
import pytest

from node import flow
from node.journal import Journal
from node.pull.execute import fetch
from tests import archives, phantoms, toy_case
from tests.accept.test_retrieve import KIND, multipart
from tests.journal_makers import an_outcome
from tests.orthanc import Orthanc, missing
from tests.test_cases import arrive, opened, settle

needs_orthanc = pytest.mark.skipif(missing() is not None, reason=f"apt-get install {missing()}")
JSON = {"Content-Type": "application/dicom+json"}


def pacs(source: dict[str, object]) -> str:
    return "[sources.pacs]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in source.items())


def ask(node, study_uid: str, **more):
    number = node.journal.ask_pull("pacs", study_uid, now=node.clock(), **more)
    (pull,) = node.journal.pulls([number])
    return pull


class Shelf:
    """A DICOMweb archive of some files, of which it gives as many as it is told."""

    def __init__(self, files) -> None:
        self.files = list(files)
        self.gives = len(self.files)
        self.lists = True
        self.asked: list[str] = []
        self.studies = [study_of(self.files)]  #: that match whatever is asked for

    def answer(self, one: archives.Asked) -> archives.Page:
        path = one.path.partition("?")[0].removeprefix("/dicom-web")
        self.asked.append(path)
        found = phantoms.instances_of(self.files)
        series = [{"0020000E": {"Value": [uid]}} for uid in dict.fromkeys(i.series_uid for i in found)]
        if path == "/studies":
            told = [
                {
                    "0020000D": {"Value": [uid]},
                    "00080020": {"Value": ["20240105"]},
                    "00201208": {"Value": [6]},
                }
                for uid in self.studies
            ]
            return 200, JSON, json.dumps(told).encode()
        if path.endswith("/series"):
            return 200, JSON, json.dumps(series if "offset" not in one.path else []).encode()
        if path.endswith("/instances"):
            mine = [i for i in found if i.series_uid in path]
            told = [
                {"00080018": {"Value": [i.sop_instance_uid]}, "00080016": {"Value": [i.sop_class_uid]}}
                for i in mine
            ]
            return (200, JSON, json.dumps(told).encode()) if self.lists else (400, {}, b"")
        wanted = [file for file, i in zip(self.files, found, strict=True) if path.endswith(i.series_uid)]
        given = wanted[: self.gives]
        return (200 if given == wanted else 206), KIND, multipart(given)

    @property
    def retrieved(self) -> int:
        return sum("/instances" not in path and not path.endswith("/series") for path in self.asked)


@pytest.fixture
def shelf(tmp_path):
    """Return an archive with one study of two series, a node that knows it, and its clock."""
    files = toy_case.write_mr(tmp_path / "a", "t1") + toy_case.write_mr(tmp_path / "b", "t2")
    made = Shelf(files)
    with (
        archives.scripted_web(made.answer) as (port, _),
        opened(tmp_path / "node", pacs(archives.web_source(port))) as (node, now),
    ):
        yield made, node, now


def study_of(files) -> str:
    return str(pydicom.dcmread(files[0]).StudyInstanceUID)


def test_a_study_comes_series_by_series_and_only_what_is_lacking(shelf) -> None:
    made, node, _ = shelf
    arrive(made.files[:3], node)
    done = fetch(ask(node, study_of(made.files)), node)
    assert (done.state, done.expected, done.received) == ("done", 6, 6)
    assert made.retrieved == 1, "the series that was here is not fetched"
    assert fetch(ask(node, study_of(made.files)), node).state == "done"
    assert made.retrieved == 1


def test_one_series_alone_is_fetched_where_only_that_is_asked_for(shelf) -> None:
    made, node, _ = shelf
    uid = str(pydicom.dcmread(made.files[4]).SeriesInstanceUID)
    done = fetch(ask(node, study_of(made.files), series_uid=uid), node)
    assert (done.state, done.received) == ("done", 3)
    assert node.journal.status()["series"] == 1
    gone = fetch(ask(node, study_of(made.files), series_uid="1.2.3.404"), node)
    assert gone.state == "failed" and "has no series 1.2.3.404" in gone.reason


def test_what_did_not_come_is_told_and_tried_again(shelf) -> None:
    made, node, now = shelf
    made.gives = 2
    off = fetch(ask(node, study_of(made.files)), node)
    assert off.state == "waiting" and "1 of 3 of series" in off.reason and off.received == 4
    assert node.journal.due_pull("pacs", now[0]) is None
    now[0] += timedelta(hours=1)
    made.gives = 3
    done = fetch(node.journal.due_pull("pacs", now[0]), node)
    assert (done.state, done.received, done.reason) == ("done", 6, "")


def test_an_archive_that_cannot_list_its_instances_is_believed(shelf) -> None:
    made, node, _ = shelf
    made.lists = False
    done = fetch(ask(node, study_of(made.files)), node)
    assert (done.state, done.expected, done.received) == ("done", None, 6)


def test_nothing_of_a_series_that_cannot_be_listed_is_not_all_of_it(shelf) -> None:
    made, node, _ = shelf
    made.lists, made.gives = False, 0
    off = fetch(ask(node, study_of(made.files)), node)
    assert (off.state, off.received) == ("waiting", 0) and "All of series" in off.reason


def test_what_is_of_no_class_that_we_take_is_told(tmp_path) -> None:
    files = toy_case.write_mr(tmp_path / "a", "t1")
    only_ct = '[accept.dimse]\nsop_classes = ["CTImageStorage"]\n'
    with (
        archives.scripted_web(Shelf(files).answer) as (port, _),
        opened(tmp_path / "node", only_ct + pacs(archives.web_source(port))) as (node, _),
    ):
        done = fetch(ask(node, study_of(files)), node)
    assert (done.state, done.received) == ("done", 0)
    assert done.reason == "3 more are of SOP Classes that [accept.dimse] does not take."


def test_what_is_asked_for_while_it_is_fetched_as_a_prior_is_none(shelf) -> None:
    made, node, _ = shelf
    study = study_of(made.files)

    def meanwhile() -> bool:
        ask(node, study)
        return False

    assert not fetch(ask(node, study, prior=True), node, meanwhile).prior
    series = {one.series_uid for one in phantoms.instances_of(made.files)}
    assert [set(node.journal.held_of(study, uid).values()) for uid in series] == [{False}, {False}]


def test_our_own_results_are_never_fetched(shelf, tmp_path) -> None:
    made, node, now = shelf
    for role in ("t1", "t1c", "t2", "flair"):
        jobs = settle(toy_case.write_mr(tmp_path / "in" / role, role), node)
    job = node.journal.claim(now[0])
    assert job.id == jobs[-1].id
    outcome = an_outcome(job.id)
    node.journal.save_results(job, outcome, now[0])
    result = toy_case.write_mr(
        tmp_path / "result", "t1", SeriesInstanceUID=outcome.objects[0].series_uid, SeriesDescription="ours"
    )
    made.files += result
    done = fetch(ask(node, study_of(made.files)), node)
    assert done.state == "done" and made.retrieved == 0
    assert node.journal.held_of(study_of(made.files), outcome.objects[0].series_uid) == {}


def test_what_is_fetched_as_a_prior_starts_nothing_until_it_is_asked_for(shelf) -> None:
    made, node, _ = shelf
    assert fetch(ask(node, study_of(made.files), prior=True), node).state == "done"
    for one in node.journal.arriving():
        assert flow.plan(one.series_uid, node) == []
    told = node.journal.status()["unrouted"]["series"]
    assert len(told) == 2 and "fetched as an earlier study" in told[0]["reason"]
    assert fetch(ask(node, study_of(made.files)), node).state == "done"
    assert made.retrieved == 2, "they are here"
    assert any(flow.plan(one.series_uid, node) for one in node.journal.arriving())


def test_nobody_there_is_tried_again_and_a_node_that_stops_goes_on_later(tmp_path) -> None:
    with opened(tmp_path / "node", pacs(archives.web_source(1))) as (node, _):
        off = fetch(ask(node, "1.2.3"), node)
        assert off.state == "waiting" and "cannot be reached" in off.reason and off.tries == 1


@needs_orthanc
def test_an_archive_that_does_not_reach_our_door_is_tried_again_and_told_so(tmp_path) -> None:
    with Orthanc(tmp_path) as orthanc:
        files = toy_case.write_ct(tmp_path / "a", "20240105")
        orthanc.store(*files)
        archives.make_known(orthanc, port=1)  # nobody listens there
        with opened(tmp_path / "node", pacs(archives.dimse_source(orthanc))) as (node, _):
            off = fetch(ask(node, study_of(files)), node)
            assert off.state == "waiting" and "Does it reach AE RADNODE at port" in off.reason


def test_requests_go_on_after_a_restart(shelf) -> None:
    made, node, now = shelf
    ask(node, study_of(made.files))
    again = Journal.open(node.config.node.data)
    pull = again.due_pull("pacs", now[0])
    again.close()
    assert fetch(pull, node).state == "done"
