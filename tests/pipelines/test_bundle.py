"""A bundle folder and a card are enough, and what comes out lies where it was seen."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from monai.networks.nets import UNet

from pipelines.bundle import BundlePipeline
from pipelines.contract import CardError, Code, Image, InputRefused
from pipelines.geometry import GeometryChanged
from tests.bundles import (
    ABOVE_200,
    INVERT,
    LOAD,
    RAS,
    SAVE,
    loaded,
    threshold_config,
    threshold_metadata,
    write_bundle,
)
from tests.phantoms import asymmetric_phantom, make_affine, to_world

HU = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
ORIENTATIONS = ("axial", "sagittal", "coronal", "oblique")


def image_of(array, affine=None):
    affine = make_affine() if affine is None else affine
    return Image(array=np.asarray(array, np.float32), affine=affine, unit=HU, modality="CT")


def phantom_case(orientation="axial", shape=(9, 24, 20), reverse=False):
    affine = make_affine(orientation)
    phantom = asymmetric_phantom(shape, affine)
    array, mask = phantom.array_hu, phantom.mask
    if reverse:  # the same patient, slices listed from the other end
        flip = np.diag([-1.0, 1, 1, 1])
        flip[0, 3] = shape[0] - 1
        array, mask, affine = array[::-1], mask[::-1], affine @ flip
    return {"ct": image_of(array, affine)}, mask, phantom


def with_steps(before, after):
    config = threshold_config()
    config["preprocessing"]["transforms"] = before
    config["postprocessing"]["transforms"] = after
    return config


# --- geometry -------------------------------------------------------------------------------------


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


def test_a_bundle_that_does_not_return_to_the_source_grid_is_stopped(tmp_path):
    steps = [*LOAD, RAS, {"_target_": "Spacingd", "keys": "image", "pixdim": [3.0, 3.0, 3.0]}]
    case, _, _ = phantom_case()
    with pytest.raises(GeometryChanged, match="invert"):
        loaded(write_bundle(tmp_path / "a", with_steps(steps, [ABOVE_200, SAVE]))).analyze(case)
    cube = {"ct": image_of(np.zeros((8, 8, 8)))}  # a flip keeps the shape; only the affine tells
    flip = [*LOAD, {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"}]
    with pytest.raises(GeometryChanged, match="mm away"):
        loaded(write_bundle(tmp_path / "b", with_steps(flip, [ABOVE_200, SAVE]))).analyze(cube)


def test_measurements_are_those_of_the_card_and_right(tmp_path):
    case, mask, _ = phantom_case()
    findings = loaded(write_bundle(tmp_path, measure=("volume", "mean", "maximum"))).analyze(case)
    volume, mean, maximum = findings.measurements
    assert volume.value == pytest.approx(mask.sum() * 2.5 * 0.8 * 0.7 / 1000)
    assert mean.value == maximum.value == 300
    assert [m.segment for m in findings.measurements] == [1, 1, 1]


# --- the configuration language --------------------------------------------------------------------


def test_the_loader_gives_the_shape_which_the_author_was_used_to(tmp_path):
    loads = {
        "channel asked of the loader": [
            {"_target_": "monai.transforms.LoadImaged", "keys": ["image"], "ensure_channel_first": True}
        ],
        "no channel, said by hand": [
            {"_target_": "LoadImageD", "keys": ["image"], "image_only": True, "reader": "ITKReader"},
            {"_target_": "EnsureChannelFirstd", "keys": "image", "channel_dim": "no_channel"},
        ],
        "channel added by an expression": [
            {"_target_": "LoadImageDict", "keys": "image"},
            {"_target_": "Lambdad", "keys": "image", "func": "$lambda x: x.unsqueeze(0)"},
        ],
        "loader disabled": [{"_target_": "LoadImaged", "keys": "image", "_disabled_": True}],
    }
    case, mask, _ = phantom_case("sagittal")
    for name, load in loads.items():
        card = write_bundle(
            tmp_path / name.replace(" ", "-"), with_steps([*load, RAS], [INVERT, ABOVE_200, SAVE])
        )
        assert np.array_equal(loaded(card).analyze(case).labelmap == 1, mask), name


def test_transforms_on_arrays_work_as_those_on_dictionaries(tmp_path):
    config = with_steps(
        [{"_target_": "LoadImage", "image_only": True}, {"_target_": "EnsureChannelFirst"}],
        [
            {"_target_": "AsDiscrete", "threshold": 200.0},
            {"_target_": "SaveImage", "output_dir": "@output_dir"},
        ],
    )
    case, mask, _ = phantom_case("coronal")
    assert np.array_equal(loaded(write_bundle(tmp_path, config)).analyze(case).labelmap == 1, mask)


def test_lists_macros_references_expressions_and_several_files_are_understood(tmp_path):
    config = threshold_config()
    config |= {
        "limit": 100,
        "load": LOAD,
        "turn": [RAS],
        "preprocessing": {"_target_": "Compose", "transforms": "$@load + @turn"},
        "postprocessing": [INVERT, "%steps::cut", SAVE],
        "steps": {"cut": {"_target_": "AsDiscreted", "keys": "pred", "threshold": "$2.0 * @limit"}},
    }
    del config["inferer"]
    config["evaluator"]["inferer"] = {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16]}
    card = write_bundle(
        tmp_path, config, bundle='output = "labels"\nconfig = ["configs/inference.json", "configs/site.yaml"]'
    )
    (tmp_path / "configs" / "site.yaml").write_text("limit: 1\n'steps::cut::threshold': '$200 * @limit'\n")
    case, mask, _ = phantom_case()
    assert np.array_equal(loaded(card).analyze(case).labelmap == 1, mask)


def test_roles_are_found_where_the_bundle_keeps_them(tmp_path):
    config = threshold_config()
    config["dataset"]["transform"] = config.pop("preprocessing")
    config["evaluator"]["postprocessing"] = config.pop("postprocessing")
    config["evaluator"]["postprocessing"]["transforms"][0]["transform"] = "@dataset::transform"
    config["my_net"] = config.pop("network_def")
    config["network"] = "@my_net"
    card = write_bundle(tmp_path, config, bundle='output = "labels"\n[bundle.roles]\nnetwork_def = "my_net"')
    case, mask, _ = phantom_case()
    assert np.array_equal(loaded(card).analyze(case).labelmap == 1, mask)


def test_overrides_of_the_card_win(tmp_path):
    card = write_bundle(
        tmp_path,
        bundle='output = "labels"\n[bundle.overrides]\n"postprocessing::transforms::1::threshold" = 1e6',
    )
    case, _, _ = phantom_case()
    assert not loaded(card).analyze(case).labelmap.any()


def test_scripts_of_the_bundle_are_found(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "__init__.py").write_text("")
    (tmp_path / "scripts" / "cut.py").write_text(
        "class Cut:\n"
        "    def __call__(self, item):\n"
        "        return {**item, 'pred': (item['pred'] > 200).float()}\n"
    )
    config = with_steps([*LOAD], [{"_target_": "scripts.cut.Cut"}, {**ABOVE_200, "threshold": 0.5}, SAVE])
    case, mask, _ = phantom_case()
    assert np.array_equal(loaded(write_bundle(tmp_path, config)).analyze(case).labelmap == 1, mask)


def test_what_follows_the_saving_does_not_change_the_result(tmp_path):
    spoil = {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: x * 0 + 1"}
    case, mask, _ = phantom_case()
    card = write_bundle(tmp_path, with_steps([*LOAD, RAS], [INVERT, ABOVE_200, SAVE, spoil]))
    assert np.array_equal(loaded(card).analyze(case).labelmap == 1, mask)


def test_in_place_transforms_never_reach_the_source_image(tmp_path):
    clamp = {"_target_": "Lambdad", "keys": "image", "func": "$lambda x: x.clamp_(0, 1)"}
    case, _, _ = phantom_case()
    before = case["ct"].array.copy()
    loaded(write_bundle(tmp_path, with_steps([*LOAD, clamp], [ABOVE_200, SAVE]))).analyze(case)
    assert np.array_equal(case["ct"].array, before)


def test_random_transforms_give_the_same_answer_twice(tmp_path):
    noise = {"_target_": "RandGaussianNoised", "keys": "image", "prob": 1.0, "std": 5000.0}
    case, mask, _ = phantom_case()
    pipeline = loaded(write_bundle(tmp_path, with_steps([*LOAD, noise], [ABOVE_200, SAVE])))
    first, second = pipeline.analyze(case), pipeline.analyze(case)
    assert np.array_equal(first.labelmap, second.labelmap)
    assert not np.array_equal(first.labelmap == 1, mask)  # the noise was there


def test_nothing_is_written_by_the_bundle(tmp_path):
    card = write_bundle(tmp_path)
    files = sorted(tmp_path.rglob("*"))
    case, _, _ = phantom_case()
    loaded(card).analyze(case)
    assert sorted(tmp_path.rglob("*")) == files


# --- kinds of output -------------------------------------------------------------------------------


def test_one_hot_overlapping_and_unusual_label_values(tmp_path):
    metadata = threshold_metadata()
    metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = {}
    case, _, _ = phantom_case()
    array = case["ct"].array
    body, bright = array > -500, array > 200

    def run(name, func, output):
        steps = [INVERT, {"_target_": "Lambdad", "keys": "pred", "func": func}, SAVE]
        card = write_bundle(
            tmp_path / name,
            with_steps([*LOAD, RAS], steps),
            metadata=metadata,
            labels=("Body", "Bright"),
            bundle=output,
        )
        return loaded(card).analyze(case)

    exclusive = "$lambda x: torch.cat([x <= -500, (x > -500) & (x <= 200), x > 200]).float()"
    found = run("one-hot", exclusive, 'output = "one-hot"')
    assert np.array_equal(found.labelmap, body.astype(int) + bright)
    overlapping = "$lambda x: torch.cat([x > -500, x > 200]).float()"
    found = run("channels", overlapping, 'output = "channels"')
    assert found.labelmap is None
    assert np.array_equal(found.masks, np.stack([body, bright]))
    values = "$lambda x: (x > -500).float() * 4 - (x > 200).float() * 3"
    found = run("values", values, 'output = "labels"\nvalues = [4, 1]')
    assert np.array_equal(found.labelmap, body.astype(int) + bright)
    for name, func, output, complaint in (
        ("overlap", overlapping, 'output = "one-hot"\nbackground = false', "overlap"),
        ("many", exclusive, 'output = "labels"', "one channel"),
        ("few", overlapping, 'output = "one-hot"', "describes 3"),
        ("soft", "$lambda x: torch.cat([x, x]) / 1000", 'output = "channels"', "not 0 or 1"),
        ("half", "$lambda x: (x > 200).float() * 1.5", 'output = "labels"', "fractions"),
        ("unknown", "$lambda x: (x > 200).float() * 7", 'output = "labels"', "outside"),
        ("gap", values, 'output = "labels"\nvalues = [4, 2]', "gives no meaning"),
        ("nan", "$lambda x: x * float('nan')", 'output = "labels"', "outside"),
    ):
        with pytest.raises(ValueError, match=complaint):
            run(name, func, output)


# --- weights ---------------------------------------------------------------------------------------


def unet():
    torch.manual_seed(1)
    return UNet(spatial_dims=3, in_channels=1, out_channels=2, channels=(2, 4), strides=(2,), norm="BATCH")


def unet_config():
    config = with_steps(
        [*LOAD, RAS], [INVERT, {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}, SAVE]
    )
    config["network_def"] = {
        "_target_": "UNet",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 2,
        "channels": [2, 4],
        "strides": [2],
        "norm": "BATCH",
    }
    return config


def test_the_weights_are_the_ones_that_run(tmp_path):
    network = unet()
    case, _, _ = phantom_case(shape=(8, 24, 16))
    findings = loaded(write_bundle(tmp_path, unet_config(), network=network)).analyze(case)
    from monai.transforms import Orientation

    from pipelines.geometry import from_metatensor, to_metatensor  # the same by hand

    turn = Orientation(axcodes="RAS")
    ready = turn(to_metatensor(case["ct"], copy=True))
    with torch.inference_mode():
        answer = network.eval()(ready.as_tensor()[None])[0].argmax(0, keepdim=True)
    pred = ready.clone()
    pred.set_(answer.float())
    expected = from_metatensor(turn.inverse(pred), case["ct"])
    assert 0 < expected.mean() < 1
    assert np.array_equal(findings.labelmap, expected)


def test_weights_that_are_missing_changed_pickled_or_of_another_network_are_refused(tmp_path):
    card = write_bundle(tmp_path / "changed", unet_config(), network=unet())
    with (tmp_path / "changed" / "models" / "model.pt").open("ab") as file:
        file.write(b"x")
    with pytest.raises(CardError, match="weights_sha256"):
        BundlePipeline(card)
    (tmp_path / "changed" / "models" / "model.pt").unlink()
    with pytest.raises(CardError, match=r"lacks models/model\.pt"):
        BundlePipeline(card)
    with pytest.raises(CardError, match="names no weights"):
        loaded(write_bundle(tmp_path / "none", unet_config()))
    other = UNet(spatial_dims=3, in_channels=1, out_channels=3, channels=(2, 4), strides=(2,))
    with pytest.raises(CardError, match="cannot be loaded"):
        loaded(write_bundle(tmp_path / "other", unet_config(), network=other))

    class Payload(torch.nn.Module):
        def state_dict(self):
            return {"weight": Boom(tmp_path / "boom")}

    card = write_bundle(tmp_path / "pickle", unet_config(), network=Payload())
    with pytest.raises(CardError, match="cannot be loaded"):
        loaded(card)
    assert not (tmp_path / "boom").exists()


class Boom:
    """A pickle that would make a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_the_payload_of_that_test_would_really_have_worked(tmp_path):
    pickle.loads(pickle.dumps(Boom(tmp_path / "boom"))).close()  # noqa: S301
    assert (tmp_path / "boom").exists()


