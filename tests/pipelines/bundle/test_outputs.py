"""Every kind of output becomes findings with known answers, which the node takes."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from node.compute.findings import validate
from pipelines import codes
from pipelines.bundle import BundlePipeline
from pipelines.contract import CardError, read_card
from tests.bundle_zoo import SAVE, ZOO, func, invert, load, step, write, write_zoo
from tests.bundles import image_of, loaded
from tests.phantoms import to_world
from tests.pipelines.bundle.zoo_cases import CASES, cells, colour, heartbeat, volume


def findings_of(folder, name, case=None, **changes):
    """Return the findings of a bundle of the zoo, which must be as the node demands."""
    card = write(folder, replace(ZOO[name], **changes), name)
    case = CASES[name]() if case is None else case
    pipeline = loaded(card)
    pipeline.check(case)
    findings = pipeline.analyze(case)
    assert validate(findings, card, case) == []
    return findings


@pytest.mark.parametrize("name", ZOO)
def test_every_bundle_says_the_same_twice_and_leaves_its_case_as_it_was(tmp_path, name):
    card, case = write_zoo(tmp_path, name), CASES[name]()
    before = {role: (image.array.copy(), image.affine.copy()) for role, image in case.items()}
    pipeline = loaded(card)
    pipeline.check(case)
    first, second = pipeline.analyze(case), pipeline.analyze(case)
    assert validate(first, card, case) == []
    for one, other in (
        (first.labelmap, second.labelmap),
        (first.masks, second.masks),
        *((a.array, b.array) for a, b in zip(first.maps, second.maps, strict=True)),
        *((a.points, b.points) for a, b in zip(first.detections, second.detections, strict=True)),
    ):
        assert one is None or np.array_equal(one, other)
    assert (first.evaluations, first.cautions) == (second.evaluations, second.cautions)
    for role, (array, affine) in before.items():
        assert np.array_equal(case[role].array, array)
        assert np.array_equal(case[role].affine, affine)


# --- outlines ---------------------------------------------------------------------------------------


def test_labels_and_one_hot_channels_are_the_voxels_of_the_threshold(tmp_path):
    array = volume()["ct"].array
    labels = findings_of(tmp_path / "a", "labels").labelmap
    assert np.array_equal(labels == 1, array > 200)
    one_hot = findings_of(tmp_path / "b", "one-hot").labelmap
    assert np.array_equal(one_hot == 1, array > 200)
    assert np.array_equal(one_hot == 2, (array > -500) & (array <= 200))


def test_overlapping_channels_stay_apart(tmp_path):
    case = CASES["channels"]()
    core, whole = findings_of(tmp_path, "channels", case).masks
    assert np.array_equal(core, case["flair"].array == 1000)
    assert (core & whole).sum() == core.sum() < whole.sum()


def test_a_probability_is_a_map_and_an_outline_from_the_threshold_on(tmp_path):
    findings = findings_of(tmp_path, "probabilities")
    expected = (volume()["ct"].array + 1000) / 2000
    (one,) = findings.maps
    assert np.allclose(one.array, expected, atol=1e-6)
    assert (one.segment, one.quantity, one.unit) == (1, codes.PROBABILITY, codes.NO_UNITS)
    assert np.array_equal(findings.mask(1), expected >= 0.6)
    assert findings.measurements[0].value == pytest.approx(
        findings.mask(1).sum() * volume()["ct"].voxel_ml, rel=1e-6
    )


def test_what_is_no_probability_is_not_shown_as_one(tmp_path):
    with pytest.raises(ValueError, match="needs its own softmax or sigmoid"):
        findings_of(tmp_path, "probabilities", network="x", after=[SAVE])


def test_a_result_left_where_the_network_saw_the_image_is_taken_back_and_told(tmp_path):
    case = volume()
    findings = findings_of(tmp_path, "network-space", case)
    truth = case["ct"].array > 200
    found = findings.labelmap == 1
    dice = 2 * (truth & found).sum() / (truth.sum() + found.sum())
    assert dice > 0.6  # bars of 1.6 mm seen on voxels of 1 mm
    shift = to_world(findings.affine, np.argwhere(found).mean(0)) - to_world(
        findings.affine, np.argwhere(truth).mean(0)
    )
    assert np.linalg.norm(shift) < 0.7
    assert any("took it back" in caution and "nearest" in caution for caution in findings.cautions)
    flipped = findings_of(tmp_path / "b", "network-space", case, before=ZOO["labels"].before)
    assert np.array_equal(flipped.labelmap == 1, truth)  # only turned, so nothing is lost


def test_values_that_mean_nothing_are_background_and_others_without_meaning_are_told(tmp_path):
    gives = {"network": "(x > 200) + 255.0 * (x < -500)", "after": [SAVE]}
    with pytest.raises(ValueError, match="values outside of 0 and"):
        findings_of(tmp_path / "a", "labels", **gives)
    findings = findings_of(tmp_path / "b", "labels", terms='output = "labels"\nnothing = [255]', **gives)
    assert np.array_equal(findings.labelmap, volume()["ct"].array > 200)


def test_a_generated_image_ends_with_its_lowest_value_where_the_network_saw_nothing(tmp_path):
    crop = step("SpatialCropd", "image", roi_start=[5, 5, 2], roi_end=[40, 36, 10])
    findings = findings_of(tmp_path, "image", before=[*load(), crop], network="x + 5.0", after=[SAVE])
    assert findings.maps[0].array[0, 0, 0] == findings.maps[0].array.min() == -995.0
    assert findings.maps[0].array[3, 10, 10] == volume()["ct"].array[3, 10, 10] + 5


def test_one_hot_channels_taken_back_have_background_where_the_network_saw_nothing(tmp_path):
    crop = step("SpatialCropd", "image", roi_start=[5, 5, 2], roi_end=[40, 36, 10])
    case = volume()
    findings = findings_of(
        tmp_path,
        "one-hot",
        case,
        before=[*load(), crop],
        after=[step("AsDiscreted", argmax=True, to_onehot=3), SAVE],
    )
    inside = np.zeros(findings.labelmap.shape, bool)
    inside[2:10, 5:36, 5:40] = True
    assert np.array_equal(findings.labelmap == 1, (case["ct"].array > 200) & inside)


def test_a_generated_image_is_a_map_in_its_unit_and_said_to_be_synthetic(tmp_path):
    findings = findings_of(tmp_path, "image")
    (one,) = findings.maps
    assert np.allclose(one.array, volume()["ct"].array / 2, atol=1e-3)
    assert (one.label, one.unit.value, one.segment) == ("Denoised", "[hnsf'U]", None)
    assert any("synthetic" in caution for caution in findings.cautions)
    assert findings.labelmap is None
    assert not findings.segments


@pytest.mark.parametrize("name", ["labels", "image", "probabilities"])
def test_of_several_saved_results_the_card_says_which(tmp_path, name):
    both = [
        invert(),
        step("CopyItemsd", "pred", names=["a", "b"], times=2),
        step("SaveImaged", ["a", "b"], output_dir="@output_dir"),
    ]
    with pytest.raises(ValueError, match=r"saves a, b; say which in \[bundle\] result"):
        findings_of(tmp_path, name, after=both)


# --- scores -----------------------------------------------------------------------------------------


def test_one_question_has_the_answer_of_the_highest_score(tmp_path):
    softmax = [step("Activationsd", softmax=True)]
    findings = findings_of(tmp_path, "density", after=softmax)
    (answer,) = findings.evaluations
    assert (answer.name.meaning, answer.value.meaning) == ("Type", "Heterogeneous")
    assert 0.25 < answer.probability < 1.0
    assert not any("sum to" in caution for caution in findings.cautions)


def test_scores_of_one_question_that_do_not_sum_to_one_are_no_probabilities(tmp_path):
    findings = findings_of(tmp_path, "density")  # a sigmoid for each of four exclusive answers
    (answer,) = findings.evaluations
    assert (answer.value.meaning, answer.probability) == ("Heterogeneous", None)
    assert any("not to 1: they are no probabilities" in caution for caution in findings.cautions)


def test_several_questions_are_each_present_or_absent(tmp_path):
    strong, weak = findings_of(tmp_path, "rhythm").evaluations
    assert (strong.name.meaning, strong.value) == ("Strong", codes.PRESENT)
    assert (weak.name.meaning, weak.value) == ("Weak", codes.ABSENT)
    # each is how likely its own answer is: strong 0.88, and so, with a score of 0.12, that weak is absent
    assert strong.probability == pytest.approx(weak.probability)
    assert strong.probability == pytest.approx(1 / (1 + np.exp(-(900 - 500) / 200)), abs=0.01)
    strong, _ = findings_of(tmp_path / "b", "rhythm", heartbeat(100.0)).evaluations
    assert strong.value == codes.ABSENT
    assert strong.probability > 0.5, "the probability of the answer that is given"
    cut = [*ZOO["rhythm"].after, step("AsDiscreted", threshold=0.5)]
    strong, weak = findings_of(tmp_path / "c", "rhythm", after=cut).evaluations
    assert (strong.value, weak.value) == (codes.PRESENT, codes.ABSENT)
    assert strong.probability is weak.probability is None  # decisions are no probabilities


def test_a_decision_is_no_probability(tmp_path):
    findings = findings_of(tmp_path, "in-body")
    (answer,) = findings.evaluations
    assert answer.value.meaning == "In body"
    assert answer.probability is None
    assert findings.cautions == ("The answer is for 3 images together: the mean of their scores.",)


def test_one_score_answers_a_question_with_two_answers(tmp_path):
    two = ZOO["in-body"].terms
    (answer,) = findings_of(
        tmp_path,
        "in-body",
        terms=two,
        network="0.25 + 0 * x[:, 0, 0, :1]",
        after=[],
    ).evaluations
    assert (answer.value.meaning, answer.probability) == ("In body", 0.75)


@pytest.mark.parametrize(
    ("network", "complaint"),
    [
        ("x[:, 0, 0, :2] + 1000", "from 0 to 1"),
        ("x[:, 0, 0, :3]", "3 scores; the card describes 2"),
        ("x[:, 0, 0, :2] * float('nan')", "from 0 to 1"),
    ],
)
def test_scores_that_are_none_are_refused(tmp_path, network, complaint):
    with pytest.raises(ValueError, match=complaint):
        findings_of(tmp_path, "in-body", network=network, after=[])


def test_what_is_seen_on_one_of_several_pictures_is_there(tmp_path):
    case = {"video": colour(3)}
    case["video"].colour[1, ..., 0] = 255
    terms = ZOO["in-body"].terms.replace("question", "# question")
    said = findings_of(
        tmp_path, "in-body", case, terms=terms, network="x.mean((2, 3))[:, :2] / 255.0", after=[]
    )
    assert [one.value for one in said.evaluations] == [codes.PRESENT, codes.ABSENT]
    assert said.evaluations[0].probability == pytest.approx(1.0, abs=1e-3)


# --- things pointed at ------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", ["axial", "sagittal", "coronal", "prone"])
def test_boxes_in_millimetres_of_the_patient_lie_around_what_was_seen(tmp_path, orientation):
    case = volume(orientation)
    findings = findings_of(tmp_path, "nodules", case)
    (one,) = findings.detections  # the second has too low a score, the third lies outside
    at = np.argwhere(case["ct"].array > 200)
    assert np.allclose(one.points, [at.min(axis=0), at.max(axis=0)], atol=1e-3)
    assert (one.shape, one.confidence, one.number) == ("box", 0.75, 1)
    assert findings.cautions == ("1 of the bundle's boxes lie outside of the image and are left out.",)


def test_no_box_is_a_finding_too(tmp_path):
    findings = findings_of(tmp_path, "nodules", {"ct": image_of(np.zeros((8, 16, 16)))})
    assert findings.detections == ()


def test_a_point_of_what_the_network_saw_lies_where_it_was_in_the_patient(tmp_path):
    case = volume("oblique")
    truth = np.argwhere(case["ct"].array > 200).mean(axis=0)
    affine = case["ct"].affine
    (one,) = findings_of(tmp_path / "a", "landmark", case, before=ZOO["labels"].before).detections
    assert np.allclose(one.points, truth, atol=1e-4)
    (one,) = findings_of(tmp_path / "b", "landmark", case).detections  # seen on voxels of 1 mm
    assert np.linalg.norm(to_world(affine, one.points[0]) - to_world(affine, truth)) < 1.0


def test_points_of_every_phase_lie_on_its_slice_and_those_not_found_are_told(tmp_path):
    findings = findings_of(tmp_path, "valves")
    assert [one.points[0].tolist() for one in findings.detections] == [
        [phase, 9.0 + phase, 22.0] for phase in range(5)
    ]
    assert findings.cautions == ("Not found: Never, on 5 images.",)


def test_instances_of_a_picture_are_contours_of_their_type(tmp_path):
    findings = findings_of(tmp_path, "cells")
    assert [one.label for one in findings.detections] == ["Red cell", "Green cell", "Red cell"]
    red, green, _ = findings.detections
    for one, low, high in ((red, (10, 8), (14, 15)), (green, (30, 40), (36, 44))):
        assert one.shape == "contour"
        assert np.allclose(one.points[:, 1:].min(axis=0), np.subtract(low, 0.5))
        assert np.allclose(one.points[:, 1:].max(axis=0), np.subtract(high, 0.5))


def test_what_is_pointed_at_lies_on_its_own_of_several_pictures(tmp_path):
    one = cells()
    both = np.concatenate([np.zeros_like(one.colour), one.colour])
    image = replace(one, colour=both, array=both.mean(-1).astype(np.float32) / 255)
    findings = findings_of(tmp_path, "cells", {"tile": image})
    assert [found.points[:, 0].tolist() for found in findings.detections] == [
        [1.0] * len(found.points) for found in findings.detections
    ]
    assert len(findings.detections) == 3


def test_instances_of_a_volume_are_boxes_along_the_edges_of_their_voxels(tmp_path):
    terms = ZOO["cells"].terms.replace('colour = "rgb255"', 'type_key = ""')
    findings = findings_of(
        tmp_path,
        "cells",
        volume("coronal"),
        inputs=ZOO["labels"].inputs,
        terms=terms,
        before=load(),
        network="(x > 200).float()",
        after=[step("SaveImaged", output_dir="@output_dir")],
    )
    (one,) = findings.detections
    at = np.argwhere(volume("coronal")["ct"].array > 200)
    assert np.array_equal(one.points, [at.min(axis=0) - 0.5, at.max(axis=0) + 0.5])


def test_only_the_instances_a_reader_can_bear_are_told(tmp_path):
    findings = findings_of(tmp_path, "cells", terms=f"most = 2\n{ZOO['cells'].terms}")
    assert [one.number for one in findings.detections] == [1, 2]
    # The first of the map is a single pixel: the others are larger.
    assert [float(one.points[:, 1].min()) for one in findings.detections] == [9.5, 29.5]
    assert findings.cautions == ("The bundle found 3; the 2 largest are told.",)


def test_an_instance_in_several_pieces_is_outlined_at_its_largest_and_told(tmp_path):
    one_number = [*ZOO["cells"].after[:1], func("(x > 0).float()", "instance_map"), *ZOO["cells"].after[1:]]
    findings = findings_of(tmp_path, "cells", after=one_number, terms=f"{ZOO['cells'].terms}")
    (one,) = findings.detections
    assert one.points[:, 1:].min(axis=0).tolist() == [9.5, 7.5]  # 4 x 7; the other pieces have 24 and 1
    assert one.points[:, 1:].max(axis=0).tolist() == [13.5, 14.5]
    assert findings.cautions == (
        "1 of the bundle's 1 instances lie in several pieces; of each only the largest piece is outlined.",
    )


def test_a_huge_number_of_an_instance_asks_for_no_more_memory_than_a_small_one(tmp_path):
    huge = func("x * 700_000_000", "instance_map")  # to 2.1e9: 8 bytes for each would be 17 GB
    gives = [*ZOO["cells"].after[:1], huge, *ZOO["cells"].after[1:]]
    tracemalloc.start()
    try:
        said = findings_of(tmp_path / "a", "cells", after=gives).detections
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
    plain = findings_of(tmp_path / "b", "cells").detections
    assert [one.points.tolist() for one in said] == [one.points.tolist() for one in plain]


def test_a_map_of_instances_with_fractions_is_stopped(tmp_path):
    case = {"tile": cells()}
    half = [*ZOO["cells"].after[:1], func("x * 0.5", "instance_map"), *ZOO["cells"].after[1:]]
    with pytest.raises(ValueError, match="fractions"):
        findings_of(tmp_path, "cells", case, after=half)


# --- cards that cannot be right ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "old", "new", "complaint"),
    [
        ("labels", '"labels"', '"latent"', "gives a latent cannot be used: a latent has no meaning"),
        ("labels", '"labels"', '"registration"', "a transformation is no finding"),
        ("labels", '"labels"', '"scores"', "outlines nothing; drop the segments"),
        ("density", "[[bundle.answers]]", "[[bundle.finds]]", "needs \\[\\[bundle.answers\\]\\]"),
        ("density", "colour", "color", "has no 'color'"),
        ("density", '"rgb255"', '"RGB"', "colour is one of grey, grey255, rgb255, rgb1, not 'RGB'"),
        ("density", '"occlusion"', '"gradcam"', "needs explain_layer"),
        ("nodules", '"cccwhd"', '"corners"', "box_mode is one of xyzxyz"),
        ("nodules", "category", "# category", "needs a category"),
        ("nodules", '[[detects]]\nvalue = "NODULE"', '[[detects]]\nvalue = "OTHER"', "lacks 'Nodule'"),
        (
            "cells",
            'output = "instances"',
            'output = "instances"\nframe = "lps-mm"',
            "no place in millimetres",
        ),
        ("image", "unit = {", "# unit = {", "needs \\[bundle.map\\] and \\[bundle.unit\\]"),
        ("image", "unit = {", 'explain = "gradient"\nunit = {', "explain is for output = 'scores'"),
        ("rhythm", '"scores"', '"scores"\nexplain = "gradient"', "of a waveform only"),
        ("rhythm", '"scores"', '"scores"\neach = "slice"', "does not fit an input of kind 'waveform'"),
        ("prior", 'before = "before"', "", "grid of its own"),
        ("prior", 'before = "before"', 'befor = "before"', "names 'befor', which is no input"),
        ("nodules", 'frame = "lps-mm"', "threshold = 50", "threshold is 50, not from 0 to 1"),
        ("nodules", 'frame = "lps-mm"', "most = 0", "most is 0"),
        (
            "labels",
            'output = "labels"',
            'output = "labels"\nnothing = [1]',
            "nothing names a value that means a segment",
        ),
        ("labels", 'output = "labels"', 'output = "labels"\nnothing = [0]', "from 1 to 65535"),
    ],
)
def test_a_card_that_leaves_out_or_contradicts_something_is_told(tmp_path, name, old, new, complaint):
    write_zoo(tmp_path, name)
    path = tmp_path / "card.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(CardError, match=complaint):
        BundlePipeline(read_card(path))
