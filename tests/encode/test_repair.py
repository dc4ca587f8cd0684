"""Header values that hospitals send, and what becomes of them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.valuerep import PersonName

from node.encode.repair import LONGEST, Unrepairable, cut, decimal_string, repair


@pytest.mark.parametrize(
    ("vr", "given_value", "legal"),
    [
        ("DA", "20200102", "20200102"),
        ("DA", "2020-01-02", "20200102"),
        ("DA", "2020.01.02", "20200102"),
        ("DA", "", ""),
        ("TM", "10:20:30", "102030"),
        ("TM", "102030.1234567", "102030.123456"),
        ("TM", "1020", "1020"),
        ("AS", "45Y", "045Y"),
        ("AS", "045y", "045Y"),
        ("CS", "chest ", "CHEST"),
        ("DS", " 70.5", "70.5"),
        ("DS", "70.123456789012345678", "70.1234567890124"),
        ("LO", "CHEST\\ABDOMEN", "CHEST/ABDOMEN"),
        ("LO", "a\x1bb\x00", "a b"),
        ("LO", ["CHEST", "ABDOMEN"], "CHEST/ABDOMEN"),
        ("LT", "two\r\nlines\x07", "two\r\nlines"),
        ("LO", "x" * 70, "x" * 64),
        ("PN", PersonName("Yamada^Tarou=山田^太郎=やまだ^たろう"), "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("PN", "A^B^C^D^E^F", "A^B^C^D^E"),
        ("UI", "1.2.3\0", "1.2.3"),
    ],
)
def test_a_value_with_one_legal_meaning_is_rewritten(vr: str, given_value: object, legal: str) -> None:
    assert repair(vr, given_value) == legal


@pytest.mark.parametrize(
    ("vr", "value"),
    [
        ("DA", "1980"),
        ("DA", "20201399"),
        ("DA", "٢٠٢٠٠١٠٢"),
        ("TM", "25"),
        ("TM", "noon"),
        ("AS", "forty"),
        ("CS", "far too long for a code string"),
        ("DS", "tall"),
        ("DS", "nan"),
        ("UI", "1.02.3"),
        ("UI", "not a uid"),
        ("LO", b"raw"),
    ],
)
def test_a_value_without_a_legal_meaning_is_given_up(vr: str, value: object) -> None:
    with pytest.raises(Unrepairable):
        repair(vr, value)


@pytest.mark.parametrize("value", ["9" * 70, "A\\B", ["A", "B"]])
def test_an_identifier_is_never_cut_or_joined_because_it_could_be_someone_elses(value: object) -> None:
    with pytest.raises(Unrepairable):
        repair("LO", value, identifier=True)


@given(st.sampled_from(["DA", "TM", "AS", "CS", "DS", "LO", "SH", "PN", "UI", "ST", "LT", "UT"]), st.text())
def test_whatever_the_text_the_result_is_legal_or_refused(vr: str, value: str) -> None:
    try:
        text = repair(vr, value)
    except Unrepairable as error:
        assert not value.strip() or value not in str(error)
        return
    text.encode("utf-8")
    for group in text.split("=") if vr == "PN" else [text]:
        assert len(group) <= LONGEST.get(vr, 1 << 20)
    assert not any(ord(c) < 32 and c not in "\r\n\t\f" for c in text)


@given(st.floats(-1e300, 1e300))
def test_a_decimal_string_fits_and_is_as_close_as_it_can_be(value: float) -> None:
    text = decimal_string(value)
    assert len(text) <= 16
    assert math.isclose(float(text), value, rel_tol=1e-8, abs_tol=0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_there_is_no_decimal_string_for_what_is_not_finite(value: float) -> None:
    with pytest.raises(Unrepairable):
        decimal_string(value)


def test_a_cut_line_says_that_it_was_cut() -> None:
    assert cut("short", 64) == "short"
    assert cut("x" * 100, 10) == "x" * 7 + "..."
