"""In a worker of ours: pixels are decoded for those who look at them, one file at a time.

Files were sent by strangers and decoders are native code: so this runs where a crash harms nobody, has a
deadline and a memory cap, and reaches no network. Each function takes a payload (``path``, ``folder``: a
name for what it makes, and what each says) and leaves files in that folder of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydicom.dataset import FileDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian

from node import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.assemble.display import shown_frame
from node.assemble.look import Window
from node.assemble.pixels import PixelFormat, pixel_format, read_frames
from node.header import Parsed, PixelElement, parse
from node.header.read import UNREADABLE, inflate
from node.header.value import PARSE_ERRORS
from node.show.dicom_json import as_little
from pipelines.contract import InputRefused

Report = Callable[[str, float], None]


def picture(payload: dict[str, Any], _device: str, _report: Report) -> None:
    """Write ``picture``: a frame as a viewer shows it.

    ``frame`` from 0; ``kind``: "JPEG" or "PNG"; ``quality`` of a JPEG, 1 to 100; ``window``: centre, width
    and function, or None; ``viewport``: width and height that it has to fit in, and the left, top, width
    and height of the part that is wanted, or None.
    """
    path = Path(payload["path"])
    window = Window(*payload["window"]) if payload["window"] else None
    image = Image.fromarray(shown_frame(parse(path), path, payload["frame"], window))
    if viewport := payload["viewport"]:
        image = _in_viewport(image, viewport)
    folder = _folder(payload)
    options = {"quality": payload["quality"], "subsampling": 0} if payload["kind"] == "JPEG" else {}
    image.save(folder / "picture", payload["kind"], **options)


def frames(payload: dict[str, Any], _device: str, _report: Report) -> None:
    """Write a file per wanted frame (``frames``, from 0), named by its number: native little endian."""
    path = Path(payload["path"])
    parsed = parse(path)
    format_ = pixel_format(parsed, path, for_display=True)
    folder = _folder(payload)
    for index, stored in read_frames(path, format_, sorted(set(payload["frames"]))):
        (folder / str(index)).write_bytes(_native(stored, format_))


def dataset(payload: dict[str, Any], _device: str, _report: Report) -> None:
    """Write ``object``: the same data set in Explicit VR Little Endian, its pixels not compressed.

    The SOP Instance UID stays, since nothing of the content changes (PS3.3 C.12.1.1.2); true colours are
    RGB, pixel by pixel, whatever they were compressed as.
    """
    path = Path(payload["path"])
    parsed = parse(path)
    whole, written = parsed.dataset, _folder(payload) / "object"
    try:
        if payload["syntax"] == ExplicitVRBigEndian:
            for element in whole.iterall():
                if isinstance(element.value, bytes):
                    element.value = as_little(element.value, str(element.VR), little=False)
        if parsed.pixels is not None:
            _put_pixels(whole, parsed.pixels, payload["syntax"], parsed, path)
        whole.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        whole.file_meta.MediaStorageSOPClassUID = whole.SOPClassUID
        whole.file_meta.MediaStorageSOPInstanceUID = whole.SOPInstanceUID
        whole.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
        whole.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
        # `save_as` would not turn big endian around; values of bytes are turned here.
        dcmwrite(written, whole, implicit_vr=False, little_endian=True, enforce_file_format=True)
    except PARSE_ERRORS as error:
        kind = type(error).__name__
        raise InputRefused(
            UNREADABLE, f"The data set cannot be written in Explicit VR Little Endian ({kind})."
        ) from error


def _put_pixels(whole: FileDataset, element: PixelElement, syntax: str, parsed: Parsed, path: Path) -> None:
    """Give a header its pixel data: decoded, or as they are where that is what they should be."""
    if element.length is not None:
        with path.open("rb") as file:
            if element.deflated_at is None:
                file.seek(element.offset)
                value = file.read(element.length)
            else:
                end = element.offset + element.length
                value = inflate(file, element.deflated_at, end)[element.offset :]
        if len(value) != element.length:
            raise EOFError
        if syntax == ExplicitVRBigEndian:
            words = "OL" if whole.get("BitsAllocated") == 32 else element.vr
            value = as_little(value, words, little=False)
        whole.add_new(element.keyword, element.vr or "OW", value)
        return
    format_ = pixel_format(parsed, path, for_display=True)
    value = b"".join(
        _native(stored, format_) for _, stored in read_frames(path, format_, range(format_.frames))
    )
    if format_.samples == 3:
        whole.PhotometricInterpretation, whole.PlanarConfiguration = "RGB", 0
    vr = "OW" if format_.bits_allocated > 8 else "OB"
    whole.add_new("PixelData", vr, value + b"\0" * (len(value) % 2))


def _native(stored: NDArray[Any], format_: PixelFormat) -> bytes:
    """Return a frame as native little endian pixel data, colours pixel by pixel."""
    kind = "i" if format_.signed else "u"
    return np.ascontiguousarray(stored).astype(f"<{kind}{format_.bits_allocated // 8}").tobytes()


def _in_viewport(image: Image.Image, viewport: Sequence[float]) -> Image.Image:
    """Return the wanted part, mirrored where its width or height is below zero, as large as fits."""
    width, height, left, top, part_width, part_height = viewport
    part_width, part_height = part_width or image.width - left, part_height or image.height - top
    box = (left, top, min(image.width, left + abs(part_width)), min(image.height, top + abs(part_height)))
    if box[0] >= box[2] or box[1] >= box[3]:
        raise InputRefused("no-such-part", "The part of the image that is asked for lies outside of it.")
    scale = min(width / (box[2] - box[0]), height / (box[3] - box[1]))
    size = max(1, round((box[2] - box[0]) * scale)), max(1, round((box[3] - box[1]) * scale))
    image = image.resize(size, Image.Resampling.BILINEAR, box)
    image = ImageOps.mirror(image) if part_width < 0 else image
    return ImageOps.flip(image) if part_height < 0 else image


def _folder(payload: Mapping[str, Any]) -> Path:
    """Make the folder in which results are handed over."""
    folder = Path(payload["folder"])
    folder.mkdir(mode=0o700)
    return folder
