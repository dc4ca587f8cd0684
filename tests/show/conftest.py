"""Doors that are open for one test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.web_house import House


@pytest.fixture
def open_house(tmp_path: Path) -> Iterator[Callable[..., House]]:
    houses: list[House] = []

    def open_one(**tables: Any) -> House:
        houses.append(House(tmp_path / f"data{len(houses)}", **tables))
        return houses[-1]

    yield open_one
    for house in houses:
        house.close()
        assert not house.spooled(), "something half received was left behind"


@pytest.fixture
def house(open_house: Callable[..., House]) -> House:
    return open_house()
