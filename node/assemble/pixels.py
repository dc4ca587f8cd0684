"""Frames become arrays of stored values. Runs in a worker that has a deadline and a memory cap.

Everything that can be refused by arithmetic is refused before a decoder runs: the pixel budget,
the length of native data, the size inside a compressed frame. Decoders are pinned per transfer
syntax and free of the GPL; a panic of a native one (which is no `Exception`) ends here.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.decoders.base import get_decoder

from node.assemble.clibrary import decode_j2k, decode_jls
from node.assemble.codestream import FrameSize, check_jpeg_end, check_rle, size_j2k, size_jpeg, strip_jp2
from node.assemble.colour import from_422, rgb_of_ybr
from node.assemble.reason import Reason, refused, some
from node.assemble.syntaxes import J2K, JPEG, JPEG_LS, NATIVE, PLUGINS
from node.header.read import Parsed, PixelElement, inflate
from node.header.value import PARSE_ERRORS, integer_of, text_of
from node.jpeg import LOSSLESS, SYNTAXES, decode_jpeg

#: Voxels of one volume: 4 GiB as float32, 4000 slices of 512 x 512.
MAX_VOXELS: Final = 1 << 30
#: Pixels of one frame: 8192 x 8192.
MAX_FRAME_PIXELS: Final = 1 << 26
#: A pixel in colour is kept as three bytes beside its grey value, so it counts as two.
COLOUR_COST: Final = 2

#: Photometric Interpretation (PS3.3 C.7.6.3.1.2) -> samples per pixel, of what can be displayed.
_SAMPLES: Final = {
    "MONOCHROME1": 1,
    "MONOCHROME2": 1,
    "PALETTE COLOR": 1,
    "RGB": 3,
    "YBR_FULL": 3,
    "YBR_FULL_422": 3,
    "YBR_ICT": 3,
    "YBR_RCT": 3,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelFormat:
    """How the pixel data of one instance are encoded (PS3.3 C.7.6.3)."""

    transfer_syntax: str
    element: PixelElement
    rows: int
    columns: int
    frames: int
    multiframe: bool  #: whether references to it count frames
    bits_allocated: int
    bits_stored: int
    signed: bool
    photometric: str = "MONOCHROME2"
    samples: int = 1  #: per pixel
    planar: bool = False  #: all red, then all green, then all blue

    @property
    def is_colour(self) -> bool:
        """Whether a pixel has a colour, its own or one of a palette."""
        return not self.photometric.startswith("MONOCHROME")

    @property
    def frame_bytes(self) -> int:
        """Length of one native frame; two neighbours share their colour in YBR_FULL_422."""
        samples = 2 if self.photometric == "YBR_FULL_422" else self.samples
        return self.rows * self.columns * samples * self.bits_allocated // 8

    def as_stored(self, value: int) -> int:
        """Return a stored value as our arrays hold it, whatever VR (US or SS) it was sent in."""
        if self.signed and value >= 1 << (self.bits_allocated - 1):
            return value - (1 << self.bits_allocated)
        if not self.signed and value < 0:
            return value + (1 << self.bits_allocated)
        return value


def pixel_format(parsed: Parsed, path: Path, *, for_display: bool = False) -> PixelFormat:
    """Return how the pixels of a parsed file are encoded.

    Parameters
    ----------
    for_display
        Allow what has no measured values: inverted grey (MONOCHROME1) and colour.

    Raises
    ------
    InputRefused
        ``no-pixels``, ``not-greyscale``, ``colour-unknown``, ``pixel-budget``, or ``not-decodable``
        when the file is too short for what its header announces.
    """
    ds, element = parsed.dataset, parsed.pixels
    if element is None:
        raise refused(Reason.NO_PIXELS, f"This input holds an object without an image ({_sop_class(ds)}).")
    whole = {
        name: integer_of(ds, name)
        for name in ("Rows", "Columns", "BitsAllocated", "BitsStored", "SamplesPerPixel")
    }
    rows, columns, allocated, stored, samples = whole.values()
    photometric = text_of(ds, "PhotometricInterpretation")
    if not for_display and (samples != 1 or photometric != "MONOCHROME2"):
        raise refused(
            Reason.NOT_GREYSCALE,
            f"The images are {photometric or 'of unknown colour'}, not measured values (MONOCHROME2).",
        )
    if samples is None or samples != _SAMPLES.get(photometric):
        raise refused(
            Reason.COLOUR_UNKNOWN,
            f"The images are {photometric or 'of no colour model'} with {samples or 'no'} values per pixel; "
            "this node knows grey, palette, RGB and YBR images.",
        )
    if element.keyword != "PixelData" or not rows or not columns or allocated not in (8, 16, 32):
        raise refused(Reason.NOT_DECODABLE, "The image is not made of 8, 16 or 32 bit whole numbers.")
    if stored is None or not 1 <= stored <= allocated:
        raise refused(Reason.NOT_DECODABLE, "Bits Stored is missing or larger than Bits Allocated.")
    if integer_of(ds, "HighBit") not in (None, stored - 1):
        raise refused(Reason.NOT_DECODABLE, "High Bit is not the bit below Bits Stored (PS3.5 8.1.1).")
    signed = integer_of(ds, "PixelRepresentation")
    if signed not in (0, 1):
        raise refused(Reason.NOT_DECODABLE, "Pixel Representation does not say whether values have a sign.")
    if samples > 1 and (signed or allocated > 16):
        raise refused(Reason.NOT_DECODABLE, "Colours are not whole numbers of 8 or 16 bits without a sign.")
    syntax = str(ds.file_meta.get("TransferSyntaxUID", uid.ImplicitVRLittleEndian))
    if syntax not in NATIVE and syntax not in PLUGINS:
        raise refused(
            Reason.NOT_DECODABLE, f"This node has no decoder for the transfer syntax {uid.UID(syntax).name}."
        )
    if photometric in ("YBR_ICT", "YBR_RCT") and syntax not in J2K:
        raise refused(Reason.COLOUR_UNKNOWN, f"{photometric} is a colour model of JPEG 2000 alone.")
    announced = integer_of(ds, "NumberOfFrames")
    frames = 1 if announced is None or announced < 1 else announced
    cost = 1 if photometric.startswith("MONOCHROME") else COLOUR_COST
    if rows * columns * cost > MAX_FRAME_PIXELS or rows * columns * cost * frames > MAX_VOXELS:
        raise refused(
            Reason.PIXEL_BUDGET,
            f"The object announces {some(frames, 'frame')} of {rows} x {columns} pixels, "
            "which is more than this node decodes.",
        )
    format_ = PixelFormat(
        transfer_syntax=syntax,
        element=element,
        rows=rows,
        columns=columns,
        frames=frames,
        multiframe="PerFrameFunctionalGroupsSequence" in ds or frames > 1,
        bits_allocated=allocated,
        bits_stored=stored,
        signed=signed == 1,
        photometric=photometric,
        samples=samples,
        planar=samples > 1 and integer_of(ds, "PlanarConfiguration") == 1,
    )
    _check_length(format_, path)
    return format_


def read_frames(
    path: Path, format_: PixelFormat, indices: Sequence[int]
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (0-based frame index, stored values) of the wanted frames, in stored order.

    Arrays are (rows, columns), integer of the sign and width that the header announces; in true
    colour (rows, columns, 3), RGB whatever the colour model was. At most one decoded frame is alive
    at a time.

    Raises
    ------
    InputRefused
        ``not-decodable``, with what the decoder said.
    """
    for index, data in encoded_frames(path, format_, indices):
        yield index, decode_frame(data, format_)


