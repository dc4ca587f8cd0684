"""What a reader calls the images: the same name in every object."""

from __future__ import annotations

import pydicom
from pydicom.errors import InvalidDicomError

from node.encode.header import UNREADABLE
from node.model import Volume


def image_name(volume: Volume, index: int) -> str:
    """Return what a viewer calls one slice: "image 7" by its Instance Number, or "frame 7".

    Without a number it is "place 7 of 12 in the series", counted from 1 as the slices lie. On a cine
    the phase is told as well: "image 7 (phase 2)".
    """
    return images_name(volume, index, index)


def images_name(volume: Volume, first: int, last: int) -> str:
    """Return what a viewer calls the slices from one index to another: "images 5 to 7"."""
    (kind, one), (other_kind, other) = _called(volume, first), _called(volume, last)
    # Images of a cine are often numbered slice by slice, so "5 to 7" would name other slices too.
    if kind != other_kind or (first != last and volume.image.phases > 1):
        return f"{image_name(volume, first)} to {image_name(volume, last)}"
    ending = f" of {len(volume.slices)} in the series" if kind == "place" else ""
    if first == last:
        slices = volume.image.slices
        moment = f" (phase {first // slices + 1})" if volume.image.phases > 1 else ""
        return f"{kind} {one}{ending}{moment}"
    low, high = sorted((one, other))
    return f"{kind}s {low} to {high}{ending}"


def sentence_case(name: str) -> str:
    """Return a name as it begins a line."""
    return name[:1].upper() + name[1:]


def _called(volume: Volume, index: int) -> tuple[str, int]:
    plane = volume.slices[index]
    if plane.frame is not None:
        return "frame", plane.frame
    try:
        found = pydicom.dcmread(plane.path, stop_before_pixels=True, specific_tags=["InstanceNumber"])
        return "image", int(found.InstanceNumber)
    except (OSError, InvalidDicomError, *UNREADABLE):
        return "place", index + 1
