"""What tests of every step may ask for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest
import structlog

from tests.certificates import Certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Return the PEM files of a certificate authority, its servers and clients; see `Certificates`."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


class _Printed:
    """A log on the standard output of the moment, which pytest exchanges while threads of ours go on.

    That of structlog uses print(), which in CPython 3.11 holds no reference to it, and ended a whole run.
    """

    def msg(self, message: str) -> None:
        output = sys.stdout
        with suppress(ValueError):  # it was closed meanwhile
            output.write(f"{message}\n")

    debug = info = warning = error = critical = exception = msg


def _print_log() -> None:
    structlog.reset_defaults()
    structlog.configure(logger_factory=lambda *_: _Printed())


_print_log()


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """Give each test the log as it is before a command sets it up: `configure` is for a whole process."""
    yield
    _print_log()
