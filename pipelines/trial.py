"""A case that nobody was ever imaged for, made to fit a card: what a pipeline is tried on first.

Simple bodies drawn by formulas: a trunk with lungs, spine and a few balls, a picture with discs, a ball
that beats, an electrocardiogram. They show that a pipeline loads, runs, and keeps to its contract, and
what it takes in time and memory. They say nothing about whether it is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipelines import codes
from pipelines.contract import Card, Case, Code, Image, InputKind, InputSpec

Values = NDArray[np.float32]  #: (slices, rows, columns)
Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]

AXES = ("slice", "row", "column")
#: Millimetres between neighbours along (slice, row, column) where a card sets no limits, and how much
#: of a body is shown.
SPACING_MM: dict[InputKind, Spacing] = {
    "volume": (4.0, 3.0, 3.0),
    "cine": (8.0, 2.0, 2.0),
    "planes": (1.0, 0.5, 0.5),
}
EXTENT_MM: dict[InputKind, Spacing] = {
    "volume": (200.0, 300.0, 360.0),
    "cine": (64.0, 200.0, 220.0),
    "planes": (1.0, 128.0, 160.0),
}
FEWEST, MOST = (8, 64, 64), (160, 320, 320)  #: voxels along each axis of a volume, whatever the extent
PHASES = 8
SAMPLING_HZ, LENGTH_S = 500.0, 10.0
LEADS = "I,II,III,aVR,aVL,aVF,V1,V2,V3,V4,V5,V6"
#: Modalities whose pictures may be in colour.
COLOURED = frozenset({"ES", "XC", "GM", "SM", "US", "OP"})

#: Materials of the trunk -> value, by modality; MR's stand for what has no values of its own.
_MATERIALS: dict[str, dict[str, float]] = {
    "CT": {"air": -1000, "fat": -100, "soft": 40, "lung": -850, "bone": 600, "organ": 90, "spot": 160},
    "PT": {"air": 0, "fat": 0.3, "soft": 0.8, "lung": 0.4, "bone": 1, "organ": 2.5, "spot": 9},
    "MR": {"air": 0, "fat": 700, "soft": 300, "lung": 40, "bone": 90, "organ": 450, "spot": 900},
}
_NOISE = 0.005  #: standard deviation, as a share of the range of values

#: Ellipsoids: material, centre, half axes, along (slice, row, column) in halves of what is shown: 0 is the
#: middle, -1 and 1 the ends; rows lead to the back of the body, columns to its left. Later covers earlier.
_TRUNK: tuple[tuple[str, Spacing, Spacing], ...] = (
    ("fat", (0.0, 0.0, 0.0), (3.0, 0.80, 0.90)),
    ("soft", (0.0, 0.0, 0.0), (3.0, 0.70, 0.80)),
    ("lung", (0.10, 0.0, -0.40), (0.60, 0.52, 0.30)),
    ("lung", (0.10, 0.0, 0.40), (0.60, 0.52, 0.30)),
    ("air", (1.0, 0.0, 0.0), (0.80, 0.07, 0.06)),
    ("bone", (0.0, 0.55, 0.0), (3.0, 0.13, 0.11)),
    ("organ", (-0.70, -0.10, -0.40), (0.28, 0.45, 0.35)),
    ("organ", (-0.70, 0.15, 0.50), (0.20, 0.25, 0.16)),
    ("spot", (-0.70, -0.10, -0.45), (0.08, 0.10, 0.08)),
    ("spot", (0.10, 0.10, 0.45), (0.06, 0.07, 0.06)),
)
_NAMED_UNITS = {code.value: code for code in (codes.HOUNSFIELD_UNIT, codes.NO_UNITS)}


def simulated_case(card: Card, seed: int = 0) -> Case:
    """Return a case with an image for every role of a card, within the limits that the card sets.

    The same card and seed give the same case.

    Raises
    ------
    ValueError
        Roles that have to lie on one grid exclude each other's spacing.
    """
    random = np.random.default_rng(seed)
    first = next(iter(card.inputs.values()))
    shared = [s for s in card.inputs.values() if s.grid == "same" and s.kind == first.kind and not s.result]
    case: dict[str, Image] = {}
    for role, spec in card.inputs.items():
        limits = [first, *shared] if spec is first or spec.grid == "same" else [spec]
        if spec.kind == "waveform":
            case[role] = _electrocardiogram(spec, random)
        elif spec.result:
            case[role] = _outlines(spec, *_grid(first.kind, limits))
        else:
            case[role] = _image(spec, *_grid(spec.kind, limits), random)
    if str(card.bundle.get("colour", "")).startswith("rgb"):
        case = {role: _in_colour(image) for role, image in case.items()}
    return case


def _grid(kind: InputKind, limits: Sequence[InputSpec]) -> tuple[Shape, Spacing]:
    """Return a shape and a spacing (slice, row, column) that all of these inputs accept."""
    shape, spacing_mm = [], []
    for axis, name in enumerate(AXES):
        low = max(spec.spacing_mm.get(name, (0.0, 1e6))[0] for spec in limits)
        high = min(spec.spacing_mm.get(name, (0.0, 1e6))[1] for spec in limits)
        if low > high:
            raise ValueError(
                f"no {name} spacing suits all inputs: one needs {low:g} mm or more, one {high:g} or less"
            )
        step = min(max(SPACING_MM[kind][axis], low), high)
        spacing_mm.append(step)
        shape.append(min(max(round(EXTENT_MM[kind][axis] / step), FEWEST[axis]), MOST[axis]))
    slices = 1 if kind == "planes" else shape[0]
    fewest = max(spec.slices_min for spec in limits)
    most = min(spec.slices_max or MOST[0] for spec in limits)
    return (min(max(slices, fewest), max(fewest, most)), shape[1], shape[2]), (
        spacing_mm[0],
        spacing_mm[1],
        spacing_mm[2],
    )


def _image(spec: InputSpec, shape: Shape, spacing_mm: Spacing, random: np.random.Generator) -> Image:
    if spec.kind == "cine":
        array = np.concatenate([_heart(shape, phase / PHASES) for phase in range(PHASES)])
    elif spec.kind == "planes":
        array = _discs(shape)
    else:
        array = _trunk(shape, spec.modality[0])
    noise = random.standard_normal(array.shape, np.float32) * _NOISE * float(np.ptp(array))
    array = array + noise
    if spec.kind == "planes":
        array = np.clip(array, 0.0, 1.0)  # display values
    else:
        array = np.maximum(array, -1024.0 if spec.modality[0] == "CT" else 0.0)
    image = Image(
        array=array.astype(np.float32),
        affine=_affine(shape, spacing_mm),
        unit=_unit(spec.unit),
        modality=spec.modality[0],
        facts={"SliceThickness": spacing_mm[0], **_age(spec)},
        frame_of_reference="simulated",
    )
    if spec.kind == "cine":
        times = ",".join(f"{40 * phase}" for phase in range(PHASES))
        return replace(image, phases=PHASES, facts={**image.facts, "phase_times_ms": times})
    if spec.kind == "planes":
        return replace(image, is_spatial=False, facts=_age(spec), frame_of_reference="")
    return image


def _age(spec: InputSpec) -> dict[str, float | str]:
    """Return the age of a patient for whom the card is, if it says so."""
    return {"PatientAgeYears": sum(spec.age_years) / 2} if spec.age_years else {}


def _affine(shape: Shape, spacing_mm: Spacing) -> NDArray[np.float64]:
    """Return axial slices around the origin: slice index to the head, row to the back, column to the left."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = spacing_mm
    affine[3, 3] = 1.0
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def _axes(shape: Shape) -> list[NDArray[np.float32]]:
    """Return the places along each axis from -1 to 1, ready to be broadcast."""
    lines = [np.linspace(-1, 1, n, dtype=np.float32) if n > 1 else np.zeros(1, np.float32) for n in shape]
    return list(np.meshgrid(*lines, indexing="ij", sparse=True))


