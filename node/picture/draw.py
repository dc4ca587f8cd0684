"""Planes, legends and colour bars as pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw

from node.picture.cut import Heat, Mark, Region, View
from node.picture.text import fit, font, wrap
from pipelines.contract import Shape

FILL = 0.28  #: opacity inside an outline
#: What is mostly border (emphysema, vessels) is a texture: it is tinted, as lines would hide it.
RAGGED, RAGGED_PX = 0.5, 400
HEAT = 0.65  #: opacity of the highest value of a map
ROW_PX = 19  #: height of a line of a legend
ENTRY_MIN_PX, ENTRY_MAX_PX = 120, 360  #: width of a column of a legend
TEXT_PX = 13
BAR_PX = 3 * ROW_PX  #: height of a colour bar with its words
_SWATCH_PX = 12
_SIGN_PX = 22  #: from the edge of a column to its words
#: From low to high: position, RGB. Lightness grows all the way, so it also reads in grey.
_HEAT_COLOURS = ((0.0, (30, 15, 70)), (0.35, (150, 30, 110)), (0.7, (245, 110, 40)), (1.0, (255, 245, 140)))
WHITE, GREY, BLACK = (255, 255, 255), (170, 170, 170), (0, 0, 0)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a legend."""

    label: str
    colour_rgb: tuple[int, int, int]
    sign: Shape | None = None  #: None: an area


def entries_of(regions: Sequence[Region], marks: Sequence[Mark]) -> list[Entry]:
    """Return the legend of what is on a plane."""
    return [
        *(Entry(f"{m.number}  {m.label}", m.colour_rgb, m.shape) for m in marks),
        *(Entry(r.label, r.colour_rgb) for r in regions),
    ]


def paint(view: View, size_px: tuple[int, int], *, text_px: int = TEXT_PX) -> Picture.Image:
    """Draw a plane with outlines, numbered detections and map at (width, height)."""
    base = Picture.fromarray(np.ascontiguousarray(view.pixels)).resize(size_px, Picture.Resampling.BILINEAR)
    canvas = np.asarray(base).astype(np.float32)
    if view.heat is not None:
        _blend_heat(canvas, view.heat, size_px)
    width_px = max(1, round(max(size_px) / 512))
    fill = 0.0 if view.heat is not None else FILL
    for region in sorted(view.regions, key=lambda r: -int(np.count_nonzero(r.mask))):  # small ones on top
        _blend_region(canvas, region, size_px, fill, width_px)
    picture = Picture.fromarray((canvas + 0.5).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    _draw_marks(pen, view, size_px, width_px, text_px)
    _draw_letters(pen, view.letters, size_px, text_px)
    return picture


def scaled_mask(mask: NDArray[np.bool_], size_px: tuple[int, int]) -> NDArray[np.bool_]:
    """Return a mask at (width, height): pixel for pixel when larger, by majority when smaller.

    Something too small for a majority anywhere still leaves a trace.
    """
    if mask.shape == size_px[::-1]:
        return mask
    shares = np.asarray(
        Picture.fromarray(mask.astype(np.uint8) * 255).resize(size_px, Picture.Resampling.BOX)
    )
    inside: NDArray[np.bool_] = shares >= 128
    return inside if inside.any() else shares > 0


def edge(mask: NDArray[np.bool_], width_px: int) -> NDArray[np.bool_]:
    """Return the pixels of a mask that lie at its border, also at that of the picture."""
    inner = np.pad(mask, 1)
    for _ in range(width_px):
        core = np.zeros_like(inner)
        core[1:-1, 1:-1] = (
            inner[1:-1, 1:-1] & inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
        )
        inner = core
    border: NDArray[np.bool_] = mask & ~inner[1:-1, 1:-1]
    return border


def _blend_region(
    canvas: NDArray[np.float32], region: Region, size_px: tuple[int, int], fill: float, width_px: int
) -> None:
    inside = scaled_mask(region.mask, size_px)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    inside, part = inside[box], canvas[box]
    colour = np.array(region.colour_rgb, np.float32)
    border = edge(inside, width_px)
    ragged = np.count_nonzero(inside) > RAGGED_PX and 2 * np.count_nonzero(border) > np.count_nonzero(inside)
    share = RAGGED if ragged else fill
    part[inside] = (1 - share) * part[inside] + share * colour
    if not ragged:
        part[border] = colour


def heat_colours(shares: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the colours of values between 0 and 1: (..., 3) float32, 0..255."""
    stops = [stop for stop, _ in _HEAT_COLOURS]
    channels = [np.interp(shares, stops, [rgb[c] for _, rgb in _HEAT_COLOURS]) for c in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)


def _blend_heat(canvas: NDArray[np.float32], heat: Heat, size_px: tuple[int, int]) -> None:
    """Colour by value; what is low lets the image through, what is no number all of it."""
    low, high = heat.window
    plane = np.nan_to_num(heat.array, nan=low, posinf=high, neginf=low)
    shares = np.clip((plane - low) / (high - low), 0, 1).astype(np.float32)
    scaled = np.asarray(Picture.fromarray(shares).resize(size_px, Picture.Resampling.BILINEAR))
    scaled = np.clip(scaled, 0, 1)
    opacity = (HEAT * np.minimum(1.0, scaled * 2.5))[..., None]
    canvas *= 1 - opacity
    canvas += opacity * heat_colours(scaled)


def _strokes(mark: Mark, view: View, size_px: tuple[int, int]) -> list[list[tuple[float, float]]]:
    """Return the lines of a detection, (x, y) on the picture."""
    rows, columns = view.pixels.shape[:2]
    xs = (mark.points[:, 1] + 0.5) * size_px[0] / columns
    ys = (mark.points[:, 0] + 0.5) * size_px[1] / rows
    path = [(float(x), float(y)) for x, y in zip(xs, ys, strict=True)]
    if mark.shape == "box" and len(path) == 2:
        (x0, y0), (x1, y1) = path
        return [[(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]]
    if mark.shape == "contour":
        return [[*path, path[0]]]
    if mark.shape == "line" and len(path) > 1:
        return [path]
    arm = max(6.0, max(size_px) / 60)
    x, y = path[0]
    return [[(x + a * arm, y + b * arm), (x + a * arm / 3, y + b * arm / 3)] for a, b in _ARMS]


def _draw_marks(
    pen: ImageDraw.ImageDraw, view: View, size_px: tuple[int, int], width_px: int, text_px: int
) -> None:
    """Draw detections, on dark seams so that they stand out from anything."""
    drawn = [(mark, _strokes(mark, view, size_px)) for mark in view.marks]
    for _, strokes in drawn:
        for stroke in strokes:
            pen.line(stroke, fill=BLACK, width=width_px + 3)
    for mark, strokes in drawn:
        for stroke in strokes:
            pen.line(stroke, fill=mark.colour_rgb, width=width_px + 1)
    letters = font(text_px, bold=True)
    taken: set[tuple[int, int]] = set()
    for mark, strokes in drawn:
        name = str(mark.number)
        right = max(x for stroke in strokes for x, _ in stroke) + 4
        top = min(y for stroke in strokes for _, y in stroke) - text_px
        x = round(min(max(right, 0), size_px[0] - letters.getlength(name) - 2))
        y = round(min(max(top, 0), size_px[1] - text_px - 3))
        while (x // 8, y // text_px) in taken and y < size_px[1] - 2 * text_px:
            y += text_px  # detections on top of each other have their numbers below each other
        taken.add((x // 8, y // text_px))
        pen.text((x, y), name, font=letters, fill=mark.colour_rgb, stroke_width=1, stroke_fill=BLACK)


_ARMS = ((-1, 0), (1, 0), (0, -1), (0, 1))


def _draw_letters(
    pen: ImageDraw.ImageDraw, letters: tuple[str, str, str, str], size_px: tuple[int, int], text_px: int
) -> None:
    width, height = size_px
    if min(width, height) < 8 * text_px:
        return
    places = (
        (4, height / 2, "lm"),
        (width - 4, height / 2, "rm"),
        (width / 2, 3, "mt"),
        (width / 2, height - 4, "mb"),
    )
    for letter, (x, y, anchor) in zip(letters, places, strict=True):
        pen.text(
            (x, y), letter, font=font(text_px), fill=WHITE, anchor=anchor, stroke_width=1, stroke_fill=BLACK
        )


def _columns(entries: Sequence[Entry], width_px: int) -> int:
    """Return in how many columns a legend is set: as many as leave room for the longest label."""
    longest = max((font(TEXT_PX).getlength(entry.label) for entry in entries), default=0.0)
    column_px = min(max(longest + _SIGN_PX + 8, ENTRY_MIN_PX), ENTRY_MAX_PX)
    return max(1, int(width_px // column_px))


def legend_rows(entries: Sequence[Entry], width_px: int) -> int:
    """Return how many lines a legend of this width takes."""
    return -(-len(entries) // _columns(entries, width_px))


def legend(entries: Sequence[Entry], size_px: tuple[int, int]) -> Picture.Image:
    """Draw as much of a legend as there is room for; how much is left out is said in its last place.

    In a single column long labels are broken into lines while that leaves room for all.
    """
    width, height = max(1, size_px[0]), max(1, size_px[1])
    sheet = Picture.new("RGB", (width, height), BLACK)
    pen, letters = ImageDraw.Draw(sheet), font(TEXT_PX)
    columns, rows = _columns(entries, width), height // ROW_PX
    step = width // columns
    room_px = step - _SIGN_PX - 4
    lines = [wrap(entry.label, letters, room_px)[:2] for entry in entries]
    if columns > 1 or sum(map(len, lines)) > rows:
        lines = [[fit(entry.label, letters, room_px)] for entry in entries]
    room = columns * rows
    shown = list(entries) if sum(map(len, lines)) <= room else list(entries[: max(0, room - 1)])
    place = 0
    for entry, broken in zip(shown, lines, strict=False):
        x, y = (place // rows) * step, (place % rows) * ROW_PX
        _draw_sign(pen, entry, x + 4, y + 3)
        for number, line in enumerate(broken):
            pen.text((x + _SIGN_PX, y + 1 + number * ROW_PX), line, font=letters, fill=WHITE)
        place += len(broken)
    if len(shown) < len(entries) and rows:
        x, y = (columns - 1) * step, (rows - 1) * ROW_PX
        pen.text((x + 4, y + 1), f"and {len(entries) - len(shown)} more", font=letters, fill=GREY)
    return sheet


def _draw_sign(pen: ImageDraw.ImageDraw, entry: Entry, x: int, y: int) -> None:
    end_x, end_y = x + _SWATCH_PX, y + _SWATCH_PX
    middle_x, middle_y = (x + end_x) // 2, (y + end_y) // 2
    match entry.sign:
        case None:
            pen.rectangle((x, y, end_x, end_y), fill=entry.colour_rgb)
        case "point":
            pen.line((x, middle_y, end_x, middle_y), fill=entry.colour_rgb, width=2)
            pen.line((middle_x, y, middle_x, end_y), fill=entry.colour_rgb, width=2)
        case "line":
            pen.line((x, end_y, end_x, y), fill=entry.colour_rgb, width=2)
        case "box":
            pen.rectangle((x, y, end_x, end_y), outline=entry.colour_rgb, width=2)
        case "contour":
            pen.ellipse((x, y, end_x, end_y), outline=entry.colour_rgb, width=2)


def colour_bar(heat: Heat, width_px: int) -> Picture.Image:
    """Draw what the colours of a map mean: name, bar, lowest and highest value with unit."""
    sheet = Picture.new("RGB", (width_px, BAR_PX), BLACK)
    pen, letters = ImageDraw.Draw(sheet), font(TEXT_PX)
    pen.text((4, 1), fit(heat.label, letters, width_px - 8), font=letters, fill=WHITE)
    length = max(1, width_px - 8)
    ramp = heat_colours(np.linspace(0, 1, length, dtype=np.float32))
    bar = Picture.fromarray(np.repeat((ramp + 0.5).astype(np.uint8)[None], _SWATCH_PX, axis=0))
    sheet.paste(bar, (4, ROW_PX + 1))
    low, high = (f"{value:.4g}" for value in heat.window)
    unit = "" if heat.unit == "1" or heat.unit.startswith("{") else f" {heat.unit}"
    pen.text((4, 2 * ROW_PX - 2), low, font=letters, fill=WHITE)
    pen.text((width_px - 4, 2 * ROW_PX - 2), f"{high}{unit}", font=letters, fill=WHITE, anchor="ra")
    return sheet
