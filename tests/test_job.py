"""What becomes of a job, decided from arguments alone."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from node.errors import Cancelled, EncodeError, JournalUnavailable, WorkerLost
from node.job import Job, JobState, after_error, spec_of
from node.model import Lack, Route, Series
from pipelines.contract import InputRefused
from tests.assign.helpers import card
from tests.journal_makers import NOON, a_spec, an_instance, sha


def a_job(tries: int) -> Job:
    return Job(
        id=1,
        spec=a_spec(),
        state=JobState.COMPUTING,
        fence=tries,
        tries=tries,
        not_before=NOON,
        created_at=NOON,
        reason_code="",
        reason="",
    )


@pytest.mark.parametrize(
    ("error", "tries", "state", "code"),
    [
        (InputRefused("slice-gap", "A gap."), 1, JobState.REFUSED, "slice-gap"),
        (WorkerLost(), 1, JobState.QUEUED, "worker-lost"),
        (WorkerLost(), 2, JobState.FAILED, "worker-lost"),
        (EncodeError(), 1, JobState.FAILED, "encode"),
        (JournalUnavailable(), 1, JobState.QUEUED, "journal-unavailable"),
        (OSError(28, "CANARY"), 1, JobState.QUEUED, "stumbled"),
        (KeyError("CANARY"), 2, JobState.FAILED, "stumbled"),
    ],
)
def test_an_error_decides_what_becomes_of_a_job(error, tries, state, code):
    end = after_error(a_job(tries), error, NOON, tries=2)
    assert (end.to, end.code) == (state, code)
    assert "CANARY" not in end.reason
    assert (end.not_before == NOON + timedelta(seconds=5)) == (state is JobState.QUEUED)


NOT_WHOLE = "the series is not whole: ARCHIVE counts 64 instances, 32 came"
CUT = InputRefused("lung-cut-off", "The right lung is cut at the bottom.")


def with_cautions(lack: Lack | None = None, **cautions: str) -> Job:
    (one,) = a_spec().inputs.values()
    inputs = {role: replace(one, caution=caution) for role, caution in cautions.items()}
    return replace(a_job(1), spec=replace(a_spec(), inputs=inputs, lack=lack))


def test_a_refusal_says_that_the_series_is_not_whole():
    end = after_error(with_cautions(ct=NOT_WHOLE), CUT, NOON, tries=2)
    assert (end.to, end.code) == (JobState.REFUSED, "lung-cut-off")
    assert end.reason == (
        "The right lung is cut at the bottom. The series is not whole: ARCHIVE counts 64 instances, 32 came."
    )
    assert after_error(with_cautions(ct=""), CUT, NOON, tries=2).reason == CUT.sentence


def test_a_refusal_says_which_of_several_series_is_not_whole():
    end = after_error(with_cautions(t1="", flair=NOT_WHOLE), CUT, NOON, tries=2)
    assert end.reason == f"The right lung is cut at the bottom. Input 'flair': {NOT_WHOLE}."


def test_a_series_that_is_refused_since_it_is_not_whole_says_so_once():
    lack = Lack(code="series-incomplete", sentence="It is refused.", roles=("ct",))
    job = with_cautions(lack, ct=NOT_WHOLE)
    assert after_error(job, InputRefused(lack.code, lack.sentence), NOON, tries=2).reason == "It is refused."


def test_what_is_in_other_hands_is_left_there():
    assert after_error(a_job(1), Cancelled(), NOON, tries=2) is None


def test_the_digest_of_an_input_is_what_it_has_always_been():
    """UIDs of results come of it: a newer node must give the same ones for the same series."""
    instances = tuple(an_instance(number) for number in (2, 10, 1))
    series = Series(uid="1.2.3", study_uid="1.2", revision=1, instances=instances)
    route = Route(rule="r", pipeline="lung-density", inputs={"ct": instances}, send_to=())
    spec = spec_of(route, series, card())
    content = [["ct", f"1.2.3.{number}", sha(f"1.2.3.{number}")] for number in (1, 10, 2)]
    assert spec.input_digest == sha(json.dumps(content))
    assert spec.study_uid == "1.2"
