"""Grey JPEG by libjpeg-turbo, which imagecodecs brings.

It decodes what pydicom's decoders do not: cosine transforms of 12 bits, and the retired progressive
processes, which are still on the disks of archives. And it decodes lossless JPEG three times as fast as
they do, without Python's lock.
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

#: Lossless JPEG (PS3.5 8.2.1), by Process 14 with any predictor and with the first.
LOSSLESS: Final = frozenset({"1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"})


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
