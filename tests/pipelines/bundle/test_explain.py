"""A map of what an answer rests on lies where the network really looked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from node.compute.findings import validate
from pipelines import codes
from pipelines.bundle.explain import MOST_PARTS, MOST_PASSES, window
from pipelines.bundle.run import told
from tests.bundle_zoo import ZOO, code, find, func, load, step, write
from tests.bundles import image_of, loaded
from tests.phantoms import make_affine
from tests.pipelines.bundle.zoo_cases import picture

DENSITY = ZOO["density"]
#: A network with a layer: a blurred picture, and how much of it is bright.
LAYERED = """

class Blur(torch.nn.Module):
    def __init__(self, dims):
        super().__init__()
        conv = (None, None, torch.nn.Conv2d, torch.nn.Conv3d)[dims]
        self.layer = conv(1, 1, 3, padding=1)
        with torch.no_grad():
            self.layer.weight.fill_(1 / 3**dims)
            self.layer.bias.fill_(-0.6)
        self.requires_grad_(False)

    def forward(self, x):
        seen = self.layer(x[:, :1]).relu().flatten(1).mean(1)
        return torch.stack([0 * seen, 20 * seen, 0 * seen, 0 * seen], 1)
"""


def explained(folder, how, case, **changes):
    terms = DENSITY.terms.replace('explain = "occlusion"', how)
    card = write(folder, replace(DENSITY, **{"terms": terms, **changes}), "density")
    pipeline = loaded(card)
    findings = pipeline.analyze(case)
    assert validate(findings, card, case) == []
    return findings


def peak_share(heat, truth, reach=2):
    """Return which share of the heat lies on the truth, widened by some pixels."""
    from scipy.ndimage import binary_dilation

    return heat[binary_dilation(truth, iterations=reach)].sum() / heat.sum()


@pytest.mark.parametrize("how", ['explain = "occlusion"', 'explain = "gradient"'])
def test_the_map_of_a_picture_is_hot_where_the_answer_comes_from(tmp_path, how):
    case = {"view": picture()}
    findings = explained(tmp_path, how, case)
    (one,) = findings.maps
    truth = case["view"].array == 1.0
    assert one.array.shape == truth.shape
    assert (one.array.min(), one.array.max()) == (0.0, 1.0)
    assert peak_share(one.array, truth) > 0.9
    assert (one.label, one.quantity) == ("Saliency: Heterogeneous", codes.SALIENCY)
    assert "no outline" in findings.cautions[-1]


@pytest.mark.parametrize("how", ["occlusion", "gradient"])
@pytest.mark.parametrize("answers", ["one", "two"])
def test_one_score_is_explained_by_what_raises_it_for_one_answer_or_the_second_of_two(tmp_path, how, answers):
    labels = ("Bright",) if answers == "one" else ("Dark", "Bright")
    question = f"question = {code('TYPE', 'Type')}\n" if answers == "two" else ""
    terms = f'output = "scores"\ncolour = "rgb255"\nexplain = "{how}"\n{question}'
    terms += "\n".join(find("answers", label) for label in labels)
    case = {"view": picture()}
    findings = explained(
        tmp_path, "", case, terms=terms, network="20 * (x[:, :1] - 0.8).relu().flatten(1).mean(1, True)"
    )
    (one,) = findings.maps
    assert one.label == "Saliency: Bright"
    assert peak_share(one.array, case["view"].array == 1.0) > 0.9


def test_scores_of_which_the_card_tells_only_some_are_not_explained_by_others(tmp_path):
    terms = DENSITY.terms[: DENSITY.terms.index("question")] + find("answers", "Bright")
    after = [step("Activationsd", sigmoid=True), func("x[2:3]")]
    findings = explained(tmp_path, "", {"view": picture()}, terms=terms, after=after)
    assert findings.maps == ()
    assert any("could not be shown" in caution for caution in findings.cautions)


def with_weights(folder, network):
    """Pin weights for the layered network of a bundle."""
    import hashlib

    import torch

    path = folder / "models" / "model.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), path)
    return (
        f'weights = "models/model.pt"\nweights_sha256 = "{hashlib.sha256(path.read_bytes()).hexdigest()}"\n'
    )


def layered(folder, dims):
    """Return what makes a bundle of the layered network."""
    import torch

    space: dict = {"torch": torch}
    exec(LAYERED, space)  # noqa: S102  the script of the bundle itself
    pinned = with_weights(folder, space["Blur"](dims))
    return pinned, {
        "scripts": LAYERED,
        "more": {"network_def": {"_target_": "scripts.net.Blur", "dims": dims}},
    }


def test_gradcam_shows_what_a_layer_counted_and_leaves_no_hook_on_the_network(tmp_path):
    pinned, changes = layered(tmp_path, 2)
    case = {"view": picture()}
    how = 'explain = "gradcam"\nexplain_layer = "layer"'
    terms = pinned + DENSITY.terms.replace('explain = "occlusion"', how)
    card = write(tmp_path, replace(DENSITY, terms=terms, **changes), "density")
    pipeline = loaded(card)
    (one,) = pipeline.analyze(case).maps
    assert one.quantity == codes.GRADIENT_CLASS_ACTIVATION
    assert peak_share(one.array, case["view"].array == 1.0) > 0.9
    network = pipeline._loaded.network
    assert not network.layer._forward_hooks
    assert not network.layer._backward_hooks
    assert not network.layer.weight.requires_grad


def test_a_layer_that_is_not_there_costs_the_map_and_not_the_answer(tmp_path):
    findings = explained(tmp_path, 'explain = "gradcam"\nexplain_layer = "none"', {"view": picture()})
    assert findings.maps == ()
    assert findings.evaluations[0].value.meaning == "Heterogeneous"
    assert any(
        "could not be shown: ValueError: the network has no layer 'none'" in c for c in findings.cautions
    )


def test_what_a_map_failed_of_is_told_in_one_clean_and_short_line():
    assert told(ValueError("a\x1b[31m\tb\nsecond")) == "ValueError: a [31m b"
    assert len(told(ValueError("A" * 5_000_000))) < 250


def test_the_map_of_a_turned_and_resampled_volume_lies_on_its_source(tmp_path):
    pinned, changes = layered(tmp_path, 3)
    array = np.full((16, 40, 44), -100.0)
    array[3:8, 8:20, 26:38] = 300.0
    case = {"ct": image_of(array, make_affine("oblique"))}
    terms = pinned + DENSITY.terms.replace('colour = "rgb255"', "")
    card = write(
        tmp_path,
        replace(
            DENSITY,
            terms=terms,
            inputs=ZOO["labels"].inputs,
            before=[
                *load(),
                step("Orientationd", "image", axcodes="RAS"),
                step("Spacingd", "image", pixdim=[1.5, 1.5, 1.5]),
                step("ScaleIntensityRanged", "image", a_min=200, a_max=300, b_min=0.0, b_max=4.0, clip=True),
            ],
            **changes,
        ),
        "density",
    )
    findings = loaded(card).analyze(case)
    assert validate(findings, card, case) == []
    heat = findings.maps[0].array
    truth = case["ct"].array > 200
    middle = np.average(np.argwhere(heat >= 0), axis=0, weights=heat.ravel())
    shift_mm = case["ct"].affine[:3, :3] @ (middle - np.argwhere(truth).mean(axis=0))
    assert np.linalg.norm(shift_mm) < 4.0
    assert peak_share(heat, truth, 4) > 0.5


def test_of_many_pictures_those_of_the_highest_scores_are_explained(tmp_path):
    image = picture(6)
    image.array[:2] = 0.2  # on these two there is nothing
    findings = explained(tmp_path, 'explain = "occlusion"', {"view": image})
    hot = findings.maps[0].array.reshape(6, -1).max(axis=1) > 0
    assert hot.tolist() == [False, False, True, True, True, True]
    assert findings.cautions[-1].endswith(f"{MOST_PARTS} of 6 images are explained.")


def test_a_card_that_asks_for_none_gets_none(tmp_path):
    assert explained(tmp_path, "", {"view": picture()}).maps == ()


@pytest.mark.parametrize("shape", [(299, 299), (512, 512), (20, 700), (96, 96, 96), (512, 512, 300), (3, 3)])
def test_windows_grow_with_the_image_so_that_the_time_is_bounded(shape):
    size = window(shape)
    places = 1
    for length, side in zip(shape, size, strict=True):
        assert 1 <= side <= length
        places *= len(range(0, length - side, max(1, side // 2))) + 1
    assert places <= MOST_PASSES
