"""In which transfer syntaxes an object may go (PS3.5 10), and how it gets there without loss."""

from __future__ import annotations

from pydicom import Dataset, dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from node.model import ResultObject

#: What can be said in any other uncompressed syntax without loss.
_PLAIN = frozenset({ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian})
_PACKED = frozenset(
    {
        HTJ2KLossless,
        HTJ2KLosslessRPCL,
        JPEG2000Lossless,
        JPEGLossless,
        JPEGLosslessSV1,
        JPEGLSLossless,
        RLELossless,
    }
)
#: Offered besides the file's own syntax, the better one first.
FALLBACKS = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


def syntaxes_for(thing: ResultObject) -> tuple[str, ...]:
    """Return the transfer syntaxes that an object may go in, its own first."""
    own = thing.transfer_syntax_uid
    others = FALLBACKS if own in _PLAIN | _PACKED else ()
    return tuple(dict.fromkeys((own, *others)))


def unpacked(thing: ResultObject) -> Dataset:
    """Return an object with its pixels as they are, so that it can go in any of `FALLBACKS`."""
    dataset = dcmread(thing.path)
    if thing.transfer_syntax_uid in _PACKED and "PixelData" in dataset:
        dataset.decompress(generate_instance_uid=False)  # the same pixels: the same instance
    elif thing.transfer_syntax_uid in _PACKED:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset
