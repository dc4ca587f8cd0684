"""Networks that others trained, on a real head: from its DICOM to Segmentation and report.

What the figures should be was found outside of this project, with the same weights on the same series
(MANIFEST.md beside them): white matter 266 mL and grey matter 663 mL, in a child of three years;
hippocampus 7.9, caudate 7.9 and thalamus 16.7 mL.
"""

from __future__ import annotations

import subprocess

import numpy as np
import pydicom
import pytest
from PIL import Image

from pipelines.structures import structures
from tests.dicom_answers import contents, frames_of, outlines_of, points_of
from tests.encode.judges import dciodvfy_errors, needs_dciodvfy
from tests.harness import RADNODE
from tests.meshnet import WEIGHTS, write_net
from tests.paths import SHARED

HEAD = SHARED / "mr_head_t1_siemens_3d"
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not WEIGHTS.is_dir(), reason="no trained networks at ../shared/data/weights"),
    pytest.mark.skipif(not HEAD.is_dir(), reason="no head at ../shared/data"),
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]


class Result:
    """What ``radnode analyze`` wrote."""

    def __init__(self, folder, printed):
        self.printed = printed
        self.picture = next(folder.glob("*.png"))
        self.files = sorted(folder.glob("*.dcm"))
        objects = [pydicom.dcmread(file) for file in self.files]
        (self.seg,) = (ds for ds in objects if ds.Modality == "SEG")
        self.measurements = next(ds for ds in objects if "measurements" in str(ds.get("SeriesDescription")))

    def volumes(self):
        """Return label -> millilitres, as a reader of the report finds them."""
        found = {}
        for group in contents(self.measurements):
            children = group.get("ContentSequence", ())
            said = [c.TextValue for c in children if c.ValueType == "TEXT"]
            for child in children:
                if child.ValueType == "NUM" and child.ConceptNameCodeSequence[0].CodeMeaning == "Volume":
                    found[str(said[0])] = float(child.MeasuredValueSequence[0].NumericValue)
        return found

    def middle_mm(self, label):
        """Return the centre of a segment: left, back and up are positive."""
        return points_of(self.seg, label).mean(axis=0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a function that runs a network over the head, once, shut in as any bundle from outside."""
    folder, done = tmp_path_factory.mktemp("heads"), {}

    def run_it(name):
        if name not in done:
            card = write_net(folder / name, name)
            config = folder / f"{name}.toml"
            config.write_text(f'[pipelines.{name}]\nfolder = "{name}"\nsha256 = "{card.digest}"\n')
            out = folder / f"out-{name}"
            words = [RADNODE, "analyze", HEAD, "--config", config, "--pipeline", name, "--out", out]
            printed = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=850)
            assert printed.returncode == 0, printed.stdout + printed.stderr
            done[name] = Result(out, printed.stdout)
        return done[name]

    return run_it


def test_white_and_grey_matter_have_the_volumes_that_others_found(run):
    volumes = run("brain-tissue").volumes()
    assert volumes == {
        "White matter": pytest.approx(266, rel=0.03),
        "Gray matter": pytest.approx(663, rel=0.03),
    }


@needs_dciodvfy
def test_the_validator_finds_no_error_in_what_a_real_network_made(run):
    for file in run("brain-tissue").files:
        assert dciodvfy_errors(file) == []


def test_the_outlines_lie_on_their_tissues(run):
    """By what the scanner measured: in T1 white matter is brighter than grey, and both than fluid."""
    result = run("brain-tissue")
    frames = frames_of(file for file in HEAD.iterdir() if file.suffix == ".dcm")
    outlines = outlines_of(result.seg)
    values = {
        label: np.concatenate([frames[key].values[mask] for key, mask in outline.items()])
        for label, outline in outlines.items()
    }
    white, grey = values["White matter"], values["Gray matter"]
    assert np.median(white) > 1.2 * np.median(grey)
    assert np.percentile(white, 10) > np.median(grey)
    voxel_ml = 0.9 * 0.859375**2 / 1000
    assert len(white) * voxel_ml == pytest.approx(result.volumes()["White matter"], rel=1e-3)
    # What it is, is told with its code.
    kinds = {str(s.SegmentLabel): s.SegmentedPropertyTypeCodeSequence[0] for s in result.seg.SegmentSequence}
    assert {label: kind.CodeValue for label, kind in kinds.items()} == {
        "White matter": structures()["white_matter"].kind.value,
        "Gray matter": structures()["gray_matter"].kind.value,
    }


def test_what_the_picture_shows_is_in_colour_where_the_brain_is(run):
    with Image.open(run("brain-tissue").picture) as opened:
        picture = np.asarray(opened.convert("RGB")).astype(int)
    top = picture[: picture.shape[0] * 3 // 4]
    is_tinted = np.ptp(top, axis=-1) > 30
    third = top.shape[1] // 3
    for plane in range(3):
        assert 0.1 < is_tinted[:, plane * third : (plane + 1) * third].mean() < 0.6


@pytest.mark.slow
def test_deep_structures_have_the_volumes_that_others_found(run):
    result = run("brain-structures")
    volumes = result.volumes()
    assert volumes["Hippocampus"] == pytest.approx(7.9, rel=0.1)
    assert volumes["Caudate"] == pytest.approx(7.9, rel=0.1)
    assert volumes["Thalamus"] == pytest.approx(16.7, rel=0.1)
    assert len(volumes) == 17
    back_and_up = {label: result.middle_mm(label)[1:] for label in volumes}
    assert back_and_up["Caudate"][0] < back_and_up["Thalamus"][0], "the caudate lies before the thalamus"
    assert back_and_up["Brain stem"][0] < back_and_up["Fourth ventricle"][0]
    assert back_and_up["Brain stem"][1] < back_and_up["Third ventricle"][1]
    assert back_and_up["Cerebellar cortex"][1] < back_and_up["Cerebral cortex"][1]


@pytest.mark.slow
def test_what_a_network_calls_left_lies_on_the_left_of_the_patient(run):
    """The network knows sides by where they lie in its own frame: a mirrored head would swap them."""
    result = run("brain-sides")
    pairs = [label.removeprefix("Left ") for label in result.volumes() if label.startswith("Left ")]
    assert len(pairs) == 7
    middle_mm = result.middle_mm("Brain stem")[0]
    for pair in pairs:
        left, right = (result.middle_mm(f"{side} {pair}")[0] for side in ("Left", "Right"))
        assert right + 8 < middle_mm < left - 8, pair  # LPS: the left of the patient is positive
        assert left - middle_mm == pytest.approx(middle_mm - right, abs=12)
    for segment in result.seg.SegmentSequence:
        side = str(segment.SegmentLabel).split()[0]
        modifiers = segment.SegmentedPropertyTypeCodeSequence[0].get(
            "SegmentedPropertyTypeModifierCodeSequence", ()
        )
        assert [m.CodeMeaning for m in modifiers] == ([side] if side in ("Left", "Right") else [])


@pytest.mark.slow
def test_a_mask_of_the_brain_holds_both_tissues(run):
    """Another architecture, whose weights were saved on an accelerator."""
    brain, tissue = run("brain-mask"), run("brain-tissue")
    inside = outlines_of(brain.seg)["Brain"]
    (volume,) = brain.volumes().values()
    assert 1000 < volume < 1500
    for label, outline in outlines_of(tissue.seg).items():
        held = sum(np.sum(mask & inside.get(key, False)) for key, mask in outline.items())
        assert held > 0.95 * sum(mask.sum() for mask in outline.values()), label
