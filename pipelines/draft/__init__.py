"""A card for a bundle that has none, as far as the bundle says what a card must: a draft for a person.

Nothing of the bundle runs: ``metadata.json`` is read as data and the configuration as text. What cannot
be known is left blank in a line that ends in ``# MISSING: ...``, and what was concluded rather than said
stands in a line with ``# CONFIRM: ...``. While any of these is left, the card is not used.

said       what the files of a bundle say
names      what a bundle calls a structure -> its name in ``structures.csv``
guess      of which kind inputs and results are, and why
card       the text
"""

from __future__ import annotations

import re

from pipelines.draft.card import draft_card
from pipelines.draft.said import Said, read_said

__all__ = ["Said", "draft_card", "open_points", "read_said"]

_POINT = re.compile(r"^(?P<line>.*?)\s*# (?P<what>MISSING|CONFIRM): (?P<told>.*)$")


def open_points(text: str) -> tuple[str, ...]:
    """Return what a person still has to do to a draft, one sentence for each line; none: it is a card."""
    points = []
    for number, line in enumerate(text.splitlines(), start=1):
        if match := _POINT.match(line):
            key = match["line"].partition("=")[0].strip() or "here"
            points.append(f"line {number}, {key}: {match['what'].lower()}: {match['told']}")
    return tuple(points)
