from __future__ import annotations

import pytest
from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS

from node.peer.rejection import rejection_of
from node.send.status import FAMILIES, Verdict, family_of


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (0x0000, Verdict.STORED),
        (0x0111, Verdict.STORED),
        (0xB000, Verdict.WARNED),
        (0xB006, Verdict.WARNED),
        (0xB007, Verdict.WARNED),
        (0xA700, Verdict.BUSY),
        (0xA7FF, Verdict.BUSY),
        (0x0110, Verdict.BUSY),
        (0x0213, Verdict.BUSY),
        (0xA900, Verdict.REFUSED),
        (0xA9FF, Verdict.REFUSED),
        (0xC000, Verdict.REFUSED),
        (0xCFFF, Verdict.REFUSED),
        (0x0122, Verdict.REFUSED),
        (0x0124, Verdict.REFUSED),
        (0xA800, Verdict.BUSY),  # unknown to DICOM: tried again, not lost
        (0xFFFF, Verdict.BUSY),
    ],
)
def test_the_status_families_of_the_standard(status, verdict):
    assert family_of(status).verdict is verdict


def test_every_status_that_the_library_knows_is_judged_as_its_kind():
    for status, (kind, _meaning) in STORAGE_SERVICE_CLASS_STATUS.items():
        verdict = family_of(status).verdict
        if kind == "Success":
            assert verdict is Verdict.STORED
        elif kind == "Warning":
            assert verdict is Verdict.WARNED
        elif status != 0x0111:
            assert verdict in (Verdict.BUSY, Verdict.REFUSED), hex(status)


def test_every_family_cites_a_clause_and_only_success_is_silent():
    for family in FAMILIES:
        assert family.clause.startswith("PS3.")
        assert bool(family.sentence) == (family.first != 0x0000)
        assert family.first <= family.last


@pytest.mark.parametrize("result", [1, 2])
@pytest.mark.parametrize("source", range(5))
@pytest.mark.parametrize("reason", range(12))
def test_every_rejection_is_told_in_words(result, source, reason):
    said = rejection_of(result, source, reason)
    assert said.sentence
    assert said.passing or said.remedy
    assert said.passing == (result == 2 or source == 3)
