"""What a presentation state must be, beside what every object must be (`node.encode.lint`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

from node.encode.common import RESEARCH_NOTICE
from node.encode.material import Material
from node.encode.render.presentation_state import NOTICE_LAYER, Drawing, drawings
from node.encode.render.softcopy import read_greys
from node.encode.tracking import tracking_uid
from node.model import ResultObject
from pipelines.contract import Segment

Place = tuple[str, int | None]  #: SOP Instance UID, frame


def presentation_state_faults(dataset: Dataset, result: ResultObject, material: Material) -> Iterator[str]:
    """Yield every fault of a presentation state."""
    if dataset.SOPClassUID != GrayscaleSoftcopyPresentationStateStorage or dataset.Modality != "PR":
        yield "the class or modality is not Grayscale Softcopy Presentation State"
    if "RESEARCH" not in str(dataset.ContentLabel):
        yield "Content Label does not say research"
    layers = [str(layer.GraphicLayer) for layer in dataset.GraphicLayerSequence]
    if len(set(layers)) != len(layers) or NOTICE_LAYER not in layers:
        yield "the graphic layers are not different, or none is of the research notice"
    if {str(a.GraphicLayer) for a in dataset.GraphicAnnotationSequence} != set(layers):
        yield "the drawings are not on the layers that are described"
    yield from _area_faults(dataset, material)
    meant = drawings(material)  # traced once: a ragged mask has many boundaries
    yield from _reference_faults(dataset, meant, material)
    yield from _drawing_faults(dataset, meant, material)
    yield from _grey_faults(dataset, meant, material)


def _area_faults(dataset: Dataset, material: Material) -> Iterator[str]:
    _, rows, columns = material.volume.image.array.shape
    for area in dataset.DisplayedAreaSelectionSequence:
        corners = [*area.DisplayedAreaTopLeftHandCorner, *area.DisplayedAreaBottomRightHandCorner]
        if corners != [1, 1, columns, rows]:
            yield "the displayed area is not the whole image"


def _reference_faults(dataset: Dataset, meant: Sequence[Drawing], material: Material) -> Iterator[str]:
    series = dataset.ReferencedSeriesSequence
    if [str(s.SeriesInstanceUID) for s in series] != [material.volume.series_uid]:
        yield "the referenced series is not that of the source"
    named = [place for s in series for r in s.ReferencedImageSequence for place in _places(r)]
    wanted = {_place(material, drawing.index) for drawing in meant}
    if len(set(named)) != len(named) or set(named) != wanted:
        yield "the referenced images are not those with findings"
    parts = [*dataset.GraphicAnnotationSequence, *(dataset.get("SoftcopyVOILUTSequence") or ())]
    inside = {p for part in parts for r in part.get("ReferencedImageSequence") or () for p in _places(r)}
    if not inside <= set(named):
        yield "something is said of an image that is not referenced"


def _drawing_faults(dataset: Dataset, meant: Sequence[Drawing], material: Material) -> Iterator[str]:
    """Every finding on every slice that shows it, where it is, and nothing else."""
    _, rows, columns = material.volume.image.array.shape
    drawn: dict[tuple[str, Place], list[NDArray[np.float64]]] = {}
    notices = 0
    for annotation in dataset.GraphicAnnotationSequence:
        if annotation.GraphicLayer == NOTICE_LAYER:
            texts = [str(text.UnformattedTextValue) for text in annotation.TextObjectSequence]
            notices += texts == [RESEARCH_NOTICE] and "ReferencedImageSequence" not in annotation
            continue
        (place,) = _places(annotation.ReferencedImageSequence[0])
        for graphic in annotation.GraphicObjectSequence:
            points = np.array(graphic.GraphicData, dtype=np.float64).reshape(-1, 2)
            if graphic.GraphicAnnotationUnits != "PIXEL" or len(points) != graphic.NumberOfGraphicPoints:
                yield "a drawing is not in pixels, or miscounts its points"
            if points.min() < 0 or (points > (columns, rows)).any():
                yield "a drawing leaves the image"
            if graphic.get("GraphicFilled") == "N" and not np.array_equal(points[0], points[-1]):
                yield "a boundary is not closed"
            drawn.setdefault((str(graphic.TrackingUID), place), []).append(points)
    if notices != 1:
        yield "it does not say on every image that it is for research only"
    expected = {(tracking_uid(material, d.finding), _place(material, d.index)): d for d in meant}
    if set(drawn) != set(expected):
        yield "the drawings are not those of the findings"
        return
    wrong = 0
    for key, drawing in expected.items():
        finding, lines = drawing.finding, drawn[key]
        if isinstance(finding, Segment) and material.outlines is not None:
            plane = material.outlines.plane(finding.number, drawing.index)
            wrong += not (_encloses(lines, plane) if drawing.is_whole else len(lines) == len(drawing.lines))
        else:
            wrong += len(lines) != 1 or not np.array_equal(lines[0], drawing.lines[0].astype(np.float32))
    if wrong:
        yield f"{wrong} drawings do not show what was found"


def _encloses(lines: list[NDArray[np.float64]], plane: NDArray[np.bool_]) -> bool:
    """Whether boundaries enclose as many pixels as a mask has, within the same box."""
    x, y = (np.concatenate([line[:-1, axis] for line in lines]) for axis in (0, 1))
    x_next, y_next = (np.concatenate([line[1:, axis] for line in lines]) for axis in (0, 1))
    area = (np.dot(x, y_next) - np.dot(x_next, y)) / 2
    rows, columns = np.nonzero(plane)
    box = (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1)
    return bool(np.isclose(area, plane.sum()) and (x.min(), x.max(), y.min(), y.max()) == box)


def _grey_faults(dataset: Dataset, meant: Sequence[Drawing], material: Material) -> Iterator[str]:
    """The state replaces what the images say of their grey values, so it must say it again."""
    indices = sorted({drawing.index for drawing in meant})
    greys = read_greys([material.volume.slices[index] for index in indices])
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    if slope is not None and {(float(slope), float(intercept))} != {(g.slope, g.intercept) for g in greys}:
        yield "the rescaling is not that of the images"
    inverse = {grey.photometric == "MONOCHROME1" for grey in greys}
    if inverse != {dataset.get("PresentationLUTShape") == "INVERSE"}:
        yield "the images would be shown inverted"
    windowed = {
        place
        for way in dataset.get("SoftcopyVOILUTSequence") or ()
        for reference in way.ReferencedImageSequence
        for place in _places(reference)
    }
    wanted = {_place(material, i) for i, grey in zip(indices, greys, strict=True) if grey.window}
    if not wanted <= windowed:
        yield "the window of an image is not said"


def _places(reference: Dataset) -> list[Place]:
    uid, frames = str(reference.ReferencedSOPInstanceUID), reference.get("ReferencedFrameNumber")
    if frames is None:
        return [(uid, None)]
    return [(uid, int(frame)) for frame in ([frames] if isinstance(frames, int) else frames)]


def _place(material: Material, index: int) -> Place:
    plane = material.volume.slices[index]
    return plane.sop_instance_uid, plane.frame
