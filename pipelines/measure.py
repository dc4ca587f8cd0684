"""Numbers taken from a mask and an image: pure functions, numpy alone.

A card names what to take of every segment (``measure = ["volume", "mean"]``). The same table lets
the node recompute each number from the outlines that it really encoded: `Measurement.check` is a
key of `MEASURES`, and `recompute` gives the value again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines import codes
from pipelines.contract import Code, Image, Measurement

Mask = NDArray[np.bool_]  #: (slices, rows, columns), bool, on the image's own grid


def volume_ml(mask: Mask, image: Image) -> float:
    """Return the volume of a mask in millilitres: its voxels times the volume of one.

    The voxel's volume is the determinant of the affine, which also holds for oblique stacks. Of an
    image without a place in the patient it is not a number: a radiograph has no depth. Over several
    phases it is none either: there is one for each, see `volumes_ml`.
    """
    return float(volumes_ml(mask, image)[0]) if image.phases == 1 else float("nan")


def volumes_ml(mask: Mask, image: Image) -> NDArray[np.float64]:
    """Return the volume of a mask in each phase, (phases,) millilitres."""
    if not image.is_spatial:
        return np.full(image.phases, np.nan)
    voxels = np.count_nonzero(mask.reshape(image.phases, -1), axis=1)
    volumes: NDArray[np.float64] = voxels.astype(np.float64) * image.voxel_ml
    return volumes


def largest_volume_ml(mask: Mask, image: Image) -> float:
    """Return the largest volume over the phases: of a ventricle, that at the end of diastole."""
    return float(volumes_ml(mask, image).max()) if image.phases > 1 else float("nan")


def smallest_volume_ml(mask: Mask, image: Image) -> float:
    """Return the smallest volume over the phases: of a ventricle, that at the end of systole.

    Not a number where a phase has nothing: there the outline is missing, not the heart.
    """
    smallest = float(volumes_ml(mask, image).min()) if image.phases > 1 else 0.0
    return smallest if smallest > 0 else float("nan")


def stroke_volume_ml(mask: Mask, image: Image) -> float:
    """Return the difference of the largest and the smallest volume over the phases."""
    return largest_volume_ml(mask, image) - smallest_volume_ml(mask, image)


def ejection_fraction(mask: Mask, image: Image) -> float:
    """Return how many percent of the largest volume leave until the smallest one."""
    largest = largest_volume_ml(mask, image)
    return 100.0 * stroke_volume_ml(mask, image) / largest if largest > 0 else float("nan")


def area_mm2(mask: Mask, image: Image) -> float:
    """Return the area of a mask in square millimetres: its pixels times the area of one.

    An area is of one image: of a mask on several slices it is not a number, and neither where the
    distance of pixels is not known. That of a radiograph is as large as it is on the detector.
    """
    if not image.is_calibrated or np.count_nonzero(mask.any(axis=(1, 2))) > 1:
        return float("nan")
    pixel_mm2 = float(np.linalg.norm(np.cross(image.affine[:3, 1], image.affine[:3, 2])))
    return float(np.count_nonzero(mask)) * pixel_mm2


def mean(mask: Mask, image: Image) -> float:
    """Return the mean value inside a mask, in the image's unit; not a number if it is empty."""
    values = image.array[mask]
    return float(values.mean(dtype=np.float64)) if values.size else float("nan")


def stddev(mask: Mask, image: Image) -> float:
    """Return the standard deviation (of the population) inside a mask, in the image's unit."""
    values = image.array[mask]
    return float(values.std(dtype=np.float64)) if values.size else float("nan")


def minimum(mask: Mask, image: Image) -> float:
    """Return the lowest value inside a mask, in the image's unit; not a number if it is empty."""
    values = image.array[mask]
    return float(values.min()) if values.size else float("nan")


def maximum(mask: Mask, image: Image) -> float:
    """Return the highest value inside a mask, in the image's unit; not a number if it is empty."""
    values = image.array[mask]
    return float(values.max()) if values.size else float("nan")


def percentile(mask: Mask, image: Image, percent: float) -> float:
    """Return the value below which ``percent`` of the mask lies (linear between order statistics)."""
    values = image.array[mask]
    return float(np.percentile(values, percent)) if values.size else float("nan")


def percent_below(mask: Mask, image: Image, limit: float) -> float:
    """Return how many percent of a mask lie strictly below ``limit`` (in the image's unit)."""
    values = image.array[mask]
    return 100.0 * float(np.count_nonzero(values < limit)) / values.size if values.size else float("nan")


