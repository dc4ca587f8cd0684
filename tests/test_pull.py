"""A node that fetches: on request, what appears in an archive, and the priors that cases lack.

The same in one process, and faster, is in tests/pull.
"""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pydicom
import pytest

from node.journal import Journal
from tests import archives, toy_case
from tests.harness import NodeProcess, wait_until
from tests.orthanc import Orthanc, missing
from tests.peers import RecordingPacs
from tests.test_cases_node import counted, storescu
from tests.toy_node import SERVED, read

pytestmark = pytest.mark.skipif(missing() is not None, reason=f"apt-get install {missing()}")

RULE = """\
[[rules]]
name = "change"
pipeline = "toy-change"
send_to = ["archive"]
wait_s = {wait_s}
"""


def table(name: str, values: dict[str, object]) -> str:
    """Return a table of a configuration file."""
    return f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


@pytest.fixture
def archive():
    with RecordingPacs() as peer:
        yield peer


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory):
    with Orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


@pytest.fixture
def make_node(tmp_path, archive, orthanc):
    """Return what makes and starts a node that takes two studies of a patient, and knows Orthanc."""
    made = []

    def make(source: dict[str, object], *, watch: dict[str, object] | None = None, wait_s=600) -> NodeProcess:
        folder = tmp_path / "node"
        folder.mkdir()
        toys = toy_case.install(folder, toy_case.CHANGE)
        sources = table("sources.pacs", source)
        if watch:
            match = {"PatientID": watch.pop("PatientID"), "StudyDate": watch.pop("StudyDate")}
            sources += table("sources.pacs.watch", watch) + table("sources.pacs.watch.match", match)
        config = SERVED.format(quiet_s=0.5, pipelines=toys, port=archive.port)
        node = NodeProcess(folder, config + RULE.format(wait_s=wait_s) + sources)
        made.append(node)
        node.start()
        archives.make_known(orthanc, port=node.port)
        return node

    yield make
    for node in made:
        if node.is_running():
            node.kill()


def source_of(orthanc: Orthanc, kind: str, **more: object) -> dict[str, object]:
    if kind == "web":
        return archives.web_source(orthanc.port, **more)
    return archives.dimse_source(orthanc, retrieve=kind, **more)


def study_of(files: list[Path]) -> str:
    return str(pydicom.dcmread(files[0]).StudyInstanceUID)


def series_of(files: list[Path]) -> str:
    return str(pydicom.dcmread(files[0]).SeriesInstanceUID)


def jobs_of(node: NodeProcess, files: list[Path]) -> list[dict]:
    with closing(Journal.open(node.folder / "data", create=False)) as journal:
        return journal.jobs_of(series_of(files))


@pytest.mark.parametrize(
    "kind", ["move", *(pytest.param(one, marks=pytest.mark.slow) for one in ("get", "web"))]
)
def test_a_prior_is_fetched_for_a_case_that_lacks_one_and_starts_nothing_itself(
    kind: str, make_node, orthanc, archive, tmp_path
) -> None:
    patient = f"PRIOR-{kind}"
    years = {
        year: toy_case.write_ct(tmp_path / year, f"{year}0607", number=int(year[-1]), PatientID=patient)
        for year in ("2022", "2023", "2025", "2026")
    }
    other = toy_case.write_ct(tmp_path / "other", "20240607", PatientID=f"{patient}9")
    for files in (years["2022"], years["2023"], years["2026"], other):
        orthanc.store(*files)
    node = make_node(source_of(orthanc, kind, priors=True))
    assert storescu(years["2025"], node)
    wait_until(lambda: archive.received, "the report comes")
    status = node.wait_idle()
    (report,) = [read(one.data) for one in archive.received]
    assert counted(report).keys() == {"current", "prior"}
    assert report.StudyInstanceUID == study_of(years["2025"])
    bound = {one["role"]: one["series_uid"] for one in jobs_of(node, years["2025"])[-1]["inputs"]}
    assert bound == {"current": series_of(years["2025"]), "prior": series_of(years["2023"])}
    assert status["jobs"]["done"] == 1 and status["jobs"]["queued"] == 0 and not status["waiting"]
    assert status["pulls"]["failed"] == 0 and status["pulls"]["done"] >= 1
    # Neither of the earlier studies began a case of its own, nor is there one of another patient.
    assert status["jobs"]["refused"] == 0
    assert status["series"] <= 3
    assert "fetched as an earlier study" in node.run("explain", series_of(years["2023"])).stdout
    if kind == "get":  # sent by somebody, the earlier one is looked at for itself
        assert storescu(years["2023"], node)
        wait_until(lambda: node.status()["waiting"] or node.status()["jobs"]["done"] > 1, "a case of its own")
        wait_until(lambda: node.status()["jobs"]["done"] == 2, "with 2022 as its prior")


