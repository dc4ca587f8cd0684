"""A coded concept: what DICOM calls anything that has a name."""

from __future__ import annotations

from typing import NamedTuple


class Code(NamedTuple):
    """A coded concept (PS3.3 section 8): value, coding scheme designator, meaning."""

    value: str
    scheme: str
    meaning: str
