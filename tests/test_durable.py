"""What is written under a name is all there after a power cut, or what was there before still is."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from node.durable import write_whole


def test_a_text_takes_the_place_of_another_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "note.json"
    for text in ("first", "Grüße, second"):
        write_whole(path, text)
        assert path.read_text(encoding="utf-8") == text
    write_whole(path, "third", mode=0o604)
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    assert [*tmp_path.iterdir()] == [path]


def test_its_bytes_are_on_the_disk_before_its_name_and_its_name_before_it_returns(tmp_path, monkeypatch):
    path = tmp_path / "note.json"
    path.write_text("old")
    seen = []
    real = os.fsync

    def fsync(fd):
        what = Path(f"/proc/self/fd/{fd}")
        seen.append(("folder" if what.is_dir() else what.read_text(), path.read_text()))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    write_whole(path, "new")
    assert seen == [("new", "old"), ("folder", "new")]


def test_what_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "note.json"
    path.write_text("old")
    refusal = OSError(28, "No space left on device")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(refusal))
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]
