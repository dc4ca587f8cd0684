"""How a source wants its pixels shown in grey: its modality and VOI transformations (PS3.3 C.11).

Read from the headers of the planes that a presentation state refers to, as hostile as they are.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import ExplicitVRBigEndian

from node.encode.header import UNREADABLE
from node.encode.items import item
from node.encode.repair import Unrepairable, decimal_string, repair
from node.model import Slice

FUNCTIONS = frozenset({"LINEAR", "LINEAR_EXACT", "SIGMOID"})


@dataclass(frozen=True, slots=True)
class Table:
    """A lookup table (PS3.3 C.11.1.1.1)."""

    entries: int  #: 1 to 65536
    first: int  #: input value of the first entry
    bits: int
    values: bytes  #: 16 bit each, little endian
    kind: str = ""  #: Modality LUT Type

    def item(self) -> Dataset:
        """Return a Modality LUT or VOI LUT Sequence item."""
        table = item(ModalityLUTType=self.kind or None)
        descriptor = [self.entries % 65536, self.first, self.bits]
        table.add_new("LUTDescriptor", "SS" if self.first < 0 else "US", descriptor)
        table.add_new("LUTData", "OW", self.values)
        return table


@dataclass(frozen=True, slots=True, kw_only=True)
class Grey:
    """From stored values to what is seen, of one plane."""

    photometric: str  #: Photometric Interpretation, "" if it cannot be read
    slope: float = 1.0
    intercept: float = 0.0
    unit: str = "US"  #: Rescale Type
    table: Table | None = None  #: instead of slope and intercept
    has_table: bool = False  #: there is one, whether or not it can be used
    window: tuple[float, float] | None = None  #: centre, width, in what comes out of the above
    function: str = "LINEAR"  #: VOI LUT Function
    voi: Table | None = None  #: used where there is no window

    @property
    def modality(self) -> tuple[Any, ...]:
        """What two planes must share to stand under one Modality LUT."""
        return (self.slope, self.intercept, self.unit, self.table)

    def stored_window(self) -> tuple[float, float] | None:
        """Return the window in stored values, for planes that are rescaled each in its own way."""
        if self.window is None or self.table is not None or self.slope <= 0:
            return None
        centre, width = self.window
        return (centre - self.intercept) / self.slope, max(width / self.slope, 1.0)


def read_greys(planes: Sequence[Slice]) -> list[Grey]:
    """Return how each plane is to be shown; what cannot be read is left at its default."""
    sources: dict[Path, Dataset] = {}
    greys = []
    with warnings.catch_warnings():  # pydicom quotes values in its warnings
        warnings.simplefilter("ignore")
        for plane in planes:
            if plane.path not in sources:
                sources = {plane.path: pydicom.dcmread(plane.path, stop_before_pixels=True)}
            greys.append(_grey(sources[plane.path], plane.frame))
    return greys


def _grey(source: Dataset, frame: int | None) -> Grey:
    modality = _group(source, frame, "PixelValueTransformationSequence")
    shown = _group(source, frame, "FrameVOILUTSequence")
    big = source.file_meta.get("TransferSyntaxUID") == ExplicitVRBigEndian
    slope = _number(modality, "RescaleSlope")
    unit, function = _text(modality, "RescaleType"), _text(shown, "VOILUTFunction")
    function = function if function in FUNCTIONS else "LINEAR"
    centre, width = _number(shown, "WindowCenter"), _number(shown, "WindowWidth")
    narrowest = 1.0 if function == "LINEAR" else 1e-12
    tables = modality.get("ModalityLUTSequence")
    return Grey(
        photometric=_text(source, "PhotometricInterpretation"),
        slope=slope if slope else 1.0,
        intercept=_number(modality, "RescaleIntercept") or 0.0,
        unit=unit or "US",
        table=_table(modality, "ModalityLUTSequence", big=big),
        has_table=bool(tables),
        window=(centre, width) if centre is not None and width is not None and width >= narrowest else None,
        function=function,
        voi=_table(shown, "VOILUTSequence", big=big),
    )


def _group(source: Dataset, frame: int | None, name: str) -> Dataset:
    """Return the functional group of a frame, its own before the shared one; else the source itself."""
    if frame is None:
        return source
    try:
        own = source.get("PerFrameFunctionalGroupsSequence")
        shared = source.get("SharedFunctionalGroupsSequence")
        for group in ([own[frame - 1]] if own else []) + ([shared[0]] if shared else []):
            if group.get(name):
                found: Dataset = group[name].value[0]
                return found
    except UNREADABLE:
        return Dataset()
    return source


def _number(source: Dataset, keyword: str) -> float | None:
    try:
        value = source.get(keyword)
        if isinstance(value, MultiValue | list):
            value = value[0] if value else None
        number = float(repair("DS", value)) if value not in (None, "") else math.nan
    except (Unrepairable, *UNREADABLE):
        return None
    return float(decimal_string(number)) if math.isfinite(number) else None


def _text(source: Dataset, keyword: str) -> str:
    vr = "LO" if keyword == "RescaleType" else "CS"
    try:
        return repair(vr, source.get(keyword))
    except (Unrepairable, *UNREADABLE):
        return ""


def _table(source: Dataset, keyword: str, *, big: bool) -> Table | None:
    """Return the first table of a sequence, None if there is none or it is not one of 16 bit values."""
    try:
        found = source[keyword].value[0] if source.get(keyword) else None
        if found is None:
            return None
        entries, first, bits = (int(v) for v in found.LUTDescriptor)
        data = found.LUTData
        values = (
            np.frombuffer(data, ">u2" if big else "<u2")
            if isinstance(data, bytes)
            else np.array(data, dtype=np.int64).astype(np.uint16)
        )
        kind = repair("LO", found.get("ModalityLUTType")) if keyword == "ModalityLUTSequence" else ""
    except (Unrepairable, *UNREADABLE):
        return None
    entries = entries % 65536 or 65536
    if values.size != entries or not 8 <= bits <= 16 or not -32768 <= first <= 65535:
        return None
    return Table(entries, first, bits, values.astype("<u2").tobytes(), kind)
