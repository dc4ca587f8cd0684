"""What a destination took is looked for in it, and given the time that an archive may need."""

from __future__ import annotations

import pytest

from node.send.read_back import FEWEST_LOOKS, look_again_at, present
from tests.journal_makers import NOON, after


class Shelf:
    """Something that can be asked what it has."""

    def __init__(self, **held: set[str]) -> None:
        self.held, self.asked = held, []

    def instances(self, study_uid: str, series_uid: str) -> frozenset[str]:
        self.asked.append((study_uid, series_uid))
        return frozenset(self.held.get(series_uid, ()))


def test_each_series_is_asked_for_once():
    shelf = Shelf(a={"1", "2"}, b={"3"}, c={"4"})
    assert present([("s", "a"), ("s", "b"), ("s", "a"), ("s", "z")], shelf) == {"1", "2", "3"}
    assert shelf.asked == [("s", "a"), ("s", "b"), ("s", "z")]


@pytest.mark.parametrize(
    ("looks", "now_s", "next_s", "again_s"),
    [
        (1, 1, 6, 6),  # as late as it likes
        (4, 50, 90, 60),  # but once more at the end of its time
        (4, 60, 100, None),  # then it is not there
        (FEWEST_LOOKS, 60, 100, None),
        (FEWEST_LOOKS - 1, 60, 100, 100),  # but not by one look, however late it comes
        (1, 9000, 9005, 9005),
    ],
)
def test_what_is_not_listed_is_looked_for_until_its_time_is_over(looks, now_s, next_s, again_s):
    found = look_again_at(looks, after(now_s), after(next_s), NOON, 60.0)
    assert found == (None if again_s is None else after(again_s))
