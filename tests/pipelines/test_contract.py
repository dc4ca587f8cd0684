"""Every installed pipeline keeps the contract; a new card is found by itself."""

from __future__ import annotations

import importlib
import math
from dataclasses import replace

import numpy as np
import pytest
from pydicom.sr._concepts_dict import concepts

from pipelines.contract import (
    Card,
    Code,
    Findings,
    Image,
    InputRefused,
    Pipeline,
    folder_digest,
    read_card,
)
from pipelines.measure import recompute
from pipelines.phantom_inserts.simulate import Rod, Scene, Sphere, grid_points, render
from simulate import chest
from tests.paths import REPOSITORY
from tests.phantoms import make_affine

CARDS = {path.parent.name: path for path in sorted((REPOSITORY / "pipelines").glob("*/card.toml"))}
HU = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
UNITS = {"[hnsf'U]": HU}


def water_phantom():
    """Return a small water tank with a sphere and a rod in it."""
    tank = Rod(centre_mm=np.zeros(3), axis=np.array([0.0, 0, 1]), radius_mm=75, length_mm=120, value_hu=0)
    inserts = (
        Sphere(centre_mm=np.array([-30.0, 10, 0]), radius_mm=20, value_hu=120),
        Rod(
            centre_mm=np.array([35.0, 0, 5]),
            axis=np.array([0.0, 1, 0]),
            radius_mm=10,
            length_mm=60,
            value_hu=930,
        ),
    )
    scene = Scene(tank=tank, wall_mm=5, table_mm=0, inserts=inserts)
    affine = make_affine("axial", spacing_mm=(3.0, 2.0, 2.0), origin_mm=(-85.0, -85.0, -70.0))
    hu, _ = render(scene, grid_points(affine, (48, 86, 86)), noise_hu=5.0)
    return {"ct": Image(array=hu, affine=affine, unit=HU, modality="CT")}


def simulated_chest():
    """Return the chest of the demonstration, coarsely sampled."""
    made = chest((58, 96, 96))
    return {"ct": Image(array=made.array_hu.astype(np.float32), affine=made.affine, unit=HU, modality="CT")}


#: A case that each shipped pipeline was made for. A new pipeline adds its own.
EXAMPLES = {"phantom_inserts": water_phantom, "lung_density": simulated_chest}

_ready: dict[str, tuple[Card, Pipeline]] = {}


@pytest.fixture(params=CARDS)
def name(request):
    return request.param


@pytest.fixture
def card(name):
    return read_card(CARDS[name])


@pytest.fixture
def pipeline(name, card):
    """Return the pipeline, loaded once for all tests, as a warm worker would have it."""
    if name not in _ready:
        module, _, attribute = card.use.partition(":")
        made = getattr(importlib.import_module(module), attribute)(card)
        made.load("cpu")
        _ready[name] = card, made
    return _ready[name][1]


@pytest.fixture(scope="module")
def cases():
    return {name: make() for name, make in EXAMPLES.items()}


def test_cards_are_found_and_each_has_an_example():
    assert CARDS
    assert set(CARDS) == set(EXAMPLES)
    names = [read_card(path).name for path in CARDS.values()]
    assert len(set(names)) == len(names)


def test_a_card_says_who_what_for_and_in_complete_codes(card):
    for text in (card.title, card.maker, card.intended_use, card.version, card.warning):
        assert text.strip()
    assert card.digest == folder_digest(card.folder)
    for segment in card.segments:
        assert 0 < len(segment.label) <= 64
        assert all(0 <= part <= 255 for part in segment.colour_rgb)
        for code in (segment.category, segment.kind, segment.laterality, segment.anatomic_region):
            if code is not None:
                check_code(code)
    assert len({s.label for s in card.segments}) == len(card.segments)


def check_code(code):
    """Hold a code to the limits of PS3.5 6.2 (SH 16, LO 64), and to the standard's own list."""
    assert 0 < len(code.value) <= 16
    assert 0 < len(code.scheme) <= 16
    assert 0 < len(code.meaning) <= 64
    if code.scheme in ("SCT", "DCM"):
        known = {value: m for names in concepts[code.scheme].values() for value, (m, _) in names.items()}
        assert code.value in known, code
    elif code.scheme != "UCUM":
        assert code.scheme.startswith("99"), code


