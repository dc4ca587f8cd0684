"""What tests of every step may ask for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from tests.certificates import Certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Return the PEM files of a certificate authority, its servers and clients; see `Certificates`."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """Give each test the log as it is before a command sets it up: `configure` is for a whole process."""
    yield
    structlog.reset_defaults()
