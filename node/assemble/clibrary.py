"""Grey frames of JPEG 2000 and JPEG-LS decoded side by side by threads.

Of the decoders that are under no GPL, those of pylibjpeg-openjpeg and pyjpegls hold Python's lock while
they work, so that a series of JPEG 2000 would take one processor for half a minute. The C libraries
inside them (OpenJPEG 2, CharLS 2) need no lock: their documented C interface is called here, in the very
files that those packages bring and that pydicom uses for everything else. What is not the plain case is
left to pydicom, and so is everything when a package no longer shows its library.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Sequence
from ctypes import POINTER, byref, c_int, c_int32, c_int64, c_size_t, c_uint16, c_uint32, c_uint64, c_void_p
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: Room for opj_dparameters_t, which has about 8 300 bytes.
_PARAMETERS_BYTES: Final = 1 << 14
_NO_MORE: Final = c_size_t(-1).value


class _Component(ctypes.Structure):
    """``opj_image_comp_t`` of OpenJPEG 2."""

    _fields_ = (
        *((name, c_uint32) for name in ("dx", "dy", "w", "h", "x0", "y0", "prec", "bpp", "sgnd")),
        ("resno_decoded", c_uint32),
        ("factor", c_uint32),
        ("data", POINTER(c_int32)),
        ("alpha", c_uint16),
    )


class _Image(ctypes.Structure):
    """``opj_image_t`` of OpenJPEG 2, as far as it is looked at."""

    _fields_ = (
        *((name, c_uint32) for name in ("x0", "y0", "x1", "y1", "numcomps")),
        ("color_space", c_int),
        ("comps", POINTER(_Component)),
    )


class _FrameInfo(ctypes.Structure):
    """``charls_frame_info``."""

    _fields_ = (("width", c_uint32), ("height", c_uint32), ("bits", c_int32), ("components", c_int32))


_READ: Final = ctypes.CFUNCTYPE(c_size_t, c_void_p, c_size_t, c_void_p)
_SKIP: Final = ctypes.CFUNCTYPE(c_int64, c_int64, c_void_p)
_SEEK: Final = ctypes.CFUNCTYPE(c_int, c_int64, c_void_p)

_OPENJPEG: Final[dict[str, tuple[Any, Sequence[Any]]]] = {
    "opj_version": (ctypes.c_char_p, ()),
    "opj_create_decompress": (c_void_p, (c_int,)),
    "opj_set_default_decoder_parameters": (None, (c_void_p,)),
    "opj_setup_decoder": (c_int, (c_void_p, c_void_p)),
    "opj_stream_create": (c_void_p, (c_size_t, c_int)),
    "opj_stream_set_read_function": (None, (c_void_p, _READ)),
    "opj_stream_set_skip_function": (None, (c_void_p, _SKIP)),
    "opj_stream_set_seek_function": (None, (c_void_p, _SEEK)),
    "opj_stream_set_user_data_length": (None, (c_void_p, c_uint64)),
    "opj_read_header": (c_int, (c_void_p, c_void_p, POINTER(POINTER(_Image)))),
    "opj_decode": (c_int, (c_void_p, c_void_p, POINTER(_Image))),
    "opj_end_decompress": (c_int, (c_void_p, c_void_p)),
    "opj_image_destroy": (None, (POINTER(_Image),)),
    "opj_stream_destroy": (None, (c_void_p,)),
    "opj_destroy_codec": (None, (c_void_p,)),
}
_CHARLS: Final[dict[str, tuple[Any, Sequence[Any]]]] = {
    "charls_jpegls_decoder_create": (c_void_p, ()),
    "charls_jpegls_decoder_set_source_buffer": (c_int, (c_void_p, c_void_p, c_size_t)),
    "charls_jpegls_decoder_read_header": (c_int, (c_void_p,)),
    "charls_jpegls_decoder_get_frame_info": (c_int, (c_void_p, POINTER(_FrameInfo))),
    "charls_jpegls_decoder_decode_to_buffer": (c_int, (c_void_p, c_void_p, c_size_t, c_uint32)),
    "charls_jpegls_decoder_destroy": (None, (c_void_p,)),
}


@cache
def openjpeg() -> ctypes.CDLL | None:
    """Return OpenJPEG 2 as pylibjpeg-openjpeg brings it; None where it cannot be called."""
    library = _library("_openjpeg", _OPENJPEG)
    return library if library is not None and library.opj_version().startswith(b"2.") else None


@cache
def charls() -> ctypes.CDLL | None:
    """Return CharLS 2 as pyjpegls brings it; None where it cannot be called."""
    return _library("_CharLS", _CHARLS)


def _library(module: str, functions: dict[str, tuple[Any, Sequence[Any]]]) -> ctypes.CDLL | None:
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        return None
    try:
        library = ctypes.CDLL(found.origin)  # lets go of Python's lock during each call
        for name, (returns, takes) in functions.items():
            function = getattr(library, name)
            function.restype, function.argtypes = returns, takes
    except (OSError, AttributeError):
        return None
    return library


def decode_j2k(
    data: bytes, rows: int, columns: int, bits_stored: int, dtype: np.dtype[Any]
) -> NDArray[Any] | None:
    """Return (rows, columns) values of a bare JPEG 2000 codestream with one component.

    None: not the plain case (another precision, sign or size than wanted), or no library.

    Raises
    ------
    ValueError
        It cannot be decoded, or not to its end.
    """
    library = openjpeg()
    if library is None:
        return None
    codec, stream = library.opj_create_decompress(0), library.opj_stream_create(len(data) + 1, 1)
    image = POINTER(_Image)()
    functions: object = None
    try:
        functions = _Source(data).feed(library, stream)
        parameters = ctypes.create_string_buffer(_PARAMETERS_BYTES)
        library.opj_set_default_decoder_parameters(parameters)
        ready = library.opj_setup_decoder(codec, parameters)
        if not ready or not library.opj_read_header(stream, codec, byref(image)):
            raise ValueError("OpenJPEG cannot read the header of the codestream")
        if image.contents.numcomps != 1:
            return None
        one = image.contents.comps[0]
        plain = (1, 1, columns, rows, bits_stored, int(dtype.kind == "i"))
        if (one.dx, one.dy, one.w, one.h, one.prec, one.sgnd) != plain:
            return None
        decoded = library.opj_decode(codec, stream, image) and library.opj_end_decompress(codec, stream)
        one = image.contents.comps[0]
        if not decoded or not one.data or (one.w, one.h) != (columns, rows):
            raise ValueError("OpenJPEG cannot decode the codestream")
        return np.ctypeslib.as_array(one.data, (rows, columns)).astype(dtype)
    finally:
        if image:
            library.opj_image_destroy(image)
        library.opj_stream_destroy(stream)
        library.opj_destroy_codec(codec)
        del functions


class _Source:
    """Bytes as OpenJPEG asks for them."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def feed(self, library: ctypes.CDLL, stream: int) -> object:
        """Become what a stream reads; what is returned has to be kept until the stream is destroyed."""
        read, skip, seek = _READ(self._read), _SKIP(self._skip), _SEEK(self._seek)
        library.opj_stream_set_read_function(stream, read)
        library.opj_stream_set_skip_function(stream, skip)
        library.opj_stream_set_seek_function(stream, seek)
        library.opj_stream_set_user_data_length(stream, len(self._data))
        return read, skip, seek

    def _read(self, to: int, most: int, _: object) -> int:
        part = self._data[self._at : self._at + most]
        self._at += len(part)
        ctypes.memmove(to, part, len(part))
        return len(part) or _NO_MORE

    def _skip(self, count: int, _: object) -> int:
        before = self._at
        self._at = min(len(self._data), max(0, before + count))
        return self._at - before if self._at != before else -1

    def _seek(self, to: int, _: object) -> int:
        if not 0 <= to <= len(self._data):
            return 0
        self._at = to
        return 1


