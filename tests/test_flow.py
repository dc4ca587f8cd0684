"""A study goes in over a socket, a Segmentation and reports come back over a socket."""

from __future__ import annotations

import json
import os
import subprocess
import time

import pytest

from tests import toy_node
from tests.harness import program, wait_until
from tests.peers import RecordingPacs
from tests.storescp import Storescp
from tests.toy_node import RESULTS_PER_JOB, received, send, small_ct

SEG = "1.2.840.10008.5.1.4.1.1.66.4"


def dcmsend(files, port):
    """Send files by DCMTK; fails unless all are acknowledged."""
    command = [program("dcmsend"), "127.0.0.1", str(port), *map(str, files)]
    subprocess.run(command, check=True, env={"PATH": os.environ["PATH"], "TCP_NODELAY": "1"})


@pytest.fixture
def archive():
    with RecordingPacs() as peer:
        yield peer


@pytest.fixture
def node(tmp_path, archive):
    made = toy_node.make_node(tmp_path / "node", archive.port)
    made.start()
    yield made
    if made.is_running():
        assert made.stop() == 0


def test_a_ct_comes_back_as_segmentation_and_reports_with_the_right_volume(node, archive, tmp_path):
    files = small_ct(tmp_path / "ct")
    assert len(send(files, node.port)) == len(files)
    status = node.wait_idle()
    assert status["jobs"]["done"] == 1
    objects = received(archive)
    assert len(objects) == RESULTS_PER_JOB
    assert archive.received[0].sop_class_uid == SEG, "what is referred to travels first"
    reports = [toy_node.read(r.data) for r in archive.received if r.sop_class_uid != SEG]
    volumes = toy_node.volumes_ml(reports)
    assert volumes
    assert volumes == pytest.approx([toy_node.truth_ml()] * len(volumes), rel=1e-4)


def test_the_same_study_again_is_acknowledged_and_makes_no_second_job(node, archive, tmp_path):
    files = small_ct(tmp_path / "ct")
    send(files, node.port)
    node.wait_idle()
    assert len(send(files, node.port)) == len(files)
    time.sleep(1.5)
    status = node.wait_idle()
    assert sum(status["jobs"].values()) == 1
    assert len(archive.received) == RESULTS_PER_JOB


def test_a_late_slice_makes_a_new_revision_with_results_of_its_own(node, archive, tmp_path):
    files = small_ct(tmp_path / "ct")
    send(files[:-1], node.port)
    node.wait_idle()
    send(files[-1:], node.port)
    wait_until(lambda: node.status()["jobs"]["done"] == 2, "the second revision is done")
    assert len(received(archive)) == 2 * RESULTS_PER_JOB


def test_a_known_uid_with_other_content_is_quarantined_and_never_overwrites(node, tmp_path):
    (file, *_) = small_ct(tmp_path / "one")
    assert len(send([file], node.port)) == 1
    (other, *_) = small_ct(tmp_path / "two", headers={"SeriesDescription": "altered"})
    assert send([other], node.port) == {}
    status = node.status()
    assert (status["instances"], status["quarantined"]) == (1, 1)
    assert len(list((node.folder / "data" / "quarantine").glob("*.dcm"))) == 1


def test_our_own_results_sent_back_start_no_job(node, archive, tmp_path):
    files = small_ct(tmp_path / "ct")
    send(files, node.port)
    node.wait_idle()
    for number, one in enumerate(archive.received):
        result = toy_node.read(one.data)
        result.file_meta = toy_node.pydicom.dataset.FileMetaDataset()
        result.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
        result.save_as(tmp_path / f"back{number}.dcm", enforce_file_format=True)
    dcmsend(tmp_path.glob("back*.dcm"), node.port)
    status = node.wait_idle()
    assert status["instances"] == len(files) + RESULTS_PER_JOB
    assert sum(status["jobs"].values()) == 1
    told = node.run("explain", str(result.SeriesInstanceUID)).stdout
    assert "made by this node" in told


def test_results_wait_for_an_archive_that_is_down(tmp_path):
    with RecordingPacs() as gone:
        port = gone.port
    node = toy_node.make_node(tmp_path / "node", port)
    node.start()
    try:
        send(small_ct(tmp_path / "ct"), node.port)
        wait_until(lambda: node.status()["deliveries"]["troubled"], "a delivery is in trouble")
        with RecordingPacs(port=port) as back:
            assert node.wait_idle()["jobs"]["done"] == 1
            assert len(received(back)) == RESULTS_PER_JOB
    finally:
        node.stop()


