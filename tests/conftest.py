"""What tests of every step may ask for."""

from __future__ import annotations

import pytest

from tests.certificates import Certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Return the PEM files of a certificate authority, its servers and clients; see `Certificates`."""
    return Certificates(tmp_path_factory.mktemp("certificates"))
