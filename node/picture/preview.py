"""A picture of what was found, for people who would rather look than read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw

from node.notice import unsaid
from node.picture.cut import NATIVE, View, busiest_index, heat_of, label_of, upright, view
from node.picture.draw import ROW_PX, TEXT_PX, Entry, colour_bar, entries_of, legend, legend_rows, paint
from node.picture.text import font, printable, wrap
from node.picture.trace import draw_trace
from node.picture.window import HOUNSFIELD, Window, value_range, window_of
from node.slices import middle, reached
from pipelines.contract import Card, Case, Code, Findings, Image, Map, Segment

PLANE_HEIGHT_PX = 360
WIDEST_PLANE_PX = 720  #: a thin slab seen from its edge is shrunk to this
NARROWEST_PX = 480  #: room for words under a narrow image
FRAMES_SHOWN = 6  #: of images that stand for themselves
LEGEND_ROWS_MAX = 40
UNSEEN_MAX = 6  #: structures named that are on none of the planes
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

    Three planes of a volume; one slice of a cine at several phases; of images that stand for themselves
    those where something was found; the curves of a recording.
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
        there[reached(detection, count)] = True
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
    """Draw views beside each other, below them colour bar, legend and caption."""
    if image.is_waveform:
        trace = draw_trace(image)
        return _below(trace.picture, [_words(f"{trace.caption} {caption}", trace.picture.width)])
    views = views_of(image, findings, window_of(image, outlined=outlined(findings)))
    top = beside_each_other(views)
    width = max(NARROWEST_PX, top.width)
    heat = next((one.heat for one in views if one.heat), None)
    entries = legend_of(views)
    if image.is_spatial:
        entries += _unseen(findings, views)
    parts: list[Picture.Image] = []
    if heat:
        parts.append(colour_bar(heat, min(width, 420)))
    if entries:
        rows = min(LEGEND_ROWS_MAX, legend_rows(entries, width))
        parts.append(legend(entries, (width, rows * ROW_PX)))
    if image.phases > 1:
        caption = f"{moments_told(image, findings)} {caption}"
    parts.append(_words(caption, width))
    return _below(top, parts)


def _below(top: Picture.Image, parts: Sequence[Picture.Image]) -> Picture.Image:
    """Return pictures below each other."""
    width = max(part.width for part in (top, *parts))
    sheet = Picture.new("RGB", (width, top.height + 8 + sum(part.height for part in parts)), "black")
    sheet.paste(top, (0, 0))
    y = top.height + 8
    for part in parts:
        sheet.paste(part, (0, y))
        y += part.height
    return sheet


def _words(caption: str, width_px: int) -> Picture.Image:
    letters = font(12)
    lines = wrap(printable(caption), letters, width_px - 12)
    sheet = Picture.new("RGB", (width_px, len(lines) * 17 + 8), "black")
    pen = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        pen.text((6, 4 + number * 17), line, font=letters, fill="white")
    return sheet


def views_of(image: Image, findings: Findings, window: Window) -> list[View]:
    """Return three planes of a volume, a slice of a cine, or the images on which something was found."""
    if image.phases > 1:
        maps = () if findings.segments else findings.maps  # an outline says it better
        return _cut(image, findings, window, moments(image, findings), maps)
    cut_all = three_planes if image.is_spatial else _frames
    return cut_all(image, findings, window)


def moments_told(image: Image, findings: Findings) -> str:
    """Return which phases are seen, in words."""
    phases = ", ".join(str(index // image.slices + 1) for index in moments(image, findings))
    return f"One slice at phases {phases} of {image.phases}."


def moments(image: Image, findings: Findings) -> list[int]:
    """Return the slice of a cine where most was found at some of its phases, as indices in their order."""
    count, slices = image.array.shape[0], image.slices
    place = busiest_index(findings, 0, image.array.shape, image.phases)
    series = range(place, count, slices)
    return spread(series, [i for i in detection_slices(findings, count) if i in series], FRAMES_SHOWN)


def beside_each_other(views: Sequence[View], text_px: int = TEXT_PX) -> Picture.Image:
    """Draw views at one scale of their own, three in a row."""
    panels = [paint(one, _panel_size(one), text_px=text_px) for one in views]
    rows = [panels[start : start + 3] for start in range(0, len(panels), 3)]
    heights = [max(panel.height for panel in row) for row in rows]
    width = max(sum(panel.width for panel in row) for row in rows)
    sheet = Picture.new("RGB", (width, sum(heights)), "black")
    top = 0
    for row, height in zip(rows, heights, strict=True):
        left = 0
        for panel in row:
            sheet.paste(panel, (left, top + (height - panel.height) // 2))
            left += panel.width
        top += height
    return sheet


def _frames(image: Image, findings: Findings, window: Window) -> list[View]:
    """Return the images on which most was found, in their order; the middle one if nothing was."""
    count = image.array.shape[0]
    chosen = found_at(findings, count)
    if not chosen:
        chosen = [busiest_index(findings, 0, image.array.shape)]
    chosen = spread(chosen, detection_slices(findings, count), FRAMES_SHOWN)
    return _cut(image, findings, window, chosen, findings.maps)


def _cut(
    image: Image, findings: Findings, window: Window, chosen: Sequence[int], maps: Sequence[Map]
) -> list[View]:
    """Return some slices as they lie in the array, with the first map on them."""
    heat = None
    if maps:
        one = maps[0]
        heat = heat_of(one, value_range(one.array, one.unit.value))
    return [view(image, findings, window, index, how=NATIVE, heat=heat) for index in chosen]


def thinned(indices: Sequence[int], most: int) -> list[int]:
    """Return at most so many of them, evenly spread, the first and the last among them."""
    if len(indices) <= most:
        return list(indices)
    places = np.linspace(0, len(indices) - 1, most).round().astype(int)
    return [indices[place] for place in places]


def spread(within: Sequence[int], wanted: Sequence[int], most: int) -> list[int]:
    """Return at most so many, in order: up to half of them of those wanted, the others evenly spread."""
    if len(within) <= most:
        return list(within)
    keys = set(thinned(sorted(set(wanted)), most // 2))
    return sorted(keys | set(thinned(within, most - len(keys))))


def detection_slices(findings: Findings, count: int) -> list[int]:
    """Return the slice in the middle of each detection."""
    return [middle(found, count) for found in findings.detections]


def _panel_size(one: View) -> tuple[int, int]:
    rows, columns = one.pixels.shape[:2]
    height_mm, width_mm = rows * one.row_mm, columns * one.column_mm
    px_per_mm = min(PLANE_HEIGHT_PX / height_mm, WIDEST_PLANE_PX / width_mm)
    return max(1, round(width_mm * px_per_mm)), max(1, round(height_mm * px_per_mm))


def legend_of(views: Sequence[View]) -> list[Entry]:
    """Return the legend of what is on some planes, each thing once."""
    regions = {region.number: region for one in views for region in one.regions}
    marks = {mark.number: mark for one in views for mark in one.marks}
    return entries_of([regions[n] for n in sorted(regions)], [marks[n] for n in sorted(marks)])


def _unseen(findings: Findings, views: Sequence[View]) -> list[Entry]:
    """Return the legend of structures that none of the planes meets: how many, where they are many."""
    seen = {region.number for one in views for region in one.regions}
    missed = [segment for segment in findings.segments if segment.number not in seen]
    if len(missed) > UNSEEN_MAX:
        return [Entry(f"{len(missed)} more are not on these planes", (0, 0, 0))]
    return [Entry(f"{label_of(s.label, s.kind.meaning)} (not on these planes)", s.colour_rgb) for s in missed]
