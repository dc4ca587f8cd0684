from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from node.assemble import Evidence, decide, to_ask
from node.assemble.settle import LATEST_S, PATIENCE, calm_s
from node.model import Count

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
QUIET_S = 10.0


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def count(instances, *, source="ARCHIVE", since_s=-1.0, asked_s=3.0):
    """An answer; its times in seconds after the last arrival."""
    return Count(source=source, instances=instances, since=after(since_s), asked_at=after(asked_s))


def decision(silent_s, *, counts=(), incomplete="proceed", quiet_s=QUIET_S, last=NOON, asks=None, **known):
    asks = tuple(one.source for one in counts) if asks is None else asks
    evidence = Evidence(last_arrival_at=last, counts=tuple(counts), asks=asks, **known)
    return decide(evidence, last + timedelta(seconds=silent_s), quiet_s, incomplete)


# The clock alone


@pytest.mark.parametrize(("silent_s", "settled"), [(0, False), (9.9, False), (10, True), (3600, True)])
def test_a_series_settles_after_the_quiet_time(silent_s, settled):
    assert decision(silent_s).settled is settled


def test_a_trickling_study_settles_once_and_only_at_its_end():
    """One object per 20 s over 5 min with 30 s of quiet time (reliability.md D4)."""
    arrivals = [20 * i for i in range(16)]
    settled_at = [
        second
        for second in range(400)
        if decision(second - max(a for a in arrivals if a <= second), quiet_s=30).settled
    ]
    assert settled_at[0] == 20 * 15 + 30


def test_what_the_clock_decided_is_said_to_be_the_clock_alone():
    told = decision(12, held=192).settling
    assert (told.by, told.held, told.silent_s, told.caution) == ("quiet", 192, 12.0, "")
    assert told.sentence == "Nothing new for 10 s; nobody is asked how many there are."


@pytest.mark.parametrize("back_s", [3600, 56 * 365 * 86400])
def test_a_clock_set_back_does_not_leave_a_series_stuck(back_s):
    assert decision(-back_s).settled


def test_a_clock_that_slews_back_a_little_only_waits_a_little():
    assert not decision(-2).settled
    assert decision(10).settled


def test_without_quiet_time_everything_is_settled():
    assert decision(0, quiet_s=0).settled


# Open associations


def test_an_open_association_holds_it_back_but_not_for_ever():
    waits = decision(30, open_associations=1, held=3)
    assert not waits.settled
    assert waits.sentence == (
        "It settles when nothing new came for 60 s, because 1 association that brought it is open."
    )
    told = decision(QUIET_S * PATIENCE, open_associations=2, held=3).settling
    assert told.associations == 2
    assert told.sentence.startswith("Nothing new for 60 s; 2 associations that brought it are open;")


# Counts


def test_all_instances_that_an_archive_knew_before_us_settle_a_series_after_a_moment():
    assert not decision(calm_s(QUIET_S) - 0.1, held=192, counts=[count(192)]).settled
    told = decision(3, held=192, counts=[count(192)]).settling
    assert (told.by, told.sentence) == ("count", "All 192 instances that ARCHIVE counts are here.")
    assert told.counts == {"ARCHIVE": 192}
    assert told.caution == ""


def test_an_archive_that_has_as_many_as_we_so_far_only_confirms_the_quiet_time():
    """A scanner sends to both: what the archive counts grows with what we hold."""
    level = count(100, since_s=2, asked_s=9)
    waits = decision(9, held=100, counts=[level])
    assert not waits.settled
    assert waits.sentence == (
        "All 100 instances that ARCHIVE counts are here. It settles when nothing new came for 10 s."
    )
    assert decision(10, held=100, counts=[level]).settling.by == "count"


def test_a_count_that_was_not_asked_for_since_the_last_arrival_only_confirms_the_quiet_time():
    stale = count(100, since_s=-9, asked_s=-1)
    assert not decision(9, held=100, counts=[stale]).settled
    assert not decision(9, held=100, counts=[count(100, since_s=-9, asked_s=calm_s(QUIET_S) - 0.1)]).settled
    assert decision(10, held=100, counts=[stale]).settling.by == "count"


def test_the_whole_count_outweighs_an_association_that_is_open_after_the_quiet_time():
    assert not decision(9, held=192, counts=[count(192)], open_associations=1).settled
    assert decision(10, held=192, counts=[count(192)], open_associations=1).settling.by == "count"


def test_missing_instances_hold_it_back_through_a_pause_longer_than_the_quiet_time():
    waits = decision(30, held=152, counts=[count(200)])
    assert not waits.settled
    assert waits.sentence == (
        "ARCHIVE counts 200 and 152 came. The others are waited for until nothing new came for 60 s."
    )