def _ellipsoid(shape: Shape, centre: Sequence[float], half: Sequence[float]) -> NDArray[np.bool_]:
    places = zip(_axes(shape), centre, half, strict=True)
    reach = np.zeros(shape, np.float32)
    for at, c, h in places:
        reach = reach + ((at - c) / h) ** 2
    return reach <= 1.0


def _trunk(shape: Shape, modality: str) -> Values:
    materials = _MATERIALS.get(modality, _MATERIALS["MR"])
    array = np.full(shape, materials["air"], np.float32)
    for material, centre, half in _TRUNK:
        array[_ellipsoid(shape, centre, half)] = materials[material]
    return array


def _discs(shape: Shape) -> Values:
    """Return pictures of display values 0..1; what is bright moves from one to the next."""
    array = np.full(shape, 0.05, np.float32)
    for index in range(shape[0]):
        plane = (1, *shape[1:])
        array[index][_ellipsoid(plane, (0, 0, -0.3), (1, 0.8, 0.6))[0]] = 0.4
        array[index][_ellipsoid(plane, (0, 0.1, -0.5 + 0.02 * (index % 20)), (1, 0.12, 0.1))[0]] = 0.9
    return array


def _heart(shape: Shape, moment: float) -> Values:
    """Return a muscle around blood, which shrinks until the middle of the cycle and grows again."""
    size = 0.3 - 0.1 * (1 - np.cos(2 * np.pi * moment)) / 2
    array = _trunk(shape, "MR")
    array[_ellipsoid(shape, (0, -0.1, 0.1), (0.8, size + 0.1, size + 0.1))] = 200.0
    array[_ellipsoid(shape, (0, -0.1, 0.1), (0.7, size, size))] = 850.0
    return array


