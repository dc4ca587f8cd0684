"""The pictures of a report: an overview, and the images on which something was found."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image as Picture

from node.encode.material import Material
from node.encode.places import image_name, sentence_case
from node.encode.render.secondary_capture import drawn_maps
from node.picture.cut import Heat, View, busiest_index, heat_of, label_of, view
from node.picture.draw import BAR_PX, Entry, colour_bar, entries_of, paint
from node.picture.preview import (
    beside_each_other,
    detection_slices,
    legend_of,
    moments_told,
    outlined,
    views_of,
)
from node.picture.trace import draw_trace
from node.picture.window import Window, value_range, window_of

DETAILS_MAX = 12  #: pictures after the overview
NAMED_MAX = 6  #: findings named below one picture
_DETAIL_PX = 700
_TRACE_PX = 1600
_TEXT_PX = 20  #: they are shrunk on paper


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture and what stands below it."""

    picture: Picture.Image
    caption: str
    keys: tuple[Entry, ...] = ()  #: what the colours mean


@dataclass(frozen=True, slots=True)
class Figures:
    """All pictures of a report."""

    overview: Figure
    details: tuple[Figure, ...]
    left_out: str  #: a sentence, "" if nothing was


def figures(material: Material, window: Window | None) -> Figures:
    """Draw the pictures; ``window`` is that of the source's header."""
    image, findings = material.volume.image, material.findings
    seen = window_of(image, window, outlined(findings))
    if image.is_waveform:
        trace = draw_trace(image, _TRACE_PX, text_px=_TEXT_PX)
        return Figures(Figure(trace.picture, trace.caption), (), "")
    what = "Three planes through the middle of what was found" if image.is_spatial else "What was found"
    if image.phases > 1:
        what = moments_told(image, findings).rstrip(".")
    greys = "" if image.colour is not None else f" Grey scale from {seen.low:.4g} to {seen.high:.4g}."
    views = views_of(image, findings, seen)
    overview = Figure(beside_each_other(views, _TEXT_PX), f"{what}.{greys}", tuple(legend_of(views)))
    named = _by_slice(material)
    chosen = sorted(named, key=lambda index: (*_weight(named[index]), index))[:DETAILS_MAX]
    details = [_detail(material, seen, index, named[index]) for index in sorted(chosen)]
    maps, maps_missed = drawn_maps(material)
    for one in maps:
        heat = heat_of(one, value_range(one.array, one.unit.value))
        index = busiest_index(findings, 0, image.array.shape)
        details.append(_detail(material, seen, index, [heat.label], heat))
    missed = len(named) - len(chosen)
    left_out = [f"{missed} more images with findings are not shown."] * bool(missed)
    return Figures(overview, tuple(details), " ".join([*left_out, *filter(None, [maps_missed])]))


def _weight(names: list[str]) -> tuple[bool, int]:
    """Sort images with detections first, then those with most structures."""
    return not any(name[:1].isdigit() for name in names), -len(names)


def _by_slice(material: Material) -> dict[int, list[str]]:
    """Return the slices where each detection lies and each structure is largest, with their names."""
    findings, outlines = material.findings, material.outlines
    count = len(material.volume.slices)
    named: dict[int, list[str]] = {}
    for found, index in zip(findings.detections, detection_slices(findings, count), strict=True):
        named.setdefault(index, []).append(f"{found.number} {label_of(found.label, found.kind.meaning)}")
    for segment in findings.segments:
        if outlines and (largest := outlines.key_slice(segment.number)) is not None:
            named.setdefault(largest, []).append(label_of(segment.label, segment.kind.meaning))
    return named


def _detail(
    material: Material, window: Window, index: int, names: list[str], heat: Heat | None = None
) -> Figure:
    image = material.volume.image
    one: View = view(image, material.findings, window, index, heat=heat)
    picture = paint(one, one.size_px(_DETAIL_PX), text_px=_TEXT_PX)
    if heat is not None:
        taller = Picture.new("RGB", (picture.width, picture.height + BAR_PX), "black")
        taller.paste(picture, (0, 0))
        taller.paste(colour_bar(heat, picture.width), (0, picture.height))
        picture = taller
    keys = [entry for entry in entries_of(one.regions, one.marks) if entry.label in names or entry.sign]
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    place = sentence_case(image_name(material.volume, index))
    if heat is not None:
        return Figure(picture, f"{place}: {heat.label}")
    return Figure(picture, f"{place}{more}", tuple(keys[:NAMED_MAX]))
