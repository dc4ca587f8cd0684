"""A pipeline that breaks its contract is told so, whatever it breaks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.compute.findings import validate
from pipelines.contract import Code, Evaluation, Findings, InputSpec, Measurement
from tests.compute.findings_maker import (
    ANATOMY,
    LUNG,
    ML,
    SHAPE,
    SPLEEN,
    VOLUME,
    card,
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


@given(st.dictionaries(st.sampled_from(["labelmap", "masks", "affine", "role", "segments", "measurements",
                                        "evaluations", "cautions"]), anything, min_size=1))  # fmt: skip
def test_no_rubbish_makes_the_validator_raise(rubbish):
    assert isinstance(complaints(findings(**rubbish)), list)
