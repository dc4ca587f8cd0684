"""The store: nothing half there, nothing lost, nothing outside."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pydicom
import pytest

from node.accept.custody import accept
from node.accept.part10 import part10_head
from node.accept.spool import Request
from node.accept.store import Store
from node.config import AcceptTable
from node.errors import OutOfSpace
from node.failpoint import FailpointRaised
from node.model import Instance
from tests.accept.conftest import data_set_offset, encoded, make_ct, send
from tests.harness import being_received, eventually

NOW = datetime(2026, 11, 20, tzinfo=UTC)
CT = "1.2.840.10008.5.1.4.1.1.2"


def request_for(uid: str) -> Request:
    return Request(
        sender="TEST", sop_class_uid=CT, sop_instance_uid=uid, transfer_syntax_uid="1.2.840.10008.1.2.1"
    )


def open_store(data: Path, **table: float) -> Store:
    return Store(data, AcceptTable.model_validate({"reserve_gb": 0, **table}))


def put(store: Store, uid: str = "1.2.3.4") -> Instance:
    spool = store.spool(request_for(uid))
    spool.write(encoded(make_ct(SOPInstanceUID=uid)))
    return accept(spool, request_for(uid), store, now=NOW)


def files_below(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_the_head_is_one_that_pydicom_and_dcmtk_read(tmp_path):
    instance = put(open_store(tmp_path))
    meta = pydicom.dcmread(instance.path).file_meta
    assert meta.FileMetaInformationVersion == b"\x00\x01"
    assert meta.MediaStorageSOPInstanceUID == "1.2.3.4"
    done = subprocess.run(["dcmftest", str(instance.path)], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("yes")


def test_a_hostile_uid_cannot_grow_the_head():
    assert len(part10_head(CT, "../../" + "x" * 10_000, "1.2.840.10008.1.2.1")) < 600


def test_names_come_from_content(tmp_path):
    store = open_store(tmp_path)
    instance = put(store)
    assert re.fullmatch(
        r"instances/([0-9a-f]{2})/\1[0-9a-f]{62}\.dcm", str(instance.path.relative_to(tmp_path))
    )
    assert put(store).path == instance.path, "the same file again replaces itself"
    assert put(store, "1.2.3.5").path != instance.path


def test_the_same_bytes_under_another_transfer_syntax_leave_the_held_file_as_it_is(tmp_path):
    store = open_store(tmp_path)
    held = put(store)
    before = held.path.read_bytes()
    request = replace(request_for("1.2.3.4"), transfer_syntax_uid="1.2.840.10008.1.2.4.80")
    spool = store.spool(request)
    spool.write(before[data_set_offset(before) :])
    other = accept(spool, request, store, now=NOW)
    assert other.sha256 == held.sha256
    assert held.path.read_bytes() == before


def test_what_is_held_gives_way_only_to_what_is_whole_on_the_disk(tmp_path, monkeypatch):
    store = open_store(tmp_path)
    held = put(store).path
    before = held.stat().st_ino
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(held.stat().st_ino == before), real(fd)))
    assert put(store).path == held
    assert synced == [True, False], "the new file is synced before it takes the name, its folder after"


@pytest.mark.parametrize("meanwhile", [False, True], ids=["alone", "another sender took the name"])
def test_a_file_that_cannot_be_synced_loses_its_name_and_no_other_does(meanwhile, tmp_path, monkeypatch):
    store = open_store(tmp_path)
    real = os.fsync

    def fsync(fd):
        monkeypatch.setattr(os, "fsync", real)
        if meanwhile:
            put(store)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Input"):
        put(store)
    assert len(files_below(tmp_path / "instances")) == meanwhile
    assert being_received(tmp_path) == []


def test_a_folder_that_cannot_be_synced_takes_the_name_back(tmp_path, monkeypatch):
    store = open_store(tmp_path)
    refusal = OSError(24, "Too many open files")
    monkeypatch.setattr("node.accept.store.sync_folder", lambda _: (_ for _ in ()).throw(refusal))
    with pytest.raises(OSError, match="Too many"):
        put(store)
    assert files_below(tmp_path / "instances") == set()


def test_what_fails_while_it_is_given_up_is_told_as_what_it_was(tmp_path, monkeypatch):
    store = open_store(tmp_path)
    spool = store.spool(request_for("1.2.3.4"))
    spool.write(encoded(make_ct(SOPInstanceUID="1.2.3.4")))

    def fsync(_):
        spool.discard()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Input"):
        store.keep(spool)


def test_below_the_reserve_nothing_is_begun(tmp_path):
    store = open_store(tmp_path, reserve_gb=1e6)
    spool = store.spool(request_for("1.2.3"))
    with pytest.raises(OutOfSpace, match="reserve"):
        spool.finish()
    assert files_below(tmp_path) == set()


def test_a_disk_that_has_filled_up_is_noticed_in_a_moment_and_so_is_room(tmp_path, monkeypatch):
    store = open_store(tmp_path)

    def is_taken() -> bool:
        spool = store.spool(request_for("1.2.3"))
        try:
            spool.finish()
        except OutOfSpace:
            return False
        finally:
            spool.discard()
        return True

    assert is_taken()
    for spare_bytes in (0, 1):
        monkeypatch.setattr(store, "spare_bytes", lambda now=spare_bytes: now)
        assert eventually(lambda: is_taken() == bool(spare_bytes), within_s=0.5)  # noqa: B023


def test_an_object_over_the_limit_is_refused_and_the_next_one_works(open_door):
    door = open_door(max_object_gb=0.001)
    answers = send(door.port, make_ct(rows=1024), make_ct())
    assert [a.Status for a in answers] == [0xA700, 0]
    assert "larger" in answers[0].ErrorComment


@pytest.mark.parametrize("place", ["accept.spooled", "accept.synced"])
def test_a_disk_that_fills_up_at_the_last_moment_is_a700(place, open_door, monkeypatch):
    door = open_door()
    monkeypatch.setenv("RADNODE_FAILPOINTS", f"{place}=enospc")
    ds = make_ct()
    assert send(door.port, ds)[0].Status == 0xA700
    monkeypatch.delenv("RADNODE_FAILPOINTS")
    assert files_below(door.data) == set()
    assert send(door.port, ds)[0].Status == 0


def test_a_small_disk_that_is_full_is_a700_and_recovers_without_a_restart(open_door, tmp_path):
    small = tmp_path / "data0"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(small)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system needs root")
    try:
        door = open_door()
        answers = send(door.port, make_ct(), make_ct(rows=2048), make_ct(rows=256))
        assert [a.Status for a in answers] == [0, 0xA700, 0]
        assert door.spooled() == []
        door.door.stop()
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_killed_between_rename_and_journal_the_file_is_set_aside_and_comes_again(tmp_path, monkeypatch):
    store = open_store(tmp_path)
    kept = put(store, "1.2.3.1")
    monkeypatch.setenv("RADNODE_FAILPOINTS", "accept.renamed=raise")
    with pytest.raises(FailpointRaised):
        put(store, "1.2.3.2")
    monkeypatch.delenv("RADNODE_FAILPOINTS")
    on_the_way = store.spool(request_for("1.2.3.3"))
    on_the_way.show()
    on_the_way.close()
    assert open_store(tmp_path).sweep([kept.path]) == 2
    assert kept.path.exists()
    assert len(files_below(tmp_path / "instances")) == 1
    assert being_received(tmp_path) == []
    assert len(files_below(tmp_path / "quarantine")) == 2
    assert put(store, "1.2.3.2").path.exists()


def test_what_is_quarantined_is_told_without_patient_data(tmp_path):
    store = open_store(tmp_path)
    instance = put(store)
    target = store.quarantine(instance)
    assert not instance.path.exists()
    note = json.loads(target.with_suffix(".json").read_text())
    assert note["sop_instance_uid"] == "1.2.3.4"
    assert note["reason"] == "content-conflict"
    assert "anary" not in str(note)


def test_what_is_half_there_takes_no_place_in_the_quarantine_of_what_is_whole(tmp_path):
    store = open_store(tmp_path)
    instance = put(store)
    whole = instance.path.read_bytes()
    target = store.quarantine(instance)
    note = target.with_suffix(".json").read_text()
    instance.path.write_bytes(b"")  # what a power cut may leave of it when it is sent again
    assert open_store(tmp_path).sweep([]) == 1
    assert target.read_bytes() == whole
    assert target.with_suffix(".json").read_text() == note
    assert files_below(tmp_path / "instances") == set()
    assert len(files_below(tmp_path / "quarantine")) == 4, "nor is it thrown away: who knows which is whole"


def test_what_two_send_at_once_is_quarantined_once(tmp_path):
    store = open_store(tmp_path)
    instance = put(store)
    assert store.quarantine(instance) == store.quarantine(instance)
    store.quarantine(instance).unlink()
    with pytest.raises(FileNotFoundError):
        store.quarantine(instance)


def test_what_two_set_aside_at_the_same_moment_is_an_error_for_neither(tmp_path, monkeypatch):
    store = open_store(tmp_path)
    instance = put(store)
    other = threading.Thread(target=lambda: targets.append(store.quarantine(instance)))
    targets: list[Path] = []
    real = os.fsync

    def fsync(fd):
        if other.ident is None:
            other.start()
            other.join(0.5)
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    targets.append(store.quarantine(instance))
    other.join()
    assert targets[0] == targets[1]
    assert len(files_below(tmp_path / "quarantine")) == 2


def test_retention_removes_files_of_the_store_and_no_others(tmp_path):
    store = open_store(tmp_path / "data")
    instance = put(store)
    foreign = tmp_path / "foreign"
    foreign.write_text("mine")
    with pytest.raises(ValueError, match="store"):
        store.remove([foreign])
    assert foreign.exists()
    assert store.remove([instance.path, instance.path]) == 1
    assert not instance.path.exists()