@pytest.mark.long
def test_a_refusal_for_good_parks_the_job_until_an_operator_retries(tmp_path):
    with RecordingPacs(status=0xA900) as refusing:
        node = toy_node.make_node(tmp_path / "node", refusing.port)
        node.start()
        send(small_ct(tmp_path / "ct"), node.port)
        status = node.wait_idle()
        assert status["jobs"]["failed"] == 1
        assert status["failed"][0]["code"] == "peer-refused"
        port = refusing.port
    with RecordingPacs(port=port) as archive:
        node.run("retry", "1")
        assert node.wait_idle()["jobs"]["done"] == 1
        assert len(received(archive)) == RESULTS_PER_JOB
    assert node.stop() == 0


def test_dcmtk_sends_and_dcmtk_receives(tmp_path):
    with Storescp(tmp_path / "shelf") as scp:
        node = toy_node.make_node(tmp_path / "node", scp.port)
        node.start()
        try:
            files = small_ct(tmp_path / "ct")
            dcmsend(files, node.port)
            assert node.wait_idle()["jobs"]["done"] == 1
            assert len(scp.stored()) == RESULTS_PER_JOB
        finally:
            assert node.stop() == 0


@pytest.mark.long
def test_sigterm_hands_a_job_back_and_the_next_start_finishes_it(tmp_path, archive):
    node = toy_node.make_node(tmp_path / "node", archive.port)
    node.start(env={"RADNODE_FAILPOINTS": "compute.loaded=sleep:60"})
    send(small_ct(tmp_path / "ct"), node.port)
    wait_until(lambda: node.status()["jobs"]["computing"] == 1, "the job computes")
    begun = time.monotonic()
    assert node.stop() == 0
    assert time.monotonic() - begun < 60
    node.start()
    assert node.wait_idle()["jobs"]["done"] == 1
    assert len(received(archive)) == RESULTS_PER_JOB
    assert node.stop() == 0


@pytest.mark.long
def test_an_operator_cancels_a_job_that_computes(tmp_path, archive):
    node = toy_node.make_node(tmp_path / "node", archive.port)
    node.start(env={"RADNODE_FAILPOINTS": "compute.loaded=sleep:600"})
    try:
        send(small_ct(tmp_path / "ct"), node.port)
        wait_until(lambda: node.status()["jobs"]["computing"] == 1, "the job computes")
        node.run("cancel", "1")
        send(small_ct(tmp_path / "ct2", seed="other"), node.port)
        wait_until(lambda: node.status()["jobs"]["computing"] == 1, "the slot is free for the next job")
        assert node.status()["jobs"]["cancelled"] == 1
        node.run("cancel", "2")
    finally:
        assert node.stop() == 0
    assert received(archive) == {}


def test_two_nodes_cannot_share_a_data_folder(node):
    second = node.run("serve", ok=False)
    assert second.returncode == 2
    assert str(node.pid) in second.stderr


@pytest.mark.long
def test_a_rule_that_is_added_later_gets_the_series_that_no_rule_wanted(node, archive, tmp_path):
    written = node.config.read_text()
    node.stop()
    node.config.write_text(written.partition("[[rules]]")[0])
    node.start()
    send(small_ct(tmp_path / "ct"), node.port)
    assert node.wait_idle()["unrouted"]["count"] == 1
    assert node.stop() == 0
    node.config.write_text(written)
    node.start()
    wait_until(lambda: node.status()["jobs"]["done"] == 1, "what we held all along is analysed")
    assert node.status()["unrouted"]["count"] == 0
    assert len(received(archive)) == RESULTS_PER_JOB


def test_explain_and_status_say_why_nothing_was_done(node, tmp_path):
    files = small_ct(tmp_path / "ct", headers={"ImageType": ["DERIVED", "SECONDARY"]})
    send(files, node.port)
    status = node.wait_idle()
    (series,) = status["unrouted"]["series"]
    assert "ImageType" in series["reason"]
    assert json.loads(node.run("status", "--json").stdout)["unrouted"] == status["unrouted"]
    told = node.run("status").stdout  # in a pipe, where a table would be 80 columns wide
    assert "unrouted" in told and f"  {series['series_uid']}: " in told
    told = node.run("explain", series["series_uid"]).stdout
    assert "DERIVED" in told
    assert "ImageType" in told
    assert "no match" in node.run("explain", str(tmp_path / "ct")).stdout


def test_no_log_line_no_journal_and_no_file_name_holds_a_patient(node, tmp_path):
    canary = "CANARY"
    send(
        small_ct(tmp_path / "ct", patient_name=f"{canary}^Simulated", headers={"PatientID": canary}),
        node.port,
    )
    node.wait_idle()
    assert node.stop() == 0
    assert canary not in node.log.read_text()
    data = node.folder / "data"
    for file in data.rglob("*"):
        assert canary not in file.name
    for journal in data.glob("journal.sqlite*"):
        assert canary.encode() not in journal.read_bytes()
    for manifest in data.rglob("manifest.json"):
        assert canary not in manifest.read_text()
