"""Every kind of input reaches the network as the author's reader would have given it, and comes back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipelines.bundle.inputs import parts_of, prepare
from pipelines.bundle.terms import read_terms
from pipelines.contract import InputRefused
from pipelines.geometry import ras_affine
from tests.bundle_zoo import ZOO, load, role, step, write
from tests.bundles import image_of, loaded
from tests.phantoms import to_world
from tests.pipelines.bundle.zoo_cases import CASES, colour, heart, magnetic, pelvis, picture, volume


def items_of(folder, name, case, **changes):
    """Return the parts of a case as a bundle of the zoo is given them."""
    card = write(folder, replace(ZOO[name], **changes), name)
    terms = read_terms(card)
    prepared, _ = prepare(card, terms, case)
    return list(parts_of(card, terms, prepared, "image"))


def analysed(folder, name, case, **changes):
    pipeline = loaded(write(folder, replace(ZOO[name], **changes), name))
    pipeline.check(case)
    return pipeline.analyze(case)


# --- what the network is given ----------------------------------------------------------------------


def test_a_volume_goes_through_at_once_in_memory_of_its_own(tmp_path):
    case = volume()
    (part,) = items_of(tmp_path, "labels", case)
    tensor = part.item["image"]
    assert np.array_equal(tensor.numpy(), case["ct"].array.transpose(2, 1, 0)[None])
    assert np.allclose(tensor.affine, ras_affine(case["ct"].affine))
    assert not np.shares_memory(tensor.numpy(), case["ct"].array)


def test_pictures_go_one_by_one_as_readers_of_picture_files_give_them(tmp_path):
    image = picture(3)
    parts = items_of(tmp_path, "density", {"view": image})
    assert [part.start for part in parts] == [0, 1, 2]
    for index, part in enumerate(parts):
        tensor = part.item["image"]
        assert tensor.shape == (3, 30, 24)  # (channels, columns, rows), three equal ones
        assert np.array_equal(tensor[0].numpy().T, np.rint(image.array[index] * 255))
        assert np.array_equal(tensor[0], tensor[2])
        assert np.allclose(tensor.affine, np.diag([0.3, 0.4, 1.0, 1.0]))  # nothing is turned


@pytest.mark.parametrize(
    ("word", "channels", "highest"), [("grey", 1, 1), ("grey255", 1, 255), ("rgb255", 3, 255), ("rgb1", 3, 1)]
)
def test_colour_is_given_as_the_card_says(tmp_path, word, channels, highest):
    image = colour(2)
    terms = ZOO["tools"].terms.replace("rgb255", word)
    tensor = items_of(tmp_path, "tools", {"video": image}, terms=terms)[1].item["image"].numpy()
    assert tensor.shape == (channels, 64, 48)
    if channels == 1:
        expected = image.array[1] if highest == 1 else np.rint(image.array[1] * 255)
        assert np.allclose(tensor[0].T, expected)
    else:
        assert np.allclose(tensor.transpose(2, 1, 0), image.colour[1] / (255 / highest), atol=1e-6)


def test_each_phase_of_a_cine_is_a_volume_at_the_same_place(tmp_path):
    case = heart()
    parts = items_of(tmp_path, "ventricle", case)
    array = case["cine"].array.reshape(6, 9, 32, 32)
    assert [part.start for part in parts] == [0, 9, 18, 27, 36, 45]
    for phase, part in zip(array, parts, strict=True):
        assert np.array_equal(part.item["image"].numpy()[0], phase.transpose(2, 1, 0))
        assert np.allclose(part.item["image"].affine, ras_affine(case["cine"].affine))


def test_a_cine_may_go_through_with_all_phases_as_its_last_axis(tmp_path):
    case = heart()
    (part,) = items_of(tmp_path, "valves", case)
    array = case["cine"].array.reshape(6, 9, 32, 32)
    assert np.array_equal(part.item["image"].numpy()[0], array.transpose(3, 2, 1, 0))


def test_a_volume_may_go_through_slice_by_slice(tmp_path):
    case = volume("oblique")
    terms = 'output = "labels"\neach = "slice"'
    parts = items_of(tmp_path / "a", "labels", case, terms=terms)
    assert [part.item["image"].shape for part in parts] == [(1, 44, 40)] * 12
    assert np.allclose(
        parts[5].image.affine[:3, 3], to_world(case["ct"].affine, [5, 0, 0])
    )  # and it is known where each lies
    findings = analysed(
        tmp_path / "b",
        "labels",
        case,
        terms=terms,
        before=[*load(), step("Rotate90d", "image"), step("Resized", "image", spatial_size=[80, 88])],
    )
    assert np.array_equal(findings.labelmap == 1, case["ct"].array > 200)


def test_a_waveform_is_channels_by_samples(tmp_path):
    case = CASES["rhythm"]()
    (part,) = items_of(tmp_path, "rhythm", case)
    assert np.array_equal(part.item["image"].numpy(), case["ecg"].array[:, 0])


def test_roles_of_one_key_are_channels_and_others_have_their_own(tmp_path):
    inputs = [role(name, "MR", "1") for name in ("c", "a", "b")]
    image = magnetic(volume()["ct"].array, volume()["ct"].affine)
    case = {name: replace(image, array=image.array + n) for n, name in enumerate("abc")}
    terms = 'output = "labels"\n[bundle.keys]\na = "other"'
    (part,) = items_of(tmp_path, "labels", case, inputs=inputs, terms=terms)
    assert sorted(part.item) == ["image", "other"]
    first, second = part.item["image"].numpy()
    assert np.array_equal(first, second + 1)  # c, then b: the card's order
    assert part.item["other"].shape == (1, 44, 40, 12)


def test_an_outline_of_another_pipeline_is_an_input(tmp_path):
    case = CASES["chained"]()
    findings = analysed(tmp_path, "chained", case)
    assert np.array_equal(findings.labelmap == 1, (case["ct"].array > 200) & (case["lungs"].array == 1))


# --- geometry through every kind --------------------------------------------------------------------


def test_what_is_blue_on_a_picture_is_outlined_there(tmp_path):
    image = colour(4)
    findings = analysed(
        tmp_path, "tools", {"video": image}, before=[*load(channel_dim=-1), step("ScaleIntensityd", "image")]
    )
    assert np.array_equal(findings.masks[0], image.colour[..., 2] == 250)


def test_resized_pictures_come_back_to_within_a_pixel(tmp_path):
    image = colour(2)
    findings = analysed(tmp_path, "tools", {"video": image})
    for mask, truth in zip(findings.masks[0], image.colour[..., 2] == 250, strict=True):
        assert np.abs(np.argwhere(mask).mean(0) - np.argwhere(truth).mean(0)).max() < 0.6
        assert 0.8 < mask.sum() / truth.sum() < 1.25


def test_a_heart_has_the_volumes_and_the_ejection_fraction_of_its_voxels(tmp_path):
    case = heart()
    findings = analysed(tmp_path, "ventricle", case)
    truth = case["cine"].array == 600
    assert np.array_equal(findings.labelmap == 1, truth)
    per_phase = truth.reshape(6, -1).sum(1) * case["cine"].voxel_ml
    volume_, edv, esv, fraction = (one.value for one in findings.measurements)
    assert np.isnan(volume_)  # there is one for each phase, and their sum is none of them
    assert (edv, esv) == (pytest.approx(per_phase.max()), pytest.approx(per_phase.min()))
    assert fraction == pytest.approx(100 * (1 - per_phase.min() / per_phase.max()))


# --- resampling -------------------------------------------------------------------------------------


def test_a_role_on_another_grid_is_taken_to_the_first_and_told(tmp_path):
    case = pelvis()
    findings = analysed(tmp_path, "two-keys", case)
    affine = case["t2"].affine
    centre = to_world(affine, np.argwhere(findings.labelmap == 1).mean(axis=0))
    coarse = to_world(case["adc"].affine, np.argwhere(case["adc"].array > 400).mean(axis=0))
    assert np.linalg.norm(centre - coarse) < 0.5
    assert findings.measurements[0].value == pytest.approx(4 / 3 * np.pi * 9**3 / 1000, rel=0.12)
    assert any("'adc' was resampled to the grid of 't2'" in caution for caution in findings.cautions)


def test_labels_are_resampled_to_the_nearest_value_and_images_between(tmp_path):
    fine = CASES["chained"]()["ct"]
    coarse = replace(
        CASES["chained"]()["lungs"],
        array=CASES["chained"]()["lungs"].array[::2, ::2, ::2],
        affine=fine.affine @ np.diag([2.0, 2.0, 2.0, 1.0]),
        frame_of_reference="1",
    )
    case = {"ct": replace(fine, frame_of_reference="1"), "lungs": coarse}
    spec = ZOO["chained"].inputs
    (part,) = items_of(
        tmp_path / "a", "chained", case, inputs=[spec[0], f'{spec[1]}\ngrid = "resample"'], before=load()
    )
    assert set(np.unique(part.item["image"][1])) <= {0.0, 1.0, 2.0}
    image = [role("t2", "MR", "1"), role("adc", "MR", "1", grid="resample")]
    (part,) = items_of(tmp_path / "b", "two-keys", pelvis(), inputs=image)
    assert len(np.unique(part.item["adc"])) > 10


def test_outside_stands_the_lowest_value_or_what_the_card_says(tmp_path):
    case = pelvis()
    half = replace(case["adc"], array=case["adc"].array[:10] + 7)
    for folder, terms, expected in (
        ("a", ZOO["two-keys"].terms, 7.0),
        ("b", f"padding = -5.0\n{ZOO['two-keys'].terms}", -5.0),
    ):
        (part,) = items_of(tmp_path / folder, "two-keys", {**case, "adc": half}, terms=terms)
        assert part.item["adc"].min() == expected


def test_outside_of_an_outline_is_nothing_whatever_the_card_says_of_images(tmp_path):
    case = CASES["chained"]()
    case["ct"] = replace(case["ct"], frame_of_reference="1")
    lungs = replace(case["lungs"], array=case["lungs"].array[:8], frame_of_reference="1")
    ct, outline = ZOO["chained"].inputs
    (part,) = items_of(
        tmp_path,
        "chained",
        {**case, "lungs": lungs},
        inputs=[ct, f'{outline}\ngrid = "resample"'],
        terms=f"padding = -1024.0\n{ZOO['chained'].terms}",
    )
    assert np.unique(part.item["image"][1]).tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("spoil", "reason", "sentence"),
    [
        (
            lambda adc: replace(adc, frame_of_reference="9"),
            "different-frame",
            "different frames of reference",
        ),
        (lambda adc: replace(adc, frame_of_reference=""), "different-frame", "do not say their frame"),
        (lambda adc: replace(adc, affine=adc.affine + np.eye(4, k=3) * 90), "no-overlap", "covers 0%"),
        (lambda adc: replace(adc, array=adc.array[:3]), "no-overlap", "at least 50%"),
    ],
)
def test_what_cannot_be_resampled_is_refused_with_the_reason(tmp_path, spoil, reason, sentence):
    case = pelvis()
    with pytest.raises(InputRefused, match=sentence) as refusal:
        analysed(tmp_path, "two-keys", {**case, "adc": spoil(case["adc"])})
    assert refusal.value.code == reason


def test_two_series_of_unknown_frames_are_not_taken_to_be_of_one(tmp_path):
    case = {name: replace(image, frame_of_reference="") for name, image in pelvis().items()}
    with pytest.raises(InputRefused, match="do not say their frame"):
        analysed(tmp_path, "two-keys", case)


def test_only_volumes_are_resampled_and_other_grids_are_refused(tmp_path):
    inputs = [role("a", "MR", "1", "cine"), role("b", "MR", "1", "cine", grid="resample")]
    case = {"a": heart()["cine"], "b": replace(heart()["cine"], affine=np.eye(4))}
    with pytest.raises(InputRefused, match="only volumes") as refusal:
        analysed(tmp_path / "a", "ventricle", case, inputs=inputs)
    assert refusal.value.code == "different-grids"
    pair = [role("a"), role("b")]
    case = {"a": image_of(np.zeros((4, 5, 6))), "b": image_of(np.zeros((4, 5, 7)))}
    with pytest.raises(InputRefused, match="one common grid"):
        analysed(tmp_path / "b", "labels", case, inputs=pair)


def test_series_that_lie_apart_at_their_far_corners_are_not_on_one_grid(tmp_path):
    image = image_of(np.zeros((4, 400, 400)), np.diag([1.0, 0.4, 0.4, 1.0]))
    turned = image.affine.copy()
    turned[0, 1] += 9e-4  # 0.36 mm at the far corner: nearly a voxel
    with pytest.raises(InputRefused, match="one common grid"):
        analysed(
            tmp_path,
            "labels",
            {"a": image, "b": replace(image, affine=turned)},
            inputs=[role("a"), role("b")],
        )


def test_an_earlier_examination_keeps_its_own_grid(tmp_path):
    (answer,) = analysed(tmp_path / "a", "prior", CASES["prior"]()).evaluations
    assert answer.value.meaning == "Present"
    same = CASES["prior"]()["current"]
    (answer,) = analysed(tmp_path / "b", "prior", {"current": same, "before": same}).evaluations
    assert answer.value.meaning == "Absent"
