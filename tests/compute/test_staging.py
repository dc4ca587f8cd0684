"""Results become ours only as the worker declared them."""

from __future__ import annotations

import hashlib
import os

import pytest

from node.compute import Staging, write_manifest
from node.errors import WorkerLost
from node.model import Outcome, ResultObject
from tests.compute.job_maker import JOB


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


def nest(folder, deep=1500):
    """Make folders in folders, more than Python lets a function call itself."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(deep):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


@pytest.mark.parametrize("how", ["discard", "sweep"])
def test_folders_in_folders_without_end_are_removed_with_the_rest(staging, tmp_path, how):
    for folder in staging.folders(JOB):
        nest(folder)
    staging.discard(JOB) if how == "discard" else staging.sweep([])
    assert list((tmp_path / "staging").iterdir()) == list((tmp_path / "scratch").iterdir()) == []


def test_a_deep_folder_in_the_place_of_a_result_gives_way(staging, folder, tmp_path):
    (tmp_path / "results" / "7-2").mkdir()
    nest(tmp_path / "results" / "7-2")
    (made,) = staging.adopt(folder).objects
    nest(made.path.parent)
    assert staging.remove([made.path]) == {made.path}
    assert list((tmp_path / "results").iterdir()) == []
