"""What DICOM files say of the place of things, read with pydicom and numpy alone.

The other side of every test from DICOM to DICOM: nothing here is imported from the node. A frame is
known by its key: SOP Instance UID and, in an object of several frames, its number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from scipy.spatial import cKDTree

Key = tuple[str, int | None]
Outline = dict[Key, NDArray[np.bool_]]  #: per frame of the source, (rows, columns)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One frame of a source."""

    values: NDArray[Any]  #: (rows, columns) after Rescale, or (rows, columns, 3) as stored
    affine: NDArray[np.float64] | None  #: (3, 3): (row, column, 1) -> LPS mm; None without a place

    def to_mm(self, at: Any) -> NDArray[np.float64]:
        """Return LPS millimetres of (row, column) indices."""
        at = np.asarray(at, float)
        return np.column_stack([at, np.ones(len(at))]) @ self.affine.T


def frames_of(paths: Iterable[Path]) -> dict[Key, Frame]:
    """Return every frame of some files."""
    found: dict[Key, Frame] = {}
    for path in paths:
        ds = dcmread(path)
        pixels = ds.pixel_array
        if "NumberOfFrames" not in ds:
            found[str(ds.SOPInstanceUID), None] = Frame(
                values=_rescaled(pixels, ds), affine=_plane(ds, ds, ds)
            )
            continue
        groups = ds.get("PerFrameFunctionalGroupsSequence") or [ds] * int(ds.NumberOfFrames)
        for number, group in enumerate(groups, start=1):
            shared = ds.SharedFunctionalGroupsSequence[0] if "SharedFunctionalGroupsSequence" in ds else ds
            rescale = _item(group, shared, "PixelValueTransformationSequence")
            found[str(ds.SOPInstanceUID), number] = Frame(
                values=_rescaled(pixels[number - 1], rescale), affine=_place(group, shared)
            )
    return found


def _rescaled(pixels: NDArray[Any], ds: Dataset) -> NDArray[Any]:
    if "RescaleSlope" not in ds:
        return pixels
    return pixels * float(ds.RescaleSlope) + float(ds.RescaleIntercept)


def _item(group: Dataset, shared: Dataset, keyword: str) -> Dataset:
    for place in (group, shared):
        if keyword in place:
            return place[keyword].value[0]
    return Dataset()


def _place(group: Dataset, shared: Dataset) -> NDArray[np.float64] | None:
    parts = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
    return _plane(*(_item(group, shared, part) for part in parts))


def _plane(position: Dataset, orientation: Dataset, measures: Dataset) -> NDArray[np.float64] | None:
    """PS3.3 C.7.6.2.1.1, without the third axis."""
    if "ImagePositionPatient" not in position:
        return None
    cosines = np.array(orientation.ImageOrientationPatient, float)
    between_rows, between_columns = (float(v) for v in measures.PixelSpacing)
    corner = np.array(position.ImagePositionPatient, float)
    return np.column_stack([cosines[3:] * between_rows, cosines[:3] * between_columns, corner])


def outlines_of(seg: Dataset) -> dict[str, Outline]:
    """Return the outlines of a Segmentation by label, on the frames that it was derived from."""
    found: dict[str, Outline] = {str(s.SegmentLabel): {} for s in seg.SegmentSequence}
    for label, mask, group, _ in _segment_frames(seg):
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        number = source.get("ReferencedFrameNumber")
        key = str(source.ReferencedSOPInstanceUID), None if number is None else int(number)
        assert key not in found[label], "a frame has one mask for each segment"
        found[label][key] = mask
    return found


def points_of(seg: Dataset, label: str) -> NDArray[np.float64]:
    """Return where the voxels of a segment lie by the Segmentation's own geometry: (n, 3) LPS mm."""
    parts = [
        Frame(values=mask, affine=_place(group, shared)).to_mm(np.argwhere(mask))
        for named, mask, group, shared in _segment_frames(seg)
        if named == label and mask.any()
    ]
    return np.concatenate(parts)


def _segment_frames(seg: Dataset) -> Iterator[tuple[str, NDArray[np.bool_], Dataset, Dataset]]:
    """Give label, mask and functional groups, binary segments and label maps alike."""
    labels = {int(s.SegmentNumber): str(s.SegmentLabel) for s in seg.SegmentSequence}
    shared = seg.SharedFunctionalGroupsSequence[0]
    pixels = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    for frame, group in zip(pixels, seg.PerFrameFunctionalGroupsSequence, strict=True):
        named = _item(group, shared, "SegmentIdentificationSequence")
        if "ReferencedSegmentNumber" in named:
            yield labels[int(named.ReferencedSegmentNumber)], frame > 0, group, shared
        else:
            for number, label in labels.items():
                if number:  # 0 is the background of a label map
                    yield label, frame == number, group, shared


def map_of(ds: Dataset) -> dict[Key, NDArray[np.float32]]:
    """Return the values of a Parametric Map on the frames that it was derived from."""
    values = np.frombuffer(ds.FloatPixelData, "<f4").reshape(-1, ds.Rows, ds.Columns)
    found = {}
    for frame, group in zip(values, ds.PerFrameFunctionalGroupsSequence, strict=True):
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        found[str(source.ReferencedSOPInstanceUID), source.get("ReferencedFrameNumber")] = frame
    return found


def contents(item: Dataset) -> Iterator[Dataset]:
    """Give the content items of a report, depth first."""
    for child in item.get("ContentSequence", ()):
        yield child
        yield from contents(child)


def answers_of(report: Dataset) -> dict[str, str]:
    """Return what was asked and answered with a code: meaning -> meaning."""
    return {
        str(item.ConceptNameCodeSequence[0].CodeMeaning): str(item.ConceptCodeSequence[0].CodeMeaning)
        for item in contents(report)
        if item.ValueType == "CODE"
    }


def drawn_in(report: Dataset) -> Iterator[tuple[Key, NDArray[np.float64]]]:
    """Give what a report draws on images: the frame, and (n, 2) row, column where 0, 0 is a voxel centre."""
    for item in contents(report):
        if item.ValueType == "SCOORD":
            columns_rows = np.array(item.GraphicData, float).reshape(-1, 2) - 0.5
            for image in item.ContentSequence:
                source = image.ReferencedSOPSequence[0]
                numbers = source.get("ReferencedFrameNumber")
                key = str(source.ReferencedSOPInstanceUID), None if numbers is None else int(numbers)
                yield key, columns_rows[:, ::-1]


def drawn_in_space(report: Dataset) -> Iterator[NDArray[np.float64]]:
    """Give what a report draws in the patient: (n, 3) LPS mm."""
    for item in contents(report):
        if item.ValueType == "SCOORD3D":
            yield np.array(item.GraphicData, float).reshape(-1, 3)


def same_outline(found: Outline, truth: Outline) -> bool:
    """Say whether two outlines are the same on every frame; empty frames need not be there."""
    nothing = np.zeros_like(next(iter(truth.values())))
    return found.keys() <= truth.keys() and all(
        np.array_equal(found.get(key, nothing), mask) for key, mask in truth.items()
    )


def same_points(found: NDArray[np.float64], truth: NDArray[np.float64], within_mm: float = 0.01) -> bool:
    """Say whether two sets of points are the same, each once."""
    if len(found) != len(truth):
        return False
    distance, index = cKDTree(truth).query(found)
    return bool(distance.max() < within_mm and len(np.unique(index)) == len(truth))
