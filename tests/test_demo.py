"""The demo is the product at work: it ends with all results received and the true lung volume."""

from __future__ import annotations

import re
import subprocess
import sys

import pydicom

from tests.paths import REPOSITORY


def test_the_demo_ends_with_segmentation_and_reports_and_the_true_lung_volume(tmp_path):
    command = [sys.executable, "deploy/demo.py", "--once", "--slices", "60", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    off_percent = [float(found) for found in re.findall(r"\(([+-][\d.]+) %\)", done.stdout)]
    assert len(off_percent) == 2, "left and right"
    assert max(map(abs, off_percent)) < 2
    received = [pydicom.dcmread(file) for file in (tmp_path / "out" / "archive").glob("*.dcm")]
    assert sorted(one.Modality for one in received) == ["SEG", "SR", "SR"]
    assert (tmp_path / "out" / "overlay.png").stat().st_size > 10_000
    assert "SIMULATED" in done.stdout
    assert all("Simulated" in str(one.PatientName) for one in received)