def decode_jls(data: bytes, rows: int, columns: int, bits: int, dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """Return (rows, columns) values of a JPEG-LS codestream with one component.

    None: not the plain case, or no library; errors as `decode_j2k`. JPEG-LS knows no sign, so signed
    values are plain where they fill their bytes.
    """
    library = charls()
    if (
        library is None
        or -(-bits // 8) != dtype.itemsize
        or (dtype.kind == "i" and bits != 8 * dtype.itemsize)
    ):
        return None
    decoder = library.charls_jpegls_decoder_create()
    try:
        info = _FrameInfo()
        if (
            library.charls_jpegls_decoder_set_source_buffer(decoder, data, len(data))
            or library.charls_jpegls_decoder_read_header(decoder)
            or library.charls_jpegls_decoder_get_frame_info(decoder, byref(info))
        ):
            raise ValueError("CharLS cannot read the header of the codestream")
        if (info.height, info.width, info.bits, info.components) != (rows, columns, bits, 1):
            return None
        array = np.empty((rows, columns), dtype)
        if library.charls_jpegls_decoder_decode_to_buffer(decoder, array.ctypes.data, array.nbytes, 0):
            raise ValueError("CharLS cannot decode the codestream")
        return array
    finally:
        library.charls_jpegls_decoder_destroy(decoder)
