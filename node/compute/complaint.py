"""What is held against any part of findings: arrays, labels, colours, codes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from pipelines.contract import Code

#: Far above any real use; a report beyond this helps nobody.
MOST_ENTRIES: Final = 10_000
LONGEST_LABEL: Final = 64  # VR LO (PS3.5 6.2)
LONGEST_SCHEME, LONGEST_MEANING = 16, 64  # VR SH and LO (PS3.3 8.8)


def of_array(array: Any, shape: tuple[int, ...], kind: str, name: str, kind_name: str) -> Iterator[str]:
    """Complain of what is not a numpy array of this kind of type (``dtype.kind``) and shape."""
    if not isinstance(array, np.ndarray):
        yield f"its {name} is {type(array).__name__}, not a numpy array"
        return
    if array.dtype.kind != kind:
        yield f"its {name} is of type {array.dtype}, not {kind_name}"
    if array.shape != shape:
        yield f"its {name} has the shape {array.shape}, not {shape}"


def of_numbers(numbers: Sequence[Any], what: str) -> Iterator[str]:
    """Complain unless the parts of findings are numbered 1, 2, 3 ..."""
    if list(numbers) != list(range(1, len(numbers) + 1)):
        yield f"its {what} are not numbered 1, 2, 3 ..."


def of_label(label: str, what: str) -> Iterator[str]:
    """Complain of a label that is no short line of text."""
    if not label.strip() or len(label) > LONGEST_LABEL or not label.isprintable():
        yield f"{what} needs a label of 1 to {LONGEST_LABEL} characters"


def of_colour(colour: Sequence[Any], what: str) -> Iterator[str]:
    """Complain of a colour that is not red, green and blue of a byte each."""
    if len(colour) != 3 or not all(isinstance(c, int) and 0 <= c <= 255 for c in colour):
        yield f"the colour of {what} is not three numbers from 0 to 255"


def of_code(code: Code | None, what: str) -> Iterator[str]:
    """Complain of a code with an empty, unprintable or overlong part; None is fine."""
    if code is None:
        return
    if not all(isinstance(part, str) and part.strip() and part.isprintable() for part in code):
        yield f"a code of {what} has an empty or unprintable part"
    elif len(code.scheme) > LONGEST_SCHEME or len(code.meaning) > LONGEST_MEANING:
        yield f"a code of {what} is longer than DICOM allows"


def of_unit(unit: Code, what: str) -> Iterator[str]:
    """Complain of a unit that is not of UCUM."""
    yield from of_code(unit, what)
    if unit.scheme != "UCUM":
        yield f"{what} has a unit of {unit.scheme!r}; units are UCUM"


def of_share(value: Any, what: str, name: str) -> Iterator[str]:
    """Complain of a probability or confidence that is not from 0 to 1; None is fine."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        yield f"{what} has a {name} that is {type(value).__name__}, not a number"
    elif not 0.0 <= value <= 1.0:
        yield f"{what} has a {name} of {value}, not from 0 to 1"
