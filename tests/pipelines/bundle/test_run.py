"""What comes out of a bundle lies where it was seen, and is the same each time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipelines.bundle import run
from pipelines.bundle.terms import read_terms
from pipelines.contract import CardError
from pipelines.geometry import GeometryChanged
from tests.bundle_zoo import ZOO, func, invert, load, write
from tests.bundle_zoo import step as zoo_step
from tests.bundles import (
    ABOVE_200,
    INVERT,
    LOAD,
    RAS,
    SAVE,
    image_of,
    loaded,
    phantom_case,
    with_steps,
    write_bundle,
)
from tests.phantoms import to_world

ORIENTATIONS = ("axial", "sagittal", "coronal", "oblique")


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reversed"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_mask_of_the_identity_bundle_is_the_threshold_voxel_for_voxel(tmp_path, orientation, reverse):
    case, mask, phantom = phantom_case(orientation, reverse=reverse)
    findings = loaded(write_bundle(tmp_path)).analyze(case)
    assert np.array_equal(findings.labelmap, mask.astype(np.uint8))
    assert findings.labelmap.dtype == np.uint8
    assert np.array_equal(findings.affine, case["ct"].affine)
    centroid = to_world(findings.affine, np.argwhere(findings.labelmap == 1).mean(axis=0))
    assert np.allclose(centroid, phantom.centroid_mm, atol=1e-9)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_flips_crops_and_padding_are_undone_by_the_authors_own_invertd(tmp_path, orientation):
    steps = [
        *LOAD,
        RAS,
        {
            "_target_": "CropForegroundd",
            "keys": "image",
            "source_key": "image",
            "select_fn": "$lambda x: x > -500",
            "allow_smaller": True,
        },
        {"_target_": "Flipd", "keys": "image", "spatial_axis": [0, 2]},
        {"_target_": "DivisiblePadd", "keys": "image", "k": 16, "value": -1000},
    ]
    case, mask, _ = phantom_case(orientation)
    findings = loaded(write_bundle(tmp_path, with_steps(steps, [INVERT, ABOVE_200, SAVE]))).analyze(case)
    assert np.array_equal(findings.labelmap == 1, mask)


def test_resampling_is_undone_to_within_a_voxel(tmp_path):
    steps = [
        *LOAD,
        RAS,
        {"_target_": "Spacingd", "keys": "image", "pixdim": [1.0, 1.0, 1.0], "mode": "bilinear"},
    ]
    invert = {**INVERT, "nearest_interp": False}
    case, _, phantom = phantom_case("oblique", shape=(20, 60, 60))
    findings = loaded(write_bundle(tmp_path, with_steps(steps, [invert, ABOVE_200, SAVE]))).analyze(case)
    centroid = to_world(findings.affine, np.argwhere(findings.labelmap == 1).mean(axis=0))
    assert np.linalg.norm(centroid - phantom.centroid_mm) < 0.7


def test_a_result_that_lies_neither_on_the_source_grid_nor_where_the_network_saw_it_is_stopped(tmp_path):
    case, _, _ = phantom_case()
    cut = {"_target_": "CenterSpatialCropd", "keys": "pred", "roi_size": [8, 8, 4]}
    with pytest.raises(GeometryChanged, match="invert"):
        loaded(write_bundle(tmp_path / "a", with_steps([*LOAD, RAS], [cut, ABOVE_200, SAVE]))).analyze(case)
    cube = {"ct": image_of(np.zeros((8, 8, 8)))}  # a flip keeps the shape; only the affine tells
    flip = {"_target_": "Flipd", "keys": "pred", "spatial_axis": 0}
    with pytest.raises(GeometryChanged, match="mm away"):
        loaded(write_bundle(tmp_path / "b", with_steps([*LOAD, RAS], [flip, ABOVE_200, SAVE]))).analyze(cube)


def test_measurements_are_those_of_the_card_and_right(tmp_path):
    case, mask, _ = phantom_case()
    findings = loaded(write_bundle(tmp_path, measure=("volume", "mean", "maximum"))).analyze(case)
    volume, mean, maximum = findings.measurements
    assert volume.value == pytest.approx(mask.sum() * 2.5 * 0.8 * 0.7 / 1000)
    assert mean.value == maximum.value == 300
    assert [m.segment for m in findings.measurements] == [1, 1, 1]


def test_transforms_find_the_case_on_the_device_if_it_fits_there(tmp_path, monkeypatch):
    card = write_bundle(tmp_path, bundle='output = "labels"\ntransforms = "device"')
    case, mask, _ = phantom_case("axial")
    pipeline, seen = loaded(card), []
    assert pipeline._loaded.given_on == torch.device("cpu"), "the device is the host"
    monkeypatch.setattr(pipeline._loaded, "given_on", torch.device("meta"))  # stands for an accelerator
    of_run = run.prepare

    def prepare(its, item):
        seen.append(item["image"].device.type)
        if seen == ["meta"]:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return of_run(its, item)

    monkeypatch.setattr(run, "prepare", prepare)
    findings = pipeline.analyze(case)
    assert seen == ["meta", "cpu"], "where it does not fit, it goes on in the memory of the host"
    assert np.array_equal(findings.labelmap, mask.astype(np.uint8))


def test_where_transforms_find_the_case_is_one_of_two(tmp_path):
    with pytest.raises(CardError, match="transforms"):
        read_terms(write_bundle(tmp_path, bundle='output = "labels"\ntransforms = "cuda"'))


HALF = "torch.nn.functional.max_pool3d((x > 200).float(), 2)"


@pytest.mark.parametrize(
    "network", [HALF, f"{{'seg': {HALF}}}", f"[{HALF}, {HALF}]"], ids=["a tensor", "a table", "a list"]
)
def test_an_answer_of_half_the_resolution_is_not_given_the_grid_of_what_the_network_saw(tmp_path, network):
    bundle = replace(
        ZOO["labels"],
        before=[*load(), zoo_step("Spacingd", "image", pixdim=[2.0, 2.0, 2.0], mode="bilinear")],
        network=network,
        after=[invert()],  # would claim the grid of the source
    )
    with pytest.raises(GeometryChanged, match=r"to an image of shape .*inferer must resize"):
        loaded(write(tmp_path, bundle)).analyze(phantom_case()[0])


def test_an_answer_with_more_axes_without_channels_or_at_several_resolutions_keeps_its_place(tmp_path):
    case, mask, _ = phantom_case("oblique")
    seen = "(x > 200).float()"
    for name, network, picks in (
        ("stacked", f"torch.stack([{seen}, {seen}], 1)", "x[0]"),
        ("bare", f"{seen}[:, 0]", "x[None]"),
        ("at several", f"[{seen}, {HALF}]", "x[0]"),
    ):
        after = [func(picks), invert(), zoo_step("SaveImaged", output_dir="@output_dir")]
        card = write(tmp_path / name, replace(ZOO["labels"], network=network, after=after))
        assert np.array_equal(loaded(card).analyze(case).labelmap == 1, mask), name


def test_an_image_that_the_bundle_loads_and_no_input_gives_is_asked_for(tmp_path):
    both = [*load(["image", "second"]), zoo_step("ConcatItemsd", ["image", "second"], name="image")]
    bundle = replace(ZOO["labels"], before=both, network="(x[:, :1] > 200).float()", after=[SAVE])
    with pytest.raises(CardError, match=r"loads 'second', which no input gives; .*\[bundle.keys\]"):
        loaded(write(tmp_path, bundle))


def test_the_truth_of_a_data_set_may_lack(tmp_path):
    case, mask, _ = phantom_case()
    bundle = replace(
        ZOO["labels"], before=load(["image", "label"]), network="(x > 200).float()", after=[SAVE]
    )
    assert np.array_equal(loaded(write(tmp_path, bundle)).analyze(case).labelmap == 1, mask)
