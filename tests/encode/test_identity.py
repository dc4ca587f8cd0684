"""Derived identity: the same work has the same name, other work has another."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydicom.uid import UID

from node.encode.identity import algorithm_of, derived_uid
from tests.encode.helpers import a_card, a_job


def test_derived_uids_are_valid_and_depend_on_every_seed() -> None:
    assert UID(derived_uid("a", "b")).is_valid
    assert derived_uid("a", "b") == derived_uid("a", "b")
    assert len({derived_uid("a", "b"), derived_uid("ab"), derived_uid("a", "c"), derived_uid("b", "a")}) == 4


def test_uids_depend_on_the_job_and_the_role_but_not_on_the_time() -> None:
    job = a_job()
    assert job.uid("seg series") != job.uid("seg instance")
    assert job.uid("seg series") == a_job(created_at=datetime(2030, 1, 1, tzinfo=UTC)).uid("seg series")
    assert job.uid("seg series") != a_job(job_key="ff" * 32).uid("seg series")


@pytest.mark.parametrize(
    "change", [{"digest": "cd" * 32}, {"version": "0.1.1"}, {"name": "other"}, {"parameters": {"x": 1}}]
)
def test_the_device_uid_changes_with_weights_version_name_and_parameters(change: dict[str, object]) -> None:
    assert algorithm_of(a_card()).device_uid != algorithm_of(a_card(**change)).device_uid


def test_long_or_illegal_names_are_cut_the_same_way_everywhere() -> None:
    algorithm = algorithm_of(a_card(maker="M" * 100, name="a\\b", version=""))
    assert len(algorithm.maker) == 64
    assert algorithm.name == "a/b"
    assert algorithm.version == "unversioned"


def test_a_time_without_a_zone_and_an_empty_key_are_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        a_job(created_at=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(ValueError, match="job_key"):
        a_job(job_key="")