def encoded_frames(path: Path, format_: PixelFormat, indices: Collection[int]) -> Iterator[tuple[int, bytes]]:
    """Yield (0-based frame index, bytes as they are encoded) of the wanted frames, in stored order.

    Raises
    ------
    InputRefused
        ``not-decodable``: one of them is not there.
    """
    with _refusing(format_):
        wanted = set(indices)
        for index, data in _encoded_frames(path, format_, set(indices)):
            yield index, data
            wanted.discard(index)
        if wanted:
            raise ValueError(f"{len(wanted)} frames are missing")


def decode_frame(data: bytes, format_: PixelFormat) -> NDArray[Any]:
    """Return the stored values of one encoded frame, as `read_frames` does. Any thread may ask.

    Raises
    ------
    InputRefused
        ``not-decodable``, with what the decoder said.
    """
    with _refusing(format_):
        return _decode(data, format_)


@contextmanager
def _refusing(format_: PixelFormat) -> Iterator[None]:
    """Turn what a decoder raises into a refusal."""
    try:
        yield
    except (*PARSE_ERRORS, OSError, RuntimeError) as error:
        raise _not_decodable(format_, error) from error
    except BaseException as error:
        # A Rust extension that panics raises a class of its own outside `Exception`.
        if type(error).__name__ != "PanicException":
            raise
        raise _not_decodable(format_, error) from None