def test_findings_lie_on_the_grid_of_the_input_and_every_label_is_described(pipeline, card, name, cases):
    case = cases[name]
    before = {role: image.array.copy() for role, image in case.items()}
    pipeline.check(case)
    findings = pipeline.analyze(case)
    image = case[findings.role or next(iter(card.inputs))]
    assert isinstance(findings, Findings)
    assert (findings.labelmap is None) != (findings.masks is None)
    numbers = [s.number for s in findings.segments]
    assert numbers == list(range(1, len(numbers) + 1))
    if findings.labelmap is not None:
        assert findings.labelmap.shape == image.array.shape
        assert findings.labelmap.dtype.kind == "u"
        assert set(np.unique(findings.labelmap)) <= {0, *numbers}
    else:
        assert findings.masks.shape == (len(numbers), *image.array.shape)
        assert findings.masks.dtype == bool
    assert np.array_equal(findings.affine, image.affine)
    assert all(findings.mask(number).any() for number in numbers), "the example shows every segment"
    for role, array in before.items():
        assert np.array_equal(case[role].array, array), "the input was written to"


def test_measurements_have_units_codes_and_can_be_recomputed(pipeline, card, name, cases):
    case = cases[name]
    findings = pipeline.analyze(case)
    image = case[findings.role or next(iter(card.inputs))]
    assert findings.measurements
    for measurement in findings.measurements:
        for code in (measurement.name, measurement.unit, measurement.method, measurement.derivation):
            if code is not None:
                check_code(code)
        assert measurement.unit.scheme == "UCUM"
        assert math.isfinite(measurement.value)
        if measurement.check and (measurement.segment or measurement.union):
            mask = np.zeros(image.array.shape, bool)
            for number in measurement.union or (measurement.segment,):
                mask |= findings.mask(number)
            assert recompute(measurement.check, mask, image) == pytest.approx(measurement.value, rel=1e-9)


def test_the_same_input_gives_the_same_answer(pipeline, name, cases):
    first, second = pipeline.analyze(cases[name]), pipeline.analyze(cases[name])
    assert np.array_equal(first.labelmap, second.labelmap) if first.labelmap is not None else True
    assert np.array_equal(first.masks, second.masks) if first.masks is not None else True
    assert first.measurements == second.measurements
    assert first.evaluations == second.evaluations


def spoilt(case, **changes):
    return {role: replace(image, **changes) for role, image in case.items()}


def filled(case, value):
    return {r: replace(i, array=np.full_like(i.array, value)) for r, i in case.items()}


#: What no pipeline was made for: each refuses it, and raises no other error.
HOSTILE = {
    "no input at all": lambda case: {},
    "another role": lambda case: {"other": next(iter(case.values()))},
    "another modality": lambda case: spoilt(case, modality="US"),
    "another unit": lambda case: spoilt(case, unit=Code("1", "UCUM", "no units")),
    "all air": lambda case: filled(case, -1000),
    "all water": lambda case: filled(case, 0),
    "all metal": lambda case: filled(case, 30000),
    "not a number": lambda case: filled(case, np.nan),
    "infinite": lambda case: filled(case, np.inf),
    "two slices": lambda case: {r: replace(i, array=i.array[:2]) for r, i in case.items()},
    "one voxel": lambda case: {r: replace(i, array=i.array[:1, :1, :1]) for r, i in case.items()},
    "noise": lambda case: {
        r: replace(i, array=np.random.default_rng(1).normal(0, 500, i.array.shape).astype(np.float32))
        for r, i in case.items()
    },
    "upside down values": lambda case: {r: replace(i, array=-i.array) for r, i in case.items()},
    "tiny voxels": lambda case: {
        r: replace(i, affine=i.affine @ np.diag([1e-3, 1e-3, 1e-3, 1])) for r, i in case.items()
    },
}


@pytest.mark.parametrize("spoil", HOSTILE)
def test_an_unfit_input_is_refused_with_a_reason_and_nothing_else_is_raised(pipeline, name, cases, spoil):
    case = HOSTILE[spoil](cases[name])
    try:
        pipeline.check(case)
        pipeline.analyze(case)
    except InputRefused as refusal:
        assert refusal.code == refusal.code.lower()
        assert refusal.code.replace("-", "").isalnum()
        assert refusal.sentence.endswith((".", "]"))
        assert "Traceback" not in refusal.sentence
    else:
        pytest.fail(f"{spoil} was taken for a fit input")


def test_each_pipeline_refuses_the_examples_of_the_others(pipeline, name, cases):
    for other, case in cases.items():
        if other != name:
            with pytest.raises(InputRefused):
                pipeline.check(case)
                pipeline.analyze(case)