def test_what_never_comes_is_gone_without_with_a_caution():
    told = decision(60, held=152, counts=[count(200)]).settling
    assert (told.by, told.is_refused) == ("patience", False)
    assert told.sentence == (
        "Nothing new for 60 s although ARCHIVE counts 200 and 152 came: it goes on with a caution."
    )
    assert told.caution == "the series is not whole: ARCHIVE counts 200 instances, 152 came"


def test_what_never_comes_is_refused_where_the_configuration_says_so():
    told = decision(60, held=152, counts=[count(200)], incomplete="refuse").settling
    assert (told.by, told.is_refused) == ("patience", True)
    assert told.sentence == "Nothing new for 60 s although ARCHIVE counts 200 and 152 came: it is refused."


def test_what_does_not_come_is_waited_for_where_the_configuration_says_so():
    waits = decision(1e6, held=152, counts=[count(200)], incomplete="wait")
    assert not waits.settled
    assert waits.sentence == (
        "ARCHIVE counts 200 and 152 came. It waits until the others come, or an operator settles it."
    )


def test_an_operator_ends_the_waiting_and_the_caution_stays():
    told = decision(1, held=152, counts=[count(200)], incomplete="wait", is_ordered=True).settling
    assert (told.by, told.is_refused) == ("operator", False)
    assert "counts 200 instances, 152 came" in told.caution
    assert told.counts == {"ARCHIVE": 200}
    assert told.sentence == (
        "An operator said that it is not waited for any more, although ARCHIVE counts 200 and 152 came: "
        "it goes on with a caution."
    )


@pytest.mark.parametrize("counts", [[], [152], [40], [None]])
def test_an_operator_who_goes_on_without_nothing_is_told_as_that(counts):
    told = decision(1, held=152, counts=[count(said) for said in counts], is_ordered=True).settling
    assert told.sentence == "An operator said that it is not waited for any more."


@pytest.mark.parametrize("said", [0, 40, 152])
def test_a_smaller_count_is_believed_once_an_archive_lost_what_it_had(said):
    told = decision(60, held=152, counts=[count(said, since_s=20, asked_s=30)], incomplete="wait")
    assert told.settled


@pytest.mark.parametrize("said", [None, 0])
def test_an_archive_that_cannot_say_is_no_evidence_and_the_results_say_so(said):
    assert not decision(9, held=64, counts=[count(said)]).settled
    told = decision(10, held=64, counts=[count(said)]).settling
    assert (told.by, told.counts) == ("quiet", {"ARCHIVE": said})
    assert told.sentence == "Nothing new for 10 s; ARCHIVE could not say how many there are."
    assert told.caution == "whether the series is whole is not known: ARCHIVE could not say"


def test_an_archive_that_never_answered_delays_nothing():
    told = decision(10, held=64, asks=("ARCHIVE", "cloud")).settling
    assert told.sentence == "Nothing new for 10 s; ARCHIVE and cloud could not say how many there are."


def test_an_archive_that_lags_behind_is_no_evidence():
    assert not decision(9, held=64, counts=[count(40)]).settled
    told = decision(10, held=64, counts=[count(40)]).settling
    assert told.sentence == "Nothing new for 10 s; ARCHIVE counts no more than 40 of the 64 here."
    assert "is not known" in told.caution


def test_of_several_archives_the_one_that_counts_most_is_believed():
    counts = [count(64), count(70, source="cloud")]
    assert not decision(10, held=64, counts=counts).settled
    assert decision(60, held=64, counts=counts).settling.caution.endswith(
        "cloud counts 70 instances, 64 came"
    )


def test_one_instance_is_told_of_as_one():
    told = decision(10, held=1, counts=[count(1)]).settling
    assert told.sentence == "The only instance that ARCHIVE counts is here."


# Asking


def asks(silent_s, last_asked_s=None):
    last = None if last_asked_s is None else count(100, asked_s=last_asked_s)
    return to_ask(last, NOON, after(silent_s), QUIET_S)


def test_an_archive_is_asked_at_once_and_again_when_nothing_new_came_for_a_moment():
    moment_s = calm_s(QUIET_S)
    assert asks(0)
    assert not asks(moment_s - 0.1, last_asked_s=-600), "it still comes"
    assert asks(moment_s, last_asked_s=0)
    assert not asks(moment_s + 0.5, last_asked_s=moment_s)


def test_an_archive_is_asked_more_and_more_seldom_about_what_does_not_come():
    asked, second = [], 0.0
    while second < 86400:
        if asks(second, asked[-1] if asked else None):
            asked.append(second)
        second += 1.0
    pauses = [b - a for a, b in pairwise(asked)]
    assert pauses[0] <= 3
    assert max(pauses) == LATEST_S
    assert len([one for one in asked if one <= QUIET_S * PATIENCE]) < 15


def test_an_archive_is_asked_after_the_clock_was_set_back():
    assert asks(5, last_asked_s=3600)
