"""What destinations take is remembered, each by itself, and the last word counts."""

from __future__ import annotations

from node.profile import LABELMAP_CLASS
from tests.journal_makers import NOON, SEG, after


def test_what_was_never_asked_is_not_known(journal):
    assert journal.takes("archive", LABELMAP_CLASS) is None


def test_each_destination_is_remembered_by_itself(journal):
    journal.learn("archive", {LABELMAP_CLASS: False, SEG: True}, NOON)
    journal.learn("research", {LABELMAP_CLASS: True}, NOON)
    assert journal.takes("archive", LABELMAP_CLASS) is False
    assert journal.takes("archive", SEG) is True
    assert journal.takes("research", LABELMAP_CLASS) is True
    assert journal.takes("research", SEG) is None


def test_the_last_word_counts_and_what_it_does_not_speak_of_stays(journal):
    journal.learn("archive", {LABELMAP_CLASS: False, SEG: True}, NOON)
    journal.learn("archive", {LABELMAP_CLASS: True}, after(1))
    journal.learn("archive", {}, after(2))
    assert journal.takes("archive", LABELMAP_CLASS) is True
    assert journal.takes("archive", SEG) is True
