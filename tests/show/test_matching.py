from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.show.matching import MOST_VALUES, Unusable, demand


def fits(text: str, vr: str, *values: str) -> bool:
    wanted = demand(text, vr)
    return True if wanted is None else wanted(values)


@pytest.mark.parametrize(
    ("text", "vr", "value", "expected"),
    [
        ("CT", "CS", "CT", True),
        ("CT", "CS", "CTA", False),
        ("CT,MR", "CS", "MR", True),
        ("CT\\MR", "CS", "MR", True),
        ("head*", "LO", "head and neck", True),
        ("head*", "LO", "Head and neck", False),
        ("*neck", "LO", "head and neck", True),
        ("*and*", "LO", "head and neck", True),
        ("h??d*", "LO", "head and neck", True),
        ("h?d*", "LO", "head and neck", False),
        ("a*a", "LO", "a", False),
        ("*a*b", "LO", "xaxb", True),
        ("?", "LO", "", False),
        ("(.*)", "LO", "anything", False),
        ("1.2,1.3", "UI", "1.3", True),
        ("1.2", "UI", "1.2.3", False),
        ("3", "IS", "03", True),
        ("2.5", "DS", "2.50", True),
        ("3", "IS", "three", False),
    ],
)
def test_text_lists_patterns_and_numbers(text, vr, value, expected):
    assert fits(text, vr, value) is expected


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("doe^jane", "DOE^JANE", True),
        ("Doe", "Doe^^^^", True),
        ("doe", "Doe^Jane", False),
        ("doe*", "Doe^Jane", True),
        ("*yamada*", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("山田*", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("やまだ^たろう", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("MÜLLER*", "Müller^Jörg", True),
    ],
)
def test_names_are_compared_without_case_and_in_any_group(text, name, expected):
    assert fits(text, "PN", name) is expected


@pytest.mark.parametrize(
    ("text", "vr", "value", "expected"),
    [
        ("20200102", "DA", "20200102", True),
        ("20200101-20200131", "DA", "20200131", True),
        ("20200101-20200131", "DA", "20200201", False),
        ("-20200131", "DA", "19991231", True),
        ("20200131-", "DA", "20200130", False),
        ("20200102", "DA", "2020.01.02", True),
        ("20200102", "DA", "2020-01-02", True),
        ("20200102", "DA", "soon", False),
        ("10", "TM", "105959.999999", True),
        ("10", "TM", "110000", False),
        ("0900-1000", "TM", "100030", True),
        ("0900-1000", "TM", "100100", False),
        ("102030", "TM", "10:20:30", True),
        ("102030.5", "TM", "102030.5", True),
        ("102030.5", "TM", "102030.6", False),
        ("2020", "DT", "20200615101112.5+0200", True),
        ("2021-", "DT", "20200615", False),
    ],
)
def test_dates_and_times_and_ranges_of_them(text, vr, value, expected):
    assert fits(text, vr, value) is expected


def test_nothing_and_a_star_match_everything_and_a_value_that_lacks_nothing_else():
    assert demand("", "LO") is None
    assert demand("*", "PN") is None
    assert not fits("x*", "LO")


@pytest.mark.parametrize(
    ("text", "vr"),
    [
        ("2020-01", "DA"),
        ("20200101-20200102-20200103", "DA"),
        ("-", "DA"),
        ("2500", "TM"),
        ("1.2' OR '1'='1", "UI"),
        ("1..2", "UI"),
        (",".join(["1.2"] * 2), "IS"),
        ("three", "IS"),
        ("x" * 65, "LO"),
        ("two\nlines", "LO"),
        ("nul\0", "PN"),
        ("anything", "OB"),
        ("anything", "SQ"),
        (",".join(f"1.{n}" for n in range(MOST_VALUES + 1)), "UI"),
    ],
)
def test_what_no_value_can_be_is_refused(text, vr):
    with pytest.raises(Unusable):
        demand(text, vr)


def test_a_pattern_full_of_stars_takes_no_time():
    begin = time.monotonic()
    assert not fits("*a" * 500 + "b", "UT", "a" * 1000)
    assert time.monotonic() - begin < 2


@given(st.text("ab", max_size=8), st.text("ab*?", max_size=8))
def test_patterns_mean_what_those_of_a_shell_mean(value, text):
    from fnmatch import fnmatchcase

    if text not in ("", "*"):
        assert fits(text, "UT", value) is fnmatchcase(value, text)
