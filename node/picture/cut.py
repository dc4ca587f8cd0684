"""A plane cut out of an image with all that was found on it, not yet drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from node.picture.text import printable
from node.picture.window import Window, greys
from node.slices import middle, reached
from pipelines.contract import Findings, Image, Map, Shape

_LETTERS = (("R", "L"), ("A", "P"), ("F", "H"))  #: per patient axis: towards less, towards more


@dataclass(frozen=True, slots=True)
class Cut:
    """How planes are taken from an array: which axis runs through, down and to the right of them."""

    through: int = 0
    down: int = 1
    right: int = 2
    flip_down: bool = False
    flip_right: bool = False

    def plane(self, array: NDArray[Any], index: int) -> NDArray[Any]:
        """Return one plane of (slices, rows, columns), or of the same with colours behind."""
        plane = np.take(array, index, axis=self.through)
        if self.down > self.right:
            plane = plane.swapaxes(0, 1)
        turned: NDArray[Any] = plane[:: -1 if self.flip_down else 1, :: -1 if self.flip_right else 1]
        return turned

    def points(self, points: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Return where (slice, row, column) points lie on the planes: (points, 2), (down, right)."""
        placed: NDArray[np.float64] = points[:, [self.down, self.right]].copy()
        for column, (axis, flip) in enumerate(((self.down, self.flip_down), (self.right, self.flip_right))):
            if flip:
                placed[:, column] = shape[axis] - 1 - placed[:, column]
        return placed


