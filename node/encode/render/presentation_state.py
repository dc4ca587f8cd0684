"""Findings as a Grayscale Softcopy Presentation State: drawn over the images that show them (PS3.3 A.33).

Outlines run along pixel edges, one polyline for each boundary. Each finding has a graphic layer of
its own, in its colour, so that a reader can hide it; a further layer says that all of this is
research.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage
from scipy import ndimage

from node.encode.common import RESEARCH_NOTICE, new_result
from node.encode.items import image_reference, item
from node.encode.material import Material, NotApplicable
from node.encode.numbers import grouped
from node.encode.render.edges import corners, loops, signed_area
from node.encode.render.references import plane_references
from node.encode.render.softcopy import Grey, read_greys
from node.encode.repair import cut, decimal_string
from node.encode.seg.segments import cielab
from node.encode.simplify import simplify
from node.encode.sr.regions import detection_regions
from node.encode.tracking import tracking_id, tracking_uid
from pipelines.contract import Detection, Segment

#: The layer of the research notice; those of the findings are "AI RESEARCH 1", "AI RESEARCH 2" ...
NOTICE_LAYER = "AI RESEARCH ONLY"
#: A ragged segment is drawn by this many boundaries of a slice, the largest.
LOOPS_MAX = 100
#: More lines, or corners of boundaries, than that no reader wants to see, and no job to wait for.
LINES_MAX = 20_000
CORNERS_MAX = 1_000_000
#: Graphic Data of more points would not fit the 64 KiB of its VR in Explicit VR (PS3.5 7.1.2).
POINTS_MAX = 4000
_RAGGED = (
    "No presentation state was made: the outlines are too ragged to be drawn. Use the Segmentation, which "
    "holds every voxel."
)
_POINT_BYTES = 8
_OBJECT_BYTES = 300  #: of a graphic object beside its points, with its share of the sequences above

Finding = Segment | Detection


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """What one slice shows of one finding."""

    finding: Finding
    layer: str
    index: int  #: of the slice
    #: Each (points, 2) float64: (column, row) as in `node.encode.render.edges`; a closed line repeats
    #: its first point, one point alone is a point.
    lines: tuple[NDArray[np.float64], ...]
    is_whole: bool = True  #: nothing was left out or simplified


def make_presentation_state(material: Material) -> Iterator[Dataset]:
    """Yield one presentation state for all slices with findings.

    Raises
    ------
    NotApplicable
        The images are in colour, their grey values are of a sort that one presentation state cannot
        show, or there is nothing, or too much, to draw.
    """
    volume = material.volume
    if volume.image.colour is not None:
        raise NotApplicable("No presentation state was made: it is for grey images, these are in colour.")
    shown = drawings(material)
    if not shown:
        raise NotApplicable("No presentation state was made: there is nothing to draw.")
    size = sum(_OBJECT_BYTES + _POINT_BYTES * len(line) for drawing in shown for line in drawing.lines)
    if size > material.job.presentation.max_object_mb * 1e6:
        raise NotApplicable("No presentation state was made: the drawings need more than max_object_mb.")
    indices = sorted({drawing.index for drawing in shown})
    greys = dict(zip(indices, read_greys([volume.slices[i] for i in indices]), strict=True))
    if len({grey.photometric for grey in greys.values()} | {"MONOCHROME1", "MONOCHROME2"}) > 2:
        raise NotApplicable("No presentation state was made: the images are not stored as grey values.")
    if len({grey.photometric for grey in greys.values()}) > 1:
        raise NotApplicable("No presentation state was made: some images are stored inverted, some not.")
    if any(grey.has_table and grey.table is None for grey in greys.values()):
        raise NotApplicable("No presentation state was made: the Modality LUT of the images is damaged.")
    yield _state(material, shown, greys)


def drawings(material: Material) -> list[Drawing]:
    """Return what is drawn, finding by finding, slice by slice.

    Raises
    ------
    NotApplicable
        There are more lines, or boundaries with more corners, than a reader can be shown.
    """
    if sum(_corners(_largest(plane)) for *_, plane in _planes(material)) > CORNERS_MAX:
        raise NotApplicable(_RAGGED)  # to count them costs little beside tracing them
    shown: list[Drawing] = []
    lines = 0
    for drawing in _of_segments(material):
        shown.append(drawing)
        lines += len(drawing.lines)
        if lines > LINES_MAX:
            raise NotApplicable(_RAGGED)
    return [*shown, *_of_detections(material)]


def _planes(material: Material) -> Iterator[tuple[int, Segment, int, NDArray[np.bool_]]]:
    """Yield (number of its layer, segment, slice, mask), as far as the segments have voxels."""
    outlines = material.outlines
    if outlines is None:
        return
    for number, segment in enumerate(material.findings.segments, start=1):
        for index in sorted(outlines.voxels(segment.number)):
            yield number, segment, index, outlines.plane(segment.number, index)


def _corners(plane: NDArray[np.bool_]) -> int:
    return int(corners(plane.astype(np.int8)).sum())


def _of_segments(material: Material) -> Iterator[Drawing]:
    for number, segment, index, mask in _planes(material):
        plane = _largest(mask)
        boundaries = loops(plane)
        boundaries.sort(key=lambda boundary: -abs(signed_area(boundary)))
        lines = tuple(_closed(boundary) for boundary in boundaries[:LOOPS_MAX])
        yield Drawing(
            finding=segment,
            layer=_layer(number),
            index=index,
            lines=lines,
            is_whole=plane is mask and [len(line) - 1 for line in lines] == [*map(len, boundaries)],
        )


def _of_detections(material: Material) -> Iterator[Drawing]:
    findings = material.findings
    for number, detection in enumerate(findings.detections, start=len(findings.segments) + 1):
        for region in detection_regions(detection, material.volume):
            yield Drawing(finding=detection, layer=_layer(number), index=region.index, lines=(region.points,))


def _largest(plane: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask, or, where it is ragged, what is large in it: (rows, columns), bool.

    Noise has ten thousand boundaries a slice. Those that would not be drawn are not traced either.
    """
    if _corners(plane) <= 4 * LOOPS_MAX:  # no boundary has fewer than 4
        return plane
    diagonally = np.ones((3, 3), bool)
    labels, count = ndimage.label(plane)
    holes, apart = ndimage.label(np.pad(~plane, 1, constant_values=True), diagonally)
    if count + apart - 1 <= LOOPS_MAX:
        return plane
    kept = _among_largest(labels)
    holes, _ = ndimage.label(np.pad(~kept, 1, constant_values=True), diagonally)
    outside = holes == holes[0, 0]
    whole: NDArray[np.bool_] = ~(_among_largest(holes) | outside)[1:-1, 1:-1]
    return whole


