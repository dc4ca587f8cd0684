"""Outlines as a Label Map Segmentation: each pixel holds a Segment Number (Supplement 243, PS3.3 A.51).

Background is segment 0: described like any other, as every pixel value must be (C.8.20.2.3), and
named by Pixel Padding Value, by which dcmqi and 3D Slicer know it. It is described last, because
OHIF takes a segment's colour by its place in the sequence, not by its number. MONOCHROME2 with a display
colour per segment, because viewers read the colours and not a palette.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless

from node.encode.material import Material
from node.encode.seg.grid import labels_at
from node.encode.seg.image import Part, new_segmentation
from node.encode.seg.runs import run_length_encoded
from node.errors import EncodeError

MOST_SEGMENTS = 65535


def make_labelmap(material: Material, part: Part) -> Dataset:
    """Return the Segmentation of segments that exclude each other, one pixel value per segment.

    There is a frame for every slice, because readers disagree about what an absent one holds. RLE
    Lossless where that is smaller: readers of label maps know it, and the sender undoes it for
    peers that do not.
    """
    slices = part.voxels.shape[1]
    bits = bits_for(len(part.segments))
    frames = [(0, index) for index in range(slices)]
    dataset = new_segmentation(material, "seg", part, frames, encoding="LABELMAP", bits=bits)
    dataset.SegmentsOverlap = "NO"
    dataset.add_new("PixelPaddingValue", "US", 0)
    packed = [run_length_encoded(_plane(material, part, index, bits)) for index in range(slices)]
    if sum(map(len, packed)) < labelmap_bytes(part, dataset.Rows * dataset.Columns):
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = RLELossless
        dataset.add_new("PixelData", "OB", encapsulate(packed))
        dataset["PixelData"].is_undefined_length = True
    else:
        data = b"".join(_plane(material, part, index, bits).tobytes() for index in range(slices))
        dataset.add_new("PixelData", "OB" if bits == 8 else "OW", data + b"\0" * (len(data) % 2))
    return dataset


def bits_for(segments: int) -> int:
    """Return the bits per pixel of a label map of so many segments.

    Raises
    ------
    EncodeError
        A label map cannot hold so many.
    """
    if segments > MOST_SEGMENTS:
        raise EncodeError(f"a label map holds {MOST_SEGMENTS} segments at most, not {segments}")
    return 8 if segments < 256 else 16


def labelmap_bytes(part: Part, plane_pixels: int) -> int:
    """Return how large the pixels of the label map of a part are, uncompressed."""
    slices: int = part.voxels.shape[1]
    return slices * plane_pixels * bits_for(len(part.segments)) // 8


def _plane(material: Material, part: Part, index: int, bits: int) -> NDArray[np.unsignedinteger]:
    labels = labels_at(material.findings, part.segments, index)
    return labels.astype(np.uint8 if bits == 8 else "<u2")
