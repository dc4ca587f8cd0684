"""A journal on a fresh data folder, and short ways to fill it."""

from __future__ import annotations

import pytest

from node.journal import Journal


@pytest.fixture
def journal(tmp_path):
    journal = Journal.open(tmp_path)
    yield journal
    journal.close()
