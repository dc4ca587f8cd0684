"""``radnode pull``: what a person asks for, sees, and is told."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest
import typer
from typer.testing import CliRunner

from node import cli
from node.errors import ConfigError, NodeError
from node.journal import lock_data
from node.pull import commands
from node.pull.execute import fetch
from tests import archives, toy_case
from tests.pull.test_execute import Shelf, pacs, study_of
from tests.test_cases import opened


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Return an archive, a node that knows it, and what runs ``radnode pull`` beside it."""
    monkeypatch.setattr(commands, "LOOK_EVERY_S", 0.05)
    made = Shelf(toy_case.write_mr(tmp_path / "a", "t1") + toy_case.write_mr(tmp_path / "b", "t2"))
    with (
        archives.scripted_web(made.answer) as (port, _),
        opened(tmp_path / "node", pacs(archives.web_source(port))) as (node, _),
    ):

        def pull(*words: str):
            config = str(tmp_path / "node" / "node.toml")
            return CliRunner().invoke(cli.app, ["pull", *words, "--config", config])

        yield made, node, pull


@contextmanager
def fetching(node):
    """Do in this process what a running node does with requests."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(0.05):
            if due := node.journal.due_pull("pacs", node.clock().replace(year=2099)):
                fetch(due, node)

    thread = threading.Thread(target=run)
    with lock_data(node.config.node.data):
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def test_a_study_is_asked_for_waited_for_and_told(shelf) -> None:
    made, node, pull = shelf
    with fetching(node):
        done = pull(study_of(made.files))
    assert done.exit_code == 0, done.output
    assert f"here study {study_of(made.files)}, 6 instances" in done.output.replace("\n", "")
    assert node.journal.status()["instances"] == 6


def test_what_fails_is_told_and_is_exit_status_1(shelf) -> None:
    _, node, pull = shelf
    with fetching(node):
        done = pull("1.2.3", "--series", "1.2.404")
    assert done.exit_code == 1 and "has no series 1.2.404" in done.output.replace("\n", " ")


def test_where_no_node_runs_nothing_is_asked_for_unless_nobody_waits(shelf) -> None:
    made, node, pull = shelf
    done = pull(study_of(made.files))
    assert isinstance(done.exception, NodeError) and "No node runs on" in str(done.exception)
    assert node.journal.status()["pulls"]["waiting"] == 0
    assert pull(study_of(made.files), "--no-wait", "--prior").exit_code == 0
    assert node.journal.due_pull("pacs", node.clock().replace(year=2099)).prior


def test_several_studies_that_match_are_listed_and_asked_about(shelf) -> None:
    made, node, pull = shelf
    made.studies.append("1.2.404")
    with lock_data(node.config.node.data):
        listed = pull("--match", "PatientID=4711, StudyDate=2024-", "--no-wait")
        assert listed.exit_code == 1 and "20240105" in listed.output and "Fetch these 2" in listed.output
        assert node.journal.status()["pulls"]["waiting"] == 0
        assert pull("--match", "PatientID=4711", "--no-wait", "--yes").exit_code == 0
        assert node.journal.status()["pulls"]["waiting"] == 2


def test_the_studies_of_a_list_are_named_whole_also_in_a_pipe(shelf) -> None:
    made, _, pull = shelf
    made.studies[:] = long = [f"1.2.{'3' * 58}.{n}" for n in (1, 2)]
    listed = pull("--match", "StudyDate=2024-", "--no-wait")
    assert [line for line in listed.output.splitlines() if line.startswith("study")] == [
        f"study {uid}" for uid in long
    ]


def test_each_failed_try_is_told_once_and_the_waiting_ends_when_it_is_to(shelf) -> None:
    made, node, pull = shelf
    uid = study_of(made.files)
    made.gives = 1
    number = node.journal.ask_pull("pacs", uid, now=node.clock())
    fetch(*node.journal.pulls([number]), node)
    with lock_data(node.config.node.data):
        done = pull(uid, "--timeout", "0.3")
    (why,) = (one.reason for one in node.journal.pulls([number]))
    begun, *tries = done.stderr.splitlines()[:2]
    assert "Ctrl-C ends only the waiting" in begun and "--no-wait" in begun
    assert why and tries == [f"study {uid}, tried 1 times: {why}"]
    assert done.stderr.count(why) == 1
    assert done.exit_code == 1 and isinstance(done.exception, NodeError)
    assert "Not all is here after 0.3 s: 1 study of 1 to be fetched" in str(done.exception)
    assert node.journal.status()["pulls"]["waiting"] == 1


def test_nothing_that_matches_and_too_much_are_told(shelf, monkeypatch) -> None:
    made, _, pull = shelf
    monkeypatch.setattr(commands, "MOST_STUDIES", 1)
    made.studies.append("1.2.404")
    assert "More than 1 studies" in str(pull("--match", "StudyDate=2024-", "--no-wait").exception)
    made.studies.clear()
    assert "has no study that matches" in str(pull("--match", "StudyDate=2024-", "--no-wait").exception)
    wrong = pull("--match", "Nonsense=1", "--no-wait").exception
    assert isinstance(wrong, ConfigError) and "no DICOM keyword" in str(wrong)


@pytest.mark.parametrize(
    "words",
    [
        ("../../etc",),
        (),
        ("1.2.3", "--match", "PatientID=1"),
        ("--match", "PatientID=1", "--series", "1.2"),
        ("--match", "PatientID"),
        ("1.2.3", "--from", "nowhere"),
    ],
)
def test_what_cannot_be_meant_is_refused(shelf, words) -> None:
    _, _, pull = shelf
    done = pull(*words, "--no-wait")
    assert done.exit_code != 0


def test_values_may_have_commas_and_equals_signs() -> None:
    assert commands.parse("StudyDescription=CT, thin, StudyDate=20240101-20240131,ModalitiesInStudy=CT") == {
        "StudyDescription": "CT, thin",
        "StudyDate": "20240101-20240131",
        "ModalitiesInStudy": "CT",
    }
    with pytest.raises(typer.BadParameter):
        commands.parse("PatientID=1, PatientID=2")


def test_a_node_that_stops_meanwhile_is_told(shelf) -> None:
    made, node, pull = shelf
    ended = []
    with lock_data(node.config.node.data):
        thread = threading.Thread(target=lambda: ended.append(pull(study_of(made.files))))
        thread.start()
        while not node.journal.status()["pulls"]["waiting"]:
            pass
    thread.join()
    assert "The node has stopped" in str(ended[0].exception)


def test_status_tells_what_is_fetched_in_lines(shelf) -> None:
    made, node, pull = shelf
    made.gives = 1
    with fetching(node):
        pull("1.2.404")
    node.journal.ask_pull("pacs", study_of(made.files), now=node.clock())
    fetch(node.journal.due_pull("pacs", node.clock()), node)
    node.journal.complain("pacs", "It is down.")
    told = list(commands.pull_lines(node.journal.status()["pulls"]))
    assert "1 to be fetched" in told[0]
    assert any("2 of 6 instances, tried 1 times" in line for line in told)
    assert told[-1] == "  pacs cannot be asked: It is down."