def _among_largest(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return where the largest components are."""
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    chosen = np.zeros(len(sizes), bool)
    chosen[np.argsort(-sizes, kind="stable")[:LOOPS_MAX]] = True
    chosen[0] = False
    wanted: NDArray[np.bool_] = chosen[labels]
    return wanted


def _layer(number: int) -> str:
    return f"AI RESEARCH {number}"


def _closed(boundary: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a boundary closed by its first point, and simplified if it has too many."""
    tolerance = 0.5
    line = np.concatenate([boundary, boundary[:1]])
    while len(line) > POINTS_MAX:
        tolerance *= 2
        line = simplify(line, tolerance)
    return line


def _state(material: Material, shown: Sequence[Drawing], greys: dict[int, Grey]) -> Dataset:
    volume = material.volume
    dataset = new_result(
        material,
        "presentation-state",
        sop_class=GrayscaleSoftcopyPresentationStateStorage,
        modality="PR",
    )
    dataset.Laterality = None  # of one side or both: the drawings say it
    dataset.ContentLabel = "AI_RESEARCH_ONLY"
    dataset.ContentDescription = cut(f"Research only: {material.job.card.title}", 64)
    dataset.ContentCreatorName = None
    dataset.PresentationCreationDate = dataset.ContentDate
    dataset.PresentationCreationTime = dataset.ContentTime
    if material.header.requests:
        dataset.RequestAttributesSequence = list(material.header.requests)
    series = item(
        SeriesInstanceUID=volume.series_uid, ReferencedImageSequence=plane_references(volume, greys)
    )
    dataset.ReferencedSeriesSequence = [series]
    dataset.DisplayedAreaSelectionSequence = [_displayed_area(material)]
    dataset.GraphicAnnotationSequence = [_notice(), *(_annotation(drawing, material) for drawing in shown)]
    dataset.GraphicLayerSequence = _layers(shown)
    _add_grey(dataset, material, greys)
    return dataset


def _displayed_area(material: Material) -> Dataset:
    """Return the whole image, whatever its size on the screen (PS3.3 C.10.4); pixels count from 1."""
    image = material.volume.image
    _, rows, columns = image.array.shape
    area = item(
        DisplayedAreaTopLeftHandCorner=[1, 1],
        DisplayedAreaBottomRightHandCorner=[columns, rows],
        PresentationSizeMode="SCALE TO FIT",
    )
    if image.is_calibrated:
        area.PresentationPixelSpacing = [decimal_string(v) for v in image.spacing_mm[1:]]
    else:
        area.PresentationPixelAspectRatio = [1, 1]
    return area


def _notice() -> Dataset:
    """Return the research notice in the corner of every image: lengths are shares of the display."""
    text = item(
        BoundingBoxAnnotationUnits="DISPLAY",
        UnformattedTextValue=RESEARCH_NOTICE,
        BoundingBoxTopLeftHandCorner=[0.01, 0.01],
        BoundingBoxBottomRightHandCorner=[0.6, 0.06],
        BoundingBoxTextHorizontalJustification="LEFT",
    )
    return item(GraphicLayer=NOTICE_LAYER, TextObjectSequence=[text])


def _annotation(drawing: Drawing, material: Material) -> Dataset:
    finding = drawing.finding
    tracking = {"TrackingID": tracking_id(finding), "TrackingUID": tracking_uid(material, finding)}
    first = drawing.lines[0]
    top = first[np.lexsort((first[:, 0], first[:, 1]))[0]]
    text = item(
        AnchorPointAnnotationUnits="PIXEL",
        UnformattedTextValue=_label(finding),
        AnchorPoint=[float(v) for v in top],
        AnchorPointVisibility="N",
        **tracking,
    )
    return item(
        ReferencedImageSequence=[image_reference(material.volume.slices[drawing.index])],
        GraphicLayer=drawing.layer,
        TextObjectSequence=[text],
        GraphicObjectSequence=[_graphic(line, tracking) for line in drawing.lines],
    )


def _graphic(line: NDArray[np.float64], tracking: dict[str, str]) -> Dataset:
    closed = len(line) > 2 and np.array_equal(line[0], line[-1])
    return item(
        GraphicAnnotationUnits="PIXEL",
        GraphicDimensions=2,
        NumberOfGraphicPoints=len(line),
        GraphicData=line.astype(np.float32).ravel().tolist(),
        GraphicType="POINT" if len(line) == 1 else "POLYLINE",
        GraphicFilled="N" if closed else None,
        **tracking,
    )


def _label(finding: Finding) -> str:
    if isinstance(finding, Detection) and finding.confidence is not None:
        return cut(f"{finding.label} ({grouped(100 * finding.confidence)} %)", 80)
    return cut(finding.label, 64)


def _layers(shown: Sequence[Drawing]) -> list[Dataset]:
    layers = [
        item(
            GraphicLayer=NOTICE_LAYER,
            GraphicLayerOrder=1,
            GraphicLayerRecommendedDisplayGrayscaleValue=65535,
            GraphicLayerDescription=RESEARCH_NOTICE,
        )
    ]
    for layer, finding in {drawing.layer: drawing.finding for drawing in shown}.items():
        layers.append(
            item(
                GraphicLayer=layer,
                GraphicLayerOrder=len(layers) + 1,
                GraphicLayerRecommendedDisplayGrayscaleValue=65535,
                GraphicLayerDescription=cut(f"{finding.label}, research only", 64),
                GraphicLayerRecommendedDisplayCIELabValue=cielab(finding.colour_rgb),
            )
        )
    return layers


def _add_grey(dataset: Dataset, material: Material, greys: dict[int, Grey]) -> None:
    """Say how stored values become grey as the source says it, for it is the state that counts now.

    One Modality LUT stands for all images. Where each has its own, as in PET, none is written and
    the windows are said in stored values instead, which shows the same.
    """
    one = next(iter(greys.values()))
    alike = len({grey.modality for grey in greys.values()}) == 1
    if alike and one.table is not None:
        dataset.ModalityLUTSequence = [one.table.item()]
    elif alike:
        dataset.RescaleIntercept = decimal_string(one.intercept)
        dataset.RescaleSlope = decimal_string(one.slope)
        dataset.RescaleType = one.unit
    ways: dict[tuple[Any, ...], list[int]] = {}
    for index, grey in greys.items():
        window = grey.window if alike else grey.stored_window()
        table = grey.voi if alike and window is None else None
        if window or table:
            ways.setdefault((window, grey.function, table), []).append(index)
    if ways:
        dataset.SoftcopyVOILUTSequence = [
            item(
                ReferencedImageSequence=plane_references(material.volume, indices),
                WindowCenter=decimal_string(window[0]) if window else None,
                WindowWidth=decimal_string(window[1]) if window else None,
                VOILUTFunction=function if window and function != "LINEAR" else None,
                VOILUTSequence=[table.item()] if table else None,
            )
            for (window, function, table), indices in ways.items()
        ]
    dataset.PresentationLUTShape = "INVERSE" if one.photometric == "MONOCHROME1" else "IDENTITY"
