"""The folder door, and files from anywhere."""

from __future__ import annotations

import os
import time
from collections import Counter
from datetime import UTC, datetime

import pydicom
import pytest
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian
from pynetdicom.dsutils import encode

from node.accept import FolderDoor, Store, accept, find_files, spool_file
from node.config import AcceptTable
from node.errors import AcceptError, MissingIdentity, NotDicom, OutOfSpace
from tests.accept.conftest import encoded, make_ct, stored_data_set
from tests.accept.test_custody import element
from tests.harness import eventually
from tests.paths import SHARED, needs_shared


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "data", AcceptTable(reserve_gb=0))


def take(path, store):
    return accept(*spool_file(path, store), store, now=datetime.now(UTC))


def save(ds, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def test_files_are_found_sorted_and_links_out_of_the_folder_are_not_followed(tmp_path):
    inside = tmp_path / "in"
    for name in ("b/2", "a", "b/1"):
        save(make_ct(), inside / name)
    outside = save(make_ct(), tmp_path / "out" / "x")
    (inside / "link").symlink_to(outside)
    (inside / "folder-link").symlink_to(outside.parent)
    os.mkfifo(inside / "pipe")
    assert [str(p.relative_to(inside)) for p in find_files(inside)] == ["a", "b/1", "b/2"]
    assert list(find_files(inside / "a")) == [inside / "a"]
    assert list(find_files(tmp_path / "nowhere")) == []


def test_a_file_is_kept_with_its_data_set_as_it_was(store, tmp_path):
    ds = make_ct()
    instance = take(save(ds, tmp_path / "x.dcm"), store)
    assert stored_data_set(instance) == encoded(ds)
    assert instance.sender == "folder"
    assert (tmp_path / "x.dcm").exists()


def test_a_stale_meta_does_not_matter(store, tmp_path):
    ds = make_ct()
    path = save(ds, tmp_path / "x.dcm")
    path.write_bytes(path.read_bytes().replace(ds.SOPInstanceUID.encode(), b"9" * len(ds.SOPInstanceUID), 1))
    assert pydicom.dcmread(path).file_meta.MediaStorageSOPInstanceUID != ds.SOPInstanceUID
    assert take(path, store).sop_instance_uid == ds.SOPInstanceUID


def test_a_data_set_without_preamble_and_meta_is_recognised(store, tmp_path):
    for implicit, little, uid in (
        (False, True, "1.2.840.10008.1.2.1"),
        (True, True, ImplicitVRLittleEndian),
        (False, False, ExplicitVRBigEndian),
    ):
        path = tmp_path / "bare"
        path.write_bytes(encode(make_ct(), implicit, little))
        assert take(path, store).transfer_syntax_uid == uid


def test_meta_without_a_preamble_is_recognised(store, tmp_path):
    path = save(make_ct(), tmp_path / "x")
    path.write_bytes(path.read_bytes()[132:])
    assert take(path, store)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"This is a letter to a colleague.\n" * 20, b"\x89PNG\r\n\x1a\n" + bytes(300), b"{" * 200],
    ids=["empty", "one byte", "text", "picture", "braces"],
)
def test_what_is_no_dicom_is_said_to_be_none(content, store, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(NotDicom):
        take(path, store)


def test_a_truncated_file_says_where_it_ends(store, tmp_path):
    path = save(make_ct(), tmp_path / "x")
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(NotDicom, match=r"ends in the middle of \(7FE0,0010\)"):
        take(path, store)
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(NotDicom, match="meta"):
        take(path, store)


@needs_shared
def test_every_real_file_is_kept_or_refused_with_a_reason(store, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # 800 of them take a while
    outcomes: Counter[str] = Counter()
    refused = []
    for path in find_files(SHARED):
        try:
            instance = take(path, store)
        except AcceptError as error:
            assert str(error)
            outcomes[type(error).__name__] += 1
            if isinstance(error, NotDicom):
                refused.append(path)
            continue
        outcomes["kept"] += 1
        assert instance.path.exists()
    assert outcomes["kept"] > 690
    images = {path.name for path in refused if pydicom.misc.is_dicom(path) and "DICOMDIR" not in path.name}
    assert images <= {
        "MR_truncated.dcm",
        "rtplan_truncated.dcm",
        "emri_small_jpeg_2k_lossless_too_short.dcm",
        "meta_missing_tsyntax.dcm",
        "no_meta.dcm",
    }, "whole objects must be kept"


@needs_shared
def test_real_truncated_files_and_directories_are_refused(store):
    found = {}
    for path in find_files(SHARED):
        if path.name in ("MR_truncated.dcm", "rtplan_truncated.dcm", "DICOMDIR") or "too_short" in path.name:
            with pytest.raises(NotDicom) as caught:
                take(path, store)
            found[path.name] = str(caught.value)
    assert "(7FE0,0010)" in found["MR_truncated.dcm"]
    assert "DICOMDIR" in found["DICOMDIR"]
    assert len(found) == 4


class Watched:
    def __init__(self, folder, store):
        self.folder = folder
        self.kept = []
        self.trouble = None
        self.store = store
        config = AcceptTable.model_validate({"folder": {"path": folder, "poll_s": 0.05}})
        self.door = FolderDoor(config, store, self.receive)

    def receive(self, spool, request):
        if self.trouble is not None:
            raise self.trouble
        instance = accept(spool, request, self.store, now=datetime.now(UTC))
        self.kept.append(instance.sop_instance_uid)
        return instance


@pytest.fixture
def watched(tmp_path, store):
    return Watched(tmp_path / "inbox", store)


def test_a_file_that_stands_still_is_taken_and_moved(watched):
    ds = make_ct()
    save(ds, watched.folder / "study" / "x.dcm")
    assert watched.door.look() == 0, "seen for the first time"
    assert watched.door.look() == 1
    assert watched.kept == [ds.SOPInstanceUID]
    assert (watched.folder / "taken" / "study" / "x.dcm").exists()
    assert watched.door.look() == 0


def test_a_file_that_still_grows_is_left_alone(watched):
    whole = save(make_ct(), watched.folder / "x.dcm").read_bytes()
    path = watched.folder / "x.dcm"
    for end in (100, 300, len(whole)):
        path.write_bytes(whole[:end])
        assert watched.door.look() == 0
    assert watched.door.look() == 1


def test_what_cannot_be_taken_is_set_aside_with_a_reason(watched):
    watched.folder.mkdir()
    (watched.folder / "letter.txt").write_text("Dear colleague")
    watched.door.look()
    assert watched.door.look() == 0
    assert (watched.folder / "failed" / "letter.txt").exists()
    assert "no DICOM" in (watched.folder / "failed" / "letter.txt.txt").read_text()


def test_trouble_of_the_node_leaves_the_file_to_be_tried_again(watched):
    path = save(make_ct(), watched.folder / "x.dcm")
    for trouble in (OutOfSpace(), OSError(5, "EIO"), RuntimeError("database is locked")):
        watched.trouble = trouble
        for _ in range(3):
            assert watched.door.look() == 0
        assert path.exists()
    watched.trouble = None
    assert eventually(lambda: watched.door.look() == 1)


def test_namesakes_do_not_overwrite_each_other(watched):
    for _ in range(3):
        save(make_ct(), watched.folder / "x.dcm")
        watched.door.look()
        watched.door.look()
    assert sorted(p.name for p in (watched.folder / "taken").iterdir()) == ["x.1.dcm", "x.2.dcm", "x.dcm"]


def test_hidden_files_are_left_to_their_writer(watched):
    save(make_ct(), watched.folder / ".x.dcm")
    watched.door.look()
    assert watched.door.look() == 0


def test_the_door_watches_until_it_is_stopped(watched):
    watched.door.start()
    ds = make_ct()
    save(ds, watched.folder / "x.dcm")
    assert eventually(lambda: watched.kept == [ds.SOPInstanceUID])
    watched.door.stop()
    save(make_ct(), watched.folder / "y.dcm")
    time.sleep(0.3)
    assert (watched.folder / "y.dcm").exists()


def test_without_a_folder_there_is_no_door(store):
    door = FolderDoor(AcceptTable(), store, lambda spool, request: None)
    door.start()
    assert door.look() == 0
    door.stop()


def test_a_file_without_identity_says_so(store, tmp_path):
    with pytest.raises(MissingIdentity):
        take(save_bare(tmp_path / "x"), store)


def save_bare(path):
    path.write_bytes(bytes(128) + b"DICM" + element(0x00080060, b"CS", b"CT"))
    return path
