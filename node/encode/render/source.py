"""What the source says of how it is looked at, and of what its pixels give away."""

from __future__ import annotations

import math
from typing import NamedTuple

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from node.encode.header import UNREADABLE
from node.errors import EncodeError
from node.model import Volume
from node.picture.window import Window

_TAGS = [
    "WindowCenter",
    "WindowWidth",
    "BurnedInAnnotation",
    "RecognizableVisualFeatures",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]
#: Devices that write the patient's name into the picture unless they say that they don't.
_WRITING_MODALITIES = frozenset({"US", "IVUS", "ES", "XC", "OT", "SC", "RF", "XA"})
#: Body Part Examined whose slices can be put together to a face.
_FACES = (
    "HEAD",
    "BRAIN",
    "FACE",
    "SKULL",
    "ORBIT",
    "NECK",
    "WHOLEBODY",
    "JAW",
    "MAXILLA",
    "MANDIBLE",
    "SINUS",
)
_CLEAR_OF_FACES = ("CHEST", "THORAX", "LUNG", "ABDOMEN", "PELVIS", "LIVER", "BREAST", "HEART", "PROSTATE")


class SourceFacts(NamedTuple):
    """What renderings take over of the source."""

    window: Window | None  #: in the unit of the image; None where the header says none
    burned_in: bool  #: the pixels may name the patient
    recognizable: bool | None  #: somebody may be known by sight; None: not known


def read_source(volume: Volume, body_part: str) -> SourceFacts:
    """Read what one instance in the middle of a volume says.

    Raises
    ------
    EncodeError
        It cannot be read.
    """
    plane = volume.slices[len(volume.slices) // 2]
    try:
        source = pydicom.dcmread(plane.path, stop_before_pixels=True, specific_tags=list(_TAGS))
    except (OSError, InvalidDicomError, *UNREADABLE) as error:
        raise EncodeError(f"a source instance cannot be read again ({type(error).__name__})") from error
    said = _word(source, "BurnedInAnnotation")
    seen = _word(source, "RecognizableVisualFeatures")
    part = body_part.upper()
    recognizable = None
    if seen == "YES" or part.startswith(_FACES):
        recognizable = True
    elif seen == "NO" or part.startswith(_CLEAR_OF_FACES):
        recognizable = False
    return SourceFacts(
        window=_window(source, plane.frame) if volume.image.is_spatial else None,
        burned_in=said == "YES" or (not said and volume.image.modality in _WRITING_MODALITIES),
        recognizable=recognizable,
    )


def _word(source: Dataset, keyword: str) -> str:
    try:
        return str(source.get(keyword) or "").strip().upper()
    except UNREADABLE:
        return ""


def _window(source: Dataset, frame: int | None) -> Window | None:
    """Return the first window of an image or of one of its frames (PS3.3 C.11.2.1.2)."""
    try:
        for holder in _holders(source, frame):
            centres, widths = holder.get("WindowCenter"), holder.get("WindowWidth")
            if centres is None or widths is None:
                continue
            centre, width = (
                float(v[0] if isinstance(v, pydicom.multival.MultiValue) else v) for v in (centres, widths)
            )
            if math.isfinite(centre) and math.isfinite(width) and width > 1:
                return Window.of(centre, width)
    except UNREADABLE:
        return None
    return None


def _holders(source: Dataset, frame: int | None) -> list[Dataset]:
    holders = [source]
    per_frame = source.get("PerFrameFunctionalGroupsSequence") or []
    groups = [*(source.get("SharedFunctionalGroupsSequence") or [])]
    if frame is not None and 0 < frame <= len(per_frame):
        groups.insert(0, per_frame[frame - 1])
    for group in groups:
        holders += list(group.get("FrameVOILUTSequence") or [])
    return holders
