"""A newer run on a series supersedes the earlier one: it says so, and stands beside it."""

from __future__ import annotations

import pydicom
import pytest
from pydicom.dataset import Dataset

from pipelines.contract import folder_digest
from tests import toy_node
from tests.encode.judges import dciodvfy_errors, needs_dciodvfy
from tests.harness import wait_until
from tests.peers import RecordingPacs
from tests.toy_node import RESULTS_PER_JOB, read, send, small_ct

pytestmark = pytest.mark.long


def upgrade(node) -> None:
    """Give the toy pipeline a new version, and approve it."""
    toy = node.folder / "toy_threshold"
    before = folder_digest(toy)
    card = (toy / "card.toml").read_text()
    (toy / "card.toml").write_text(card.replace('version = "1.0.0"', 'version = "2.0.0"'))
    node.config.write_text(node.config.read_text().replace(before, folder_digest(toy)))


def tracking_uids(objects: list[Dataset]) -> set[str]:
    told = {str(e.value) for one in objects for e in one.iterall() if e.keyword == "TrackingUID"}
    for one in objects:
        for item in (e for e in one.iterall() if e.keyword == "ContentSequence"):
            told |= {
                str(child.UID)
                for child in item.value
                if child.ValueType == "UIDREF" and child.ConceptNameCodeSequence[0].CodeValue == "112040"
            }
    return told


def superseded(report: Dataset) -> set[tuple[str, str]]:
    """Return (series, instance) of every predecessor, all in the report's own study."""
    found = set()
    for study in report.get("PredecessorDocumentsSequence", ()):
        assert study.StudyInstanceUID == report.StudyInstanceUID
        for series in study.ReferencedSeriesSequence:
            for reference in series.ReferencedSOPSequence:
                found.add((series.SeriesInstanceUID, reference.ReferencedSOPInstanceUID))
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return what an archive was given by version 1, by version 2 after a late slice, and what is told."""
    folder = tmp_path_factory.mktemp("supersede")
    files = small_ct(folder / "ct")
    with RecordingPacs() as archive:
        node = toy_node.make_node(folder / "node", archive.port)
        try:
            node.start()
            send(files[:-1], node.port)
            node.wait_idle()
            assert node.stop() == 0
            upgrade(node)
            node.start()
            send(files[-1:], node.port)
            wait_until(lambda: node.status()["jobs"]["done"] == 2, "the newer run is done")
            told = node.run("explain", str(pydicom.dcmread(files[0]).SeriesInstanceUID)).stdout
        finally:
            node.kill()
        objects = [read(one.data) for one in archive.received]
    return objects[:RESULTS_PER_JOB], objects[RESULTS_PER_JOB:], told


def test_the_newer_reports_name_the_reports_that_they_supersede(runs):
    first, second, _ = runs
    reports = {(r.SeriesInstanceUID, r.SOPInstanceUID) for r in first if r.Modality == "SR"}
    assert len(reports) == 2
    for one in second:
        assert superseded(one) == (reports if one.Modality == "SR" else set())
    assert all("PredecessorDocumentsSequence" not in one for one in first)


def test_both_runs_stand_beside_each_other(runs):
    first, second, _ = runs
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert len({one[keyword].value for one in (*first, *second)}) == 2 * RESULTS_PER_JOB
    assert len({one.StudyInstanceUID for one in (*first, *second)}) == 1
    assert all("2.0.0" in one.SeriesDescription for one in second)


def test_an_organ_is_known_again_in_the_newer_run(runs):
    first, second, _ = runs
    assert len(tracking_uids(first)) == 1
    assert tracking_uids(first) == tracking_uids(second)


def test_the_earlier_job_is_shown_as_superseded(runs):
    *_, told = runs
    assert told.count("superseded by job 2") == 1
    assert (
        told.index("job 1 ") < told.index("superseded by job 2") < told.index("job 2 ", told.index("job 1 "))
    )


@needs_dciodvfy
def test_a_report_with_predecessors_is_valid(runs, tmp_path):
    for number, one in enumerate(runs[1]):
        one.file_meta = pydicom.dataset.FileMetaDataset()
        one.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
        one.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
        assert dciodvfy_errors(tmp_path / f"{number}.dcm") == []