@pytest.mark.slow
def test_where_no_prior_is_found_the_refusal_says_where_was_looked(make_node, orthanc, tmp_path) -> None:
    files = toy_case.write_ct(tmp_path / "a", "20250607", PatientID="WITHOUT-ANY")
    node = make_node(source_of(orthanc, "get", priors=True), wait_s=8)
    assert storescu(files, node)
    (refused,) = wait_until(lambda: node.status()["refused"], "it is refused")
    assert refused["code"] == "input-missing"
    assert "It was looked for in pacs (which has none)." in refused["reason"]


@pytest.mark.slow
def test_pull_brings_a_study_and_the_same_again_brings_nothing(make_node, orthanc, tmp_path) -> None:
    files = toy_case.write_ct(tmp_path / "a", "20210607", PatientID="PULLED")
    orthanc.store(*files)
    node = make_node(source_of(orthanc, "move"))
    done = node.run("pull", study_of(files), "--from", "pacs")
    assert f"here study {study_of(files)}, 2 instances" in done.stdout
    status = node.status()
    assert status["instances"] == 2 and status["pulls"]["done"] == 1
    assert node.run("pull", study_of(files)).returncode == 0
    assert node.status()["instances"] == 2
    gone = node.run("pull", "1.2.3.404", ok=False)
    assert gone.returncode == 1 and "has no study 1.2.3.404" in gone.stdout
    assert "PULLED" not in node.log.read_text() and "PULLED" not in json.dumps(node.status())


@pytest.mark.slow
def test_pull_by_match_lists_what_it_found_and_names_nobody(make_node, orthanc, tmp_path) -> None:
    for day in ("20200101", "20200102"):
        orthanc.store(*toy_case.write_ct(tmp_path / day, day, PatientID="MATCHED"))
    node = make_node(source_of(orthanc, "web"))
    match = ("--match", "PatientID=MATCHED, StudyDate=20200101-20200131")
    asked = node.run("pull", *match, ok=False)
    assert asked.returncode == 1 and "2020" in asked.stdout and node.status()["instances"] == 0
    assert "Phantom" not in asked.stdout
    assert node.run("pull", *match, "--yes").returncode == 0
    assert node.status()["instances"] == 4
    for wrong, told in [("PatientID=NOBODY", "has no study"), ("Nonsense=1", "no DICOM keyword")]:
        done = node.run("pull", "--match", wrong, ok=False)
        assert done.returncode != 0 and told in done.stderr


@pytest.mark.slow
def test_where_no_node_runs_pull_says_so(make_node, orthanc, tmp_path) -> None:
    files = toy_case.write_ct(tmp_path / "a", "20190607", PatientID="LATER")
    orthanc.store(*files)
    node = make_node(source_of(orthanc, "get"))
    node.stop()
    done = node.run("pull", study_of(files), ok=False)
    assert done.returncode == 1 and "No node runs on" in done.stderr
    assert node.run("pull", study_of(files), "--no-wait").returncode == 0
    node.start()  # what was asked for outlives it
    wait_until(lambda: node.status()["pulls"]["done"] == 1, "it is fetched")
    assert node.status()["instances"] == 2


@pytest.mark.slow
def test_studies_that_appear_are_fetched_once_and_again_when_they_grow(make_node, orthanc, tmp_path) -> None:
    files = toy_case.write_ct(tmp_path / "a", "20180607", PatientID="WATCHED")
    watch = {"every_s": 0.5, "days": 1, "PatientID": "WATCHED", "StudyDate": "20180101-20181231"}
    orthanc.store(files[0])
    node = make_node(source_of(orthanc, "get"), watch=watch)
    wait_until(lambda: node.status()["instances"] == 1, "the study is seen and fetched")
    orthanc.store(files[1])
    wait_until(lambda: node.status()["instances"] == 2, "it has grown")
    wait_until(lambda: node.status()["pulls"]["done"] == 2, "both requests have ended")
    orthanc_port = orthanc.dicom_port
    text = node.config.read_text()
    node.stop()
    node.config.write_text(text.replace(f"port = {orthanc_port}", "port = 1"))
    node.start()
    told = wait_until(lambda: node.status()["pulls"]["sources"], "that it cannot be asked is told")
    assert "cannot be reached" in told["pacs"]
    assert "pacs cannot be asked" in node.run("status").stdout
