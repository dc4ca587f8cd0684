"""Numbers that are read quickly are the numbers that pydicom reads."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from node.header import value
from node.header.value import integer_of, number_of, numbers_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

KEYWORDS = {"DS": "RescaleSlope", "IS": "InstanceNumber", "US": "Rows", "SS": "PixelPaddingValue"}


def holding(vr: str | None, keyword: str, content: bytes, little: bool) -> Dataset:
    ds = Dataset()
    tag = Tag(keyword)
    ds[tag] = RawDataElement(tag, vr, len(content), content, 0, vr is None, little)
    ds.set_original_encoding(vr is None, little)
    return ds


def answers(vr: str | None, keyword: str, content: bytes, little: bool) -> tuple[object, ...]:
    asked = (number_of, integer_of, lambda ds, word: numbers_of(ds, word, 2))
    return tuple(ask(holding(vr, keyword, content, little), keyword) for ask in asked)


@pytest.mark.parametrize("implicit", [False, True])
@settings(deadline=None, max_examples=400)
@given(
    vr=st.sampled_from(["DS", "IS", "US", "SS"]),
    content=st.one_of(
        st.binary(max_size=6), st.text("0123456789+-.eE \\\\_nai\0", max_size=14).map(str.encode)
    ),
    little=st.booleans(),
)
@example(vr="DS", content=b"1_0", little=True)
@example(vr="DS", content=b"-1.5e3\\ 2 ", little=True)
@example(vr="DS", content=b"nan", little=True)
@example(vr="IS", content=b"+12 ", little=True)
@example(vr="IS", content=b"1.5", little=True)
@example(vr="US", content=b"\0\2", little=False)
def test_a_number_is_the_one_that_pydicom_reads(implicit, vr, content, little):
    keyword = KEYWORDS[vr]
    if implicit and (vr in ("US", "SS") or not little):
        return
    given_vr = None if implicit else vr
    quick = answers(given_vr, keyword, content, little)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(value, "_quick", lambda ds, word: None)
        assert quick == answers(given_vr, keyword, content, little)


def test_well_formed_numbers_need_no_pydicom(monkeypatch):
    monkeypatch.setattr(value, "value_of", lambda ds, word: pytest.fail("pydicom was asked"))
    assert answers("DS", "PixelSpacing", b"0.75\\0.5 ", True)[2] == (0.75, 0.5)
    assert number_of(holding("US", "Rows", b"\0\2", True), "Rows") == 512
    assert number_of(holding(None, "InstanceNumber", b"7 ", True), "InstanceNumber") == 7
