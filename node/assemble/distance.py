"""How far apart the pixels of an image are that has no place in the patient.

A wrong distance is worse than none: an area in mm2 is believed. So whatever contradicts itself
leaves an image without distances, and the report says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydicom.dataset import Dataset

from node.assemble.reason import plain
from node.header.value import integer_of, items_of, number_of, numbers_of, text_of

#: No pixel is larger or smaller than this.
_LARGEST_MM: Final = 1e3
_SMALLEST_MM: Final = 1e-6
#: Distances that agree within this part of themselves are the same.
_TOLERANCE: Final = 1e-3
#: Physical Units of an ultrasound region (PS3.3 C.8.5.5.1.15).
_CENTIMETRE: Final = 3

AT_DETECTOR: Final = "The distances of pixels are those at the detector; the body is nearer to the source"
IN_REGION: Final = "The distances of pixels hold within the ultrasound region only"


@dataclass(frozen=True, slots=True)
class Distance:
    """Between pixels of one image."""

    mm: tuple[float, float] | None  #: between rows, between columns; None: not known
    note: str = ""

    def agrees(self, other: Distance) -> bool:
        """Whether both are the same, known or not."""
        if self.mm is None or other.mm is None:
            return self.mm is other.mm
        pairs = zip(self.mm, other.mm, strict=True)
        return all(abs(a - b) <= _TOLERANCE * min(a, b) for a, b in pairs)


def distance_of(ds: Dataset, rows: int, columns: int, groups: Sequence[Dataset] = ()) -> Distance:
    """Return the distance of pixels: calibrated, else at the detector, else of ultrasound regions.

    Parameters
    ----------
    groups
        Functional groups of a frame, its own before the shared ones.
    """
    measures = [item for group in groups for item in items_of(group, "PixelMeasuresSequence")[:1]]
    at_detector = _pair(ds, "ImagerPixelSpacing")
    for holder in (*measures, ds):
        if (spacing := _pair(holder, "PixelSpacing")) is not None:
            # Without a calibration, the same value twice is the detector's (PS3.3 10.7.1.3).
            is_detector = at_detector is not None and Distance(spacing).agrees(Distance(at_detector))
            is_corrected = bool(text_of(ds, "PixelSpacingCalibrationType"))
            return Distance(spacing, AT_DETECTOR if is_detector and not is_corrected else "")
    if at_detector is not None:
        return Distance(at_detector, _at_detector(ds))
    return _of_regions(items_of(ds, "SequenceOfUltrasoundRegions"), rows, columns)


def common(distances: Sequence[Distance]) -> Distance:
    """Return the distance that all images share, or none."""
    first = distances[0]
    if not all(first.agrees(other) for other in distances[1:]):
        return Distance(None, "The distances of pixels differ between the images, so none is taken")
    return first


def _pair(ds: Dataset, keyword: str) -> tuple[float, float] | None:
    numbers = numbers_of(ds, keyword, 2)
    if numbers is None or not all(_SMALLEST_MM <= n <= _LARGEST_MM for n in numbers):
        return None
    return numbers[0], numbers[1]


def _at_detector(ds: Dataset) -> str:
    magnified = number_of(ds, "EstimatedRadiographicMagnificationFactor")
    if magnified is None or not 1.0 < magnified < 10.0:
        return AT_DETECTOR
    return f"{AT_DETECTOR} (estimated magnification {plain(magnified)})"


def _of_regions(regions: Sequence[Dataset], rows: int, columns: int) -> Distance:
    """Return the one distance of all regions in centimetres (PS3.3 C.8.5.5)."""
    found: list[Distance] = []
    for region in regions:
        units = [integer_of(region, f"PhysicalUnits{axis}Direction") for axis in "XY"]
        if units != [_CENTIMETRE, _CENTIMETRE]:
            continue  # seconds and centimetres per second: an ECG, a spectrum
        ends = integer_of(region, "RegionLocationMaxX1"), integer_of(region, "RegionLocationMaxY1")
        if ends[0] is None or ends[1] is None or ends[0] > columns or ends[1] > rows:
            # The image was made smaller, or cut, and its regions were left as they were.
            return Distance(None, "The ultrasound regions do not lie within the image; no distance is taken")
        deltas = [number_of(region, f"PhysicalDelta{axis}") for axis in "YX"]
        millimetres = [10.0 * abs(delta or 0.0) for delta in deltas]
        if not all(_SMALLEST_MM <= mm <= _LARGEST_MM for mm in millimetres):
            return Distance(None)
        found.append(Distance((millimetres[0], millimetres[1]), IN_REGION))
    return common(found) if found else Distance(None)
