"""What a model may know of an acquisition, whatever the header holds."""

from __future__ import annotations

import pytest
from pydicom import Dataset

from node.assemble.facts import facts_of


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize(
    "keyword",
    ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "ContrastBolusAgentSequence"],
)
@pytest.mark.parametrize("value", [None, "no sequence at all"])
def test_a_sequence_that_is_none_is_passed_over(keyword, value):
    ds = Dataset()
    ds.add_new(keyword, "LO", value)
    ds.SliceThickness = "2.5"
    assert facts_of(ds) == {"SliceThickness": 2.5, "ContrastBolus": "NO"}


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize(
    ("age", "years"), [("042Y", 42.0), ("018M", 1.5), ("²²²Y", None), ("42", None), ("04YY", None)]
)
def test_an_age_is_in_years_or_unknown(age, years):
    ds = Dataset()
    ds.add_new("PatientAge", "AS", age)
    assert facts_of(ds).get("PatientAgeYears") == years
