"""What arrives is in its file byte for byte, whatever the file system can do, or there is no file."""

from __future__ import annotations

import errno
import gc
import itertools
import mmap
import os
import weakref
from pathlib import Path

import pytest

from node.accept.buffers import BUFFER_BYTES, Buffers
from node.accept.custody import accept
from node.accept.part10 import part10_head
from node.accept.spool import Spool, Ways, ways_of
from node.accept.store import Store
from node.config import AcceptTable
from node.errors import IdentityMismatch, OutOfSpace
from tests.accept.conftest import encoded, make_ct
from tests.accept.test_store import NOW, files_below, open_store, request_for
from tests.harness import being_received

WAYS = [Ways(*both) for both in itertools.product((True, False), repeat=2)]
REQUEST = request_for("1.2.3")
HEAD = part10_head(REQUEST.sop_class_uid, REQUEST.sop_instance_uid, REQUEST.transfer_syntax_uid)
#: Of a data set: nothing to write at once, only that, one more, and the same about a full buffer.
SIZES = sorted(
    size + more - len(HEAD)
    for size in (len(HEAD) + 1, 4096, BUFFER_BYTES, 2 * BUFFER_BYTES, 3 * BUFFER_BYTES + 8192)
    for more in (-1, 0, 1)
    if size + more > len(HEAD)
)


def spool_at(folder: Path, ways: Ways, buffers: Buffers | None = None) -> Spool:
    return Spool(
        str(folder / "x.part"),
        REQUEST,
        ways=ways,
        buffers=buffers or Buffers(),
        max_bytes=1 << 30,
        spare_bytes=lambda: 1,
    )


@pytest.fixture(params=WAYS, ids=str)
def ways(request, tmp_path) -> Ways:
    known = ways_of(tmp_path)
    if request.param.is_nameless > known.is_nameless or request.param.is_direct > known.is_direct:
        pytest.skip("this file system does not know how")
    return request.param


@pytest.mark.parametrize("pieces_of", [1000, 131_072, BUFFER_BYTES * 2])
def test_every_size_is_written_byte_for_byte(pieces_of, ways, tmp_path):
    buffers = Buffers()  # used again: nothing of one may be in another
    for number, size in enumerate(reversed(SIZES)):
        data = bytes([number + 1]) * size
        spool = spool_at(tmp_path, ways, buffers)
        for at in range(0, size, pieces_of):
            spool.write(data[at : at + pieces_of])
        spool.finish()
        assert bool(files_below(tmp_path)) != ways.is_nameless
        assert Path(spool.name).read_bytes() == HEAD + data
        part = Path(spool.show())
        spool.sync()
        spool.keep()
        assert part.read_bytes() == HEAD + data
        assert spool.size_bytes == size
        spool.discard()
        assert part.exists(), "what is kept is not discarded"
        part.unlink()


def test_what_is_given_up_leaves_nothing_and_no_descriptor(ways, tmp_path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for size in (10, 2 * BUFFER_BYTES):
        spool = spool_at(tmp_path, ways)
        spool.write(bytes(size))
        spool.discard()
        spool.discard()
    assert files_below(tmp_path) == set()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_all_is_known_of_the_file_system_that_we_are_tested_on(tmp_path):
    assert ways_of(tmp_path) in WAYS
    assert files_below(tmp_path) == set()
    assert ways_of(tmp_path / "nowhere") == Ways(is_nameless=False, is_direct=False)


def test_where_a_file_cannot_get_its_name_later_it_has_one_from_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr(
        os, "link", lambda *_, **__: (_ for _ in ()).throw(PermissionError(1, "not permitted"))
    )
    assert not ways_of(tmp_path).is_nameless
    store = open_store(tmp_path)
    spool = store.spool(request_for("1.2.3.4"))
    assert [path.suffix for path in being_received(tmp_path)] == [".part"]
    spool.write(encoded(make_ct(SOPInstanceUID="1.2.3.4")))
    assert accept(spool, spool.request, store, now=NOW).path.is_file()
    assert being_received(tmp_path) == []


def test_a_disk_with_other_sectors_and_one_that_takes_a_part_are_written_to_the_end(tmp_path, monkeypatch):
    real = os.write
    is_direct = ways_of(tmp_path).is_direct
    seen = []

    def write(fd, data):
        flags = int(Path(f"/proc/self/fdinfo/{fd}").read_text().split("flags:")[1].split()[0], 8)
        seen.append(bool(flags & os.O_DIRECT))
        if seen[-1]:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(fd, data[:100_001])

    monkeypatch.setattr(os, "write", write)
    spool = spool_at(tmp_path, Ways(is_nameless=False, is_direct=is_direct))
    data = os.urandom(2 * BUFFER_BYTES + 5)
    spool.write(data)
    spool.finish()
    assert Path(spool.name).read_bytes() == HEAD + data
    assert seen.count(True) == is_direct, "it is tried once"
    spool.discard()


@pytest.mark.parametrize("size", [100, 3 * BUFFER_BYTES])
def test_a_full_disk_is_remembered_and_gives_its_space_back(size, ways, tmp_path, monkeypatch):
    spool = spool_at(tmp_path, ways)
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: (_ for _ in ()).throw(OSError(28, "No space left")))
    assert spool.write(bytes(size)) == size, "write never raises"
    with pytest.raises(OutOfSpace, match="full"):
        spool.finish()
    monkeypatch.setattr(os, "write", real)
    spool.write(b"more")
    with pytest.raises(OutOfSpace, match="full"):
        spool.uids()
    assert files_below(tmp_path) == set()