def percent_below_hu(mask: Mask, image: Image, limit_hu: float) -> float:
    """Return how many percent of a mask lie below ``limit_hu``; not a number in any other unit."""
    is_hu = image.unit[:2] == codes.HOUNSFIELD_UNIT[:2]
    return percent_below(mask, image, limit_hu) if is_hu else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One thing that can be measured of a segment."""

    value: Callable[[Mask, Image], float]
    name: Code | None  #: None: what the image shows (attenuation on CT)
    unit: Code | None  #: UCUM; None: the image's own unit
    derivation: Code | None = None  #: CID 7464
    method: Code | None = None  #: CID 7474 for volumes


#: By the name that cards and `Measurement.check` use.
MEASURES: dict[str, Measure] = {
    "volume": Measure(value=volume_ml, name=codes.VOLUME, unit=codes.MILLILITRE, method=codes.VOXEL_SUM),
    # Over the phases of a cine. The name of a ventricle's volumes says which ventricle.
    "volume-largest": Measure(
        value=largest_volume_ml,
        name=codes.VOLUME,
        unit=codes.MILLILITRE,
        derivation=codes.MAXIMUM,
        method=codes.VOXEL_SUM,
    ),
    "volume-smallest": Measure(
        value=smallest_volume_ml,
        name=codes.VOLUME,
        unit=codes.MILLILITRE,
        derivation=codes.MINIMUM,
        method=codes.VOXEL_SUM,
    ),
    "lv-edv": Measure(value=largest_volume_ml, name=codes.LEFT_ED_VOLUME, unit=codes.MILLILITRE),
    "lv-esv": Measure(value=smallest_volume_ml, name=codes.LEFT_ES_VOLUME, unit=codes.MILLILITRE),
    "rv-edv": Measure(value=largest_volume_ml, name=codes.RIGHT_ED_VOLUME, unit=codes.MILLILITRE),
    "rv-esv": Measure(value=smallest_volume_ml, name=codes.RIGHT_ES_VOLUME, unit=codes.MILLILITRE),
    "stroke-volume": Measure(value=stroke_volume_ml, name=codes.STROKE_VOLUME, unit=codes.MILLILITRE),
    "ejection-fraction": Measure(value=ejection_fraction, name=codes.EJECTION_FRACTION, unit=codes.PERCENT),
    "area": Measure(value=area_mm2, name=codes.AREA, unit=codes.SQUARE_MILLIMETRE),
    "mean": Measure(value=mean, name=None, unit=None, derivation=codes.MEAN),
    "stddev": Measure(value=stddev, name=None, unit=None, derivation=codes.STANDARD_DEVIATION),
    "minimum": Measure(value=minimum, name=None, unit=None, derivation=codes.MINIMUM),
    "maximum": Measure(value=maximum, name=None, unit=None, derivation=codes.MAXIMUM),
    "median": Measure(
        value=lambda mask, image: percentile(mask, image, 50.0),
        name=None,
        unit=None,
        derivation=codes.MEDIAN,
    ),
    # Perc15: follows loss of lung tissue better than a threshold does (Parr, Stoel, Stolk and
    # Stockley, Thorax 2006;61:485-490).
    "percentile-15": Measure(
        value=lambda mask, image: percentile(mask, image, 15.0),
        name=None,
        unit=None,
        derivation=codes.PERCENTILE_15,
    ),
    # LAA-950: the threshold that agreed best with emphysema seen on macroscopy of resected lungs on
    # thin slices (Gevenois and others, Am J Respir Crit Care Med 1995;152:653-657, 1996;154:187-192).
    "laa-950": Measure(
        value=lambda mask, image: percent_below_hu(mask, image, -950.0),
        name=codes.SHARE_BELOW_950,
        unit=codes.PERCENT,
    ),
}


def recompute(check: str, mask: Mask, image: Image) -> float:
    """Return the number that a `Measurement` with this ``check`` must have.

    Raises
    ------
    KeyError
        ``check`` is not in `MEASURES`; the sentence names those that are.
    """
    return _measure(check).value(mask, image)


def measure_segment(
    names: Iterable[str],
    mask: Mask,
    image: Image,
    *,
    segment: int | None = None,
    union: tuple[int, ...] = (),
) -> list[Measurement]:
    """Return one measurement for each name of `MEASURES`, in this order.

    What an image cannot give (a volume of a radiograph, an area without a known distance of pixels)
    is there with a value that is not a number, which a report tells as such.

    Parameters
    ----------
    mask
        (slices, rows, columns), bool: the segment, or the union of the segments in ``union``.
    segment, union
        Whose mask it is: one segment's number, or the numbers of several that are measured together.

    Raises
    ------
    KeyError
        A name is not in `MEASURES`; the sentence names those that are.
    """
    found = []
    for name in names:
        measure = _measure(name)
        found.append(
            Measurement(
                name=measure.name or _name_of_values(image),
                value=measure.value(mask, image),
                unit=measure.unit or image.unit,
                segment=segment,
                method=measure.method,
                derivation=measure.derivation,
                check=name,
                union=union,
            )
        )
    return found


def _name_of_values(image: Image) -> Code:
    """Return what the values are; display values of a CT are not its attenuation."""
    return codes.ATTENUATION if image.modality == "CT" and image.is_spatial else codes.INTENSITY


def _measure(name: str) -> Measure:
    try:
        return MEASURES[name]
    except KeyError:
        raise KeyError(f"there is no measure {name!r}; known are {', '.join(sorted(MEASURES))}") from None
