"""A parametric map as colour pictures with their scale, for readers that know no maps.

Each frame of the map becomes a frame of a Multi-frame True Color Secondary Capture (PS3.3 A.8.4) in
the same order. The values themselves are lost: only the map holds them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import ExplicitVRLittleEndian, MultiFrameTrueColorSecondaryCaptureImageStorage

from node.encode.common import RESEARCH_NOTICE
from node.encode.items import code_of
from node.encode.material import NotApplicable
from node.encode.render.secondary_capture import PAGE_NUMBER_VECTOR
from node.picture.cut import Heat
from node.picture.draw import BAR_PX, ROW_PX, TEXT_PX, WHITE, colour_bar, heat_colours
from node.picture.text import fit, font, printable
from node.picture.window import Window

#: A picture narrower than this has no room for words, so its pixels are repeated.
NARROWEST_PX = 288
STRIP_PX = BAR_PX + ROW_PX  #: below each picture: scale, notice
_NUMBER_PX = 64  #: beside the scale: which frame of how many
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
    drawn = Heat(label=printable(name, "Value"), unit=unit, array=values, window=Window(low, high))
    pixels = b"".join(np.asarray(frame, dtype=np.uint8).tobytes() for frame in _frames(drawn, zoom))

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
        dataset.FrameIncrementPointer = PAGE_NUMBER_VECTOR
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
    """Return what is mapped, and its unit."""
    mapping = _mapping(dataset, dataset.PerFrameFunctionalGroupsSequence[0])
    name = str(mapping.get("LUTExplanation") or mapping.get("LUTLabel") or "Value")
    for entry in mapping.get("QuantityDefinitionSequence") or ():
        if entry.get("ConceptCodeSequence"):
            name = code_of(entry.ConceptCodeSequence[0]).meaning
            break
    units = mapping.get("MeasurementUnitsCodeSequence") or ()
    return name, code_of(units[0]).value if units else "1"


def _frames(heat: Heat, zoom: int) -> Iterator[Picture.Image]:
    """Draw each frame of (frames, rows, columns): the map, and below it the scale and the notice."""
    count, rows, columns = heat.array.shape
    low, high = heat.window
    width = columns * zoom
    letters, small = font(TEXT_PX), font(12)
    strip = Picture.new("RGB", (width, STRIP_PX))
    strip.paste(colour_bar(heat, width - _NUMBER_PX), (0, 0))
    notice = fit(RESEARCH_NOTICE, small, width - 8)
    ImageDraw.Draw(strip).text((4, BAR_PX), notice, font=small, fill=WHITE)
    for number, frame in enumerate(heat.array, start=1):
        share = np.nan_to_num((frame - low) / ((high - low) or 1.0), nan=0.0, posinf=1.0, neginf=0.0)
        colours = (heat_colours(share) + 0.5).astype(np.uint8)
        sheet = Picture.new("RGB", (width, rows * zoom + STRIP_PX))
        sheet.paste(Picture.fromarray(colours.repeat(zoom, axis=0).repeat(zoom, axis=1)), (0, 0))
        sheet.paste(strip, (0, rows * zoom))
        where = (width - 4, rows * zoom + 1)
        ImageDraw.Draw(sheet).text(where, f"{number}/{count}", font=letters, fill=WHITE, anchor="ra")
        yield sheet