def test_an_object_that_eats_up_the_reserve_on_the_way_is_given_up(ways, tmp_path):
    spare = [1]
    spool = Spool(
        str(tmp_path / "x.part"),
        REQUEST,
        ways=ways,
        buffers=Buffers(),
        max_bytes=1 << 30,
        spare_bytes=lambda: spare[0],
    )
    spool.write(bytes(1 << 20))
    spare[0] = 0
    for _ in range(20):
        spool.write(bytes(1 << 20))
    with pytest.raises(OutOfSpace, match="reserve"):
        spool.finish()
    assert files_below(tmp_path) == set()


@pytest.mark.parametrize("rows", [16, 1024], ids=["in memory", "mostly in the file"])
def test_who_it_is_is_known_before_and_after_it_is_written(rows, ways, tmp_path):
    spool = spool_at(tmp_path, ways)
    spool.write(encoded(make_ct(rows=rows)))
    uids = spool.uids()
    spool.finish()
    assert spool.uids() == uids
    assert set(uids.values()) >= {"1.2.3.1", "1.2.3.2"}
    later = spool_at(tmp_path / "..", ways)
    later.write(encoded(make_ct(rows=rows)))
    later.finish()
    assert later.uids().keys() == uids.keys()
    spool.discard()
    later.discard()


def test_what_is_refused_is_never_written(tmp_path, monkeypatch):
    store = Store(tmp_path, AcceptTable(reserve_gb=0))
    spool = store.spool(request_for("1.2.3.4"))
    spool.write(encoded(make_ct(SOPInstanceUID="9.9.9")))
    monkeypatch.setattr(os, "write", lambda fd, data: pytest.fail("it was written"))
    with pytest.raises(IdentityMismatch):
        accept(spool, spool.request, store, now=NOW)
    assert being_received(tmp_path) == []


def test_what_is_given_up_under_the_hands_of_who_writes_it_gets_into_nobody_elses_file(
    ways, tmp_path, monkeypatch
):
    """As when an association ends whose thread hangs at a slow disk: just then others open files."""
    buffers, others = Buffers(), []
    foreign, own = b"\1" * BUFFER_BYTES, b"\2" * 5000
    given_up = spool_at(tmp_path, ways, buffers)
    real = os.write

    def write(fd, data):
        if not others:
            given_up.discard()
            others.extend(spool_at(make(tmp_path / str(n)), ways, buffers) for n in range(3))
        return real(fd, data)

    monkeypatch.setattr(os, "write", write)
    given_up.write(foreign)
    given_up.write(foreign)
    with pytest.raises(OSError, match="given up"):
        given_up.finish()
    for other in others:
        other.write(own)
        other.finish()
        assert Path(other.name).read_bytes() == HEAD + own
        other.discard()


def test_what_is_lost_gives_its_file_and_its_memory_back(ways, tmp_path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    lost = [spool_at(make(tmp_path / str(n)), ways) for n in range(5)]
    refused = Spool(
        str(make(tmp_path / "refused") / "x.part"),
        REQUEST,
        ways=ways,
        buffers=Buffers(),
        max_bytes=10,
        spare_bytes=lambda: 1,
    )
    refused.write(bytes(11))
    with pytest.raises(OutOfSpace, match="larger"):
        refused.finish()
    alive = weakref.ref(refused)
    gc.disable()
    try:
        del lost, refused
        assert alive() is None, "it waits for the collector of cycles"
    finally:
        gc.enable()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert files_below(tmp_path) == set()


def test_nothing_comes_after_the_end(ways, tmp_path):
    spool = spool_at(tmp_path, ways)
    spool.write(b"all of it")
    spool.finish()
    assert spool.write(b"and more") == 8
    with pytest.raises(OSError, match="after the end"):
        spool.sync()


def test_without_memory_it_is_an_error_like_others(ways, tmp_path, monkeypatch):
    refusal = OSError(errno.ENOMEM, "Cannot allocate memory")
    monkeypatch.setattr(mmap, "mmap", lambda *_: (_ for _ in ()).throw(refusal))
    spool = spool_at(tmp_path, ways)
    spool.write(b"x")
    with pytest.raises(OSError, match="memory"):
        spool.finish()


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder
