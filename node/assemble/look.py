"""How stored values of a grey image become display values: 0 is black, 1 is white.

The order of PS3.4 N.2: modality transformation, values of interest, then the sense of black and
white. Padding is no part of the image: it sets no limit and stays black in either sense.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from node.assemble.frames import padding_of
from node.assemble.pixels import PixelFormat
from node.assemble.reason import Reason, refused
from node.assemble.table import Table, table_of
from node.header.value import items_of, number_of, text_of

#: No centre, no width, and no inverse of a width is larger; 32 bits of stored values stay below.
_FARTHEST: Final = 1e10


@dataclass(frozen=True, slots=True)
class Window:
    """Window of a grey image (PS3.3 C.11.2.1.2)."""

    centre: float
    width: float
    function: str  #: "LINEAR", "LINEAR_EXACT" or "SIGMOID"

    def apply(self, values: NDArray[np.float32]) -> None:
        """Turn values of interest into 0..1 in place; not a number stays so."""
        if self.function == "SIGMOID":
            values -= np.float32(self.centre)
            values *= np.float32(-4.0 / self.width)
            np.clip(values, -80.0, 80.0, out=values)  # beyond this the exponential overflows
            np.exp(values, out=values)
            values += np.float32(1.0)
            np.reciprocal(values, out=values)
            return
        exact = self.function == "LINEAR_EXACT"
        width = self.width if exact else self.width - 1.0
        low = (self.centre if exact else self.centre - 0.5) - width / 2
        stretch(values, low, low + width)


@dataclass(frozen=True, slots=True)
class Look:
    """What a header says about the display of a grey frame."""

    padding: tuple[int, int] | None  #: lowest and highest stored value that is no image
    modality: tuple[float, float] | Table  #: slope and intercept, or a table
    voi: Window | Table | None  #: None: from the darkest to the brightest pixel of the instance
    inverted: bool  #: the lowest value is white

    def measured(self, stored: NDArray[Any], out: NDArray[np.float32]) -> None:
        """Write values after the modality transformation; padding becomes not a number."""
        if isinstance(self.modality, Table):
            out[...] = self.modality.of(stored)
        else:
            slope, intercept = self.modality
            with np.errstate(over="ignore", invalid="ignore"):  # judged below
                np.multiply(stored, np.float32(slope), out=out, casting="unsafe", dtype=np.float32)
                out += np.float32(intercept)
        if not np.isfinite(out).all():
            raise refused(Reason.NOT_DECODABLE, "Rescaling gives values that are not finite numbers.")
        if self.padding is not None:
            low, high = self.padding
            out[(stored >= low) & (stored <= high)] = np.nan

    def display(self, values: NDArray[np.float32], limits: tuple[float, float]) -> None:
        """Turn measured values into display values in place.

        Parameters
        ----------
        limits
            The darkest and the brightest measured value, for an image without values of interest.
        """
        if isinstance(self.voi, Window):
            self.voi.apply(values)
        elif isinstance(self.voi, Table):
            is_padding = np.isnan(values)
            values[...] = self.voi.of(values)
            values /= np.float32(self.voi.highest)
            values[is_padding] = np.nan
        else:
            stretch(values, *limits)
        if self.inverted:
            np.subtract(np.float32(1.0), values, out=values)
        np.nan_to_num(values, copy=False, nan=0.0)


def look_of(ds: Dataset, format_: PixelFormat, groups: Sequence[Dataset] = ()) -> tuple[Look, list[str]]:
    """Return the look of a grey frame, and notes on what of it cannot be used.

    Parameters
    ----------
    groups
        Functional groups of the frame, its own before the shared ones.
    """
    notes: list[str] = []
    modality = _modality_of(ds, format_, groups, notes)
    is_signed = format_.signed or (not isinstance(modality, Table) and modality[1] < 0)
    voi = _voi_of([*_macros(groups, "FrameVOILUTSequence"), ds], is_signed, notes)
    is_inverted, shape = format_.photometric == "MONOCHROME1", text_of(ds, "PresentationLUTShape").upper()
    # INVERSE says of MONOCHROME1 what it is, it does not invert twice (PS3.3 C.7.6.1, C.8.11.3).
    # Viewers disagree on contradictions: IDENTITY is often a mere default, INVERSE never is.
    if shape == "INVERSE" and not is_inverted:
        raise refused(
            Reason.COLOUR_UNKNOWN,
            "The images say MONOCHROME2 and Presentation LUT Shape INVERSE at once: whether low values are "
            "black or white is not known. Correct them at their source.",
        )
    if shape == "IDENTITY" and is_inverted:
        notes.append("Presentation LUT Shape IDENTITY of the images contradicts MONOCHROME1 and was ignored")
    look = Look(
        padding=padding_of(ds, format_),
        modality=modality,
        voi=voi,
        inverted=is_inverted,
    )
    return look, notes


def stretch(values: NDArray[np.float32], low: float, high: float) -> None:
    """Map ``low`` .. ``high`` to 0 .. 1 in place, and clip; without any range, split above ``low``."""
    if high > low:
        values -= np.float32(low)
        values *= np.float32(1.0 / (high - low))
        np.clip(values, 0.0, 1.0, out=values)
    else:
        values[...] = np.where(np.isnan(values), values, values > np.float32(low))


def _modality_of(
    ds: Dataset, format_: PixelFormat, groups: Sequence[Dataset], notes: list[str]
) -> tuple[float, float] | Table:
    tables = items_of(ds, "ModalityLUTSequence")
    # That of an angiography leads back to intensities of X-rays; viewers leave it (C.8.7.1.1.2).
    if tables and text_of(ds, "Modality") not in ("XA", "XRF"):
        table = table_of(tables[0], signed=format_.signed, little=_is_little(ds))
        if table is not None:
            return table
        notes.append("A modality look-up table of the images cannot be used")
    for holder in (*_macros(groups, "PixelValueTransformationSequence"), ds):
        slope, intercept = number_of(holder, "RescaleSlope"), number_of(holder, "RescaleIntercept")
        if slope is not None and intercept is not None and slope != 0:
            return slope, intercept
    return 1.0, 0.0


def _voi_of(holders: Sequence[Dataset], signed: bool, notes: list[str]) -> Window | Table | None:
    """Return the first VOI LUT, else the first window (either may be used, PS3.3 C.11.2.1)."""
    for holder in holders:
        for item in items_of(holder, "VOILUTSequence")[:1]:
            if (table := table_of(item, signed=signed, little=_is_little(holders[-1]))) is not None:
                return table
            notes.append("A VOI look-up table of the images cannot be used")
        centre, width = number_of(holder, "WindowCenter"), number_of(holder, "WindowWidth")
        if centre is None or width is None:
            continue
        function = text_of(holder, "VOILUTFunction").upper() or "LINEAR"
        least = 1.0 if function == "LINEAR" else 1.0 / _FARTHEST
        is_real = least <= width <= _FARTHEST and abs(centre) <= _FARTHEST
        if function in ("LINEAR", "LINEAR_EXACT", "SIGMOID") and is_real:
            return Window(centre, width, function)
        notes.append("A window of the images cannot be used")
    return None


def _macros(groups: Sequence[Dataset], keyword: str) -> list[Dataset]:
    return [item for group in groups for item in items_of(group, keyword)[:1]]


def _is_little(ds: Dataset) -> bool:
    return ds.original_encoding[1] is not False