# --- a card and a bundle that disagree --------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"bundle": 'output = "mask"'}, "output must be"),
        ({"bundle": 'output = "labels"\noutptu = 1'}, "no 'outptu'; it knows output"),
        (
            {"bundle": 'output = "labels"\nchannels = ["dark"]'},
            "'dark' in the card, but .* is 'bright'",
        ),
        ({"labels": ("Bright", "Dark")}, "segment 2 is 'dark'"),
        ({"bundle": 'output = "labels"\nvalues = [1, 2]'}, "values must name each"),
        ({"bundle": 'output = "labels"\nconfig = "configs/none.json"'}, "lacks configs/none.json"),
        ({"bundle": 'output = "labels"\nconfig = "../../inference.json"'}, "outside"),
        ({"bundle": 'output = "labels"\nfolder = ".."'}, "outside"),
        ({"bundle": 'output = "labels"\n[bundle.roles]\nnet = "x"'}, "no 'net'; it knows preprocessing"),
        ({"roles": ("ct", "second")}, "takes 1 channels, the card has 2"),
        ({"labels": ()}, "no segments"),
        ({"bundle": 'output = "labels"\n[[bundle.expects]]\ncode = "x"'}, "expects"),
    ],
)
def test_a_card_that_cannot_be_right_is_told_so_before_anything_runs(tmp_path, options, complaint):
    with pytest.raises(CardError, match=complaint):
        BundlePipeline(write_bundle(tmp_path, **options))


