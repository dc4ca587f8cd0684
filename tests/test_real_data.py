"""Real files from real scanners, end to end: lungs where there are lungs, a reason everywhere else."""

from __future__ import annotations

import re
import shutil
import subprocess

import pydicom
import pytest

from tests.harness import RADNODE
from tests.paths import SHARED, needs_shared

pytestmark = [needs_shared, pytest.mark.long]

CHEST = "1.3.6.1.4.1.14519.5.2.1.6655.2359.257508444832901632590301540805"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """All shared folders of DICOM through lung-density: the finished command and its output folder."""
    out = tmp_path_factory.mktemp("out")
    words = [RADNODE, "analyze", SHARED, "--pipeline", "lung-density", "--out", out]
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=280), out


def test_no_series_ends_in_a_traceback_or_a_failure(run):
    done, _ = run
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stdout + done.stderr
    assert "unexpected" not in done.stderr
    assert not re.search(r"^failed ", done.stdout, re.MULTILINE)


def test_only_the_whole_chest_is_analysed(run):
    done, _ = run
    finished = re.findall(r"^done lung-density on series ([\d.]+)", done.stdout, re.MULTILINE)
    assert finished == [CHEST]
    refused = re.findall(r"^refused lung-density on series [\d.]+: .{20,}", done.stdout, re.MULTILINE)
    assert len(refused) >= 20
    assert len(re.findall(r"^not routed series [\d.]+: .{5,}", done.stdout, re.MULTILINE)) >= 50


def test_each_file_that_is_not_taken_has_a_line_with_its_name(run):
    done, _ = run
    skipped = [line for line in done.stdout.splitlines() if line.startswith("skipped ")]
    for name in ("MR_truncated.dcm", "rtplan_truncated.dcm", "no_meta.dcm", "DICOMDIR"):
        assert any(f"{name}: " in line for line in skipped), name


def test_the_lungs_have_the_volumes_they_had_when_a_person_looked_at_the_overlay(run):
    _, out = run
    reports = [pydicom.dcmread(file) for file in out.glob("*.dcm")]
    assert {report.StudyInstanceUID for report in reports} == {reports[0].StudyInstanceUID}
    assert len(list(out.glob("lung-density-*.png"))) == 1
    (measured,) = [r for r in reports if "measurements" in str(r.get("SeriesDescription", ""))]
    volumes = {}
    for item in _groups(measured):
        volumes.update(item)
    assert volumes["Left lung"] == pytest.approx(2300, rel=0.02)
    assert volumes["Right lung"] == pytest.approx(3195, rel=0.02)


def _groups(report):
    """Yield {structure: volume in mL} per measurement group."""
    for container in report.ContentSequence:
        for group in container.get("ContentSequence", []):
            children = group.get("ContentSequence", [])
            names = [c.TextValue for c in children if c.ValueType == "TEXT"]
            for child in children:
                if child.ValueType == "NUM" and child.ConceptNameCodeSequence[0].CodeMeaning == "Volume":
                    yield {names[0]: float(child.MeasuredValueSequence[0].NumericValue)}


def test_dciodvfy_finds_no_error_in_what_came_out(run):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is missing; install the Debian package dicom3tools")
    _, out = run
    for file in out.glob("*.dcm"):
        said = subprocess.run(["dciodvfy", "-new", file], capture_output=True, text=True).stderr
        assert "Error" not in said, said