def _sop_class(ds: Any) -> str:
    return uid.UID(text_of(ds, "SOPClassUID")).name


def _check_length(format_: PixelFormat, path: Path) -> None:
    element = format_.element
    if format_.transfer_syntax in PLUGINS:
        if element.length is not None:
            raise refused(Reason.NOT_DECODABLE, "The pixel data should be compressed frames and are not.")
        if path.stat().st_size < 8 * format_.frames:  # an item has eight bytes before its content
            raise refused(
                Reason.NOT_DECODABLE, f"The file is too short for {some(format_.frames, 'compressed frame')}."
            )
        return
    if format_.photometric == "YBR_FULL_422" and (format_.columns % 2 or format_.planar):
        raise refused(Reason.NOT_DECODABLE, "The colours of YBR_FULL_422 are not shared by pairs of pixels.")
    if element.length is None or element.length < format_.frame_bytes * format_.frames:
        raise refused(
            Reason.NOT_DECODABLE,
            f"The pixel data hold {element.length} bytes; {format_.frames} frames of {format_.rows} x "
            f"{format_.columns} pixels need {format_.frame_bytes * format_.frames}.",
        )
    end = element.offset + format_.frame_bytes * format_.frames
    if element.deflated_at is None and path.stat().st_size < end:
        raise refused(Reason.NOT_DECODABLE, "A file is cut off within its pixel data. Send it again.")


def _encoded_frames(path: Path, format_: PixelFormat, wanted: set[int]) -> Iterator[tuple[int, bytes]]:
    """Yield the bytes of the wanted frames as they are encoded."""
    element, size = format_.element, format_.frame_bytes
    with path.open("rb") as file:
        if format_.transfer_syntax in PLUGINS:
            file.seek(element.offset)
            value = file.read()
            for index, data in enumerate(generate_frames(value, number_of_frames=format_.frames)):
                if index in wanted:
                    yield index, data
            return
        stream: Any = file
        if element.deflated_at is not None:
            end = element.offset + size * format_.frames
            stream = io.BytesIO(inflate(file, element.deflated_at, end))
        swapped = (format_.transfer_syntax, format_.bits_allocated, element.vr) == (
            uid.ExplicitVRBigEndian,
            8,
            "OW",
        )
        for index in sorted(wanted):
            begin, end = index * size, (index + 1) * size
            if swapped:  # bytes are swapped in pairs, and a frame may begin or end within one
                begin, end = begin - begin % 2, end + end % 2
            stream.seek(element.offset + begin)
            data = stream.read(end - begin)
            if len(data) < size:
                raise EOFError("the pixel data end too early")
            if swapped:
                data = np.frombuffer(data + b"\0" * (len(data) % 2), ">u2").astype("<u2").tobytes()
                data = data[index * size - begin :][:size]
            yield index, data


