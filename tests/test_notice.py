"""A warning is said once."""

from __future__ import annotations

import pytest

from node.notice import unsaid

NOTICE = "Research use only; not for diagnosis."


@pytest.mark.parametrize(
    ("warning", "left"),
    [
        ("", ""),
        (NOTICE, ""),
        ("Not for diagnosis.", ""),
        ("Trained on simulated phantoms. Not for diagnosis.", "Trained on simulated phantoms."),
        ("Adults only; not for diagnosis.", "Adults only."),
        ("Effusions are left out.", "Effusions are left out."),
    ],
)
def test_what_stands_beside_a_warning_already_is_not_said_again(warning, left):
    assert unsaid(warning, NOTICE) == left