def test_metadata_that_disagrees_or_cannot_be_read_is_told(tmp_path):
    metadata = threshold_metadata()
    metadata["network_data_format"]["inputs"]["image"]["modality"] = "MRI"
    with pytest.raises(CardError, match="for MR, the card for CT"):
        BundlePipeline(write_bundle(tmp_path / "a", metadata=metadata))
    metadata = threshold_metadata()
    metadata["network_data_format"]["outputs"]["pred"]["channel_def"]["2"] = "other"
    with pytest.raises(CardError, match="channel 2 'other' is not in the card"):
        BundlePipeline(write_bundle(tmp_path / "b", metadata=metadata))
    card = write_bundle(tmp_path / "c")
    (tmp_path / "c" / "configs" / "metadata.json").write_text("{")
    with pytest.raises(CardError, match=r"metadata\.json cannot be read"):
        BundlePipeline(card)
    (tmp_path / "c" / "configs" / "metadata.json").unlink()
    with pytest.raises(CardError, match=r"lacks configs/metadata\.json"):
        BundlePipeline(card)


def change(config, key, value):
    *path, last = key.split("/")
    for step in path:
        config = config[int(step) if isinstance(config, list) else step]
    config[last] = value


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("network_def/_target_", "monai.networks.nets.NoSuchNet", "cannot be used"),
        ("network_def", {"_target_": "Dataset", "data": []}, "no torch module"),
        ("preprocessing", "@nothing", "cannot be used"),
        ("postprocessing/_mode_", "debug", "debugger"),
        ("evaluator/_target_", "EnsembleEvaluator", "EnsembleEvaluator"),
        ("evaluator/prepare_batch", "$lambda x: x", "prepare_batch"),
        ("preprocessing/transforms", "$[monai.transforms.LoadImaged(keys='image')]", "inside an expression"),
    ],
)
def test_a_configuration_that_cannot_be_followed_is_told_at_load(tmp_path, key, value, complaint):
    config = threshold_config()
    change(config, key, value)
    with pytest.raises(CardError, match=complaint):
        loaded(write_bundle(tmp_path, config))


