"""Results become ours only as the worker declared them."""

from __future__ import annotations

import hashlib

import pytest

from node.compute import Staging, write_manifest
from node.errors import WorkerLost
from node.job import Job, JobState
from node.model import Outcome, ResultObject
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


@pytest.fixture
def staging(tmp_path):
    return Staging(tmp_path)


@pytest.fixture
def folder(staging):
    """A finished staging folder with one object."""
    _, folder = staging.folders(JOB)
    (folder / "seg.dcm").write_bytes(b"an object")
    made = ResultObject(
        kind="seg",
        sop_instance_uid="1.2.3",
        sop_class_uid="1.2.4",
        series_uid="1.2.5",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        path=folder / "seg.dcm",
        sha256=hashlib.sha256(b"an object").hexdigest(),
    )
    write_manifest(folder, Outcome(objects=(made,)))
    return folder


def test_what_is_declared_and_whole_moves_to_the_results(staging, folder, tmp_path):
    (made,) = staging.adopt(folder).objects
    assert made.path == tmp_path / "results" / "7-2" / "seg.dcm"
    assert made.path.read_bytes() == b"an object"
    assert not folder.exists()


def test_what_differs_from_its_manifest_is_not_adopted(staging, folder):
    (folder / "seg.dcm").write_bytes(b"another")
    with pytest.raises(WorkerLost, match="differs"):
        staging.adopt(folder)


@pytest.mark.parametrize("absent", ["seg.dcm", "manifest.json"])
def test_what_is_not_all_there_is_not_adopted(staging, folder, absent):
    (folder / absent).unlink()
    with pytest.raises(WorkerLost, match="manifest"):
        staging.adopt(folder)


def test_a_failed_claim_leaves_nothing_behind(staging, folder):
    staging.discard(JOB)
    assert not folder.exists()
    assert [list(folder.iterdir()) for folder in staging.folders(JOB)] == [[], []]


def test_a_sweep_leaves_what_the_journal_speaks_of(staging, folder, tmp_path):
    (made,) = staging.adopt(folder).objects
    staging.folders(JOB)
    (tmp_path / "results" / "8-1").mkdir()
    made.path.with_name(".1.2.dcm.12-34.part").write_bytes(b"half a stand-in")
    staging.sweep([made.path])
    assert list(made.path.parent.glob("*.part")) + list(made.path.parent.glob(".*")) == []
    assert [p.name for p in (tmp_path / "results").iterdir()] == ["7-2"]
    assert list((tmp_path / "staging").iterdir()) == list((tmp_path / "scratch").iterdir()) == []
