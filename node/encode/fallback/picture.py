"""A parametric map as colour pictures with their scale, for readers that know no maps.

Each frame of the map becomes a frame of a Multi-frame True Color Secondary Capture (PS3.3 A.8.4) in
the same order. The values themselves are lost: only the map holds them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import ExplicitVRLittleEndian, MultiFrameTrueColorSecondaryCaptureImageStorage

from node.encode.common import RESEARCH_NOTICE
from node.encode.items import code_of
from node.encode.material import NotApplicable

#: A black body that warms up; equal steps of value are equal steps along these.
_RAMP_RGB = ((0, 0, 0), (110, 10, 60), (200, 40, 20), (250, 150, 0), (255, 240, 120), (255, 255, 255))
#: A picture narrower than this has no room for words, so its pixels are repeated.
NARROWEST_PX = 288
STRIP_PX = 44  #: below each picture: scale, numbers, notice
LARGEST_BYTES = 512 << 20  # one sender makes it, beside the work of the node

#: Of the map, and of no meaning for a picture.
_OF_MAPS = (
    "FloatPixelData",
    "DoubleFloatPixelData",
    "PixelData",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "DimensionOrganizationSequence",
    "DimensionIndexSequence",
    "DimensionOrganizationType",
    "ContentLabel",
    "ContentDescription",
    "ContentCreatorName",
    "BodyPartExamined",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "AcquisitionContextSequence",
    "PresentationLUTShape",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "VolumetricProperties",
    "VolumeBasedCalculationTechnique",
    "PixelPresentation",
    "FloatPixelPaddingValue",
    "PixelPaddingValue",
)


def to_picture(dataset: Dataset, target: str = MultiFrameTrueColorSecondaryCaptureImageStorage) -> None:
    """Turn a Parametric Map into colour pictures, in place.

    Raises
    ------
    NotApplicable
        Its values cannot be known, or there would be too many bytes.
    """
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    zoom = -(-NARROWEST_PX // columns)
    count = int(dataset.NumberOfFrames)
    height, width = rows * zoom + STRIP_PX, columns * zoom
    if count * height * width * 3 > LARGEST_BYTES:
        raise NotApplicable(f"As colour pictures it would be larger than {LARGEST_BYTES >> 20} MB.")
    values = _values(dataset)  # (frames, rows, columns), float32, in the unit of the map
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    name, unit = _quantity(dataset)
    frames = _frames(values, low, high, f"{name} {unit}".strip(), zoom)
    pixels = b"".join(np.asarray(frame, dtype=np.uint8).tobytes() for frame in frames)

    dataset.SourceImageSequence = _sources(dataset)
    for keyword in _OF_MAPS:
        if keyword in dataset:
            delattr(dataset, keyword)
    dataset.SOPClassUID = target
    dataset.Modality, dataset.ConversionType = "OT", "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.PatientOrientation = dataset.Laterality = None  # type 2C: not known here
    for keyword in ("BurnedInAnnotation", "RecognizableVisualFeatures"):  # as the map says of itself
        setattr(dataset, keyword, dataset.get(keyword) or "NO")
    dataset.DerivationDescription = f"Colour rendering of a parametric map. {RESEARCH_NOTICE}"
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = height, width, count
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, "RGB"
    dataset.PlanarConfiguration = 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelRepresentation = 0
    if count > 1:
        dataset.FrameIncrementPointer = 0x00182001
        dataset.PageNumberVector = list(range(1, count + 1))
    dataset.add_new("PixelData", "OB", pixels + b"\0" * (len(pixels) % 2))
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian


def _values(dataset: Dataset) -> NDArray[np.float32]:
    """Return what the map says of each pixel: (frames, rows, columns), in its unit."""
    decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
    array, _ = decoder.as_array(dataset, raw=True)
    values: NDArray[np.float32] = array.reshape(-1, *array.shape[-2:]).astype(np.float32)
    groups = dataset.PerFrameFunctionalGroupsSequence
    for frame, group in zip(values, groups, strict=True):
        mapping = _mapping(dataset, group)
        slope, intercept = mapping.get("RealWorldValueSlope"), mapping.get("RealWorldValueIntercept")
        if slope is None or intercept is None:
            raise NotApplicable("Its values follow a table, which is not drawn.")
        frame *= np.float32(slope)
        frame += np.float32(intercept)
    return values


def _sources(dataset: Dataset) -> list[Dataset]:
    """Return the images that the frames of a map were made from, each once."""
    groups = [*dataset.SharedFunctionalGroupsSequence, *dataset.PerFrameFunctionalGroupsSequence]
    found: dict[tuple[str, str], Dataset] = {}
    for group in groups:
        for derivation in group.get("DerivationImageSequence") or ():
            for source in derivation.get("SourceImageSequence") or ():
                key = str(source.ReferencedSOPInstanceUID), str(source.get("ReferencedFrameNumber"))
                found.setdefault(key, source)
    return list(found.values())


def _mapping(dataset: Dataset, group: Dataset) -> Dataset:
    shared = dataset.SharedFunctionalGroupsSequence[0]
    found = group.get("RealWorldValueMappingSequence") or shared.get("RealWorldValueMappingSequence")
    if not found:
        raise NotApplicable("It does not say what its values mean.")
    first: Dataset = found[0]
    return first


def _quantity(dataset: Dataset) -> tuple[str, str]:
    """Return what is mapped, and the unit in brackets; "" for a number without one."""
    mapping = _mapping(dataset, dataset.PerFrameFunctionalGroupsSequence[0])
    name = str(mapping.get("LUTExplanation") or mapping.get("LUTLabel") or "Value")
    for entry in mapping.get("QuantityDefinitionSequence") or ():
        if entry.get("ConceptCodeSequence"):
            name = code_of(entry.ConceptCodeSequence[0]).meaning
            break
    units = mapping.get("MeasurementUnitsCodeSequence") or ()
    unit = code_of(units[0]).value if units else ""
    return name, "" if unit in ("", "1", "{1}") else f"[{unit}]"


def _colours(share: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the colour of each share of the range, 0 to 1: (..., 3)."""
    steps = np.linspace(0, 1, len(_RAMP_RGB))
    channels = [np.interp(share, steps, [rgb[c] for rgb in _RAMP_RGB]) for c in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def _frames(
    values: NDArray[np.float32], low: float, high: float, caption: str, zoom: int
) -> Iterator[Image.Image]:
    """Draw each frame: the map, and below it the scale, what it means, and the notice."""
    count, rows, columns = values.shape
    width = columns * zoom
    strip = Image.new("RGB", (width, STRIP_PX))
    pen = ImageDraw.Draw(strip)
    ends = f"{low:.4g}", f"{high:.4g}"
    left, right = (6 + int(pen.textlength(end)) for end in ends)
    bar_px = max(16, width - left - right - 12)
    bar = _colours(np.tile(np.linspace(0, 1, bar_px, dtype=np.float32), (10, 1)))
    strip.paste(Image.fromarray(bar), (left + 6, 4))
    pen.text((6, 3), ends[0], fill="white")
    pen.text((left + 12 + bar_px, 3), ends[1], fill="white")
    pen.text((6, 16), _fitted(pen, caption, width - 60), fill="white")
    pen.text((6, 30), _fitted(pen, RESEARCH_NOTICE, width - 6), fill="white")
    span = (high - low) or 1.0
    for number, frame in enumerate(values, start=1):
        share = np.nan_to_num((frame - low) / span, nan=0.0, posinf=1.0, neginf=0.0)
        drawn = np.kron(_colours(share), np.ones((zoom, zoom, 1), np.uint8))
        sheet = Image.new("RGB", (width, rows * zoom + STRIP_PX))
        sheet.paste(Image.fromarray(drawn), (0, 0))
        sheet.paste(strip, (0, rows * zoom))
        told = f"{number}/{count}"
        pen = ImageDraw.Draw(sheet)
        pen.text((width - 6 - pen.textlength(told), rows * zoom + 16), told, fill="white")
        yield sheet


def _fitted(pen: ImageDraw.ImageDraw, text: str, width_px: int) -> str:
    while pen.textlength(text) > width_px and len(text) > 1:
        text = text[:-1]
    return text
