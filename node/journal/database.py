"""How the journal reaches its database: connections, transactions, migrations.

SQLite by default. Every write is ``BEGIN IMMEDIATE``: it waits for its turn at the beginning
and never fails half-way for the lock. Nothing here but `_sqlite` is particular to SQLite.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DatabaseError, DataError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from node.errors import ConfigError, JournalUnavailable
from node.journal.quick import Quick, Transaction
from node.journal.schema import HEAD

#: How long a transaction waits for its turn before it gives up; a sender hears A700 then.
BUSY_S = 10.0

_MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """An open, migrated database and the data folder that its paths are relative to."""

    def __init__(self, engine: Engine, data: Path) -> None:
        self._engine = engine
        self._writer = engine.execution_options(immediate=True)
        self._data = data
        # SQLite's own waiting is not fair: within this process, writers queue up here.
        self._turn = threading.Lock()
        self._quick = Quick(engine)
        self._changed = threading.Condition()
        #: Grows with what this process writes, but for arrivals; see `wait_for_change`.
        self.changes = 0

    def wait_for_change(self, seen: int, timeout_s: float) -> None:
        """Wait until this process has written more than ``seen`` changes, or the time is up."""
        with self._changed:
            self._changed.wait_for(lambda: self.changes != seen, timeout_s)

    def wake(self) -> None:
        """Let nobody wait for a change any longer."""
        with self._changed:
            self.changes += 1
            self._changed.notify_all()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """One consistent view; writers are not held up by it."""
        with _told_plainly(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """One transaction: all of it is durable when the block ends, or none of it."""
        with self._in_turn(), _told_plainly(), self._writer.begin() as connection:
            yield connection
        self.wake()

    @contextmanager
    def _writing_quickly(self) -> Iterator[Transaction]:
        """Do the same for what is written thousands of times: nobody is woken by it."""
        with self._in_turn(), _told_plainly(), self._quick.transaction() as transaction:
            yield transaction

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        if not self._turn.acquire(timeout=BUSY_S):
            raise JournalUnavailable(f"The journal was busy for {BUSY_S:g} s.")
        try:
            yield
        finally:
            self._turn.release()

    def _kept(self, path: Path) -> str:
        """Return how a path is written down: relative to the data folder where it lies in it."""
        text, within = str(path), f"{self._data}/"
        return text[len(within) :] if text.startswith(within) else text

    def close(self) -> None:
        """Close every connection."""
        with self._turn:
            self._quick.close()
        self._engine.dispose()


@contextmanager
def _told_plainly() -> Iterator[None]:
    """Turn what the database cannot do just now into a sentence; a bug of ours stays one."""
    try:
        yield
    except (IntegrityError, ProgrammingError, DataError):
        raise
    except DatabaseError as error:
        raise JournalUnavailable(f"The journal cannot be used just now: {error.orig}.") from error
    except PoolTimeout as error:
        raise JournalUnavailable("The journal has no free connection just now.") from error


def open_database(data: Path, url: URL | str | None = None, *, create: bool = True) -> Engine:
    """Connect to the journal of a data folder; make it if there is none and bring it up to date.

    Parameters
    ----------
    url
        None: ``journal.sqlite`` in the data folder, for the eyes of its owner and group only.
    create
        Whether it may be made or brought up to date; if not, it must be there and of our schema.

    Raises
    ------
    ConfigError
        Corrupt, not writable, or written by a newer version; absent or older without ``create``.
    """
    file = data / "journal.sqlite"
    place = make_url(url) if url else URL.create("sqlite", database=str(file))
    if create:
        _make_room(data, None if url else file)
    elif not url and not file.is_file():
        raise ConfigError(f"There is no journal in {str(data)!r}; has `radnode serve` run there yet?")
    sqlite = place.get_backend_name() == "sqlite"
    # hide_parameters: a traceback must not quote what was written.
    more: dict[str, Any] = {"connect_args": {"timeout": BUSY_S}, "max_overflow": -1} if sqlite else {}
    engine = create_engine(place, hide_parameters=True, **more)
    if sqlite:
        event.listen(engine, "connect", _sqlite)
        event.listen(engine, "begin", _begin)
    name = str(file) if sqlite else place.render_as_string(hide_password=True)
    try:
        if sqlite:
            _check(engine, name)
        _migrate(engine, name, create)
    except DatabaseError as error:
        engine.dispose()
        raise ConfigError(
            f"The journal {name} cannot be used: {error.orig}. If it is locked, see who uses it; if the "
            f"folder is not writable, make it so; if it is damaged, {_REMEDY}"
        ) from error
    except ConfigError:
        engine.dispose()
        raise
    return engine


def _make_room(data: Path, file: Path | None) -> None:
    """Make the data folder, and in it an empty file that only owner and group may read."""
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o750)
        if file:
            with suppress(FileExistsError):  # SQLite gives the files beside it the same mode
                os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640))
    except OSError as error:
        raise ConfigError(
            f"[node] data = {str(data)!r} is not writable: {error.strerror}. "
            "Name a folder that this user may write."
        ) from error


_REMEDY = (
    "move it and the files beside it that begin with the same name away, and restore a backup "
    "or start with an empty one: the instances on disk are not touched."
)


def _sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself; `_begin` does
    # WAL: readers and the writer do not wait for each other. FULL: a commit survives a power cut.
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _check(engine: Engine, name: str) -> None:
    with engine.begin() as connection:
        verdict = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()).splitlines()[-1]
    if verdict != "ok":
        raise ConfigError(f"The journal {name} is damaged ({verdict}); {_REMEDY}")


def _migrate(engine: Engine, name: str, create: bool) -> None:
    """Bring the schema to `HEAD` in one transaction, so that it may be cut off anywhere."""
    with engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    if found == HEAD:
        return
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    with engine.execution_options(immediate=True).begin() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
        if found is not None and found not in known:
            raise ConfigError(
                f"The journal {name} has schema {found}, written by a newer radnode; this one knows "
                f"{HEAD}. Install that version again, or restore the backup from before the upgrade."
            )
        if not create:
            raise ConfigError(
                f"The journal {name} has schema {found or 'none'}, written by an older radnode; this one "
                f"needs {HEAD}. `radnode serve` of this version brings it up to date."
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
