"""Two readings of what a UID is."""

from __future__ import annotations

import pytest

from node.uid import is_harmless, is_legal


@pytest.mark.parametrize(
    ("text", "legal", "harmless"),
    [
        ("1.2.840.10008.1.2", True, True),
        ("2." + "9" * 62, True, True),
        ("2." + "9" * 63, False, False),
        ("1.02", False, True),
        ("0", False, True),
        ("1..2", False, False),
        ("1.2\n", False, False),
        ("1.2.", False, False),
        ("1.\u0662", False, False),  # a digit, but not one of ours
        ("../1.2", False, False),
        ("", False, False),
    ],
)
def test_what_is_taken_is_more_than_what_is_written(text: str, legal: bool, harmless: bool) -> None:
    assert (is_legal(text), is_harmless(text)) == (legal, harmless)
