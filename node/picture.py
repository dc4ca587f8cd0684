"""A picture of outlines on three planes, for people who would rather look than read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw

from node.notice import unsaid
from pipelines.contract import Card, Case, Code, Findings

PLANE_HEIGHT_PX = 360
WIDEST_PLANE_PX = 720  #: a thin slab seen from its edge is shrunk to this
OPACITY = 0.45
#: (level, width) of the grey scale by unit: a lung window for Hounsfield units.
LUNG_WINDOW_HU = (-500.0, 1500.0)
HOUNSFIELD = "[hnsf'U]"
NOTICE = "Research use only; not for diagnosis."


@dataclass(frozen=True, slots=True)
class Layer:
    """One outline with its name and colour."""

    label: str
    colour_rgb: tuple[int, int, int]  #: 0..255
    mask: NDArray[np.bool_]  #: (slices, rows, columns), bool


def layers_of(findings: Findings) -> list[Layer]:
    """Return the outlines of findings, in the order in which they are drawn."""
    return [Layer(s.label, s.colour_rgb, findings.mask(s.number)) for s in findings.segments]


def draw(
    array: NDArray[np.float32],
    affine: NDArray[np.float64],
    unit: Code,
    layers: Sequence[Layer],
    caption: str,
) -> Picture.Image:
    """Draw three planes through the middle of the outlines, with a legend.

    Each plane is turned so that a reader sees the usual view (PS3.17 figure of axial, coronal
    and sagittal hanging): patient's right on the left side, anterior up in axial, head up
    otherwise.

    Parameters
    ----------
    array
        (slices, rows, columns), float32, in ``unit``.
    affine
        (4, 4): (slice, row, column) index to LPS millimetres.
    caption
        Stands under the picture; say here what is simulated or for research only.
    """
    panels = [_panel(array, affine, unit, layers, axis) for axis in (2, 1, 0)]
    width = sum(panel.width for panel in panels)
    legend_px = 22
    sheet = Picture.new("RGB", (width, PLANE_HEIGHT_PX + 2 * legend_px), "black")
    left = 0
    for panel in panels:
        sheet.paste(panel, (left, (PLANE_HEIGHT_PX - panel.height) // 2))
        left += panel.width
    pen = ImageDraw.Draw(sheet)
    x = 6
    for layer in layers:
        pen.rectangle((x, PLANE_HEIGHT_PX + 6, x + 10, PLANE_HEIGHT_PX + 16), fill=layer.colour_rgb)
        pen.text((x + 15, PLANE_HEIGHT_PX + 5), layer.label, fill="white")
        x += 30 + int(pen.textlength(layer.label))
    pen.text((6, PLANE_HEIGHT_PX + legend_px + 4), caption, fill="white")
    return sheet


def draw_findings(findings: Findings, case: Case, card: Card) -> Picture.Image:
    """Draw what a pipeline found on the image it was found in."""
    image = case[findings.role or next(iter(card.inputs))]
    notice = f"{card.title} {card.version} - {NOTICE}"
    caption = f"{notice} {unsaid(card.warning, notice)}".strip()
    return draw(image.array, image.affine, image.unit, layers_of(findings), caption)


def _panel(
    array: NDArray[np.float32],
    affine: NDArray[np.float64],
    unit: Code,
    layers: Sequence[Layer],
    patient_axis: int,
) -> Picture.Image:
    """Draw the plane perpendicular to one patient axis (0 x, 1 y, 2 z)."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    # Which array axis runs along which patient axis, and with which sign.
    owner = _axis_permutation(np.abs(directions))
    through = owner.index(patient_axis)
    position = _busiest_index(layers, through, array.shape)
    down_axis, right_axis = (1, 0) if patient_axis == 2 else (2, 1) if patient_axis == 0 else (2, 0)
    down, right = owner.index(down_axis), owner.index(right_axis)

    def plane(volume: NDArray[Any]) -> NDArray[Any]:
        cut: NDArray[Any] = np.take(volume, position, axis=through)
        if down > right:
            cut = cut.T
        # Down the picture: to the back in axial (+y), to the feet otherwise (-z).
        wanted_down = 1.0 if down_axis == 1 else -1.0
        if directions[down_axis, down] * wanted_down < 0:
            cut = cut[::-1]
        # To the right: the patient's left (+x), or the back (+y) in sagittal.
        if directions[right_axis, right] < 0:
            cut = cut[:, ::-1]
        return cut

    grey = _grey(plane(array).astype(np.float32), unit)
    colour = np.repeat(grey[:, :, None], 3, axis=2)
    for layer in layers:
        inside = plane(layer.mask).astype(bool)
        colour[inside] = (1 - OPACITY) * colour[inside] + OPACITY * np.array(layer.colour_rgb, np.float32)
    picture = Picture.fromarray(colour.round().astype(np.uint8))
    height_mm, width_mm = (n * s for n, s in zip(grey.shape, spacing_mm[[down, right]], strict=True))
    px_per_mm = min(PLANE_HEIGHT_PX / height_mm, WIDEST_PLANE_PX / width_mm)
    return picture.resize((max(1, round(width_mm * px_per_mm)), max(1, round(height_mm * px_per_mm))))


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


def _busiest_index(layers: Sequence[Layer], axis: int, shape: tuple[int, ...]) -> int:
    """Return the middle of what is outlined along an axis, or of the image when nothing is."""
    others = tuple(a for a in range(3) if a != axis)
    counts = np.zeros(shape[axis], dtype=np.int64)
    for layer in layers:
        counts += np.count_nonzero(layer.mask, axis=others)
    total = counts.sum()
    if total == 0:
        return shape[axis] // 2
    return int(np.searchsorted(np.cumsum(counts), total / 2))


def _grey(plane: NDArray[np.float32], unit: Code) -> NDArray[np.float32]:
    """Window a plane to 0..255."""
    if unit.value == HOUNSFIELD:
        level, width = LUNG_WINDOW_HU
        low, high = level - width / 2, level + width / 2
    else:
        low, high = (float(v) for v in np.percentile(plane, (1, 99)))
    scaled: NDArray[np.float32] = np.clip((plane - low) / max(high - low, 1e-6), 0, 1) * 255
    return scaled
