"""Transactions of a few statements that are executed for every instance that arrives.

SQLAlchemy takes ten times as long to execute a small statement as SQLite does. So these are written
with it like all others, compiled once for the database at hand, and given to the driver as they are, on
a connection that stays open for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import Executable
from sqlalchemy.sql.compiler import SQLCompiler

#: How a database is told, for one connection, to bring commits to the disk a little later.
_LATER = {"sqlite": "PRAGMA synchronous = NORMAL", "postgresql": "SET synchronous_commit TO off"}

Values = Mapping[str, Any]
_Convert = Callable[[Any], Any]


class _Prepared:
    """A statement as the driver takes it, with what turns our values into its own and back."""

    def __init__(self, statement: Any, names: Sequence[str], engine: Engine) -> None:
        dialect = engine.dialect
        compiled: SQLCompiler = statement.compile(
            engine, column_keys=list(names) if statement.is_insert else None
        )
        self.text = compiled.string
        self._order = compiled.positiontup  #: None where the driver takes them by name
        #: Values that the statement itself brings.
        self._given = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}
        self._binds: dict[str, _Convert] = {
            name: convert
            for name, bind in compiled.binds.items()
            if (convert := bind.type.dialect_impl(dialect).bind_processor(dialect)) is not None
        }
        self._results: list[_Convert | None] = [
            column.type.dialect_impl(dialect).result_processor(dialect, None)
            for column in (statement.selected_columns if statement.is_select else ())
        ]
        self._is_plain = not any(self._results)

    def arguments(self, values: Values) -> Any:
        """Return values as the driver takes them."""
        mine = {**self._given, **values}
        for name, convert in self._binds.items():
            mine[name] = convert(mine[name])
        return mine if self._order is None else [mine[name] for name in self._order]

    def results(self, rows: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
        """Return rows as we know them."""
        if self._is_plain:
            return [tuple(row) for row in rows]
        return [
            tuple(
                value if convert is None else convert(value)
                for value, convert in zip(row, self._results, strict=True)
            )
            for row in rows
        ]


class Transaction:
    """One transaction. Statements are module constants: each is compiled once and kept for ever."""

    def __init__(self, cursor: Any, prepared: dict[int, _Prepared], engine: Engine) -> None:
        self._cursor = cursor
        self._prepared = prepared
        self._engine = engine

    def rows(self, statement: Executable, values: Values) -> list[tuple[Any, ...]]:
        """Return what a SELECT finds."""
        prepared = self._prepare(statement, values)
        self._cursor.execute(prepared.text, prepared.arguments(values))
        return prepared.results(self._cursor.fetchall())

    def execute(self, statement: Executable, values: Values | Sequence[Values]) -> None:
        """Execute an INSERT or UPDATE, once for each mapping of values."""
        many = [values] if isinstance(values, Mapping) else values
        prepared = self._prepare(statement, many[0])
        self._cursor.executemany(prepared.text, [prepared.arguments(one) for one in many])

    def _prepare(self, statement: Executable, values: Values) -> _Prepared:
        if (prepared := self._prepared.get(id(statement))) is None:
            prepared = self._prepared[id(statement)] = _Prepared(statement, tuple(values), self._engine)
        return prepared


class Quick:
    """A connection of its own for such transactions. Whoever uses it has it alone.

    Attributes
    ----------
    is_durable
        False: a power cut may take the last of them, all of each or nothing. Set it before the first.
    """

    def __init__(self, engine: Engine) -> None:
        self.is_durable = True
        self._engine = engine
        self._connection: Any = None
        self._prepared: dict[int, _Prepared] = {}

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Write: all of it is durable when the block ends, or none of it.

        Raises
        ------
        DBAPIError
            As SQLAlchemy raises it.
        """
        dialect = self._engine.dialect
        driver = dialect.loaded_dbapi
        try:
            if self._connection is None:
                self._connection = self._engine.raw_connection()
                if not self.is_durable:
                    self._connection.cursor().execute(_LATER[dialect.name])
            cursor = self._connection.cursor()
            if dialect.name == "sqlite":  # other drivers begin by themselves
                cursor.execute("BEGIN IMMEDIATE")
            yield Transaction(cursor, self._prepared, self._engine)
            self._connection.commit()
        except driver.Error as error:
            self.close()
            raise DBAPIError.instance(
                None, None, error, driver.Error, hide_parameters=True, dialect=dialect
            ) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the connection, and of what was not committed; the next transaction opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):  # a broken one cannot even be closed
                connection.invalidate()
