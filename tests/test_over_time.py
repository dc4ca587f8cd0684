"""From files to reports, over time: a heart that beats, and an electrocardiogram, of known answers."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pydicom
import pytest

from pipelines.contract import folder_digest
from tests.encode.judges import dciodvfy_errors, needs_dciodvfy
from tests.harness import RADNODE
from tests.paths import SHARED, needs_shared
from tests.phantom_cine import beating_ball, group, sines, write_cine, write_ecg

pytestmark = pytest.mark.long

CARDS = {
    "toy_heart": """\
name = "toy-heart"
version = "1.0.0"
title = "Toy for tests: blood is what is bright"
maker = "radnode tests"
intended_use = "Tests of the node. Not for any patient."
use = "toy_heart.pipeline:Toy"

[inputs.cine]
modality = ["MR"]
unit = "1"
kind = "cine"

[[segments]]
number = 1
label = "Left ventricle"
category = { value = "91723000", scheme = "SCT", meaning = "Anatomical Structure" }
kind = { value = "87878005", scheme = "SCT", meaning = "Left ventricle of heart" }
""",
    "toy_rate": """\
name = "toy-rate"
version = "1.0.0"
title = "Toy for tests: the rate of the first lead"
maker = "radnode tests"
intended_use = "Tests of the node. Not for any patient."
use = "toy_rate.pipeline:Toy"

[inputs.ecg]
modality = ["ECG"]
unit = "mV"
kind = "waveform"
slices_min = 12
""",
}
CODE = {
    "toy_heart": """\
import numpy as np

from pipelines.contract import Findings
from pipelines.measure import measure_segment


class Toy:
    def __init__(self, card):
        self.card = card

    def load(self, device):
        pass

    def check(self, case):
        pass

    def analyze(self, case):
        image = case["cine"]
        mask = image.array > 500
        names = ("volume-largest", "volume-smallest", "ejection-fraction")
        return Findings(
            labelmap=mask.astype(np.uint8),
            affine=image.affine,
            segments=self.card.segments,
            measurements=tuple(measure_segment(names, mask, image, segment=1)),
        )
""",
    "toy_rate": """\
import numpy as np

from pipelines.contract import Code, Findings, Measurement


class Toy:
    def __init__(self, card):
        pass

    def load(self, device):
        pass

    def check(self, case):
        pass

    def analyze(self, case):
        image = case["ecg"]
        lead = image.array[image.facts["channels"].split(",").index("I"), 0].astype(float)
        strength = np.abs(np.fft.rfft(lead - lead.mean()))
        hertz = np.fft.rfftfreq(lead.size, 1 / image.facts["sampling_hz"])[strength.argmax()]
        rate = Measurement(
            name=Code("8867-4", "LN", "Heart rate"),
            value=float(hertz * 60),
            unit=Code("/min", "UCUM", "/min"),
        )
        return Findings(measurements=(rate,))
""",
}
CONFIG = """\
[node]
data = "data"
[compute]
devices = ["cpu"]
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    """Return the configuration of a node with both pipelines."""
    folder = tmp_path_factory.mktemp("toys")
    text = CONFIG
    for name in CARDS:
        toy = folder / name
        toy.mkdir()
        (toy / "card.toml").write_text(CARDS[name], encoding="utf-8")
        (toy / "pipeline.py").write_text(CODE[name], encoding="utf-8")
        card = name.replace("_", "-")
        text += f'[pipelines.{card}]\nfolder = "{name}"\nsha256 = "{folder_digest(toy)}"\n'
    path = folder / "node.toml"
    path.write_text(text, encoding="utf-8")
    return path


def analyzed(config: Path, source: Path, out: Path, pipeline: str) -> list[Path]:
    """Run one pipeline over a folder; return the objects, all of which a validator likes."""
    words = [RADNODE, "analyze", source, "--out", out, "--config", config, "--pipeline", pipeline]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and re.search(rf"^done {pipeline}", done.stdout, re.MULTILINE), (
        done.stdout + done.stderr
    )
    files = sorted(out.glob("*.dcm"))
    for file in files:
        assert dciodvfy_errors(file) == [], file.name
    assert len(list(out.glob("*.png"))) == 1
    return files


def numbers_in(file: Path) -> dict[str, float]:
    """Return every number of a report by what it is, with its derivation."""
    found: dict[str, float] = {}

    def walk(content: pydicom.Dataset) -> None:
        for child in content.get("ContentSequence", []):
            if child.ValueType == "NUM" and child.MeasuredValueSequence:
                name = child.ConceptNameCodeSequence[0].CodeMeaning
                found[name] = float(child.MeasuredValueSequence[0].NumericValue)
            walk(child)

    walk(pydicom.dcmread(file))
    return found


def report_of(files: list[Path], what: str) -> Path:
    (found,) = [f for f in files if what in str(pydicom.dcmread(f).SeriesDescription)]
    return found


@needs_dciodvfy
def test_a_beating_ball_comes_back_with_its_volumes(config, tmp_path):
    heart = beating_ball()
    write_cine(tmp_path / "mr", heart.array, heart.affine)
    files = analyzed(config, tmp_path / "mr", tmp_path / "out", "toy-heart")
    seg = pydicom.dcmread(report_of(files, "segmentation"))
    assert {
        g.FrameContentSequence[0].TemporalPositionIndex for g in seg.PerFrameFunctionalGroupsSequence
    } == {*range(1, len(heart.array) + 1)}
    told = numbers_in(report_of(files, "measurements"))
    largest, smallest = max(heart.volumes_ml), min(heart.volumes_ml)
    values = sorted(told.values())
    assert any(value == pytest.approx(largest, rel=0.04) for value in values), told
    assert any(value == pytest.approx(smallest, rel=0.04) for value in values), told
    assert any(value == pytest.approx(100 * (1 - smallest / largest), abs=2) for value in values), told


@needs_dciodvfy
def test_an_electrocardiogram_comes_back_with_its_rate(config, tmp_path):
    write_ecg(tmp_path / "ecg" / "a.dcm", [group(sines())])  # lead I is a sine of one hertz
    files = analyzed(config, tmp_path / "ecg", tmp_path / "out", "toy-rate")
    assert numbers_in(report_of(files, "measurements")) == {"Heart rate": 60.0}


@pytest.mark.slow
@needs_shared
@needs_dciodvfy
def test_a_real_electrocardiogram_goes_all_the_way(config, tmp_path):
    files = analyzed(config, SHARED / "ecg", tmp_path / "out", "toy-rate")
    report = pydicom.dcmread(report_of(files, "report"))
    source = pydicom.dcmread(SHARED / "ecg" / "waveform_ecg.dcm", stop_before_pixels=True)
    assert report.StudyInstanceUID == source.StudyInstanceUID
