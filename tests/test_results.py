"""The result matrix of the documents: a row for every kind of object, and a reason for every "no"."""

from __future__ import annotations

import re

import pytest

from node.encode.kinds import KINDS
from tests.paths import REPOSITORY

PAGE = REPOSITORY / "deploy" / "results.md"


@pytest.fixture(scope="module")
def rows() -> list[list[str]]:
    """The cells of every row of the table, without its head."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_kind_of_object_has_a_row(rows: list[list[str]]) -> None:
    assert {row[1].strip("`") for row in rows[1:]} == set(KINDS)


def test_no_cell_is_empty_and_every_no_has_a_reason(rows: list[list[str]]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len({len(row) for row in rows}) == 1, "a row has fewer cells than the head"
    for title, _, *cells in rows[1:]:
        for column, cell in zip(rows[0][2:], cells, strict=True):
            said = re.fullmatch(r"(yes|no|-)(?: \[(\d+)\])?", cell)
            assert said, f"{title}, {column}: {cell!r}"
            word, note = said.groups()
            assert note or word == "yes", f"{title}, {column}: no reason is given"
            assert note is None or re.search(rf"^{note}\. \S.{{10,}}$", text, re.MULTILINE)
