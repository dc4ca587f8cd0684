"""Text of others, fit for a terminal, a log or a report."""

from __future__ import annotations

LONGEST_SENTENCE = 1000


def printable(text: str) -> str:
    """Return text with a space in place of each character that is not printed."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def clean(text: str, longest: int = LONGEST_SENTENCE) -> str:
    """Return foreign text without control characters, cut to a length in characters."""
    told = printable(text[: longest + 1])
    return told if len(told) <= longest else f"{told[:longest]}..."
