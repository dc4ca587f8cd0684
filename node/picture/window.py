"""From values to grey: which range of values a reader looks at."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.contract import Image

HOUNSFIELD = "[hnsf'U]"
_CHEST = ("CHEST", "THORAX", "LUNG")
_AERATED_HU = -400.0
_SAMPLES = 200_000  #: values that a guess is made from


class Window(NamedTuple):
    """The values shown black and white."""

    low: float
    high: float

    @classmethod
    def of(cls, centre: float, width: float) -> Window:
        return cls(centre - width / 2, centre + width / 2)


LUNG = Window.of(-500.0, 1500.0)
SOFT_TISSUE = Window.of(40.0, 400.0)


def window_of(image: Image, said: Window | None = None, outlined: NDArray[np.bool_] | None = None) -> Window:
    """Return the window of an image.

    What its header says goes first. Without that a CT of the chest, or one in which something
    aerated was outlined, is shown in a lung window, any other CT in one for soft tissue, display
    values as they are, PET from nothing up, and anything else between its extremes without outliers.

    Parameters
    ----------
    said
        Window of the header, in the unit of the image.
    outlined
        What was outlined of the image, (slices, rows, columns), bool.
    """
    if said is not None:
        return said
    if image.unit.value == HOUNSFIELD:
        place = str(image.facts.get("BodyPartExamined", "")).upper()
        if place.startswith(_CHEST):
            return LUNG
        return LUNG if not place and _is_aerated(image, outlined) else SOFT_TISSUE
    sample = _thinned(image.array)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return Window(0.0, 1.0)
    low, high = (float(v) for v in np.percentile(sample, (1.0, 99.5)))
    if not image.is_spatial and sample.min() >= 0.0 and sample.max() <= 1.0:
        return Window(0.0, 1.0)
    if image.modality == "PT":
        low = 0.0
    return Window(low, high if high > low else low + 1.0)


def _is_aerated(image: Image, outlined: NDArray[np.bool_] | None) -> bool:
    if outlined is None:
        return False
    inside = image.array[outlined]
    return bool(inside.size) and float(np.median(_thinned(inside))) < _AERATED_HU


def _thinned(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return evenly spread values, few enough to be quick."""
    flat = values.reshape(-1)
    return flat[:: max(1, flat.size // _SAMPLES)]


def greys(plane: NDArray[np.float32], window: Window) -> NDArray[np.uint8]:
    """Return a plane as a grey picture: (rows, columns, 3) uint8; what is no number is black."""
    share = (np.nan_to_num(plane, nan=window.low) - window.low) / max(window.high - window.low, 1e-6)
    grey = (np.clip(share, 0, 1) * 255 + 0.5).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def value_range(values: NDArray[np.float32], unit: str) -> Window:
    """Return the range that a map is coloured over: 0 to 1 for a probability, else its own."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return Window(0.0, 1.0)
    least, most = float(finite.min()), float(finite.max())
    if unit == "1" and least >= 0.0 and most <= 1.0:
        return Window(0.0, 1.0)
    sample = _thinned(finite[finite != 0.0] if least >= 0.0 and most > 0.0 else finite)
    low, high = (float(v) for v in np.percentile(sample, (0.5, 99.5)))
    low = 0.0 if least >= 0.0 else low
    return Window(low, high if high > low else low + 1.0)
