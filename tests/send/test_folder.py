from __future__ import annotations

import errno
import os
from dataclasses import replace

import pytest

from node.config import Config, FolderDestination
from node.errors import PeerBusy, PeerUnreachable, SendError
from node.failpoint import FailpointRaised
from node.send import send
from tests.send.conftest import NOON


@pytest.fixture
def put(tmp_path):
    def _put(objects, path=tmp_path / "out"):
        destination = FolderDestination(transport="folder", path=path)
        return list(send(objects, "files", Config(destinations={"files": destination}), lambda: NOON))

    return _put


def test_files_appear_whole_under_their_own_uids(objects, put, tmp_path):
    receipts = put(objects)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"{thing.sop_instance_uid}.dcm" for thing in objects
    }
    for thing in objects:
        assert (tmp_path / "out" / thing.path.name).read_bytes() == thing.path.read_bytes()
    sr, seg = objects
    assert [r.sop_instance_uid for r in receipts] == [seg.sop_instance_uid, sr.sop_instance_uid]
    assert {(r.status, r.sentence, r.destination) for r in receipts} == {(0, "", "files")}


def test_the_second_time_gives_the_same_files(objects, put, tmp_path):
    put(objects)
    put(objects)
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_what_a_killed_try_left_is_replaced(objects, put, tmp_path, monkeypatch):
    monkeypatch.setenv("RADNODE_FAILPOINTS", "send.answered=raise")
    with pytest.raises(FailpointRaised):
        put(objects)
    monkeypatch.delenv("RADNODE_FAILPOINTS")
    for thing in objects:
        (tmp_path / "out" / f".{thing.sop_instance_uid}.part").write_bytes(b"half")
    assert len(put(objects)) == 2
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".dcm"}


def test_a_uid_that_is_none_never_becomes_a_file_name(objects, put, tmp_path):
    bad = replace(objects[1], sop_instance_uid="../../evil")
    with pytest.raises(SendError, match="valid SOP Instance UID"):
        put([bad])
    assert list((tmp_path / "out").iterdir()) == []


def test_a_link_in_the_way_is_not_followed(objects, put, tmp_path):
    (tmp_path / "out").mkdir()
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "out" / f".{objects[1].sop_instance_uid}.part").symlink_to(victim)
    with pytest.raises(PeerUnreachable):
        put(objects)
    assert victim.read_text() == "mine"


def test_an_absent_mount_is_tried_again_later_and_not_filled(objects, put, tmp_path):
    with pytest.raises(PeerUnreachable, match="files"):
        put(objects, tmp_path / "mount" / "results")
    assert not (tmp_path / "mount").exists()


def test_a_full_disk_is_tried_again_later_and_leaves_nothing_half(objects, put, tmp_path, monkeypatch):
    def full(_handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PeerBusy, match="is full"):
        put(objects)
    assert list((tmp_path / "out").iterdir()) == []