NATIVE = Cut()  #: as the slices lie in the array


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """An outlined structure on a plane."""

    number: int  #: `Segment.number`
    label: str
    colour_rgb: tuple[int, int, int]
    mask: NDArray[np.bool_]  #: (rows, columns), bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A detection on a plane."""

    number: int  #: `Detection.number`
    label: str  #: with its confidence
    colour_rgb: tuple[int, int, int]
    shape: Shape
    points: NDArray[np.float64]  #: (points, 2) float64: (row, column); whole numbers are voxel centres


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """A map on a plane."""

    label: str
    unit: str
    array: NDArray[np.float32]  #: (rows, columns), float32
    window: Window


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One plane, ready to be drawn at any size."""

    pixels: NDArray[np.uint8]  #: (rows, columns, 3), uint8, RGB
    row_mm: float  #: distance of rows
    column_mm: float
    regions: Sequence[Region] = ()
    marks: Sequence[Mark] = ()
    heat: Heat | None = None
    #: Patient directions at the left, right, upper and lower edge; "" where they are not known.
    letters: tuple[str, str, str, str] = field(default=("", "", "", ""))

    def size_px(self, longest_px: float) -> tuple[int, int]:
        """Return (width, height) with square pixels, the longer of which is ``longest_px``."""
        rows, columns = self.pixels.shape[:2]
        height_mm, width_mm = rows * self.row_mm, columns * self.column_mm
        scale = longest_px / max(height_mm, width_mm)
        return max(1, round(width_mm * scale)), max(1, round(height_mm * scale))


def view(
    image: Image,
    findings: Findings,
    window: Window,
    index: int,
    *,
    how: Cut = NATIVE,
    heat: Heat | None = None,
) -> View:
    """Cut one plane.

    Parameters
    ----------
    index
        Along the axis that runs through the planes.
    heat
        From `heat_of`: of the whole grid.
    """
    if image.colour is not None:
        pixels = np.ascontiguousarray(how.plane(image.colour, index)).astype(np.uint8)
    else:
        pixels = greys(how.plane(image.array, index).astype(np.float32), window)
    spacing = image.spacing_mm
    return View(
        pixels=pixels,
        row_mm=spacing[how.down],
        column_mm=spacing[how.right],
        regions=regions_at(findings, index, how),
        marks=marks_at(findings, index, image.array.shape, how),
        heat=replace(heat, array=how.plane(heat.array, index).astype(np.float32)) if heat else None,
        letters=letters_of(image, how),
    )


def regions_at(findings: Findings, index: int, how: Cut = NATIVE) -> list[Region]:
    """Return what is outlined on a plane, in the order of the findings."""
    by_number = {segment.number: segment for segment in findings.segments}
    planes: dict[int, NDArray[np.bool_]] = {}
    if findings.masks is not None:
        for number in by_number:
            planes[number] = how.plane(findings.masks[number - 1], index).astype(bool)
    elif findings.labelmap is not None:
        labels = how.plane(findings.labelmap, index)
        planes = {int(n): labels == n for n in np.unique(labels) if int(n) in by_number}
    return [
        Region(
            number=number,
            label=label_of(by_number[number].label, by_number[number].kind.meaning),
            colour_rgb=by_number[number].colour_rgb,
            mask=mask,
        )
        for number, mask in planes.items()
        if mask.any()
    ]


def marks_at(findings: Findings, index: int, shape: tuple[int, ...], how: Cut = NATIVE) -> list[Mark]:
    """Return the detections that reach a plane."""
    found = []
    for detection in findings.detections:
        if index in reached(detection, shape[how.through], how.through):
            sure = "" if detection.confidence is None else f" {100 * detection.confidence:.0f} %"
            found.append(
                Mark(
                    number=detection.number,
                    label=label_of(detection.label, detection.kind.meaning) + sure,
                    colour_rgb=detection.colour_rgb,
                    # a contour lies on one slice; seen from its edge it is a line
                    shape=detection.shape if how.through == 0 or detection.shape != "contour" else "line",
                    points=how.points(detection.points, shape),
                )
            )
    return found


def label_of(label: str, kind: str) -> str:
    """Return a label in signs that can be printed; else what kind of thing it is."""
    return printable(label, kind)


def heat_of(one: Map, window: Window) -> Heat:
    """Return a map of the whole grid, to be cut with the image."""
    return Heat(
        label=printable(one.label, one.quantity.meaning), unit=one.unit.value, array=one.array, window=window
    )


def letters_of(image: Image, how: Cut) -> tuple[str, str, str, str]:
    """Return the patient directions at the left, right, upper and lower edge of planes."""
    if not image.is_spatial:
        return ("", "", "", "")
    rightwards = image.affine[:3, how.right] * (-1 if how.flip_right else 1)
    downwards = image.affine[:3, how.down] * (-1 if how.flip_down else 1)
    return (_towards(-rightwards), _towards(rightwards), _towards(-downwards), _towards(downwards))


def _towards(direction: NDArray[np.float64]) -> str:
    axis = int(np.argmax(np.abs(direction)))
    return _LETTERS[axis][int(direction[axis] > 0)]


def upright(affine: NDArray[np.float64], patient_axis: int) -> Cut:
    """Return how planes across a patient axis (0 x, 1 y, 2 z) are cut so that they hang as usual.

    The patient's right on the left side, the front up in axial planes, the head up in others.
    """
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    owner = _axis_permutation(np.abs(directions))
    down_axis, right_axis = (1, 0) if patient_axis == 2 else (2, 1) if patient_axis == 0 else (2, 0)
    down, right = owner.index(down_axis), owner.index(right_axis)
    wanted_down = 1.0 if down_axis == 1 else -1.0  # to the back in axial (+y), to the feet otherwise (-z)
    return Cut(
        through=owner.index(patient_axis),
        down=down,
        right=right,
        flip_down=bool(directions[down_axis, down] * wanted_down < 0),
        flip_right=bool(directions[right_axis, right] < 0),  # the patient's left (+x), or the back (+y)
    )


def _axis_permutation(weights: NDArray[np.float64]) -> list[int]:
    """Return, for each array axis, the patient axis it runs along; each is used once."""
    owner = [-1, -1, -1]
    left = weights.copy()
    for _ in range(3):
        patient, axis = np.unravel_index(np.argmax(left), left.shape)
        owner[int(axis)] = int(patient)
        left[patient, :] = -1.0
        left[:, axis] = -1.0
    return owner


def busiest_index(findings: Findings, axis: int, shape: tuple[int, ...], phases: int = 1) -> int:
    """Return the middle of what was found along an axis, or of the image when nothing was.

    With several ``phases`` along the first axis it is the middle of one, of what was found in all.
    """
    counts = np.zeros(shape[axis], dtype=np.float64)
    others = tuple(a for a in range(3) if a != axis)
    if findings.masks is not None:
        for mask in findings.masks:
            counts += np.count_nonzero(mask, axis=others)
    elif findings.labelmap is not None:
        counts += np.count_nonzero(findings.labelmap, axis=others)
    if not counts.any():
        for detection in findings.detections:
            counts[middle(detection, shape[axis], axis)] += 1.0
    if not counts.any():
        for one in findings.maps:
            counts += np.nan_to_num(np.abs(one.array), posinf=0.0).sum(axis=others, dtype=np.float64)
    counts = counts.reshape(phases, -1).sum(axis=0)
    if not (total := counts.sum()) > 0:
        return len(counts) // 2
    return int(np.searchsorted(np.cumsum(counts), total / 2))
