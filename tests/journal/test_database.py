from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from node.errors import ConfigError, JournalUnavailable
from node.journal import Journal, Recorded, lock_data
from node.journal import database as database_module
from node.journal.schema import HEAD, metadata
from tests.journal_makers import an_instance
from tests.paths import REPOSITORY


def python(code: str, *args: object, **more) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        cwd=more.pop("cwd", REPOSITORY),
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        **more,
    )


def test_what_was_recorded_is_there_after_reopening(tmp_path):
    first = Journal.open(tmp_path)
    first.record(an_instance(1))
    first.close()
    second = Journal.open(tmp_path)
    assert second.series("1.2.3").instances == (an_instance(1),)
    second.close()


def test_the_migrations_lead_to_the_schema_and_head_is_the_newest(tmp_path):
    Journal.open(tmp_path).close()
    engine = create_engine(f"sqlite:///{tmp_path / 'journal.sqlite'}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()
    assert ScriptDirectory(str(database_module._MIGRATIONS)).get_heads() == [HEAD]


def test_the_migrations_are_found_from_any_folder(tmp_path):
    code = "import sys; from pathlib import Path; from node.journal import Journal\n"
    code += "Journal.open(Path(sys.argv[1])).close()"
    done = python(code, tmp_path / "a b %d" / "data", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_commit_is_synced_and_readers_do_not_wait(journal):
    with journal._reading() as connection:
        pragma = {
            n: connection.exec_driver_sql(f"PRAGMA {n}").scalar() for n in ("journal_mode", "synchronous")
        }
        assert pragma == {"journal_mode": "wal", "synchronous": 2}
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        journal.record(an_instance(1))  # another connection writes while this one reads


def test_a_newer_schema_is_refused_with_what_to_do(tmp_path):
    Journal.open(tmp_path).close()
    with sqlite3.connect(tmp_path / "journal.sqlite") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(ConfigError, match=r"schema 9999, written by a newer radnode.*backup"):
        Journal.open(tmp_path)


def test_an_interrupted_migration_leaves_nothing_and_is_repeated(tmp_path, monkeypatch):
    def cut_off(_config, _head):
        raise KeyboardInterrupt

    def half(config, _head):
        config.attributes["connection"].exec_driver_sql("CREATE TABLE series (half INTEGER)")
        raise KeyboardInterrupt

    for way in (cut_off, half):
        with monkeypatch.context() as patch:
            patch.setattr(database_module.command, "upgrade", way)
            with pytest.raises(KeyboardInterrupt):
                Journal.open(tmp_path)
    journal = Journal.open(tmp_path)
    assert journal.record(an_instance(1)) is Recorded.NEW
    journal.close()


@pytest.mark.parametrize("damage", ["no database", "page overwritten", "cut off"])
def test_a_damaged_journal_is_refused_with_what_to_do(tmp_path, damage):
    journal = Journal.open(tmp_path)
    for number in range(200):
        journal.record(an_instance(number))
    journal.close()
    file = tmp_path / "journal.sqlite"
    content = file.read_bytes()
    if damage == "no database":
        file.write_bytes(b"not a database at all" * 100)
    elif damage == "page overwritten":
        file.write_bytes(content[:8192] + b"\xff" * 8192 + content[16384:])
    else:
        file.write_bytes(content[: len(content) // 2])
    with pytest.raises(ConfigError, match=r"journal.sqlite.*backup"):
        Journal.open(tmp_path)


def test_a_data_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(ConfigError, match=r"\[node\] data"):
        Journal.open(tmp_path / "data")
    with pytest.raises(ConfigError, match=r"\[node\] data"), lock_data(tmp_path / "data"):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_journal_that_cannot_be_written_is_refused(tmp_path):
    Journal.open(tmp_path).close()
    (tmp_path / "journal.sqlite").chmod(0o400)
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ConfigError, match="not writable"):
            Journal.open(tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_a_journal_locked_by_another_process_is_waited_for_and_then_told(tmp_path, monkeypatch):
    monkeypatch.setattr(database_module, "BUSY_S", 0.3)
    journal = Journal.open(tmp_path)
    other = sqlite3.connect(tmp_path / "journal.sqlite", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalUnavailable, match="locked") as caught:
        journal.record(an_instance(1))
    assert caught.value.then == "retry"
    assert journal.status()["instances"] == 0  # readers are not held up
    threading.Timer(0.1, lambda: other.execute("ROLLBACK")).start()
    assert journal.record(an_instance(1)) is Recorded.NEW
    time.sleep(0.1)
    other.close()
    journal.close()


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from node.errors import JournalUnavailable
from node.journal import Journal
from tests.journal_makers import an_instance
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal.open(Path(sys.argv[1]))
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
kept = 0
try:
    while kept < 5000:
        journal.record(an_instance(kept))
        kept += 1
except JournalUnavailable as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
journal.record(an_instance(kept))
print(kept + 1, journal.status()["instances"])
"""


def test_a_full_disk_is_told_and_loses_nothing(tmp_path):
    done = python(FULL_DISK, tmp_path)
    assert done.returncode == 0, done.stderr
    sentence, counts = done.stdout.splitlines()
    assert sentence.startswith("The journal cannot be used just now")
    acknowledged, present = map(int, counts.split())
    assert 0 < acknowledged == present < 5000
    journal = Journal.open(tmp_path)
    assert journal.status()["instances"] == present
    journal.close()


def test_a_second_node_on_the_data_folder_hears_who_has_it(tmp_path):
    code = "import sys; from pathlib import Path; from node.journal import lock_data\n"
    code += "with lock_data(Path(sys.argv[1])): print('mine')"
    with lock_data(tmp_path):
        done = python(code, tmp_path)
        assert done.returncode == 1
        assert f"process {os.getpid()}" in done.stderr
    assert python(code, tmp_path).stdout == "mine\n"


def test_a_killed_node_leaves_no_lock(tmp_path):
    code = "import os, sys; from pathlib import Path; from node.journal import lock_data\n"
    code += "with lock_data(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    assert python(code, tmp_path).returncode == -9
    with lock_data(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
