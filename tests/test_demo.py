"""The demo is the product at work: it ends with all results received and the true lung volume."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pydicom
import pytest

from tests.paths import REPOSITORY

pytestmark = pytest.mark.long


def test_the_demo_ends_with_segmentation_and_reports_and_the_true_lung_volume(tmp_path):
    command = [sys.executable, "deploy/demo.py", "--once", "--slices", "60", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    off_percent = [float(found) for found in re.findall(r"\(([+-][\d.]+) %\)", done.stdout)]
    assert len(off_percent) == 2, "left and right"
    assert max(map(abs, off_percent)) < 2
    received = [pydicom.dcmread(file) for file in (tmp_path / "out" / "archive").glob("*.dcm")]
    assert sorted(one.Modality for one in received) == ["DOC", "OT", "SEG", "SEG", "SR", "SR"]
    assert (tmp_path / "out" / "report.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "out" / "overlay.png").stat().st_size > 10_000
    assert "SIMULATED" in done.stdout
    assert all("Simulated" in str(one.PatientName) for one in received)


@pytest.mark.parametrize("mine", ["file", "folder"])
def test_the_demo_leaves_alone_what_it_did_not_make(tmp_path, mine):
    out = tmp_path / "mine"
    kept = out if mine == "file" else out / "thesis.txt"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("years of work")
    done = run("--once", "--out", str(out))
    assert kept.read_text() == "years of work"
    assert done.returncode == 1 and "did not make" in done.stderr and "Traceback" not in done.stderr


def test_the_demo_says_how_many_slices_it_can_simulate(tmp_path):
    done = run("--once", "--slices", "0", "--out", str(tmp_path / "out"))
    assert done.returncode == 2 and "--slices must be 50 to 600" in done.stderr


def test_an_interrupted_demo_says_so_in_a_word(tmp_path):
    command = [sys.executable, "-u", "deploy/demo.py", "--out", str(tmp_path / "out")]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=at_a_terminal
    ) as demo:
        assert demo.stdout is not None and demo.stderr is not None
        assert b"SIMULATED" in demo.stdout.readline()
        demo.send_signal(signal.SIGINT)
        told, complaints = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert b"Interrupted." in told and b"Traceback" not in complaints


def at_a_terminal():
    """Have Ctrl-C end what is started; a shell that runs the tests in the background has it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run(*arguments):
    command = [sys.executable, "deploy/demo.py", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
