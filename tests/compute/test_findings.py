"""A pipeline that breaks its contract is told so, whatever it breaks."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.compute.findings import validate
from pipelines.contract import Code, Detection, Evaluation, Findings, InputSpec, Map, Measurement
from tests.compute.findings_maker import (
    ANATOMY,
    LUNG,
    ML,
    NODULE,
    POINTS,
    SHAPE,
    SPLEEN,
    VOLUME,
    a_map,
    card,
    detection,
    findings,
    image,
    segment,
)

CASE = {"ct": image()}
GOOD = findings()
VOLUME_1 = GOOD.measurements[0]


def complaints(spoilt, the_card=None):
    return validate(spoilt, the_card or card(), CASE)


def test_good_findings_pass():
    assert complaints(GOOD) == []
    masks = np.stack([GOOD.labelmap == 1, GOOD.labelmap == 2])
    assert complaints(findings(labelmap=None, masks=masks)) == []
    assert complaints(Findings()) == []
    assert complaints(Findings(measurements=(replace(VOLUME_1, segment=None),))) == []


def test_an_affine_may_differ_by_float32_rounding_and_no_more():
    affine = CASE["ct"].affine
    assert complaints(findings(affine=affine.astype(np.float32))) == []
    assert complaints(findings(affine=affine + 5e-5)) == []
    assert complaints(findings(affine=affine + 2e-4)) == ["the affine of its outlines is not the image's own"]
    far = affine.copy()
    far[:3, 3] = 900.0  # rounding does not grow with the distance from the origin
    case = {"ct": image(affine=far)}
    assert validate(findings(affine=far + 2e-4), card(), case) != []


def two_lungs(**changes):
    return findings(segments=(segment(1, **changes), segment(2, SPLEEN)))


def measured(**changes):
    return findings(measurements=(replace(VOLUME_1, **changes),))


def evaluated(**changes):
    return findings(evaluations=(Evaluation(**{"name": SPLEEN, "value": LUNG} | changes),))


SPOILT = [
    (None, "it returned NoneType instead of Findings"),
    ({"labelmap": 1}, "it returned dict instead of Findings"),
    (findings(role="mr"), "its outlines are on the grid of 'mr', which is no input"),
    (findings(masks=np.zeros((2, *SHAPE), bool)), "it gives both a label map and masks"),
    (findings(labelmap=None), "it names 2 segments but gives no outlines"),
    (
        findings(labelmap=np.zeros((4, 6, 5), np.uint8)),
        "its label map has the shape (4, 6, 5), not (4, 5, 6)",
    ),
    (findings(labelmap=np.zeros(SHAPE, np.int16)), "its label map is of type int16, not unsigned integer"),
    (findings(labelmap=np.zeros(SHAPE)), "its label map is of type float64, not unsigned integer"),
    (findings(labelmap=[[0]]), "its label map is list, not a numpy array"),
    (findings(labelmap=np.full(SHAPE, 3, np.uint8)), "its label map has a label 3, but there are 2 segments"),
    (
        findings(labelmap=None, masks=np.zeros((3, *SHAPE), bool)),
        "its masks has the shape (3, 4, 5, 6), not (2, 4, 5, 6)",
    ),
    (findings(labelmap=None, masks=np.zeros((2, *SHAPE), np.uint8)), "its masks is of type uint8, not bool"),
    (findings(affine=None), "it gives outlines without an affine"),
    (findings(affine=np.eye(3)), "the affine of its outlines is not the image's own"),
    (findings(affine=np.full((4, 4), np.nan)), "the affine of its outlines is not the image's own"),
    (findings(affine="here"), "the affine of its outlines is not the image's own"),
    (
        findings(segments=(segment(2, LUNG), segment(1, SPLEEN))),
        "its segments are not numbered 1, 2, 3 ...",
    ),
    (two_lungs(label=" "), "segment 1 needs a label of 1 to 64 characters"),
    (two_lungs(label="x" * 65), "segment 1 needs a label of 1 to 64 characters"),
    (two_lungs(kind=ANATOMY), "segment 1 (Anatomical Structure) is not declared by its card"),
    (two_lungs(laterality=SPLEEN), "segment 1 (Lung) is not declared by its card"),
    (two_lungs(colour_rgb=(0, 0, 256)), "the colour of segment 1 is not three numbers from 0 to 255"),
    (two_lungs(colour_rgb=(0.1, 0, 0)), "the colour of segment 1 is not three numbers from 0 to 255"),
    (
        measured(value=float("inf")),
        "the measurement 'Volume' is infinite; what could not be measured is 'not a number'",
    ),
    (measured(value="12"), "the measurement 'Volume' is str, not a number"),
    (measured(value=True), "the measurement 'Volume' is bool, not a number"),
    (measured(segment=3), "the measurement 'Volume' is about segment 3, which is not there"),
    (measured(segment=None, union=(1, 7)), "the measurement 'Volume' is about segment 7, which is not there"),
    (measured(unit=VOLUME), "the measurement 'Volume' has a unit of 'SCT'; units are UCUM"),
    (
        measured(name=Code("", "SCT", "Volume")),
        "a code of the measurement 'Volume' has an empty or unprintable part",
    ),
    (
        measured(name=Code("1", "SCT", "Vol\n")),
        "a code of the measurement 'Vol\\n' has an empty or unprintable part",
    ),
    (
        measured(method=Code("1", "S" * 17, "M")),
        "a code of the measurement 'Volume' is longer than DICOM allows",
    ),
    (
        findings(measurements=(VOLUME_1, replace(VOLUME_1, value=3.0))),
        "the measurement 'Volume' of segment 1 is there twice",
    ),
    (findings(measurements=(VOLUME_1,) * 10_001), "it gives 10001 measurements"),
    (evaluated(probability=1.5), "the evaluation 'Spleen' has a probability of 1.5, not from 0 to 1"),
    (
        evaluated(probability=float("nan")),
        "the evaluation 'Spleen' has a probability of nan, not from 0 to 1",
    ),
    (
        evaluated(name=Code("121071", "DCM", "Finding")),
        "the evaluation 'Finding' has the name by which a report says what or where a finding is; "
        "give it another",
    ),
    (
        measured(name=Code("363698007", "SCT", "Finding Site")),
        "the measurement 'Finding Site' has the name by which a report says what or where a finding is; "
        "give it another",
    ),
    (evaluated(segment=9), "the evaluation 'Spleen' is about segment 9, which is not there"),
    (findings(evaluations=GOOD.evaluations * 2), "the evaluation 'Spleen' of the whole image is there twice"),
    (findings(cautions="Motion."), "its cautions are not a short list of sentences"),
    (findings(cautions=("",)), "a caution is not a sentence of 1 to 1024 characters"),
    (findings(cautions=(5,)), "a caution is not a sentence of 1 to 1024 characters"),
    (findings(segments=None), "its findings are not of the declared types (TypeError)"),
    (findings(measurements=(1, 2)), "its findings are not of the declared types (AttributeError)"),
]


@pytest.mark.parametrize(("spoilt", "expected"), SPOILT, ids=range(len(SPOILT)))
def test_each_break_of_the_contract_is_named(spoilt, expected):
    assert complaints(spoilt) == [expected]


def pointed(shape="point", **changes):
    return findings(detections=(detection(**{"number": 1, "shape": shape} | changes),))


def at(*points):
    return {"points": np.array(points, dtype=np.float64)}


def mapped(**changes):
    return findings(maps=(a_map(**changes),))


def heat(value, where=(1, 2, 3)):
    array = np.full(SHAPE, 0.5, np.float32)
    array[where] = value
    return array


def test_detections_of_every_shape_and_maps_pass():
    rich = findings(
        detections=tuple(detection(n, shape) for n, shape in enumerate(POINTS, start=1)),
        maps=(a_map(), a_map(segment=None, array=heat(-7e30))),
        measurements=(*GOOD.measurements, replace(VOLUME_1, segment=None, detection=4)),
        evaluations=(*GOOD.evaluations, Evaluation(name=SPLEEN, value=LUNG, detection=2)),
    )
    assert complaints(rich) == []
    assert complaints(replace(rich, labelmap=None, segments=(), maps=rich.maps[1:], measurements=())) == []
    alone = Findings(detections=rich.detections, maps=rich.maps[1:])
    assert complaints(alone) == []
    assert complaints(pointed(confidence=None)) == complaints(pointed(confidence=np.float32(1.0))) == []


def test_a_point_may_reach_half_a_voxel_beyond_the_last_centre():
    assert complaints(pointed(**at((-0.5, -0.5, -0.5)))) == []
    assert complaints(pointed(**at((3.5, 4.5, 5.5)))) == []
    for axis in range(3):
        for beyond in (-0.51, SHAPE[axis] - 0.49):
            index = [1.0, 1.0, 1.0]
            index[axis] = beyond
            assert complaints(pointed(**at(index))) == ["detection 1 has a point outside the image"]


def test_on_images_that_stand_for_themselves_everything_is_on_one_of_them():
    case = {"ct": image(is_spatial=False)}
    for shape, expected in {"point": 0, "line": 1, "box": 1, "contour": 0}.items():
        said = validate(pointed(shape), card(), case)
        assert said == [f"detection 1 is a {shape} that is not on one slice"] * expected
    between = pointed(**at((1.4, 2, 3)))
    assert complaints(between) == []
    assert validate(between, card(), case) == ["detection 1 is a point that is not on one slice"]


def test_on_a_cine_a_detection_is_of_one_phase():
    cine = {"ct": image(phases=2)}  # slices 0 and 1, twice
    said = "detection 1 is on several phases at once; each has detections of its own"
    assert validate(pointed("box"), card(), cine) == [said]
    assert validate(pointed("point"), card(), cine) == []


def test_a_recording_over_time_is_not_pointed_at():
    case = {"ct": image(is_spatial=False, facts={"sampling_hz": 500.0})}
    assert "it outlines or points at a recording over time, which is no image" in validate(
        pointed("point"), card(), case
    )


def test_a_card_declares_what_it_detects():
    assert complaints(pointed(), card(detects=())) == ["detection 1 (Nodule) is not declared by its card"]
    other_words = (NODULE._replace(meaning="Lump"),)
    assert complaints(pointed(), card(detects=other_words)) == []


CONTOUR = POINTS["contour"]
POINTED = [
    (pointed(number=2), "its detections are not numbered 1, 2, 3 ..."),
    (findings(detections=(detection(1),) * 2), "its detections are not numbered 1, 2, 3 ..."),
    (pointed(label=""), "detection 1 needs a label of 1 to 64 characters"),
    (pointed(label="Nod\x1bule"), "detection 1 needs a label of 1 to 64 characters"),
    (pointed(kind=SPLEEN), "detection 1 (Spleen) is not declared by its card"),
    (pointed(category=Code("1", "", "x")), "a code of detection 1 has an empty or unprintable part"),
    (pointed(laterality=Code("1", "S" * 17, "x")), "a code of detection 1 is longer than DICOM allows"),
    (pointed(confidence=1.01), "detection 1 has a confidence of 1.01, not from 0 to 1"),
    (pointed(confidence=float("nan")), "detection 1 has a confidence of nan, not from 0 to 1"),
    (pointed(confidence=True), "detection 1 has a confidence that is bool, not a number"),
    (pointed(confidence="0.5"), "detection 1 has a confidence that is str, not a number"),
    (pointed(colour_rgb=(1, 2)), "the colour of detection 1 is not three numbers from 0 to 255"),
    (pointed("ellipse"), "detection 1 is a 'ellipse', not one of point, line, box, contour"),
    (
        pointed(points=[[1.0, 2.0, 3.0]]),
        "the points of detection 1 are not a (points, 3) array of floating point numbers",
    ),
    (
        pointed(points=np.array([[1, 2, 3]])),
        "the points of detection 1 are not a (points, 3) array of floating point numbers",
    ),
    (
        pointed(points=np.array([1.0, 2.0, 3.0])),
        "the points of detection 1 are not a (points, 3) array of floating point numbers",
    ),
    (
        pointed(points=np.array([[1.0, 2.0]])),
        "the points of detection 1 are not a (points, 3) array of floating point numbers",
    ),
    (pointed(**at((1, 1, 1), (1, 1, 1))), "detection 1 is a point of 2 points; it has 1 point"),
    (pointed("line", **at((1, 1, 1))), "detection 1 is a line of 1 points; it has 2 points or more"),
    (pointed("box", **at(*CONTOUR)), "detection 1 is a box of 3 points; it has 2 points"),
    (
        pointed("contour", **at(*CONTOUR[:2])),
        "detection 1 is a contour of 2 points; it has 3 points or more",
    ),
    (pointed(points=np.zeros((0, 3))), "detection 1 is a point of 0 points; it has 1 point"),
    (pointed(**at((1, 2, float("nan")))), "detection 1 has a point outside the image"),
    (pointed(**at((1, 2, float("inf")))), "detection 1 has a point outside the image"),
    (
        pointed("contour", **at((1, 1, 1), (1, 2, 1), (2, 1, 2))),
        "detection 1 is a contour that is not on one slice",
    ),
    (
        pointed("contour", **at((1.4, 1, 1), (1.4, 2, 1), (1.4, 1, 2))),
        "detection 1 is a contour that is not on one slice",
    ),
    (pointed("contour", **at(*CONTOUR, CONTOUR[0])), "detection 1 repeats its first point at its end"),
    (findings(detections=(detection(1),) * 10_001), "it gives 10001 detections"),
    (pointed("line", points=np.zeros((1_000_001, 3))), "its detections have more than 1000000 points"),
    (findings(maps=(a_map(),) * 65), "it gives 65 maps"),
    (mapped(label="x" * 65), "map 1 needs a label of 1 to 64 characters"),
    (mapped(quantity=Code("", "SCT", "x")), "a code of map 1 has an empty or unprintable part"),
    (mapped(unit=LUNG), "map 1 has a unit of 'SCT'; units are UCUM"),
    (mapped(array=[0.5]), "its map 1 is list, not a numpy array"),
    (mapped(array=np.zeros(SHAPE)), "its map 1 is of type float64, not float32"),
    (mapped(array=np.zeros(SHAPE, np.uint8)), "its map 1 is of type uint8, not float32"),
    (
        mapped(array=np.zeros((4, 6, 5), np.float32)),
        "its map 1 has the shape (4, 6, 5), not (4, 5, 6)",
    ),
    (mapped(array=heat(np.nan)), "its map 1 has values that are not finite numbers"),
    (mapped(array=heat(-np.inf), segment=None), "its map 1 has values that are not finite numbers"),
    (mapped(array=heat(1.5)), "its map 1 is a probability from 0.5 to 1.5, not from 0 to 1"),
    (mapped(array=heat(-0.25)), "its map 1 is a probability from -0.25 to 0.5, not from 0 to 1"),
    (mapped(segment=3), "map 1 is about segment 3, which is not there"),
    (
        measured(segment=None, detection=1),
        "the measurement 'Volume' is about detection 1, which is not there",
    ),
    (evaluated(detection=0), "the evaluation 'Spleen' is about detection 0, which is not there"),
    (
        replace(pointed(), measurements=(replace(VOLUME_1, detection=1),)),
        "the measurement 'Volume' is about a segment and a detection at once",
    ),
    (
        replace(pointed(), measurements=(replace(VOLUME_1, segment=None, union=(1, 2), detection=1),)),
        "the measurement 'Volume' is about a segment and a detection at once",
    ),
    (
        replace(pointed(), evaluations=(Evaluation(name=SPLEEN, value=LUNG, segment=1, detection=1),)),
        "the evaluation 'Spleen' is about a segment and a detection at once",
    ),
    (
        replace(pointed(), measurements=(replace(VOLUME_1, segment=None, detection=1, check="volume"),)),
        "the measurement 'Volume' of detection 1 cannot be checked; only segments are measured again",
    ),
    (
        replace(pointed(), measurements=(replace(VOLUME_1, segment=None, detection=1),) * 2),
        "the measurement 'Volume' of detection 1 is there twice",
    ),
    (
        Findings(affine=np.eye(4), detections=(detection(),)),
        "the affine of its outlines is not the image's own",
    ),
    (findings(detections=None), "its findings are not of the declared types (TypeError)"),
    (pointed(points=5), "its findings are not of the declared types (TypeError)"),
    (mapped(unit=None), "its findings are not of the declared types (AttributeError)"),
]


@pytest.mark.parametrize(("spoilt", "expected"), POINTED, ids=range(len(POINTED)))
def test_each_break_of_the_contract_by_a_detection_or_a_map_is_named(spoilt, expected):
    assert complaints(spoilt) == [expected]


def test_one_number_of_two_detections_is_two_numbers():
    two = tuple(replace(VOLUME_1, segment=None, detection=n) for n in (1, 2))
    assert complaints(findings(detections=(detection(1), detection(2)), measurements=two)) == []


def test_several_segments_of_one_declared_nature_are_fine():
    lesions = findings(segments=(segment(1, LUNG, label="Lesion 1"), segment(2, LUNG, label="Lesion 2")))
    assert complaints(lesions) == []


def test_a_card_that_declares_nothing_allows_no_outlines_but_numbers():
    bare = card(segments=())
    assert complaints(GOOD, bare) == [
        "segment 1 (Lung) is not declared by its card",
        "segment 2 (Spleen) is not declared by its card",
    ]
    assert complaints(Findings(measurements=(Measurement(name=VOLUME, value=1, unit=ML),)), bare) == []


def test_outlines_may_be_on_the_grid_of_another_role():
    spec = InputSpec(modality=("CT",), unit="1")
    case = {"prior": image(array=np.zeros((9, 9, 9), np.float32)), "current": image()}
    both = card(inputs={"prior": spec, "current": spec})
    assert validate(findings(role="current"), both, case) == []
    assert validate(findings(), both, case) != []


anything = (
    st.none() | st.integers() | st.text() | st.floats() | st.binary() | st.lists(st.integers()) | st.tuples()
)


PARTS = [part.name for part in fields(Findings)]


@given(st.dictionaries(st.sampled_from(PARTS), anything, min_size=1))
def test_no_rubbish_makes_the_validator_raise(rubbish):
    assert isinstance(complaints(findings(**rubbish)), list)


@given(st.dictionaries(st.sampled_from([f.name for f in fields(Detection)]), anything, min_size=1))
def test_no_rubbish_of_a_detection_makes_the_validator_raise(rubbish):
    assert isinstance(complaints(findings(detections=(replace(detection(), **rubbish),))), list)


@given(st.dictionaries(st.sampled_from([f.name for f in fields(Map)]), anything, min_size=1))
def test_no_rubbish_of_a_map_makes_the_validator_raise(rubbish):
    assert isinstance(complaints(findings(maps=(replace(a_map(), **rubbish),))), list)
