"""Which Segmentations are made of the outlines: kind by content and reader, split by overlap and size."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset

from node.encode.material import Material
from node.encode.planes import check_planes
from node.encode.seg.binary import make_binary
from node.encode.seg.grid import check_outlines


def make_segs(material: Material) -> Iterator[Dataset]:
    """Yield the Segmentations that hold every segment once.

    Raises
    ------
    EncodeError
        The volume's planes do not lie where its affine says, or the outlines are not on its grid.
    """
    check_planes(material.volume)
    check_outlines(material.findings, material.volume)
    yield make_binary(material)
