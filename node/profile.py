"""What one destination is given: which report, which kind of segmentation, what else.

A profile is part of the configuration of a destination. The objects of a job are made once for
each different profile among its destinations; what two profiles have in common is made once.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal, get_args

#: Label Map Segmentation Storage (Supplement 243); pydicom 3.0 has no name for it.
LABELMAP_CLASS = "1.2.840.10008.5.1.4.1.1.66.7"

#: "viewer": measurement report with contours, and text report (OHIF and most others).
#: "air": one Comprehensive 3D SR with everything (IHE AI Results).
#: "segment-only": one report whose groups point at segments (3D Slicer and its like).
#: "text": a report in sentences alone.
Report = Literal["viewer", "air", "segment-only", "text"]
#: "auto": a label map where it is smaller and the destination was seen to take the class.
Segmentation = Literal["auto", "binary", "labelmap"]
#: Where things are pointed at: on an image (SCOORD), or in the patient (SCOORD3D).
Coordinates = Literal["image", "patient"]
#: The same findings for readers that know neither Segmentation nor Structured Report.
Extra = Literal[
    "fractional",
    "parametric-map",
    "rtstruct",
    "presentation-state",
    "secondary-capture",
    "pdf",
    "key-objects",
]
EXTRAS: tuple[Extra, ...] = get_args(Extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a destination is given, decided."""

    report: Report = "viewer"
    labelmap: Literal["never", "smaller", "always"] = "never"  #: when a label map takes BINARY's place
    coordinates: Coordinates = "image"
    also: tuple[Extra, ...] = ()  #: in the order of `EXTRAS`, each once

    @property
    def key(self) -> str:
        """The same for equal profiles."""
        return json.dumps(asdict(self), sort_keys=True)


def decide(
    *,
    report: Report,
    segmentation: Segmentation,
    coordinates: Coordinates,
    also: tuple[Extra, ...],
    takes_labelmap: bool | None,
) -> Profile:
    """Return the profile of a destination as configured and as known.

    Parameters
    ----------
    takes_labelmap
        Whether it was seen to take Label Map Segmentation Storage; None: never asked.
    """
    labelmap: Literal["never", "smaller", "always"] = "never"
    if segmentation == "labelmap" and takes_labelmap is not False:
        labelmap = "always"
    elif segmentation == "auto" and takes_labelmap:
        labelmap = "smaller"
    return Profile(
        report=report,
        labelmap=labelmap,
        coordinates=coordinates,
        also=tuple(extra for extra in EXTRAS if extra in also),
    )


@dataclass(frozen=True, kw_only=True)
class Presentation:
    """How results are numbered and named in a study: ``[results]`` of the configuration."""

    series_number: int = 9001  #: of the first kind of object; the others count from there
    #: Series Description; ``{pipeline}``, ``{version}`` and ``{what}`` are filled in.
    series_description: str = "{pipeline} {version} {what}, research only"
    max_object_mb: float = 512.0  #: a segmentation above this is split by segments
