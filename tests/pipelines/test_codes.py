"""Every code that pipelines use exists in the standard, or is declared private."""

from __future__ import annotations

import pytest
from pydicom.sr import _concepts_dict as standard

from pipelines import codes
from pipelines.contract import Code, read_card
from pipelines.measure import MEASURES
from tests.paths import REPOSITORY

NAMED = {name: value for name, value in vars(codes).items() if isinstance(value, Code)}
#: UCUM has more units than pydicom lists; mL is the litre of UCUM table "base and derived units".
UNITS = {"mL"}


def in_the_standard(code: Code) -> bool:
    known = standard.concepts.get(code.scheme, {})
    return any(code.value in entry for entry in known.values())


def meanings(code: Code) -> set[str]:
    known = standard.concepts.get(code.scheme, {})
    return {entry[code.value][0].lower() for entry in known.values() if code.value in entry}


@pytest.mark.parametrize("name", NAMED)
def test_each_code_is_in_pydicoms_copy_of_the_standard_or_private(name):
    code = NAMED[name]
    if code.scheme == codes.PRIVATE_SCHEME:
        assert not in_the_standard(code)
        return
    assert (code.scheme == "UCUM" and code.value in UNITS) or in_the_standard(code)
    if in_the_standard(code):
        assert code.meaning.lower() in meanings(code)


@pytest.mark.parametrize("name", NAMED)
def test_each_code_fits_its_attributes(name):
    code = NAMED[name]
    assert 0 < len(code.value) <= 16  # PS3.3 section 8.1: Code Value is SH
    assert 0 < len(code.scheme) <= 16
    assert 0 < len(code.meaning) <= 64  # LO


def test_the_private_scheme_begins_with_99():
    assert codes.PRIVATE_SCHEME.startswith("99")  # PS3.16 section 8.2


def test_no_two_names_mean_the_same_code():
    assert len({(code.value, code.scheme) for code in NAMED.values()}) == len(NAMED)


def test_the_lung_card_uses_the_shared_codes():
    card = read_card(REPOSITORY / "pipelines" / "lung_density" / "card.toml")
    left, right, low = card.segments
    assert (left.category, left.kind, left.laterality) == (codes.ANATOMICAL_STRUCTURE, codes.LUNG, codes.LEFT)
    assert (right.category, right.kind, right.laterality) == (
        codes.ANATOMICAL_STRUCTURE,
        codes.LUNG,
        codes.RIGHT,
    )
    assert (low.category, low.kind, low.anatomic_region) == (
        codes.SPATIAL_CONCEPT,
        codes.LOW_ATTENUATION_AREA,
        codes.LUNG,
    )


def test_every_measure_names_codes_of_the_table():
    for measure in MEASURES.values():
        for code in (measure.name, measure.unit, measure.derivation, measure.method):
            assert code is None or code in NAMED.values()
