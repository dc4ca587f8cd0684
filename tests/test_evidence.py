"""Whether a series is whole: a real node, DCMTK as the senders, Orthanc as the archive that counts."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE

from node import evidence
from node.config import Config, read_config
from node.flow import Node
from node.journal import Journal
from node.model import Settling
from tests import archives, toy_case
from tests.harness import NodeProcess, wait_until
from tests.journal_makers import an_instance
from tests.orthanc import Orthanc, missing
from tests.peers import DeafPacs, RecordingPacs
from tests.proof_bench import Bench
from tests.toy_node import make_node, read, small_ct, uid_of_file
from tests.web_peers import Says, WebPeer

needs_orthanc = pytest.mark.skipif(missing() is not None, reason=f"apt-get install {missing()}")
needs_dcmtk = pytest.mark.skipif(shutil.which("storescu") is None, reason="apt-get install dcmtk")
pytestmark = [needs_orthanc, needs_dcmtk, pytest.mark.long]

QUIET_S = 1.0  #: so that a quiet moment is 0.2 s, and patience 6 s


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory):
    with Orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        archives.make_known(running)
        yield running


@pytest.fixture(scope="module")
def viewer():
    """Where results go."""
    with RecordingPacs() as peer:
        yield peer


def source(name: str, table: dict[str, object]) -> str:
    return "".join(
        [f"\n[sources.{name}]\n", *(f"{key} = {json.dumps(value)}\n" for key, value in table.items())]
    )


def started(folder: Path, viewer: RecordingPacs, sources: str, incomplete: str = "proceed", more: str = ""):
    """Return a node that runs and that asks these archives."""
    node = make_node(folder, viewer.port, quiet_s=QUIET_S)
    text = node.config.read_text().replace("[assemble]\n", f'[assemble]\nincomplete = "{incomplete}"\n')
    node.config.write_text(text + sources + more)
    node.start()
    return node


@pytest.fixture(scope="module")
def node(tmp_path_factory, orthanc, viewer):
    """A node that asks an archive by C-FIND, for most of the tests: each sends a series of its own."""
    tables = source("ARCHIVE", archives.dimse_source(orthanc))
    made = started(tmp_path_factory.mktemp("node") / "node", viewer, tables)
    yield made
    made.kill()


def storescu(files: Iterable[Path], node: NodeProcess, program: str = "storescu") -> subprocess.Popen:
    """Begin to send files on an association of their own, as a scanner would."""
    command = [program, "-aec", "RADNODE", "127.0.0.1", str(node.port), *map(str, files)]
    return subprocess.Popen(command, env={"PATH": os.environ["PATH"], "TCP_NODELAY": "1"})


def sent(files: Iterable[Path], node: NodeProcess) -> None:
    assert storescu(files, node).wait(30) == 0


def series_of(file: Path) -> str:
    return str(pydicom.dcmread(file, specific_tags=["SeriesInstanceUID"]).SeriesInstanceUID)


@contextmanager
def journal_of(node: NodeProcess) -> Iterator[Journal]:
    journal = Journal.open(node.folder / "data", create=False)
    try:
        yield journal
    finally:
        journal.close()


def settled(node: NodeProcess, uid: str, revision: int = 1) -> Settling:
    """Wait until a revision of a series has settled; return what decided."""
    with journal_of(node) as journal:
        found = wait_until(lambda: journal.settlings(uid)[revision - 1 :], f"revision {revision} settles", 30)
    return found[0].settling


def waits(node: NodeProcess, uid: str) -> str:
    """Return what ``radnode status`` says that a series waits for; "" where it does not arrive."""
    with journal_of(node) as journal:
        told = evidence.status(journal, read_config(node.config), datetime.now(UTC))["arriving"]
    return next((one["waits"] for one in told if one["series_uid"] == uid), "")


def waits_for(node: NodeProcess, uid: str, words: str) -> None:
    wait_until(lambda: words in waits(node, uid), f"{uid} waits: {words}", 30)


def jobs_of(node: NodeProcess, uid: str) -> list[dict[str, object]]:
    with journal_of(node) as journal:
        return journal.jobs_of(uid)


def ended(node: NodeProcess, uid: str, count: int = 1) -> list[dict[str, object]]:
    def all_ended() -> list[dict[str, object]]:
        found = jobs_of(node, uid)
        states = [one["state"] for one in found]
        return found if len(found) == count and not {"queued", "computing", "sending"} & set(states) else []

    return wait_until(all_ended, "its jobs end", 60)


def sentences(viewer: RecordingPacs, series_uid: str) -> list[str]:
    """Return every text that the reports on a series hold."""
    found: list[str] = []

    def walk(item) -> None:
        for child in item.get("ContentSequence", []):
            found.extend([str(child.TextValue)] if "TextValue" in child else [])
            walk(child)

    for one in viewer.received:
        report = read(one.data)
        evidence = report.get("CurrentRequestedProcedureEvidenceSequence", [])
        series = {s.SeriesInstanceUID for study in evidence for s in study.ReferencedSeriesSequence}
        if series_uid in series:
            walk(report)
    return found


def test_series_interleaved_over_three_associations_settle_once_each_by_what_the_archive_counts(
    node, orthanc, tmp_path
):
    series = [small_ct(tmp_path / str(n), seed=f"interleaved {n}", slices=9) for n in range(3)]
    orthanc.store(*(file for files in series for file in files))
    mixed = [file for three in zip(*series, strict=True) for file in three]
    senders = [storescu(mixed[which::3][::-1], node) for which in (0, 1, 2)]
    shuffled = [storescu(mixed[which:][::4], node, "dcmsend") for which in (1, 2)]
    assert [sender.wait(30) for sender in (*senders, *shuffled)] == [0] * 5
    for files in series:
        uid = series_of(files[0])
        told = settled(node, uid)
        assert (told.by, told.held, told.counts) == ("count", 9, {"ARCHIVE": 9})
        assert told.sentence == "All 9 instances that ARCHIVE counts are here."
        (job,) = ended(node, uid)
        assert job["state"] == "done"
        with journal_of(node) as journal:
            assert len(journal.settlings(uid)) == 1


def test_a_pause_longer_than_the_quiet_time_is_waited_through_while_the_archive_counts_more(
    node, orthanc, viewer, tmp_path
):
    files = small_ct(tmp_path, seed="pause")
    uid = series_of(files[0])
    orthanc.store(*files)
    sent(files[:5], node)
    waits_for(
        node, uid, "ARCHIVE counts 8 and 5 came. The others are waited for until nothing new came for 6 s."
    )
    time.sleep(1.5 * QUIET_S)
    assert waits(node, uid), "longer than the quiet time"
    sent(files[5:], node)
    assert settled(node, uid).sentence == "All 8 instances that ARCHIVE counts are here."
    ended(node, uid)
    assert not [one for one in sentences(viewer, uid) if "whole" in one]


def test_a_late_slice_is_a_new_revision_with_evidence_of_its_own(node, orthanc, tmp_path):
    files = small_ct(tmp_path, seed="late", slices=9)
    uid = series_of(files[0])
    orthanc.store(*files[:8])
    sent(files[:8], node)
    assert settled(node, uid).counts == {"ARCHIVE": 8}
    ended(node, uid)
    orthanc.store(files[8])
    sent(files[8:], node)
    told = settled(node, uid, 2)
    assert (told.by, told.held, told.counts) == ("count", 9, {"ARCHIVE": 9})
    first, second = ended(node, uid, 2)
    assert first["superseded_by"] == second["job"]
    lines = node.run("explain", uid).stdout.splitlines()
    assert [line.split("Z: ")[1] for line in lines if line.startswith("  revision ")] == [
        "All 8 instances that ARCHIVE counts are here.",
        "All 9 instances that ARCHIVE counts are here.",
    ]


def test_what_never_comes_is_gone_without_and_the_report_says_so(node, orthanc, viewer, tmp_path):
    files = small_ct(tmp_path, seed="never")
    uid = series_of(files[0])
    orthanc.store(*files)
    sent(files[:6], node)
    told = settled(node, uid)
    assert told.by == "patience"
    assert told.sentence == (
        "Nothing new for 6 s although ARCHIVE counts 8 and 6 came: it goes on with a caution."
    )
    (job,) = ended(node, uid)
    assert job["state"] == "done"
    said = "Images: the series is not whole: ARCHIVE counts 8 instances, 6 came."
    assert said in sentences(viewer, uid)
    (one,) = [one for one in node.status()["incomplete"] if one["series_uid"] == uid]
    assert one["counts"] == {"ARCHIVE": 8}
    assert "Last series that went on without what an archive counts" in node.run("status").stdout

    sent(files[6:], node)  # after all
    assert settled(node, uid, 2).by == "count"
    ended(node, uid, 2)
    assert uid not in [one["series_uid"] for one in node.status()["incomplete"]]


def test_an_association_that_is_open_holds_back_what_it_brought(node, tmp_path):
    files = small_ct(tmp_path, seed="open")
    uid = series_of(files[0])
    scanner = AE("SCANNER")
    scanner.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = scanner.associate("127.0.0.1", node.port, ae_title="RADNODE")
    for file in files[:5]:
        assert association.send_c_store(pydicom.dcmread(file)).Status == 0x0000
    time.sleep(1.5 * QUIET_S)
    assert waits(node, uid), "longer than the quiet time"
    for file in files[5:]:
        assert association.send_c_store(pydicom.dcmread(file)).Status == 0x0000
    association.release()
    told = settled(node, uid)
    assert (told.by, told.held, told.associations) == ("quiet", 8, 0)
    with journal_of(node) as journal:
        assert len(journal.settlings(uid)) == 1


def test_what_the_archive_does_not_know_settles_by_the_clock_and_the_report_says_so(node, viewer, tmp_path):
    files = small_ct(tmp_path, seed="unknown")
    uid = series_of(files[0])
    sent(files, node)
    told = settled(node, uid)
    assert (told.by, told.counts) == ("quiet", {"ARCHIVE": 0})
    assert told.sentence == "Nothing new for 1 s; ARCHIVE could not say how many there are."
    ended(node, uid)
    said = "Images: whether the series is whole is not known: ARCHIVE could not say."
    assert said in sentences(viewer, uid)


@pytest.mark.slow
def test_a_series_that_is_not_whole_is_refused_where_the_configuration_says_so(orthanc, viewer, tmp_path):
    """The archive is asked by QIDO-RS."""
    tables = source("CLOUD", archives.web_source(orthanc.port))
    node = started(tmp_path / "node", viewer, tables, "refuse")
    try:
        files, whole = (small_ct(tmp_path / seed, seed=seed) for seed in ("refused", "whole"))
        uid = series_of(files[0])
        orthanc.store(*files, *whole)
        sent([*files[:7], *whole], node)
        assert settled(node, series_of(whole[0])).counts == {"CLOUD": 8}
        (job,) = ended(node, uid)
        assert (job["state"], job["code"]) == ("refused", "series-incomplete")
        assert job["reason"] == "Nothing new for 6 s although CLOUD counts 8 and 7 came: it is refused."
        sent(files[7:], node)
        refused, done = ended(node, uid, 2)
        assert (refused["state"], done["state"]) == ("refused", "done")
    finally:
        node.kill()


@pytest.mark.slow
def test_what_does_not_come_is_waited_for_until_the_archive_loses_it_or_an_operator_says_so(
    orthanc, viewer, tmp_path
):
    tables = source("ARCHIVE", archives.dimse_source(orthanc))
    node = started(tmp_path / "node", viewer, tables, "wait")
    try:
        lost, ordered = (small_ct(tmp_path / seed, seed=seed) for seed in ("lost", "ordered"))
        orthanc.store(*lost, *ordered)
        sent([*lost[:7], *ordered[:6]], node)
        uids = series_of(lost[0]), series_of(ordered[0])
        time.sleep(6.5 * QUIET_S)
        why = "ARCHIVE counts 8 and 7 came. It waits until the others come, or an operator settles it."
        waits_for(node, uids[0], why)
        assert f"{uids[0]}  7 instances: {why}" in node.run("status").stdout
        assert f"  {why}" in node.run("explain", uids[0]).stdout
        assert node.run("settle", uids[1]).stdout == f"Series {uids[1]} goes on with the 6 instances held.\n"
        told = settled(node, uids[1])
        assert (told.by, told.counts) == ("operator", {"ARCHIVE": 8})
        assert "any more, although ARCHIVE counts 8 and 6 came" in node.run("explain", uids[1]).stdout
        assert [one["counts"] for one in node.status()["incomplete"]] == [{"ARCHIVE": 8}]
        ended(node, uids[1])
        assert any("ARCHIVE counts 8 instances, 6 came" in one for one in sentences(viewer, uids[1]))
        _, found = orthanc.ask("POST", "/tools/lookup", uid_of_file(lost[7]).encode())
        (instance,) = [one["ID"] for one in json.loads(found) if one["Type"] == "Instance"]
        assert orthanc.ask("DELETE", f"/instances/{instance}")[0] == 200
        assert settled(node, uids[0]).sentence == "All 7 instances that ARCHIVE counts are here."
    finally:
        node.kill()


def test_an_archive_that_hangs_delays_nothing_and_is_complained_of_once(orthanc, viewer, tmp_path):
    with DeafPacs() as deaf:
        silent = {"transport": "dimse", "ae_title": "DEAF", "host": "127.0.0.1", "port": deaf.port}
        tables = source("DEAF", {**silent, "timeout_s": 1.0})
        tables += source("ARCHIVE", archives.dimse_source(orthanc))
        node = started(tmp_path / "node", viewer, tables)
        try:
            for seed in ("first", "second"):
                files = small_ct(tmp_path / seed, seed=f"hangs {seed}")
                orthanc.store(*files)
                sent(files, node)
                assert settled(node, series_of(files[0])).counts == {"ARCHIVE": 8}
            wait_until(lambda: "no_counts" in node.log.read_text(), "it is complained of", 10)
            assert node.log.read_text().count("no_counts") == 1
        finally:
            node.kill()


def test_a_series_that_an_archive_keeps_to_itself_does_not_hide_the_others(tmp_path):
    """It is asked about each in its turn, also where it never answers about the first."""

    def secretive(_number, asked):
        series_uid = re.search(r"SeriesInstanceUID=([0-9.]+)", asked.target)[1]
        if series_uid == "1.2.1":
            return Says(403)
        found = {"0020000E": series_uid, "00201209": 7}
        elements = {tag: {"vr": "UI", "Value": [value]} for tag, value in found.items()}
        return Says(200, json.dumps([elements]).encode(), {"Content-Type": "application/dicom+json"})

    with WebPeer(secretive) as peer:
        one = Bench(tmp_path, {})
        sources = {"ARCHIVE": {"transport": "web", "url": peer.url, "counts": True}}
        one.node = Node(**{**vars(one.node), "config": Config.model_validate({"sources": sources})})
        for number in (1, 2, 3):
            one.journal.record(an_instance(1, series=f"1.2.{number}", at=one.now))
        ask = evidence.counter(one.node, "ARCHIVE")
        for _ in range(3):
            one.now += timedelta(seconds=evidence.SILENT_PAUSE_S + 1)
            ask()
        said = {series.series_uid: [c.instances for c in series.counts] for series in one.journal.arriving()}
        one.journal.close()
    assert said == {"1.2.1": [], "1.2.2": [7], "1.2.3": [7]}


PRIORS = """
[[rules]]
name = "change"
pipeline = "toy-change"
send_to = ["archive"]
wait_s = 600
"""


def test_a_prior_that_comes_after_the_current_study_and_in_pieces_makes_one_case(orthanc, viewer, tmp_path):
    folder = tmp_path / "node"
    more = toy_case.install(folder, toy_case.CHANGE) + PRIORS
    tables = source("ARCHIVE", archives.dimse_source(orthanc))
    node = started(folder, viewer, tables, more=more)
    try:
        current = toy_case.write_ct(tmp_path / "current", "20240105")
        prior = toy_case.write_ct(tmp_path / "prior", "20210203")
        orthanc.store(*current, *prior)
        sent([prior[0], *current], node)
        assert settled(node, series_of(current[0])).counts == {"ARCHIVE": 2}
        waits_for(node, series_of(prior[0]), "ARCHIVE counts 2 and 1 came")
        done = [one for one in jobs_of(node, series_of(current[0])) if one["pipeline"] == "toy-change"]
        assert [one["state"] for one in done] == ["queued"], "it lacks the prior, which still comes"
        sent(prior[1:], node)
        assert settled(node, series_of(prior[0])).by == "count"

        def case():
            found = [one for one in jobs_of(node, series_of(current[0])) if one["pipeline"] == "toy-change"]
            return found if "done" in [one["state"] for one in found] else []

        states = {len(one["inputs"]): one["state"] for one in wait_until(case, "the case is done", 60)}
        assert states == {1: "cancelled", 2: "done"}
    finally:
        node.kill()
