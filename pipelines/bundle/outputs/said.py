"""What a bundle says of one part of a case, before it is told where in the case that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.contract import Detection


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """Only what the card's output gives is there; see `pipelines.bundle.terms.Output`."""

    #: (slices, rows, columns), unsigned integer; 0 is background, n is segment number n.
    labelmap: NDArray[np.unsignedinteger] | None = None
    masks: NDArray[np.bool_] | None = None  #: (segments, slices, rows, columns), bool
    maps: NDArray[np.float32] | None = None  #: (maps, slices, rows, columns), float32
    scores: NDArray[np.float64] | None = None  #: (answers,), 0..1
    #: With slices of the part, and all with number 0: they are counted when the parts are put together.
    detections: tuple[Detection, ...] = ()
    voxels: tuple[int, ...] = ()  #: of each detection, where they are instances
    split: int = 0  #: instances of which only one of several pieces is outlined
    missing: tuple[str, ...] = ()  #: labels of points that were looked for and not found
    cautions: tuple[str, ...] = ()  #: sentences


def refuse_several(result: Any) -> None:
    """Refuse several results where the card says one.

    Raises
    ------
    ValueError
        The bundle saves several, and the card does not say which is meant.
    """
    if isinstance(result, Mapping):
        raise ValueError(f"the bundle saves {', '.join(map(str, result))}; say which in [bundle] result")


def array_of(value: Any) -> NDArray[Any]:
    """Return what a bundle gave as an array of the same shape, whatever made it."""
    refuse_several(value)
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.asarray(value)
