"""The functional groups of thousands of frames, joined of parts that were encoded once.

A hundred organs make thousands of frames, which differ in two numbers. What all frames of one plane,
or of one segment, have in common is encoded once and joined, in the order of tags, into the value of
Per-frame Functional Groups Sequence; it decodes like any other.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from pydicom.charset import convert_encodings
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.tag import Tag

_GROUPS = Tag("PerFrameFunctionalGroupsSequence")
_ITEM = struct.Struct("<HHL")  # tag and length of an item (PS3.5 7.5.1)


def encoded(dataset: Dataset) -> bytes:
    """Return a data set as Explicit VR Little Endian."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def set_frame_groups(dataset: Dataset, bodies: Iterable[bytes]) -> None:
    """Give a data set the functional groups of its frames, each encoded by `encoded`."""
    items: list[bytes] = []
    for body in bodies:
        items += (_ITEM.pack(0xFFFE, 0xE000, len(body)), body)
    value = b"".join(items)
    dataset[_GROUPS] = RawDataElement(_GROUPS, "SQ", len(value), value, 0, False, True)
    # Else pydicom would take the value apart again to look for VRs that it has to settle.
    dataset.set_original_encoding(False, True, convert_encodings([dataset.SpecificCharacterSet]))
