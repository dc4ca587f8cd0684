"""Findings as colour pictures, for readers that know neither Segmentation nor Structured Report.

A Multi-frame True Color Secondary Capture (PS3.3 A.8.5) with outlines, detections, legend and notice
burned in. The frames of a volume carry its planes (the functional groups that A.8.5.4 allows), so a viewer
may scroll them together with the source. Each map has an object of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import MultiFrameTrueColorSecondaryCaptureImageStorage

from node.encode.common import RESEARCH_NOTICE, new_result
from node.encode.items import coded, image_reference, item
from node.encode.material import Material, NotApplicable
from node.encode.places import image_name, sentence_case
from node.encode.planes import (
    SEGMENTATION,
    SOURCE_FOR_PROCESSING,
    add_frame_of_reference,
    add_lossy,
    add_references,
    check_planes,
)
from node.encode.render.frames import FRAMES_MAX, Layout, chosen_slices, compose, layout_of, stacked
from node.encode.render.origins import add_siblings
from node.encode.render.source import SourceFacts, read_source
from node.encode.repair import cut, decimal_string
from node.picture.cut import Heat, heat_of, view
from node.picture.preview import outlined
from node.picture.window import Window, value_range, window_of
from pipelines.contract import Code, Map

RESAMPLING = Code("113085", "DCM", "Spatial resampling")
PAGE_NUMBER_VECTOR = 0x00182001
#: Maps beyond these are left to the parametric maps.
MAPS_MAX = 4


def make_secondary_capture(material: Material) -> Iterator[Dataset]:
    """Yield the overlay of outlines and detections, then one for each map that has no outline.

    Raises
    ------
    NotApplicable
        All were made, but there are more maps than are drawn.
    """
    maps, left_out = drawn_maps(material)
    if material.volume.image.is_waveform:
        raise NotApplicable("No overlay was made: a recording over time is no image to draw on.")
    source = read_source(material.volume, material.header.body_part)
    window = window_of(material.volume.image, source.window, outlined(material.findings))
    drawn: list[Map | None] = [*maps]
    if len(maps) < len(material.findings.maps) or not maps or material.findings.detections:
        drawn.insert(0, None)
    for number, one in enumerate(drawn, start=1):
        yield _overlay(material, source, window, one, number)
    if left_out:
        raise NotApplicable(f"The overlays show {len(maps)} maps. {left_out}")


def drawn_maps(material: Material) -> tuple[list[Map], str]:
    """Return the maps that are drawn, and a sentence about those that are too many, "" if none is.

    Not those whose structure is outlined anyway.
    """
    outlines = {segment.number for segment in material.findings.segments}
    wanted = [one for one in material.findings.maps if one.segment not in outlines]
    missed = len(wanted) - MAPS_MAX
    told = "1 more map is not drawn." if missed == 1 else f"{missed} more maps are not drawn."
    return wanted[:MAPS_MAX], told if missed > 0 else ""


def _overlay(
    material: Material, source: SourceFacts, window: Window, one: Map | None, number: int
) -> Dataset:
    volume, image = material.volume, material.volume.image
    check_planes(volume)
    heat = heat_of(one, value_range(one.array, one.unit.value)) if one else None
    shown, which = chosen_slices(material, FRAMES_MAX)
    bytes_max = material.job.presentation.max_object_mb * 1e6
    first = view(image, material.findings, window, shown[0], heat=heat)
    layout = layout_of(first, len(shown), bytes_max)
    if (most := int(bytes_max // layout.frame_bytes)) < len(shown):
        shown, which = chosen_slices(material, max(1, most))
    dataset = new_result(
        material,
        "secondary-capture",
        sop_class=MultiFrameTrueColorSecondaryCaptureImageStorage,
        modality="OT",
        number=number,
    )
    add_references(dataset, material.volumes, material.role)
    add_siblings(dataset, material)
    dataset.ConversionType = "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.PatientOrientation = dataset.Laterality = None
    dataset.BurnedInAnnotation = "YES" if source.burned_in else "NO"
    if source.recognizable is not None:
        dataset.RecognizableVisualFeatures = "YES" if source.recognizable else "NO"
    add_lossy(dataset, material.header)
    dataset.DerivationDescription = cut(_told(material, layout, which, heat), 1024)
    resampled = layout.image_px[::-1] != image.array.shape[1:]
    if codes := [SEGMENTATION] * bool(material.findings.segments) + [RESAMPLING] * resampled:
        dataset.DerivationCodeSequence = [coded(code) for code in codes]  # CID 7203
    purpose = coded(SOURCE_FOR_PROCESSING)
    dataset.SourceImageSequence = [
        image_reference(volume.slices[index], PurposeOfReferenceCodeSequence=[purpose]) for index in shown
    ]
    if len(shown) > 1:
        dataset.FrameIncrementPointer = PAGE_NUMBER_VECTOR
        dataset.PageNumberVector = list(range(1, len(shown) + 1))
    if image.is_spatial and volume.frame_of_reference_uid:
        add_frame_of_reference(dataset, volume, material.header)
        _add_planes(dataset, material, layout, shown)
    _add_pixels(dataset, material, window, heat, layout, shown)
    return dataset


def _told(material: Material, layout: Layout, which: str, heat: Heat | None) -> str:
    """Say how the pictures were made."""
    image = material.volume.image
    what = f"Map '{heat.label}' as colours" if heat else "Outlines and detections"
    _, rows, columns = image.array.shape
    width, height = layout.image_px
    sentences = [f"{what} drawn on {which}, with legend and notice burned in."]
    if (width, height) != (columns, rows):
        oblong = "" if np.isclose(*image.spacing_mm[1:], rtol=0.005) else " so that pixels are square"
        sentences.append(f"Resampled from {columns} x {rows} to {width} x {height} pixels{oblong}.")
    return " ".join([*sentences, RESEARCH_NOTICE])


def _add_planes(dataset: Dataset, material: Material, layout: Layout, shown: Sequence[int]) -> None:
    """Say where the frames lie; the corner of the picture is that of the source plane."""
    image = material.volume.image
    _, rows, columns = image.array.shape
    width, height = layout.image_px
    slice_mm, row_mm, column_mm = image.spacing_mm
    down, right = image.affine[:3, 1], image.affine[:3, 2]
    cosines = (*(right / column_mm), *(down / row_mm))
    measures = item(
        PixelSpacing=[decimal_string(row_mm * rows / height), decimal_string(column_mm * columns / width)],
        SliceThickness=decimal_string(slice_mm),
    )
    dataset.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[measures],
            PlaneOrientationSequence=[
                item(ImageOrientationPatient=[decimal_string(float(c)) for c in cosines])
            ],
        )
    ]
    # the centre of the first pixel, in pixels of the source
    corner = (rows / height - 1) / 2 * down + (columns / width - 1) / 2 * right
    dataset.PerFrameFunctionalGroupsSequence = [
        item(PlanePositionSequence=[item(ImagePositionPatient=_position(material, index, corner))])
        for index in shown
    ]


def _position(material: Material, index: int, corner: Any) -> list[str]:
    said = np.array(material.volume.slices[index].position_mm, dtype=np.float64)
    return [decimal_string(float(v)) for v in said + corner]


def _add_pixels(
    dataset: Dataset,
    material: Material,
    window: Window,
    heat: Heat | None,
    layout: Layout,
    shown: Sequence[int],
) -> None:
    dataset.NumberOfFrames = len(shown)
    dataset.Rows, dataset.Columns = layout.height, layout.width
    dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
    dataset.PhotometricInterpretation = "RGB"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelRepresentation = 0
    frames = (
        compose(
            view(material.volume.image, material.findings, window, index, heat=heat),
            layout,
            sentence_case(image_name(material.volume, index)),
            material,
        )
        for index in shown
    )
    dataset.add_new("PixelData", "OB", stacked(frames))
