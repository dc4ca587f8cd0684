"""A root report is read alone: each says that it is for research, and what to beware of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pydicom
import pytest

from node.encode import encode
from node.encode.sr.tree import children
from node.profile import Coordinates, Profile, Report
from pipelines.contract import Code
from tests.encode.helpers import a_card, a_job
from tests.encode.judges import dciodvfy_errors, dsrdump, needs_dciodvfy, needs_dsrdump, tid1500
from tests.encode.rich import rich

COMMENT = Code("121106", "DCM", "Comment")
CHOICES: list[tuple[Report, Coordinates]] = [("air", "image"), ("air", "patient"), ("segment-only", "image")]


@needs_dciodvfy
@needs_dsrdump
@pytest.mark.parametrize(("report", "coordinates"), CHOICES)
@pytest.mark.parametrize("warning", ["Made for a test", ""])
def test_notice_warning_cautions_and_notes_are_comments_of_the_root(
    tmp_path: Path, report: Report, coordinates: Coordinates, warning: str
) -> None:
    made = rich(tmp_path / "in")
    volume = replace(made.volume, notes=("1 localizer left out",))
    profile = Profile(report=report, coordinates=coordinates)
    job = a_job(card=a_card(warning=warning))
    path = encode(job, made.findings, {"ct": volume}, tmp_path, [profile]).objects[-1].path
    said = [str(c.TextValue) for c in children(pydicom.dcmread(path), "TEXT", COMMENT)]
    assert said == [
        "Research use only. Not for diagnosis.",
        *([warning] if warning else []),
        "Caution: Cut off below.",
        "Images: 1 localizer left out.",
    ]
    assert dciodvfy_errors(path) == [] and dsrdump(path)[1] == []
    assert tid1500(path, tmp_path / "read.json")["Measurements"]
