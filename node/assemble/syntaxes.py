"""Transfer syntaxes whose pixels are decoded here, and by what."""

from __future__ import annotations

from typing import Final

from pydicom import uid

from node.jpeg import LOSSLESS, SYNTAXES

J2K: Final = frozenset(
    {uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K}
)
JPEG_LS: Final = frozenset({uid.JPEGLSLossless, uid.JPEGLSNearLossless})
JPEG: Final = frozenset(
    {
        uid.JPEGBaseline8Bit,
        *map(uid.UID, SYNTAXES),
        *map(uid.UID, LOSSLESS),
        *JPEG_LS,
    }
)
#: Those whose frames are worth several threads; all other decoders hold Python's lock, or take a fraction
#: of a millisecond.
SIDE_BY_SIDE: Final = J2K | JPEG_LS | LOSSLESS | SYNTAXES.keys()
NATIVE: Final = frozenset(
    {
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
        uid.DeflatedExplicitVRLittleEndian,
    }
)
#: pydicom plugin per transfer syntax, first choice first; none of them is under the GPL.
PLUGINS: Final[dict[str, tuple[str, ...]]] = {
    uid.RLELossless: ("pylibjpeg", "pydicom"),
    uid.JPEGBaseline8Bit: ("pillow", "gdcm"),
    # grey by `node.jpeg`, lossless JPEG as well; colour, where pydicom knows the syntax, by a plugin
    **{uid.UID(syntax): () for syntax in SYNTAXES},
    uid.JPEGExtended12Bit: ("gdcm",),
    uid.JPEGLossless: ("gdcm",),
    uid.JPEGLosslessSV1: ("gdcm",),
    uid.JPEGLSLossless: ("pyjpegls", "gdcm"),
    uid.JPEGLSNearLossless: ("pyjpegls", "gdcm"),
    uid.JPEG2000Lossless: ("pylibjpeg", "gdcm"),
    uid.JPEG2000: ("pylibjpeg", "gdcm"),
    uid.HTJ2KLossless: ("pylibjpeg",),
    uid.HTJ2KLosslessRPCL: ("pylibjpeg",),
    uid.HTJ2K: ("pylibjpeg",),
}


def decodable() -> frozenset[str]:
    """Return the transfer syntaxes of which pixels can be decoded."""
    return frozenset(map(str, (*NATIVE, *PLUGINS)))
