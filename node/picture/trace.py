"""A recording over time as curves on paper, each channel above its own line.

Every channel is drawn to the same scale, so that they can be compared; a column of pixels shows the
lowest and the highest of its samples, so that no spike is lost. Nothing is filtered or smoothed.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log10

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw

from node.picture.text import fit, font, printable
from pipelines.contract import Image

SECONDS_MAX = 10.0  #: of a longer recording the beginning is drawn
CHANNELS_MAX = 16
ROW_PX = 60  #: about the height of a channel
ALL_PX = 900  #: about the height of all, where they are few
TALLEST_PX = 600  #: no channel is taller, whatever was wrong with its lead
_MARGIN_PX = 8
_LABEL_PX = 54
_PAPER, _FINE, _COARSE, _INK = (255, 250, 248), (248, 220, 216), (236, 178, 172), (25, 25, 35)
_CLOSEST_PX = 3  #: of two lines
_COARSE_EVERY = 5  #: fine lines, as on the paper of an electrocardiograph


@dataclass(frozen=True, slots=True)
class Trace:
    """A picture of a recording and what its grid means."""

    picture: Picture.Image
    caption: str


def draw_trace(image: Image, width_px: int = 1000, *, text_px: int = 12) -> Trace:
    """Draw the channels of a recording.

    Parameters
    ----------
    image
        ``array`` is (channels, 1, samples); `Image.is_waveform`.
    width_px
        Of the picture; its height follows from how many channels there are and how tall they are.
    """
    sampling_hz = float(image.facts["sampling_hz"])
    channels, _, samples = image.array.shape
    count = min(channels, CHANNELS_MAX)
    shown = max(1, min(samples, round(SECONDS_MAX * sampling_hz)))
    values = image.array[:count, 0, :shown].astype(
        np.float64
    )  # (channels, samples), in the unit of the image
    span_s = shown / sampling_hz
    fine_s, coarse_s = _grid_of(span_s, 0.2)
    heights = np.ptp(values, axis=1)  # (channels,)
    tall = float(np.percentile(heights[heights > 0], 75)) if heights.any() else 1.0
    fine, coarse = _grid_of(tall, 0.5, finer=1)
    room_px = width_px - _LABEL_PX - _MARGIN_PX
    px_per_second = room_px / span_s
    # square fine cells where the unit is a voltage: 1 mm is 40 ms and 0.1 mV
    tallest = max(float(heights.max()), tall)
    tall_px = min(3.0 * ROW_PX, max(ROW_PX, ALL_PX / count))
    px_per_unit = min(fine_s * px_per_second / fine, tall_px / tall, TALLEST_PX / tallest)
    row_px = max(0.6 * ROW_PX, 0.8 * tall * px_per_unit + 14)
    # Neighbours may overlap, as on paper, but nothing leaves the sheet.
    reach_px = np.maximum(heights * px_per_unit, row_px) / 2
    centres = (np.arange(count) + 0.5) * row_px
    centres += _MARGIN_PX - float((centres - reach_px).min())
    middles = (values.max(axis=1) + values.min(axis=1)) / 2
    height_px = ceil(float((centres + reach_px).max())) + _MARGIN_PX
    sheet = Picture.new("RGB", (width_px, height_px), _PAPER)
    pen = ImageDraw.Draw(sheet)
    _rule(pen, (_LABEL_PX, width_px - _MARGIN_PX), height_px, (fine_s * px_per_second, fine * px_per_unit))
    names = str(image.facts.get("channels", "")).split(",")
    letters = font(text_px, bold=True)
    for number, (one, middle, centre) in enumerate(zip(values, middles, centres, strict=True)):
        low, high = _envelope(one, room_px)
        for column, (least, most) in enumerate(zip(low, high, strict=True)):
            x = _LABEL_PX + column
            pen.line(
                (x, centre - (most - middle) * px_per_unit, x, centre - (least - middle) * px_per_unit), _INK
            )
        name = printable(names[number]) if number < len(names) else str(number + 1)
        pen.text((6, centre - text_px / 2), fit(name, letters, _LABEL_PX - 8), font=letters, fill=_INK)
    return Trace(sheet, _caption(image, count, shown, (coarse_s, coarse)))


def _grid_of(span: float, usual: float, finer: int = 5) -> tuple[float, float]:
    """Return distances of fine and coarse lines: the usual ones, or round ones where these do not suit."""
    coarse = usual
    if not 1 <= span / usual <= 60:
        exponent = floor(log10(span / 5))
        coarse = next(n * 10.0**exponent for n in (1, 2, 5, 10) if n * 10.0**exponent >= span / 5)
    return coarse / _COARSE_EVERY, coarse


def _rule(
    pen: ImageDraw.ImageDraw, sides_px: tuple[int, int], height_px: int, cell_px: tuple[float, float]
) -> None:
    """Draw the grid; lines that would run together are left out."""
    left, right = sides_px
    for axis, (start, end, fine_px) in enumerate(((left, right, cell_px[0]), (0, height_px, cell_px[1]))):
        for step_px, colour in ((fine_px, _FINE), (fine_px * _COARSE_EVERY, _COARSE)):
            if step_px < _CLOSEST_PX:
                continue
            for number in range(int((end - start) / step_px) + 1):
                at = start + number * step_px
                pen.line((at, 0, at, height_px) if axis == 0 else (left, at, right, at), fill=colour)


def _envelope(values: NDArray[np.float64], columns: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lowest and highest value in each column of pixels, joined to its neighbours: (columns,)."""
    if len(values) < 2 * columns:  # fewer samples than pixels: straight lines between them
        place = np.linspace(0, len(values) - 1, 2 * columns)
        values = np.interp(place, np.arange(len(values)), values)
    starts = np.linspace(0, len(values), columns, endpoint=False).astype(int)
    low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    before_high, before_low = high[:-1].copy(), low[:-1].copy()
    low[1:] = np.minimum(low[1:], before_high)
    high[1:] = np.maximum(high[1:], before_low)
    return low, high


def _caption(image: Image, count: int, shown: int, cell: tuple[float, float]) -> str:
    channels, _, samples = image.array.shape
    sampling_hz = float(image.facts["sampling_hz"])
    told = [f"A square of the grid is {cell[0]:.4g} s by {cell[1]:.4g} {image.unit.value}."]
    if shown < samples:
        told.append(f"The first {shown / sampling_hz:.4g} of {samples / sampling_hz:.4g} s.")
    if count < channels:
        told.append(f"{count} of {channels} channels.")
    return " ".join(told)