def test_analysing_before_loading_says_so(tmp_path):
    with pytest.raises(RuntimeError, match="load"):
        BundlePipeline(write_bundle(tmp_path)).analyze(phantom_case()[0])


# --- several inputs, and what is refused ------------------------------------------------------------


def test_inputs_become_channels_in_the_order_of_the_card(tmp_path):
    metadata = threshold_metadata()
    metadata["network_data_format"]["inputs"]["image"]["num_channels"] = 2
    second = {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: x[1:]"}
    card = write_bundle(
        tmp_path,
        with_steps([*LOAD, RAS], [INVERT, second, ABOVE_200, SAVE]),
        metadata=metadata,
        roles=("b", "a"),
    )
    case, mask, _ = phantom_case("oblique")
    dark = image_of(np.zeros_like(case["ct"].array), case["ct"].affine)
    pipeline = loaded(card)
    both = {"a": case["ct"], "b": dark}
    pipeline.check(both)
    assert np.array_equal(pipeline.analyze(both).labelmap == 1, mask)
    moved = image_of(dark.array, dark.affine + np.eye(4, k=3) * 2)
    with pytest.raises(InputRefused) as refusal:
        pipeline.check({"a": case["ct"], "b": moved})
    assert refusal.value.code == "different-grids"
    with pytest.raises(InputRefused) as refusal:
        pipeline.check({"a": case["ct"]})
    assert refusal.value.code == "missing-input"


def test_what_the_card_expects_is_held_and_the_refusal_tells_what_was_seen(tmp_path):
    expects = """output = "labels"
[[bundle.expects]]
code = "too-dark"
sentence = "The phantom is too dark."
object = [-500.0, 5000.0]
volume_ml = [0.1, 1000.0]
percentiles = { 50 = [0.0, 200.0], "99.9" = [250.0, 350.0] }"""
    pipeline = loaded(write_bundle(tmp_path, bundle=expects))
    case, _, _ = phantom_case()
    pipeline.check(case)
    image = case["ct"]
    for array in (image.array - 300, np.full_like(image.array, -1000)):
        with pytest.raises(InputRefused, match="too dark") as refusal:
            pipeline.check({"ct": image_of(array, image.affine)})
        assert refusal.value.code == "too-dark"
        assert "expected is" in refusal.value.sentence


def test_yaml_is_as_good_as_json(tmp_path):
    import yaml

    card = write_bundle(tmp_path)
    path = tmp_path / "configs" / "inference.json"
    path.with_suffix(".yaml").write_text(yaml.safe_dump(json.loads(path.read_text())))
    path.unlink()
    case, mask, _ = phantom_case()
    assert np.array_equal(loaded(card).analyze(case).labelmap == 1, mask)
