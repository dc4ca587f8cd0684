"""Cases through a node of its own process: what a scanner sends, what an archive gets back."""

from __future__ import annotations

import os
import subprocess

import pydicom
import pytest

from tests import toy_case
from tests.encode.judges import dciodvfy_errors, needs_dciodvfy
from tests.harness import NodeProcess, program, wait_until
from tests.paths import SHARED, needs_shared
from tests.peers import RecordingPacs
from tests.toy_case import ROLES, write_mr
from tests.toy_node import SERVED, read

pytestmark = pytest.mark.long

RULES = """\
[[rules]]
name = "tumours"
pipeline = "toy-tumour"
send_to = ["archive"]
wait_s = {wait_s}
[[rules]]
name = "change"
pipeline = "toy-change"
send_to = ["archive"]
wait_s = {wait_s}
"""


def make_node(folder, port, wait_s=600):
    folder.mkdir()
    toys = "".join(toy_case.install(folder, card) for card in (toy_case.TUMOUR, toy_case.CHANGE))
    config = SERVED.format(quiet_s=0.5, pipelines=toys, port=port)
    return NodeProcess(folder, config + RULES.format(wait_s=wait_s))


def storescu(files, node):
    """Send files by DCMTK, as a scanner would."""
    command = [program("storescu"), "-aec", "RADNODE", "127.0.0.1", str(node.port), *map(str, files)]
    return subprocess.run(command, env={"PATH": os.environ["PATH"], "TCP_NODELAY": "1"}).returncode == 0


def counted(report):
    """Return what the report says: role -> number of bright voxels."""
    found = {}

    def walk(item):
        for child in item.get("ContentSequence", []):
            meaning = (
                child.ConceptNameCodeSequence[0].CodeMeaning if "ConceptNameCodeSequence" in child else ""
            )
            if child.ValueType == "NUM" and meaning.startswith("Bright in "):
                value = child.MeasuredValueSequence[0].NumericValue
                found[meaning.removeprefix("Bright in ")] = float(value)
            walk(child)

    walk(report)
    return found


@pytest.fixture
def archive():
    with RecordingPacs() as peer:
        yield peer


@pytest.fixture
def node(tmp_path, archive):
    made = make_node(tmp_path / "node", archive.port)
    yield made
    if made.is_running():
        made.kill()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return {role: write_mr(folder / role, role) for role in ROLES}


def reports_of(archive):
    return [read(one.data) for one in archive.received]


def test_four_series_of_a_study_give_one_report_and_a_late_one_a_new_one(node, archive, study, tmp_path):
    node.start()
    for role in ("flair", "t1c", "t1"):
        assert storescu(study[role], node)
    wait_until(lambda: len(node.status()["waiting"]) == 1 and not node.status()["arriving"], "it waits")
    told = node.run("status").stdout
    assert "t1c: series 7 (..." in told
    assert "No series of the study fits role 't2': Modality is MR; SeriesDescription is T2*." in told
    assert archive.received == []
    assert storescu(study["t2"], node)
    node.wait_idle()
    (report,) = reports_of(archive)
    assert counted(report) == {role: float(number) for role, number in toy_case.NUMBERS.items()}
    (evidence,) = report.CurrentRequestedProcedureEvidenceSequence
    assert len(evidence.ReferencedSeriesSequence) == 4

    more = write_mr(tmp_path / "more", "t2", slices=4)
    assert storescu(more[-1:], node)
    wait_until(lambda: node.status()["jobs"]["done"] == 2, "the later slice is looked at too")
    newer = wait_until(lambda: reports_of(archive)[1:], "its report comes")[0]
    assert [
        sop.ReferencedSOPInstanceUID
        for entry in newer.PredecessorDocumentsSequence
        for one in entry.ReferencedSeriesSequence
        for sop in one.ReferencedSOPSequence
    ] == [report.SOPInstanceUID]
    explained = node.run("explain", str(more[0].parent)).stdout
    assert "t2: Series 4;" in explained
    assert "flair: none;" in explained, "the folder holds just one"
    held = node.run("explain", pydicom.dcmread(study["t1"][0]).SeriesInstanceUID).stdout
    assert "COMPLETE  tumours" in held
    assert "superseded by job" in held


