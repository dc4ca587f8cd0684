"""The frames of an overlay: the image with what was found, its legend beside it, the notice below.

The image stands in the upper left corner, so that the position of the frame is that of the image; to
the right a panel with the legend of this very frame, below a band that names the algorithm and says
that all of this is for research.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw

from node.encode.common import RESEARCH_NOTICE
from node.encode.material import Material
from node.encode.numbers import grouped
from node.picture.cut import View
from node.picture.draw import BAR_PX, ROW_PX, TEXT_PX, colour_bar, entries_of, legend, paint
from node.picture.preview import detection_slices, found_at, spread
from node.picture.text import fit, font, printable, wrap

PANEL_PX = 240  #: legend at the right
BAND_PX = 62  #: notice below
IMAGE_MIN_PX = 512  #: smaller images are enlarged, so that lines and words have room
IMAGE_MAX_PX = 1024  #: larger ones are reduced; the source is there for the rest
FRAMES_MAX = 200
MARGIN = 2  #: slices shown beside those with findings, where not all are shown
LINES_MAX = 8  #: results about the whole image in the panel
_SMALLEST_PX = 256
_LINE = (90, 90, 90)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are on each frame, in pixels."""

    image_px: tuple[int, int]  #: width, height
    area_px: tuple[int, int]  #: of the image with the black that fills it up

    @property
    def width(self) -> int:
        return self.area_px[0] + PANEL_PX

    @property
    def height(self) -> int:
        return self.area_px[1] + BAND_PX

    @property
    def frame_bytes(self) -> int:
        return self.width * self.height * 3


def layout_of(view: View, count: int, bytes_max: float) -> Layout:
    """Return the largest sensible layout in which so many frames stay below a size."""
    rows, columns = view.pixels.shape[:2]
    finest_mm = min(view.row_mm, view.column_mm)
    native = max(rows * view.row_mm, columns * view.column_mm) / finest_mm  # longest side, square pixels
    longest = min(max(native, IMAGE_MIN_PX), IMAGE_MAX_PX)
    while True:
        width, height = view.size_px(longest)
        layout = Layout((width, height), (max(width, _SMALLEST_PX), max(height, _SMALLEST_PX)))
        if count * layout.frame_bytes <= bytes_max or longest <= _SMALLEST_PX:
            return layout
        longest = max(_SMALLEST_PX, longest * 0.85)


def chosen_slices(material: Material, most: int) -> tuple[list[int], str]:
    """Return which slices are shown, and that in words.

    All of them; or those with findings and a few beside; or a thinned selection of these with the
    slices where each structure is largest and each detection lies.
    """
    findings, count = material.findings, len(material.volume.slices)
    if count <= most:
        return list(range(count)), f"all {count} source images" if count > 1 else "the source image"
    found = found_at(findings, count)
    near = {index + step for index in found for step in range(-MARGIN, MARGIN + 1)}
    within = sorted(near & set(range(count))) or list(range(count))
    if len(within) <= most:
        return within, f"{len(within)} of {count} source images: those with findings and {MARGIN} beside them"
    largest = [material.outlines.key_slice(s.number) for s in findings.segments] if material.outlines else []
    wanted = [*detection_slices(findings, count), *(index for index in largest if index is not None)]
    shown = spread(within, wanted, most)
    return shown, f"{len(shown)} of {count} source images, evenly spread over those with findings"


def compose(view: View, layout: Layout, place: str, material: Material) -> NDArray[np.uint8]:
    """Return one frame: (height, width, 3), uint8, RGB.

    Parameters
    ----------
    place
        Which image this is, e.g. "Image 12".
    """
    frame = Picture.new("RGB", (layout.width, layout.height), "black")
    frame.paste(paint(view, layout.image_px), (0, 0))
    left = layout.area_px[0]
    pen, letters = ImageDraw.Draw(frame), font(TEXT_PX)
    pen.line((left, 0, left, layout.area_px[1]), fill=_LINE)
    room_px = PANEL_PX - 14
    y = 6
    pen.text((left + 8, y), fit(place, letters, room_px), font=letters, fill=(170, 170, 170))
    y += ROW_PX + 6
    if view.heat is not None:
        frame.paste(colour_bar(view.heat, room_px), (left + 6, y))
        y += BAR_PX + 8
    for line in image_lines(material, room_px):
        pen.text((left + 8, y), line, font=letters, fill="white")
        y += ROW_PX
    entries = entries_of(view.regions, view.marks)
    y += 4
    if entries:
        frame.paste(legend(entries, (room_px, layout.area_px[1] - y - 4)), (left + 6, y))
    frame.paste(band(material, layout.width), (0, layout.area_px[1]))
    return np.asarray(frame)


def image_lines(material: Material, width_px: int) -> list[str]:
    """Return what was found about the whole image, in lines of the panel."""
    findings = material.findings
    said = [
        f"{e.name.meaning}: {e.value.meaning}"
        + ("" if e.probability is None else f" ({grouped(100 * e.probability)} %)")
        for e in findings.evaluations
        if e.segment is None and e.detection is None
    ]
    if not (findings.detections or findings.maps or found_at(findings, len(material.volume.slices))):
        said.insert(0, "Nothing was outlined or marked by this analysis.")
    letters = font(TEXT_PX)
    lines = [line for text in said for line in wrap(printable(text), letters, width_px)]
    return lines if len(lines) <= LINES_MAX else [*lines[: LINES_MAX - 1], "… more in the report"]


def band(material: Material, width_px: int) -> Picture.Image:
    """Draw the notice: that it is for research, and which algorithm of which version made it when.

    It is the same on every frame, so that its presence can be checked.
    """
    sheet = Picture.new("RGB", (width_px, BAND_PX), "black")
    pen = ImageDraw.Draw(sheet)
    pen.line((0, 0, width_px, 0), fill=_LINE)
    algorithm = material.algorithm
    when = material.header.local(material.job.created_at).strftime("%Y-%m-%d %H:%M")
    pen.text((8, 5), RESEARCH_NOTICE, font=font(16, bold=True), fill=(255, 210, 80))
    lines = (
        f"Automatic result (AI) of {when} by {algorithm.name} {algorithm.version}, {algorithm.maker}",
        material.job.card.warning,
    )
    for row, line in enumerate(lines):
        pen.text(
            (8, 27 + 16 * row), fit(printable(line), font(12), width_px - 16), font=font(12), fill="white"
        )
    return sheet


def stacked(frames: Iterable[NDArray[np.uint8]]) -> bytes:
    """Return frames as Pixel Data: each row after row, colour by pixel."""
    pixels = io.BytesIO()  # its value is handed out without a copy, and pydicom wants bytes
    for frame in frames:
        pixels.write(np.ascontiguousarray(frame).data)
    if pixels.tell() % 2:
        pixels.write(b"\0")
    return pixels.getvalue()
