"""Outlines as a BINARY Segmentation: one bit per pixel, one frame per segment and plane (PS3.3 A.51)."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from node.encode.material import Material
from node.encode.seg.grid import plane_at
from node.encode.seg.image import Part, new_segmentation

#: What the functional groups of one frame take, about.
FRAME_BYTES = 600


def make_binary(material: Material, part: Part) -> Dataset:
    """Return the Segmentation of segments that exclude each other, one bit per pixel.

    Frames run over segments, then slices, without those that are empty.
    """
    frames = part.frames
    dataset = new_segmentation(material, "seg", part, frames, encoding="BINARY", bits=1)
    dataset.SegmentsOverlap = "NO"
    planes = (plane_at(material.findings, part.segments[k - 1].number, i) for k, i in frames)
    dataset.add_new("PixelData", "OB", pack_bits(planes))
    return dataset


def binary_bytes(part: Part, plane_pixels: int) -> int:
    """Return about how large the BINARY object of a part is."""
    return len(part.frames) * (plane_pixels // 8 + FRAME_BYTES)


def pack_bits(planes: Iterator[NDArray[np.bool_]]) -> bytes:
    """Return frames as one bit per pixel, least significant first, frames without gaps (PS3.5 8.1.1)."""
    packed = io.BytesIO()  # grows in place; a list to be joined would hold everything twice
    carried = np.zeros(0, dtype=bool)  # fewer than 8 pixels that await the next frame
    for plane in planes:
        pixels = np.concatenate([carried, plane.ravel()]) if carried.size else plane.ravel()
        whole = pixels.size // 8 * 8
        packed.write(np.packbits(pixels[:whole], bitorder="little").tobytes())
        carried = pixels[whole:].copy()
    packed.write(np.packbits(carried, bitorder="little").tobytes())
    packed.write(b"\0" * (packed.tell() % 2))
    return packed.getvalue()
