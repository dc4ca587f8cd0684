"""What counts as a UID (PS3.5 9.1): to the letter in what we write, generously in what we are sent."""

from __future__ import annotations

import re

_LEGAL = re.compile(r"(?=.{1,64}\Z)(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
_HARMLESS = re.compile(r"(?=.{1,64}\Z)[0-9]+(\.[0-9]+)*")


def is_legal(text: str) -> bool:
    """Return whether this is a UID as we write it: in objects, in file names of a destination."""
    return _LEGAL.fullmatch(text) is not None


def is_harmless(text: str) -> bool:
    """Return whether this can stand where a UID must stand: digits and dots, at most 64 of them.

    Devices write components with leading zeros, which is forbidden and does no harm; to refuse those
    would lose images.
    """
    return _HARMLESS.fullmatch(text) is not None
