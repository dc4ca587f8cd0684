from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from node.assemble import is_settled
from node.assemble.settle import PATIENCE, Evidence

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@pytest.mark.parametrize(("silent_s", "settled"), [(0, False), (9.9, False), (10, True), (3600, True)])
def test_a_series_settles_after_the_quiet_time(silent_s, settled):
    assert is_settled(NOON, after(silent_s), 10) is settled


def test_a_trickling_study_settles_once_and_only_at_its_end():
    """One object per 20 s over 5 min with 30 s of quiet time (reliability.md D4)."""
    arrivals = [after(20 * i) for i in range(16)]
    settled_at = [
        second
        for second in range(400)
        if is_settled(max(a for a in arrivals if a <= after(second)), after(second), 30)
    ]
    assert settled_at[0] == 20 * 15 + 30


def test_all_expected_instances_settle_a_series_at_once():
    assert is_settled(NOON, after(0.1), 10, Evidence(received=64, expected=64))
    assert is_settled(NOON, after(0.1), 10, Evidence(received=65, expected=64))


def test_missing_expected_instances_hold_it_back_but_not_for_ever():
    evidence = Evidence(received=60, expected=64)
    assert not is_settled(NOON, after(30), 10, evidence)
    assert is_settled(NOON, after(10 * PATIENCE), 10, evidence)


def test_an_open_association_holds_it_back_but_not_for_ever():
    evidence = Evidence(open_associations=1, received=3)
    assert not is_settled(NOON, after(30), 10, evidence)
    assert is_settled(NOON, after(10 * PATIENCE), 10, evidence)


def test_an_expected_count_of_zero_is_no_evidence_of_completeness():
    assert not is_settled(NOON, after(1), 10, Evidence(received=0, expected=0))


@pytest.mark.parametrize("back_s", [3600, 56 * 365 * 86400])
def test_a_clock_set_back_does_not_leave_a_series_stuck(back_s):
    assert is_settled(NOON, after(-back_s), 10)


def test_a_clock_that_slews_back_a_little_only_waits_a_little():
    assert not is_settled(NOON, after(-2), 10)
    assert is_settled(NOON, after(10), 10)


def test_without_quiet_time_everything_is_settled():
    assert is_settled(NOON, NOON, 0)
