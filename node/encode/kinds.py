"""The kinds of object that findings become, and how their series are numbered and named."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of result."""

    what: str  #: in a word or two, for the Series Description
    series_offset: int  #: Series Number, counted from the configured first one


#: Offsets never change: a reader's hanging protocol may go by them.
KINDS: dict[str, Kind] = {
    "seg": Kind("segmentation", 0),
    "sr-measurements": Kind("measurements", 1),
    "sr-text": Kind("report", 2),
    "sr-air": Kind("findings", 3),
    "sr-segments": Kind("segment measurements", 4),
    "fractional": Kind("probabilities", 5),
    "parametric-map": Kind("map", 6),
    "rtstruct": Kind("contours", 7),
    "presentation-state": Kind("presentation", 8),
    "secondary-capture": Kind("overlay", 9),
    "pdf": Kind("PDF report", 10),
    "key-objects": Kind("key images", 11),
    "rejection-note": Kind("rejection", 12),
}
#: A second object of a kind has this more, a third twice this.
NEXT_OF_KIND = 20


def what_of(kind: str, number: int = 1) -> str:
    """Return what the n-th object of a kind is called: "segmentation", "segmentation 2" ..."""
    return KINDS[kind].what if number == 1 else f"{KINDS[kind].what} {number}"
