"""What a card says about its inputs is enforced, for volumes and for planes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.check import kind_of, refuse_unfit
from pipelines.contract import Card, Code, Image, InputRefused, InputSpec

UNIT = Code("1", "UCUM", "no units")
PLANES = InputSpec(
    modality=("DX",), unit="1", kind="planes", slices_min=1, spacing_mm={"row": (0.1, 0.2), "slice": (3, 4)}
)
VOLUME = InputSpec(modality=("MR",), unit="1", spacing_mm={"slice": (1.0, 3.0)})
RADIOGRAPH = Image(
    array=np.zeros((1, 4, 4), np.float32),
    affine=np.diag([1.0, 0.15, 0.15, 1.0]),
    unit=UNIT,
    modality="DX",
    is_spatial=False,
)
HEAD = Image(array=np.zeros((5, 4, 4), np.float32), affine=np.diag([2.0, 1, 1, 1]), unit=UNIT, modality="MR")


def code_of(spec, image):
    card = Card(
        name="toy",
        version="1",
        title="Toy",
        maker="test",
        intended_use="test",
        use="a.b:C",
        inputs={"it": spec},
        folder=Path(),
    )
    try:
        refuse_unfit(card, {} if image is None else {"it": image})
    except InputRefused as refusal:
        assert refusal.sentence[0].isupper() and refusal.sentence.endswith(".")
        return refusal.code
    return ""


CHILDREN = replace(VOLUME, age_years=(0.0, 18.0), needs_age=True)
ADULTS = replace(VOLUME, age_years=(16.0, 120.0))


def aged(years):
    return replace(HEAD, facts={"PatientAgeYears": years})


CASES = [
    (CHILDREN, aged(0.25), ""),
    (CHILDREN, aged(18), ""),
    (CHILDREN, aged(19), "wrong-age"),
    (CHILDREN, HEAD, "age-unknown"),
    (ADULTS, aged(60.0), ""),
    (ADULTS, aged(9), "wrong-age"),
    (ADULTS, HEAD, ""),
    (replace(VOLUME, slices_max=5), HEAD, ""),
    (replace(VOLUME, slices_max=4), HEAD, "too-many-slices"),
    (PLANES, RADIOGRAPH, ""),
    (VOLUME, HEAD, ""),
    (PLANES, None, "missing-input"),
    (PLANES, replace(RADIOGRAPH, modality="CR"), "wrong-modality"),
    (PLANES, replace(RADIOGRAPH, is_spatial=True), "wrong-kind"),
    (VOLUME, replace(HEAD, is_spatial=False), "wrong-kind"),
    (PLANES, replace(RADIOGRAPH, unit=Code("mL", "UCUM", "milliliter")), "wrong-unit"),
    (replace(PLANES, slices_min=2), RADIOGRAPH, "too-few-slices"),
    (PLANES, replace(RADIOGRAPH, affine=np.diag([1.0, 0.5, 0.15, 1.0])), "wrong-spacing"),
    (PLANES, replace(RADIOGRAPH, affine=np.eye(4), is_calibrated=False), ""),  # its 1 mm means nothing
    (VOLUME, replace(HEAD, affine=np.diag([5.0, 1, 1, 1])), "wrong-spacing"),
    (PLANES, replace(RADIOGRAPH, array=np.full((1, 4, 4), np.nan, np.float32)), "not-finite"),
]


@pytest.mark.parametrize(("spec", "image", "code"), CASES, ids=range(len(CASES)))
def test_an_image_is_held_against_its_card(spec, image, code):
    assert code_of(spec, image) == code


def test_each_kind_of_input_is_told_from_the_others():
    cine = replace(HEAD, array=np.zeros((6, 4, 4), np.float32), phases=3)
    ecg = replace(RADIOGRAPH, facts={"sampling_hz": 500.0}, modality="ECG")
    images = {"volume": HEAD, "planes": RADIOGRAPH, "cine": cine, "waveform": ecg}
    for kind, image in images.items():
        assert kind_of(image) == kind
        for wanted in images:
            spec = InputSpec(modality=(image.modality,), unit="1", kind=wanted, slices_min=1)
            assert code_of(spec, image) == ("" if wanted == kind else "wrong-kind")


def test_slices_of_a_cine_are_counted_once():
    cine = replace(HEAD, array=np.zeros((6, 4, 4), np.float32), phases=3)
    spec = InputSpec(modality=("MR",), unit="1", kind="cine", slices_min=3)
    assert code_of(spec, cine) == "too-few-slices"
    assert code_of(replace(spec, slices_min=2), cine) == ""
