"""The simulated chest is what it says: known volumes, valid CT instances, nobody's identity."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pydicom
import pytest

from simulate import LABEL, axial_affine, chest, main, write_ct_series
from tests.paths import REPOSITORY
from tests.pipelines.chests import simulated


def test_masks_and_true_volumes_agree():
    made = simulated()
    # The masks are rougher than the truth: a voxel counts wholly once half of its samples do.
    voxel_ml = abs(np.linalg.det(made.affine[:3, :3])) / 1000
    for mask, name in ((made.left_lung, "left_ml"), (made.right_lung, "right_ml")):
        assert np.count_nonzero(mask) * voxel_ml == pytest.approx(made.truth[name], rel=0.03)
    assert made.truth["both_ml"] == pytest.approx(made.truth["left_ml"] + made.truth["right_ml"])
    assert 3500 < made.truth["both_ml"] < 6500  # adult lungs in inspiration


def test_the_true_volume_does_not_depend_on_the_grid():
    coarse, fine = chest((40, 64, 64)).truth, simulated(seed=1).truth
    for name in ("left_ml", "right_ml"):
        assert coarse[name] == pytest.approx(fine[name], rel=0.005)


def test_lungs_lie_on_their_sides_of_the_patient():
    made = simulated()
    for mask, sign in ((made.left_lung, 1), (made.right_lung, -1)):
        centre = made.affine @ np.append(np.argwhere(mask).mean(axis=0), 1.0)
        assert sign * centre[0] > 40


def test_the_same_seed_gives_the_same_voxels_and_another_does_not():
    one, same, other = (chest((12, 48, 48), seed=seed) for seed in (5, 5, 6))
    assert (one.array_hu == same.array_hu).all()
    assert (one.array_hu != other.array_hu).any()
    assert one.truth["both_ml"] == other.truth["both_ml"]


def test_the_body_looks_like_a_ct():
    made = simulated()
    assert made.array_hu.dtype == np.int16
    assert np.median(made.array_hu[:, :4, :4]) == pytest.approx(-1000, abs=10)
    lungs = made.left_lung | made.right_lung
    assert -880 < np.median(made.array_hu[lungs]) < -820
    assert made.array_hu.max() > 400  # bone
    assert made.array_hu.min() >= -1024


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    made = chest((6, 48, 48))
    return made, write_ct_series(tmp_path_factory.mktemp("ct"), made)


def test_the_instances_hold_the_voxels_where_they_are(series):
    made, paths = series
    assert len(paths) == 6
    for index, path in enumerate(paths):
        ds = pydicom.dcmread(path)
        hu = ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
        assert (hu == made.array_hu[index]).all()
        position = (made.affine @ np.array([index, 0, 0, 1.0]))[:3]
        assert [float(v) for v in ds.ImagePositionPatient] == pytest.approx(position, abs=1e-3)
    assert len({pydicom.dcmread(p).SOPInstanceUID for p in paths}) == 6
    assert len({pydicom.dcmread(p).SeriesInstanceUID for p in paths}) == 1


def test_everything_says_simulated(series):
    _, paths = series
    for path in paths:
        ds = pydicom.dcmread(path)
        assert ds.PatientName == "Simulated^Chest"
        for keyword in ("StudyDescription", "SeriesDescription", "ImageComments"):
            assert ds[keyword].value == LABEL


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is in Debian's dicom3tools")
def test_dciodvfy_finds_no_error(series):
    _, paths = series
    for path in (paths[0], paths[-1]):
        said = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
        assert "Error" not in said.stdout + said.stderr
        assert said.returncode == 0


def test_the_command_writes_a_series_and_prints_the_truth(tmp_path, capsys):
    truth_path = tmp_path / "t.json"
    assert main([str(tmp_path / "out"), "--slices", "4", "--size", "32", "--truth", str(truth_path)]) == 0
    assert len(list((tmp_path / "out").glob("*.dcm"))) == 4
    truth = json.loads(capsys.readouterr().out)
    assert truth == json.loads(truth_path.read_text())
    assert truth["both_ml"] > 3000


def test_the_script_runs_from_anywhere(tmp_path):
    script = REPOSITORY / "deploy" / "simulate.py"
    done = subprocess.run(
        [sys.executable, str(script), "ct", "--slices", "2", "--size", "32"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "ct" / "CT0002.dcm").is_file()


def test_too_few_slices_are_an_error_in_words(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--slices", "1"])
    assert "at least 2 slices" in capsys.readouterr().err


def test_the_default_stack_holds_the_whole_chest():
    affine = axial_affine((100, 256, 256), (3.0, 1.5, 1.5))
    low, high = (affine @ np.array([k, 0, 0, 1.0]) for k in (0, 99))
    assert (low[2], high[2]) == pytest.approx((-163.5, 133.5))