def _electrocardiogram(spec: InputSpec, random: np.random.Generator) -> Image:
    """Return leads of ten seconds: a P wave, a QRS complex and a T wave, 72 times a minute."""
    leads = max(len(LEADS.split(",")), spec.slices_min)
    beat_s = (np.arange(int(SAMPLING_HZ * LENGTH_S)) / SAMPLING_HZ) % (60 / 72)
    waves = (
        (0.15, 0.12, 0.020),
        (0.29, -0.1, 0.006),
        (0.31, 1.0, 0.010),
        (0.33, -0.2, 0.008),
        (0.55, 0.3, 0.040),
    )
    curve_mv = sum(height * np.exp(-(((beat_s - at) / width) ** 2) / 2) for at, height, width in waves)
    scale = {"uV": 1000.0, "V": 0.001}.get(spec.unit, 1.0)  # else millivolts
    array = np.outer(np.linspace(0.4, 1.2, leads), curve_mv) + random.normal(0, 0.005, (leads, beat_s.size))
    names = (LEADS.split(",") + [f"X{n}" for n in range(leads)])[:leads]
    return Image(
        array=(array * scale).astype(np.float32)[:, np.newaxis],
        affine=np.eye(4),
        unit=_unit(spec.unit),
        modality=spec.modality[0],
        facts={"sampling_hz": SAMPLING_HZ, "channels": ",".join(names)},
        is_spatial=False,
    )


def _outlines(spec: InputSpec, shape: Shape, spacing_mm: Spacing) -> Image:
    """Return what another pipeline would have outlined: balls in a row, one for each segment."""
    count = len(spec.segments) or 2
    array = np.zeros(shape, np.float32)
    for number in range(1, count + 1):
        at = -0.8 + 1.6 * (number - 0.5) / count
        array[_ellipsoid(shape, (0.2, 0.0, at), (0.6, 0.5, 0.8 / count))] = number
    return Image(
        array=array,
        affine=_affine(shape, spacing_mm),
        unit=codes.NO_UNITS,
        modality=spec.modality[0],
        frame_of_reference="simulated",
    )


def _in_colour(image: Image) -> Image:
    """Return pictures of light in colour: reddish as the inside of a body; others as they are."""
    if image.is_spatial or image.is_waveform or image.modality not in COLOURED:
        return image
    tint = np.array([1.0, 0.6, 0.5], np.float32)
    colour = (image.array[..., np.newaxis] * tint * 255).astype(np.uint8)
    grey = (colour @ np.array([0.299, 0.587, 0.114]) / 255).astype(np.float32)
    return replace(image, array=grey, colour=colour)


def _unit(value: str) -> Code:
    return _NAMED_UNITS.get(value, Code(value, "UCUM", value))
