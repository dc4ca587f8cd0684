"""The folder that a worker may fill: hostile trees are weighed and removed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from node.compute.sandbox import clear, home, overuse


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (made := tmp_path / "home").mkdir()
    return made


def nest(folder: Path, depth: int) -> None:
    """Nest folders deeper than any path can be long, as `cd` does."""
    before = os.open(".", os.O_RDONLY)
    os.chdir(folder)
    for _ in range(depth):
        os.mkdir("a-name-that-is-rather-long")  # noqa: PTH102
        os.chdir("a-name-that-is-rather-long")
    Path("leaf").write_bytes(b"x")
    os.fchdir(before)
    os.close(before)


def test_folders_nested_beyond_any_path_are_removed(folder: Path) -> None:
    nest(folder, 1000)
    clear(folder)
    assert [*folder.iterdir()] == []


def test_what_cannot_be_entered_is_removed_and_links_are_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "journal.sqlite").write_bytes(b"canary")
    (folder / "shut" / "inner").mkdir(parents=True)
    (folder / "shut" / "inner").chmod(0)
    (folder / "shut").chmod(0)
    (folder / "0.aside").write_bytes(b"x")
    (folder / "link").symlink_to(tmp_path / "data")
    (folder / "sub").mkdir()
    (folder / "sub" / "link").symlink_to(tmp_path / "data")
    os.mkfifo(folder / "pipe")
    clear(folder)
    assert [*folder.iterdir()] == []
    assert (tmp_path / "data" / "journal.sqlite").read_bytes() == b"canary"


def test_a_folder_that_is_too_full_is_given_up(folder: Path) -> None:
    for number in range(20):
        (folder / str(number)).touch()
    with pytest.raises(OSError, match="not empty"):
        clear(folder, most=10)
    clear(folder)


def test_a_folder_is_weighed_with_all_that_is_below(folder: Path) -> None:
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "big").write_bytes(bytes(2_000_000))
    assert overuse(os.getpid(), folder, 3_000_000) == ""
    said = overuse(os.getpid(), folder, 1_000_000)
    assert said == "wrote more than the 0.0 GB of [compute] scratch_gb"


def test_a_file_that_only_promises_bytes_weighs_nothing(folder: Path) -> None:
    with (folder / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    assert overuse(os.getpid(), folder, 1_000_000) == ""


def test_many_files_are_told(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(home, "MOST_ENTRIES", 10)
    for number in range(11):
        (folder / str(number)).touch()
    assert overuse(os.getpid(), folder, 1 << 40) == "made more than 10 files"


def test_many_threads_are_told(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(home, "MOST_THREADS", 0)
    assert "threads; 0 are the most" in overuse(os.getpid(), folder, 1 << 40)


NAMELESS = """
import mmap, os, sys, time
file = open("big", "w+b")
file.write(bytes(4 << 20))
file.flush()
os.unlink("big")
if sys.argv[1] == "mapped":
    held = mmap.mmap(file.fileno(), 4 << 20)
    file.close()
    assert len([name for name in os.listdir("/proc/self/fd")]) < 9
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("how", ["open", "mapped"])
def test_a_file_without_a_name_is_weighed_while_it_is(how: str, folder: Path) -> None:
    command = [sys.executable, "-c", NAMELESS, how]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            assert [*folder.iterdir()] == []
            assert "wrote more than" in overuse(process.pid, folder, 1_000_000)
            assert overuse(process.pid, folder, 10_000_000) == ""
        finally:
            process.kill()


def test_a_worker_that_is_gone_has_nothing_too_much(folder: Path) -> None:
    with subprocess.Popen(["true"]) as process:
        pass
    assert overuse(process.pid, folder, 1) == ""
