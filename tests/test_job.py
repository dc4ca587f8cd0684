"""What becomes of a job, decided from arguments alone."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from node.errors import Cancelled, EncodeError, JournalUnavailable, WorkerLost
from node.job import Job, JobState, after_error, spec_of
from node.model import Route, Series
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
