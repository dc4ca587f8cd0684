"""JPEG by cosine transform as DICOM has it and pydicom's decoders do not: 12 bits, and progressive.

imagecodecs brings libjpeg-turbo, which decodes all of it. The retired progressive processes are still on
the disks of archives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import imagecodecs
from numpy.typing import NDArray

#: Transfer syntax UID -> name (PS3.6 A, the last two retired).
SYNTAXES: Final[Mapping[str, str]] = {
    "1.2.840.10008.1.2.4.51": "JPEG Extended (Process 2 and 4)",
    "1.2.840.10008.1.2.4.53": "JPEG Spectral Selection, Non-Hierarchical (Process 6 and 8)",
    "1.2.840.10008.1.2.4.55": "JPEG Full Progression, Non-Hierarchical (Process 10 and 12)",
}


def decode_jpeg(data: bytes) -> NDArray[Any]:
    """Return the values of a grey codestream: (rows, columns), uint8, or uint16 for more than 8 bits.

    Python's lock is free meanwhile.

    Raises
    ------
    ValueError
        It cannot be decoded, or is not grey.
    """
    try:
        array: NDArray[Any] = imagecodecs.jpeg8_decode(data)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ValueError(f"libjpeg: {error}") from error
    if array.ndim != 2:
        raise ValueError("the codestream is not grey")
    return array