def _decode(data: bytes, format_: PixelFormat) -> NDArray[Any]:
    syntax = format_.transfer_syntax
    if syntax not in PLUGINS:
        return _native(data, format_)
    plain: NDArray[Any] | None = None
    if syntax in J2K:
        data = strip_jp2(data)
        _check_size(size_j2k(data), format_)
        if format_.samples == 1:
            plain = decode_j2k(data, format_.rows, format_.columns, format_.bits_stored, _dtype(format_))
    elif syntax in JPEG:
        _check_size(size := size_jpeg(data), format_)
        if syntax in JPEG_LS:
            check_jpeg_end(data)
            if format_.samples == 1:
                plain = decode_jls(data, format_.rows, format_.columns, size.bits, _dtype(format_))
        elif (syntax in LOSSLESS or syntax in SYNTAXES) and format_.samples == 1:
            if syntax in LOSSLESS:
                check_jpeg_end(data)
            plain = _within_bits(decode_jpeg(data).astype(_dtype(format_)), format_)  # JPEG knows no sign
    else:
        check_rle(data)
    if plain is not None:
        return plain
    decoder = get_decoder(uid.UID(syntax)) if PLUGINS[syntax] else None
    available = [p for p in PLUGINS[syntax] if decoder and p in decoder.available_plugins]
    if not decoder or not available:
        raise NotImplementedError(f"no decoder for {uid.UID(syntax).name} is installed")
    options: dict[str, Any] = {
        "rows": format_.rows,
        "columns": format_.columns,
        "number_of_frames": 1,
        "samples_per_pixel": format_.samples,
        "photometric_interpretation": format_.photometric,
        "planar_configuration": int(format_.planar),
        "bits_allocated": format_.bits_allocated,
        "bits_stored": format_.bits_stored,
        "pixel_representation": int(format_.signed),
        "pixel_keyword": "PixelData",
    }
    frame = encapsulate([data])
    # Of grey values pydicom keeps every bit; it knows best what colour model a decoder left.
    array, told = decoder.as_array(frame, index=0, raw=True, decoding_plugin=available[0], **options)
    if str(told["photometric_interpretation"]).startswith("YBR_FULL"):
        return rgb_of_ybr(array, format_.bits_stored)
    return array


def _dtype(format_: PixelFormat) -> np.dtype[Any]:
    return np.dtype(f"{'i' if format_.signed else 'u'}{format_.bits_allocated // 8}")


def _within_bits(array: NDArray[Any], format_: PixelFormat) -> NDArray[Any]:
    """Return values without what stands above Bits Stored, which is not ours (old overlays), but the sign."""
    unused = format_.bits_allocated - format_.bits_stored
    within: NDArray[Any] = np.right_shift(np.left_shift(array, unused), unused)
    return within


def _native(data: bytes, format_: PixelFormat) -> NDArray[Any]:
    """Return native pixel data as an array (PS3.5 8.1.1 and annex A)."""
    size, big = format_.bits_allocated // 8, format_.transfer_syntax == uid.ExplicitVRBigEndian
    kind = "i" if format_.signed else "u"
    rows, columns = format_.rows, format_.columns
    array = np.frombuffer(data, f"{'>' if big else '<'}{kind}{size}")
    if format_.photometric == "YBR_FULL_422":
        array = from_422(array.reshape(rows, columns // 2, 4))
    elif format_.planar:
        array = np.moveaxis(array.reshape(3, rows, columns), 0, -1)
    else:
        array = array.reshape((rows, columns) if format_.samples == 1 else (rows, columns, 3))
    if format_.bits_allocated > format_.bits_stored:
        array = _within_bits(array.astype(f"{kind}{size}"), format_)
    if format_.photometric.startswith("YBR"):
        return rgb_of_ybr(array, format_.bits_stored)
    return array


def _check_size(size: FrameSize, format_: PixelFormat) -> None:
    if (size.rows, size.columns, size.samples) != (format_.rows, format_.columns, format_.samples):
        raise ValueError(
            f"the compressed frame is {size.rows} x {size.columns} x {size.samples}, "
            f"the header says {format_.rows} x {format_.columns} x {format_.samples}"
        )
    if size.bits > format_.bits_allocated:
        raise ValueError(f"the compressed frame has {size.bits} bits, the header {format_.bits_allocated}")


def _not_decodable(format_: PixelFormat, error: BaseException) -> Exception:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    said = lines[-1].strip()[:200].rstrip(".")  # pydicom tells the reason last
    return refused(
        Reason.NOT_DECODABLE,
        f"The pixel data ({uid.UID(format_.transfer_syntax).name}) cannot be decoded: {said}.",
    )
