"""What a card expects to see in an image, as data: no code per pipeline.

A ``[[bundle.expects]]`` table names an object by a range of values and says how large it must be
and where the percentiles of its values must lie. What does not fit is refused with the card's own
sentence and the number that was seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines.contract import Image, InputRefused
from pipelines.typed import made_of

Range = tuple[float, float]

#: Percentiles are taken of at most about this many voxels, evenly spread.
SAMPLE = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """One thing that must be true of an image; see the module."""

    code: str  #: of the refusal, kebab-case
    sentence: str  #: of the refusal, for a radiographer
    object: Range  #: voxels with a value in here, in the image's unit, are the object
    volume_ml: Range = (0.0, float("inf"))
    percentiles: Mapping[float, Range] = field(default_factory=dict)  #: percent -> range of values


def read_expectation(table: Any) -> Expectation:
    """Return the expectation that a table of a card states.

    Raises
    ------
    ValueError
        A key is missing, unknown, or not of its type, or a range is empty.
    """
    said = "[[bundle.expects]]"
    if isinstance(table, Mapping) and isinstance(percentiles := table.get("percentiles"), Mapping):
        table = {**table, "percentiles": {_percent(key): one for key, one in percentiles.items()}}
    made = made_of(Expectation, table, said)
    for low, high in (made.object, made.volume_ml, *made.percentiles.values()):
        if low > high:
            raise ValueError(f"{said}: the range [{low:g}, {high:g}] is empty")
    return made


def _percent(key: str) -> float:
    try:
        percent = float(key)
    except ValueError:
        percent = -1.0
    if not 0.0 <= percent <= 100.0:
        raise ValueError(
            f"[[bundle.expects]] percentiles: {key!r} is no percent; one with a point needs quotes"
        )
    return percent


def refuse_unexpected(expectation: Expectation, image: Image) -> None:
    """Raise `InputRefused` when the image is not what is expected."""
    low, high = expectation.object
    values = image.array[(image.array >= low) & (image.array <= high)]
    volume_ml = values.size * image.voxel_ml
    _hold(expectation, "object's volume", volume_ml, expectation.volume_ml, "mL")
    sample = values[:: max(1, values.size // SAMPLE)]
    for percent, wanted in expectation.percentiles.items():
        seen = float(np.percentile(sample, percent)) if sample.size else float("nan")
        _hold(expectation, f"object's {percent:g}th percentile", seen, wanted, image.unit.meaning)


def _hold(expectation: Expectation, what: str, seen: float, wanted: Range, unit: str) -> None:
    low, high = wanted
    if not low <= seen <= high:
        raise InputRefused(
            expectation.code,
            f"{expectation.sentence} The {what} is {seen:.0f} {unit}; expected is {low:g} to {high:g}.",
        )
