"""A job that a worker has claimed."""

from __future__ import annotations

from node.job import Job, JobState
from tests.journal_makers import NOON, a_spec

JOB = Job(
    id=7,
    spec=a_spec(),
    state=JobState.COMPUTING,
    fence=2,
    tries=1,
    not_before=NOON,
    created_at=NOON,
    reason_code="",
    reason="",
)
