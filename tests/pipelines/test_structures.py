"""The table of organs and lesions against PS3.16, as pydicom carries it."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pytest
from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts

from pipelines.codes import PRIVATE_SCHEME
from pipelines.contract import CardError, read_card
from pipelines.structures import CATEGORIES, SIDES, Structure, structure, structures

TABLE = structures()


def standard() -> dict[str, tuple[set[str], set[int]]]:
    """Return code of SNOMED CT or DICOM -> meanings and context groups that PS3.16 gives it."""
    found: dict[str, tuple[set[str], set[int]]] = defaultdict(lambda: (set(), set()))
    for scheme in ("SCT", "DCM"):
        for entries in concepts[scheme].values():
            for value, (meaning, groups) in entries.items():
                found[value][0].add(meaning.lower())
                found[value][1].update(groups)
    return found


STANDARD = standard()


def codes_of(group: int) -> set[str]:
    return {value for keyword in cid_concepts[group]["SCT"] for value in concepts["SCT"][keyword]}


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
def test_every_standard_code_is_in_a_context_group_under_its_own_meaning(row: Structure) -> None:
    if row.kind.scheme == PRIVATE_SCHEME:
        return
    assert row.kind.scheme in ("SCT", "DCM")
    meanings, groups = STANDARD[row.kind.value]
    assert row.kind.meaning.lower() in meanings
    assert groups, "a code in no context group is not one that DICOM licensed and recommends"


def test_nearly_every_standard_code_is_a_segmented_property_type() -> None:
    """CID 7151 with what it includes, or 7140; the others are in groups about the same sort of thing."""
    others = {
        row.name
        for row in TABLE.values()
        if row.kind.scheme != PRIVATE_SCHEME and not {7151, 7140} & STANDARD[row.kind.value][1]
    }
    assert len(others) <= 17, others


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
def test_a_private_code_stands_only_where_the_standard_has_no_concept_of_that_name(row: Structure) -> None:
    if row.kind.scheme != PRIVATE_SCHEME:
        return
    named = {value for value, (meanings, _) in STANDARD.items() if row.kind.meaning.lower() in meanings}
    assert not named
    assert len(row.kind.value) <= 16


def test_categories_and_sides_are_of_their_context_groups() -> None:
    assert {code.value for code in CATEGORIES.values()} <= codes_of(7150)
    assert {code.value for code in SIDES.values() if code} <= codes_of(244)


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
def test_the_side_is_a_modifier_and_agrees_with_name_and_label(row: Structure) -> None:
    said = {side for side in ("left", "right") if side in row.kind.meaning.lower().split()}
    if said:  # Left atrium: the standard has no other concept
        assert row.laterality is None
        return
    for side, code in SIDES.items():
        if side:
            assert (
                (row.laterality == code)
                == (side in row.name.split("_"))
                == (side in row.label.lower().split())
            )


def test_no_two_structures_are_the_same_but_for_ribs_which_the_standard_does_not_tell_apart() -> None:
    natures = Counter(
        (row.kind[:2], row.laterality, row.anatomic_region)
        for row in TABLE.values()
        if not row.name.startswith("rib_")
    )
    assert [nature for nature, count in natures.items() if count > 1] == []
    labels = Counter(row.label for row in TABLE.values())
    assert max(labels.values()) == 1


def test_a_known_wrong_row_of_a_published_mapping_is_right_here() -> None:
    """78333006 is the gluteus medius; a public table gives it to the gluteus minimus as well."""
    assert structure("gluteus_minimus_left").kind != structure("gluteus_medius_left").kind


def test_the_organs_of_a_whole_body_model_are_all_there() -> None:
    wanted = {"spleen", "liver", "aorta", "vertebra_L5", "vertebra_C1"}
    wanted |= {f"rib_{n}_{side}" for n in range(1, 13) for side in ("left", "right")}
    wanted |= {f"vertebra_T{n}" for n in range(1, 13)}
    assert wanted <= set(TABLE)


CARD = """
name = "organs"
version = "1"
title = "Organs"
maker = "us"
intended_use = "test"
use = "a:B"
[inputs.ct]
modality = ["CT"]
unit = "[hnsf'U]"
[[segments]]
number = 1
structure = "kidney_left"
[[segments]]
number = 2
structure = "lung_nodule"
label = "Largest nodule"
colour_rgb = [1, 2, 3]
"""


def test_a_card_names_a_structure_and_may_say_some_of_it_differently(tmp_path: Path) -> None:
    (tmp_path / "card.toml").write_text(CARD)
    kidney, nodule = read_card(tmp_path / "card.toml").segments
    row = structure("kidney_left")
    assert (kidney.label, kidney.kind, kidney.laterality) == (row.label, row.kind, row.laterality)
    assert kidney.colour_rgb == row.colour_rgb
    assert (nodule.label, nodule.colour_rgb) == ("Largest nodule", (1, 2, 3))
    assert nodule.anatomic_region == structure("lung_left").kind


def test_a_card_with_an_unknown_structure_is_refused_with_similar_names(tmp_path: Path) -> None:
    (tmp_path / "card.toml").write_text(CARD.replace("kidney_left", "kidney_lft"))
    with pytest.raises(CardError, match="kidney_left"):
        read_card(tmp_path / "card.toml")
