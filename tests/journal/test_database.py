from __future__ import annotations

import fcntl
import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import UTC, datetime

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
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


@pytest.mark.parametrize("lazily", [False, True])
def test_a_commit_of_what_arrived_waits_for_the_disk_unless_told_otherwise(lazily, tmp_path):
    journal = Journal.open(tmp_path)
    if lazily:
        journal.record_lazily()
    journal.record(an_instance(1))
    (synchronous,) = journal._quick._connection.cursor().execute("PRAGMA synchronous").fetchone()
    assert synchronous == (1 if lazily else 2), "NORMAL or FULL"
    with journal._writing() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2, "all else always waits"
    journal.close()


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


def at_schema(folder, revision):
    """Make a journal as an older radnode would have left it."""
    config = Config()
    config.set_main_option("script_location", str(database_module._MIGRATIONS))
    engine = create_engine(f"sqlite:///{folder / 'journal.sqlite'}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def schema_of(folder):
    with closing(sqlite3.connect(folder / "journal.sqlite")) as connection:
        return connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]


def test_a_command_beside_the_node_makes_no_journal(tmp_path):
    with pytest.raises(ConfigError, match=r"There is no journal.*has `radnode serve` run"):
        Journal.open(tmp_path / "data", create=False)
    assert not (tmp_path / "data").exists()
    Journal.open(tmp_path / "data").close()
    Journal.open(tmp_path / "data", create=False).close()


def test_a_command_beside_an_older_node_leaves_the_journal_as_it_is(tmp_path):
    at_schema(tmp_path, "0001")
    with pytest.raises(ConfigError, match=r"schema 0001, written by an older radnode"):
        Journal.open(tmp_path, create=False)
    assert schema_of(tmp_path) == "0001"
    Journal.open(tmp_path).close()
    assert schema_of(tmp_path) == HEAD


def test_an_older_journal_gives_back_the_keys_of_what_is_no_more(tmp_path):
    at_schema(tmp_path, "0001")
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as connection, connection:
        for number, state in enumerate(("done", "done", "cancelled", "queued"), start=1):
            values = (number, f"key{number}", *"pvdsiirs", state, 0, 0, 0, *"ttt", "", "", None)
            connection.execute("INSERT INTO job VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", values)
            aged_out = (number, f"1.{number}", 1, "seg", "1", "1", "1", "p", "h", "[]", number == 1)
            connection.execute("INSERT INTO result VALUES (?,?,?,?,?,?,?,?,?,?,?)", aged_out)
    Journal.open(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as connection:
        keys = [key for (key,) in connection.execute("SELECT key FROM job ORDER BY id")]
    assert keys == ["given back by 1", "key2", "given back by 3", "key4"]


def test_no_stranger_may_read_the_journal(journal, tmp_path):
    journal.record(an_instance(1))
    modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.glob("journal.sqlite*")}
    assert len(modes) == 3
    assert all(mode & 0o027 == 0 for mode in modes.values()), modes


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


def test_who_looks_whether_a_node_runs_keeps_none_from_starting(tmp_path):
    with lock_data(tmp_path):
        pass
    looking = os.open(tmp_path / "lock", os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    ending = threading.Timer(0.03, os.close, [looking])
    ending.start()
    with lock_data(tmp_path):
        ending.join()


def test_a_killed_node_leaves_no_lock(tmp_path):
    code = "import os, sys; from pathlib import Path; from node.journal import lock_data\n"
    code += "with lock_data(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    assert python(code, tmp_path).returncode == -9
    with lock_data(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_jobs_of_an_older_journal_need_nothing_and_nothing_follows_from_them(tmp_path):
    at_schema(tmp_path, "0004")
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as connection, connection:
        at = "2026-11-20T12:00:00.000000Z"
        told = '{"summary": [], "notes": [], "seconds": {}}'
        values = (1, "key", *"pvds", "{}", "i", "r", "[]", "refused", 0, 0, 0, at, at, at, "", "", told)
        marks = ",".join("?" * len(values))
        columns = "id, key, pipeline, pipeline_version, pipeline_digest, study_uid, inputs, input_digest, "
        columns += "rule, send_to, state, fence, tries, losses, not_before, created_at, changed_at, "
        columns += "reason_code, reason, outcome"
        connection.execute(f"INSERT INTO job ({columns}) VALUES ({marks})", values)  # noqa: S608
    journal = Journal.open(tmp_path)
    assert journal.job(1).spec.needs == {}
    assert list(journal.unfollowed()) == []
    assert (journal.outcome(1).outlines, journal.outcome(1).segments) == ("", ())
    journal.close()


def test_jobs_and_series_of_an_older_journal_are_of_no_case_and_no_known_patient(tmp_path):
    at_schema(tmp_path, "0003")
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as connection, connection:
        at = "2026-11-20T12:00:00.000000Z"
        values = (1, "key", *"pvds", "{}", "i", "r", "[]", "queued", 0, 0, 0, at, at, at, "", "", *[None] * 3)
        marks = ",".join("?" * len(values))
        connection.execute(f"INSERT INTO job VALUES ({marks})", values)  # noqa: S608
        connection.execute("INSERT INTO series VALUES ('1.2.3','1.2',?,1,0,?,'')", (at, at))
    journal = Journal.open(tmp_path)
    spec = journal.job(1).spec
    assert (spec.case, spec.lack) == ((), None)
    assert journal.patient_of("1.2") == ""
    assert [series.uid for series in journal.settled_in(study_uid="1.2")] == ["1.2.3"]
    assert journal.claim(datetime(2026, 11, 21, tzinfo=UTC)).id == 1
    journal.close()


def test_what_may_have_arrived_by_an_older_journal_may_be_at_its_destination(tmp_path):
    at_schema(tmp_path, "0005")
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as connection, connection:
        columns = "job_id, destination, sop_instance_uid, sentence, tried"
        for uid, tried in (("1.1", "[]"), ("1.2", '["1.2", "1.3"]')):
            values = (1, "archive", uid, "", tried)
            connection.execute(f"INSERT INTO parcel ({columns}) VALUES (?,?,?,?,?)", values)  # noqa: S608
    Journal.open(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as connection:
        tried = connection.execute("SELECT tried FROM parcel ORDER BY sop_instance_uid").fetchall()
    assert tried == [("[]",), ('[["archive", "1.2"], ["archive", "1.3"]]',)]
