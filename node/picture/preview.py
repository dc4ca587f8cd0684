"""A picture of what was found, for people who would rather look than read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw

from node.notice import unsaid
from node.picture.cut import NATIVE, View, busiest_index, heat_of, upright, view
from node.picture.draw import BAR_PX, ROW_PX, Entry, colour_bar, entries_of, legend, legend_rows, paint
from node.picture.text import font, printable, wrap
from node.picture.window import HOUNSFIELD, Window, value_range, window_of
from pipelines.contract import Card, Case, Code, Findings, Image, Segment

PLANE_HEIGHT_PX = 360
WIDEST_PLANE_PX = 720  #: a thin slab seen from its edge is shrunk to this
NARROWEST_PX = 480  #: room for words under a narrow image
FRAMES_SHOWN = 6  #: of images that stand for themselves
LEGEND_ROWS_MAX = 40
NOTICE = "Research use only; not for diagnosis."
_NOTHING = Code("", "", "")


@dataclass(frozen=True, slots=True)
class Layer:
    """One outline with its name and colour."""

    label: str
    colour_rgb: tuple[int, int, int]  #: 0..255
    mask: NDArray[np.bool_]  #: (slices, rows, columns), bool


def draw(
    array: NDArray[np.float32],
    affine: NDArray[np.float64],
    unit: Code,
    layers: Sequence[Layer],
    caption: str,
) -> Picture.Image:
    """Draw three planes through the middle of outlines, with a legend.

    Parameters
    ----------
    array
        (slices, rows, columns), float32, in ``unit``.
    affine
        (4, 4): (slice, row, column) index to LPS millimetres.
    caption
        Stands under the picture; say here what is simulated or for research only.
    """
    image = Image(array=array, affine=affine, unit=unit, modality="CT" if unit.value == HOUNSFIELD else "")
    segments = tuple(
        Segment(number=n, label=layer.label, category=_NOTHING, kind=_NOTHING, colour_rgb=layer.colour_rgb)
        for n, layer in enumerate(layers, start=1)
    )
    masks = np.stack([layer.mask for layer in layers]) if layers else None
    return _sheet(image, Findings(masks=masks, segments=segments), caption)


def draw_findings(findings: Findings, case: Case, card: Card) -> Picture.Image:
    """Draw what a pipeline found on the image it was found in.

    Three planes of a volume; of images that stand for themselves those where something was found.
    """
    image = case[findings.role or next(iter(card.inputs))]
    notice = f"{card.title} {card.version} - {NOTICE}"
    return _sheet(image, findings, f"{notice} {unsaid(card.warning, notice)}".strip())


def outlined(findings: Findings) -> NDArray[np.bool_] | None:
    """Return everything outlined: (slices, rows, columns), bool; None where there are no outlines."""
    if findings.masks is not None and len(findings.masks):
        union: NDArray[np.bool_] = np.any(findings.masks, axis=0)
        return union
    if findings.labelmap is not None:
        labelled: NDArray[np.bool_] = findings.labelmap > 0
        return labelled
    return None


def found_at(findings: Findings, count: int) -> list[int]:
    """Return the slices on which something was found, of so many."""
    there = np.zeros(count, dtype=bool)
    if findings.masks is not None:
        there |= findings.masks.any(axis=(0, 2, 3))
    elif findings.labelmap is not None:
        there |= findings.labelmap.any(axis=(1, 2))
    for detection in findings.detections:
        depths = np.rint(detection.points[:, 0]).astype(int)
        there[max(0, depths.min()) : depths.max() + 1] = True
    return [int(index) for index in np.flatnonzero(there)]


def three_planes(image: Image, findings: Findings, window: Window) -> list[View]:
    """Return an axial, a coronal and a sagittal plane through the middle of what was found."""
    heat = None
    if findings.maps and not findings.segments:
        one = findings.maps[0]
        heat = heat_of(one, value_range(one.array, one.unit.value))
    views = []
    for patient_axis in (2, 1, 0):
        how = upright(image.affine, patient_axis)
        index = busiest_index(findings, how.through, image.array.shape)
        views.append(view(image, findings, window, index, how=how, heat=heat))
    return views


def _sheet(image: Image, findings: Findings, caption: str) -> Picture.Image:
    window = window_of(image, outlined=outlined(findings))
    cut_all = three_planes if image.is_spatial else _frames
    views = cut_all(image, findings, window)
    panels = [paint(one, _panel_size(one)) for one in views]
    rows = [panels[start : start + 3] for start in range(0, len(panels), 3)]
    width = max(NARROWEST_PX, *(sum(p.width for p in row) for row in rows))
    heat = next((one.heat for one in views if one.heat), None)
    entries = _entries(findings, views, everything=image.is_spatial)
    lines = wrap(printable(caption), font(12), width - 12)
    legend_px = min(LEGEND_ROWS_MAX, legend_rows(entries, width)) * ROW_PX
    bar_px = BAR_PX if heat else 0
    below = len(rows) * PLANE_HEIGHT_PX
    sheet = Picture.new("RGB", (width, below + 8 + bar_px + legend_px + len(lines) * 17 + 8), "black")
    for number, row in enumerate(rows):
        left = 0
        for panel in row:
            sheet.paste(panel, (left, number * PLANE_HEIGHT_PX + (PLANE_HEIGHT_PX - panel.height) // 2))
            left += panel.width
    y = below + 8
    if heat:
        sheet.paste(colour_bar(heat, min(width, 420)), (0, y))
    if entries:
        sheet.paste(legend(entries, (width, legend_px)), (0, y + bar_px))
    pen = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        pen.text((6, y + bar_px + legend_px + 4 + number * 17), line, font=font(12), fill="white")
    return sheet


def _frames(image: Image, findings: Findings, window: Window) -> list[View]:
    """Return the images on which most was found, in their order; the middle one if nothing was."""
    count, heat = image.array.shape[0], None
    if findings.maps:
        one = findings.maps[0]
        heat = heat_of(one, value_range(one.array, one.unit.value))
    chosen = found_at(findings, count)
    if not chosen and heat:
        chosen = [busiest_index(findings, 0, image.array.shape)]
    chosen = thinned(chosen or [count // 2], FRAMES_SHOWN)
    return [view(image, findings, window, index, how=NATIVE, heat=heat) for index in chosen]


def thinned(indices: Sequence[int], most: int) -> list[int]:
    """Return at most so many of them, evenly spread, the first and the last among them."""
    if len(indices) <= most:
        return list(indices)
    places = np.linspace(0, len(indices) - 1, most).round().astype(int)
    return [indices[place] for place in places]


def _panel_size(one: View) -> tuple[int, int]:
    rows, columns = one.pixels.shape[:2]
    height_mm, width_mm = rows * one.row_mm, columns * one.column_mm
    px_per_mm = min(PLANE_HEIGHT_PX / height_mm, WIDEST_PLANE_PX / width_mm)
    return max(1, round(width_mm * px_per_mm)), max(1, round(height_mm * px_per_mm))


def _entries(findings: Findings, views: Sequence[View], *, everything: bool) -> list[Entry]:
    """Return the legend of some planes, structures that are on none of them last."""
    regions = {r.number: r for one in views for r in one.regions}
    marks = {m.number: m for one in views for m in one.marks}
    if not everything:
        return entries_of(list(regions.values()), list(marks.values()))
    seen = entries_of([regions[n] for n in sorted(regions)], [marks[n] for n in sorted(marks)])
    unseen = [
        Entry(f"{printable(s.label, s.kind.meaning)} (not on these planes)", s.colour_rgb)
        for s in findings.segments
        if s.number not in regions
    ]
    return seen + unseen
