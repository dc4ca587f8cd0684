"""An operator holds a destination back: nothing goes there, what is owed waits."""

from __future__ import annotations

import time
from contextlib import closing

import pytest
from typer.testing import CliRunner

from node.cli import app
from node.errors import NodeError
from node.job import JobState
from node.journal import Journal
from node.pause import pause, resume, standing_lines
from tests import toy_node
from tests.committing import CommittingPacs
from tests.harness import wait_until
from tests.journal_makers import after
from tests.peers import RecordingPacs
from tests.proof_bench import Bench, dimse
from tests.toy_node import RESULTS_PER_JOB, send, small_ct

pytestmark = pytest.mark.long


@pytest.fixture
def archive():
    with CommittingPacs() as peer:
        yield peer


def test_nothing_is_sent_while_a_destination_is_paused_and_all_of_it_afterwards(tmp_path, archive):
    with RecordingPacs() as shelf:
        bench = Bench(tmp_path, {"archive": dimse(archive), "shelf": dimse(shelf)})
        bench.journal.pause("archive", "", bench.now)
        job = bench.job("archive", "shelf")
        bench.after(5)
        assert (archive.associations, len(shelf.received)) == (0, 2)
        assert bench.state(job) is JobState.SENDING
        bench.journal.resume("archive", bench.now)
        bench.after(0)
        assert (len(archive.received), bench.state(job)) == (2, JobState.DONE)


@pytest.mark.parametrize("proof", ["commitment", "query"])
def test_nothing_is_asked_of_a_paused_destination_but_its_report_is_heard(tmp_path, archive, proof):
    bench = Bench(tmp_path, {"archive": dimse(archive, proof=proof, timeout_s=0.5)})
    archive.how.over, archive.how.lists = "never", lambda _uid: bench.now > after(10)
    job = bench.job()
    bench.after(0)
    bench.after(2)
    bench.journal.pause("archive", "", bench.now)
    before = archive.associations
    bench.after(1000)
    assert archive.associations == before
    if proof == "commitment":
        assert bench.hear(archive.asked[0], archive) == 0
    else:
        bench.journal.resume("archive", bench.now)
        bench.after(0)
    assert bench.state(job) is JobState.DONE


def test_an_alternate_does_not_take_what_a_paused_destination_is_owed(tmp_path, archive):
    with RecordingPacs() as other:
        places = {"archive": dimse(archive, alternates=["other"]), "other": dimse(other)}
        bench = Bench(tmp_path, places)
        bench.journal.pause("archive", "", bench.now)
        job = bench.job()
        bench.after(5)
        assert (other.received, bench.state(job)) == ([], JobState.SENDING)


def test_a_paused_alternate_is_not_used(tmp_path, archive):
    with RecordingPacs() as other:
        places = {"archive": dimse(other, port=1, alternates=["other"]), "other": dimse(other)}
        bench = Bench(tmp_path, places)
        bench.journal.pause("other", "", bench.now)
        job = bench.job()
        bench.after(0)
        assert (other.received, bench.state(job)) == ([], JobState.SENDING)
        bench.journal.resume("other", bench.now)
        bench.after(10)
        assert (len(other.received), bench.state(job)) == (2, JobState.DONE)


def test_what_is_on_its_way_stops_after_the_object_at_hand(tmp_path):
    journal = Journal.open(tmp_path)

    def hold(_number, _request) -> int:
        journal.pause("archive", "", after(0))
        return 0x0000

    with RecordingPacs(status=hold) as archive:
        bench = Bench(tmp_path, {"archive": dimse(archive)})
        job = bench.job()
        bench.after(0)
        assert len(archive.received) == 1
        assert len(bench.journal.receipts(job.id)) == 1
        assert bench.journal.status()["deliveries"]["troubled"] == [], "that is no failed try"
        bench.journal.resume("archive", bench.now)
    journal.close()


def test_a_running_node_obeys_and_a_restart_changes_nothing(tmp_path, archive):
    node = toy_node.make_node(tmp_path / "node", archive.port)
    node.start()
    try:
        pause("archive", config=node.config)
        send(small_ct(tmp_path / "ct"), node.port)
        wait_until(lambda: node.status()["jobs"]["sending"] == 1, "there are results")
        time.sleep(1.0)
        assert archive.associations == 0
        node.kill()
        node.start()
        time.sleep(1.0)
        assert archive.associations == 0
        node.run("resume", "archive")
        node.wait_idle()
        assert node.status()["jobs"]["done"] == 1
        assert len(archive.received) == RESULTS_PER_JOB
        assert node.stop() == 0
    finally:
        node.kill()


# ---- what an operator says and sees ----


@pytest.fixture
def config(tmp_path):
    """A configuration with one destination, beside a data folder that a node has used."""
    node = toy_node.make_node(tmp_path / "node", 11112)
    Journal.open(tmp_path / "node" / "data").close()
    return node.config


def test_a_pause_is_told_with_its_reason_on_one_line(config, tmp_path, capsys):
    pause("archive", reason="It moves\n\x1b[2J house. " + "x" * 500, config=config)
    assert "archive is paused since 20" in capsys.readouterr().out
    with closing(Journal.open(tmp_path / "node" / "data")) as journal:
        first, line = standing_lines(journal.status()["destinations"])
        assert first == "archive: nothing owed"
        assert line.startswith("  paused since 20")
        assert ": It moves [2J house. xxx" in line
        assert len(line) < 300
    resume("archive", config=config)
    assert capsys.readouterr().out == "archive is no longer paused.\n"


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_help_names_the_table_that_a_destination_stands_in(command):
    told = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "120"}).output
    assert "Its name in [destinations]." in told


@pytest.mark.parametrize("command", [pause, resume])
def test_a_destination_that_is_not_there_is_an_error_that_names_those_that_are(config, command):
    with pytest.raises(NodeError, match=r"no destination 'archiv'; the destinations are: archive\."):
        command("archiv", config=config)


def test_a_destination_that_was_removed_while_it_was_paused_can_be_resumed(config, capsys):
    pause("archive", config=config)
    text = config.read_text().replace("[destinations.archive]", "[destinations.other]")
    config.write_text(text.replace('["archive"]', '["other"]'))
    resume("archive", config=config)
    assert capsys.readouterr().out.endswith("archive is no longer paused.\n")
    with pytest.raises(NodeError, match="no destination 'archive'"):
        resume("archive", config=config)


def test_what_is_not_proved_is_told_with_since_when_why_and_what_comes_next(tmp_path, archive):
    bench = Bench(tmp_path, {"archive": dimse(archive, proof="commitment", port=1)})
    bench.job()
    bench.configure({"archive": dimse(archive, proof="commitment")})
    bench.deliver()
    bench.configure({"archive": dimse(archive, proof="commitment", port=1)})
    bench.after(2)
    first, second = standing_lines(bench.journal.status()["destinations"])
    assert first == "archive: 2 taken and not proved yet"
    assert second.startswith(
        "  not proved since 2026-11-20T12:00:00Z, next asked at 2026-11-20T12:00:07Z: archive (ARCHIVE at "
        "127.0.0.1:1) cannot be reached"
    )
