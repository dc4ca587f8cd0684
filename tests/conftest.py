"""What tests of every step may ask for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from node.log import Lines
from tests.certificates import Certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Return the PEM files of a certificate authority, its servers and clients; see `Certificates`."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


def _reset_log() -> None:
    """Set the log up as it is by default, but for what writes it.

    That is print() to an output which pytest exchanges while threads of ours go on: CPython 3.11 holds no
    reference to it, and ended a whole run.
    """
    structlog.reset_defaults()
    structlog.configure(logger_factory=Lines)


_reset_log()


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """Give each test the log as it is before a command sets it up: `configure` is for a whole process."""
    yield
    _reset_log()