def test_one_that_never_comes_is_refused_after_the_wait(tmp_path, archive, study):
    node = make_node(tmp_path / "node", archive.port, wait_s=1)
    node.start()
    try:
        for role in ("t1", "t1c", "t2"):
            assert storescu(study[role], node)
        status = wait_until(lambda: node.status()["refused"] and node.status(), "it is refused")
    finally:
        node.kill()
    (refused,) = status["refused"]
    assert refused["code"] == "input-missing"
    assert "role 'flair'" in refused["reason"]
    assert archive.received == []


def test_a_folder_is_analysed_with_all_that_is_there_or_with_series_named_by_hand(node, study, tmp_path):
    folder = study["t1"][0].parents[1]
    out = ["--out", str(tmp_path / "out"), "--pipeline", "toy-tumour"]
    told = node.run("analyze", str(folder / "t1"), *out, "--input", f"flair={folder / 'flair'}").stdout
    assert told.startswith("refused toy-tumour")
    assert "role 't1c'" in told
    assert "role 'flair'" not in told

    swapped = ["--input", f"flair={folder / 't2'}", "--input", f"t2={folder / 'flair'}"]
    told = node.run("analyze", str(folder), *out, *swapped).stdout
    assert told.count("done toy-tumour") == 1
    assert all(f"as {role}" in told for role in ROLES)
    assert "not routed" not in told
    values = {line.split()[4]: line.split()[6] for line in told.splitlines() if "Bright in" in line}
    assert values == {"t1": "3.0", "t1c": "7.0", "t2": "5.0", "flair": "4.0"}, "as was said by hand"

    for word, why in {
        f"flar={folder / 't1'}": "has no input 'flar'; it has: t1, t1c, t2, flair",
        f"flair={folder}": "holds 4 series; name a file or folder that holds just one",
        "flair": "is not ROLE=PATH",
    }.items():
        done = node.run("analyze", str(folder), *out, "--input", word, ok=False)
        assert done.returncode == 2
        assert why in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.parametrize("name", ["assign.planned", "assign.enqueued"])
def test_killed_while_a_case_is_planned_there_is_still_one_job_of_it(name, node, archive, study, tmp_path):
    once = tmp_path / "once"
    once.mkdir()
    node.start()
    for role in ("t1", "t1c", "t2"):
        assert storescu(study[role], node)
    wait_until(lambda: node.status()["waiting"] and not node.status()["arriving"], "it waits")
    assert node.stop() == 0
    faults = {"RADNODE_FAILPOINTS": f"{name}=kill", "RADNODE_FAILPOINTS_ONCE": str(once)}
    node.start(env=faults)
    storescu(study["flair"], node)
    node.wait_dead()
    node.start(env=faults)
    storescu(study["flair"], node)
    node.wait_idle()
    jobs = node.status()["jobs"]
    assert (jobs["done"], jobs["refused"], jobs["failed"]) == (1, 0, 0)
    assert len(archive.received) == 1


@needs_shared
@needs_dciodvfy
@pytest.mark.parametrize("first", ["current", pytest.param("prior", marks=pytest.mark.slow)])
def test_a_real_current_and_prior_study_are_one_case(first, node, archive, tmp_path):
    folder = SHARED / "ct_chest_prior_current" / "A002304"
    studies = {"prior": "19001231", "current": "19010112"}
    node.start()
    for which in (first, *(studies.keys() - {first})):
        assert storescu(sorted(folder.glob(f"*/{studies[which]}-*.dcm")), node)
        wait_until(lambda: node.status()["series"] and not node.status()["arriving"], "it has settled")
    wait_until(lambda: node.status()["jobs"]["done"], "the case is done")
    status = node.status()
    (waits,) = status["waiting"]
    assert "no earlier study of the patient" in waits["reason"] or "of later studies" in waits["reason"]
    (report,) = reports_of(archive)
    assert report.StudyDate == "19010112", "results are filed in the current study"
    assert counted(report).keys() == {"current", "prior"}
    (mine,) = report.CurrentRequestedProcedureEvidenceSequence
    (other,) = report.PertinentOtherEvidenceSequence
    assert mine.StudyInstanceUID == report.StudyInstanceUID != other.StudyInstanceUID
    report.file_meta = pydicom.dataset.FileMetaDataset()
    report.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    report.save_as(tmp_path / "report.dcm", enforce_file_format=True)
    assert dciodvfy_errors(tmp_path / "report.dcm") == []
    assert b"A002304" not in node.log.read_bytes()
