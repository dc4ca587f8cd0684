"""The cards for the Model Zoo, without the zoo: codes, meanings, rules, and a cure for each known trap."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.sr._concepts_dict import concepts

from node.assign.judge import judge_clause
from node.assign.rule import Verdict, parse_rules
from node.config import RuleTable
from pipelines.bundle.terms import OUTLINES, Terms, read_terms
from pipelines.check import refuse_unfit
from pipelines.codes import PRIVATE_SCHEME
from pipelines.contract import Card, Code, read_card
from pipelines.measure import MEASURES
from pipelines.pins import refuse_pin
from pipelines.trial import simulated_case
from pipelines.zoo import pins_of, unlike_card, zoo_cards

CARDS = zoo_cards()
#: Bundle -> entries of its card without which the trap of its configuration is open.
TRAPS: dict[str, dict[str, Any]] = {
    "wholeBody_ct_segmentation": {"remove": ["postprocessing::transforms::0"]},  # twice 105 channels
    "swin_unetr_btcv_segmentation": {"remove": ["network_def::img_size"]},
    "pancreas_ct_dints_segmentation": {
        "overrides": {
            "arch_ckpt": "$torch.load(@arch_ckpt_path, map_location=@device, weights_only=True)",
            "dints_space::device": "@device",
        }
    },
    "pediatric_abdominal_ct_segmentation": {"remove": ["imports::2"]},
    "prostate_mri_anatomy": {"overrides": {"postprocessing::transforms::2::nearest_interp": True}},
    "brats_mri_segmentation": {"remove": ["postprocessing::transforms::3"], "output": "channels"},
    "vista3d": {"overrides": {"evaluator::_target_": "SupervisedEvaluator"}},
    "lung_nodule_ct_detection": {"overrides": {"whether_raw_luna16": True}, "frame": "network"},
    "breast_density_classification": {"overrides": {"network_def::pretrained": False}, "colour": "rgb255"},
    "valve_landmarks": {"overrides": {"network_def::_requires_": "$setattr(np, 'product', np.prod)"}},
}


@cache
def card_of(name: str) -> tuple[Card, Terms]:
    card = read_card(CARDS[name])
    return card, read_terms(card)


def codes_in(value: Any) -> Iterator[Code]:
    """Yield every code that a card says."""
    if isinstance(value, Code):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from codes_in(part)
    elif hasattr(value, "__dataclass_fields__"):
        for field in fields(value):
            yield from codes_in(getattr(value, field.name))


def meanings(scheme: str, value: str) -> set[str]:
    return {entry[value][0].lower() for entry in concepts[scheme].values() if value in entry}


@pytest.mark.parametrize("name", CARDS)
def test_every_code_is_of_the_standard_under_its_own_meaning_or_our_own(name: str) -> None:
    card, terms = card_of(name)
    for code in (*codes_in(card), *codes_in(terms)):
        if code.scheme == PRIVATE_SCHEME:
            assert len(code.value) <= 16 and len(code.meaning) <= 64
        else:
            assert code.meaning.lower() in meanings(code.scheme, code.value), code


@pytest.mark.parametrize("name", CARDS)
def test_a_card_is_found_by_its_bundle_and_says_what_people_must_know(name: str) -> None:
    card, terms = card_of(name)
    assert card.name == card.name.lower() and " " not in card.name and "_" not in card.name
    assert card.intended_use.startswith("Research:")
    assert "Not " in card.intended_use
    assert card.warning.endswith(".")
    assert max(len(card.title), len(card.maker)) <= 64  # DICOM's LO
    assert terms.weights and not terms.weights_sha256  # `add` writes it once the pins hold
    assert terms.folder == "."


def test_names_of_cards_are_unique() -> None:
    assert len({card_of(name)[0].name for name in CARDS}) == len(CARDS) == 16


@pytest.mark.parametrize("name", CARDS)
def test_every_outline_has_its_value_or_channel_and_every_measure_exists(name: str) -> None:
    card, terms = card_of(name)
    assert bool(card.segments) == (terms.output in OUTLINES)
    assert len(terms.channels) in (0, len(card.segments) or len(terms.answers))
    assert len(terms.values) in (0, len(card.segments))
    assert not set(terms.values) & set(terms.unused)
    assert set(card.measure) <= MEASURES.keys()
    assert len({segment.label for segment in card.segments}) == len(card.segments)


@pytest.mark.parametrize("name", CARDS)
def test_what_has_no_known_distance_of_pixels_is_not_measured(name: str) -> None:
    """A video of an endoscope has no millimetres: an area of it would be none."""
    card, _ = card_of(name)
    if any("ES" in spec.modality for spec in card.inputs.values()):
        assert not card.measure


@pytest.mark.parametrize("name", CARDS)
def test_what_selects_a_series_is_understood_by_rules_and_tells_the_roles_apart(name: str) -> None:
    card, _ = card_of(name)
    (rule,) = parse_rules(
        [RuleTable(name="zoo", pipeline=card.name, match={} if len(card.inputs) > 1 else {"Modality": "CT"})],
        {card.name: card},
    )
    assert len(rule.wants) == len(card.inputs)


#: Bundle -> role -> descriptions as scanners and technologists write them; "" is for none of the roles.
DESCRIPTIONS = {
    "brats_mri_segmentation": {
        "t1c": [
            *("T1 MPRAGE post Gd", "t1_mprage_tra_ce", "Ax T1 +C", "T1C", "t1_space_sag_km"),
            *("Ax T1 FLAIR +C", "T1 MPRAGE post", "T1 CE", "AX T1 CE FS", "t1_ce_tra"),
        ],
        "t1": [
            *("t1_mprage_sag", "AX T1", "t1_space_sag", "T1COR", "T1 SPACE", "T1 CERVICAL", "T1_CERVICAL"),
            *("Ax T1 FLAIR", "t1_tirm_tra_dark-fluid"),  # both weighted by T1, as GE and Siemens name them
        ],
        "t2": ["t2_tse_tra", "AX T2 FSE"],
        "flair": ["t2_tirm_tra_dark-fluid", "AX FLAIR", "t2_flair_space", "T2 FLAIR", "FLAIR"],
        "": ["t2*_gre", "T2*", "ep2d_diff_ADC", "SWI", "T1 MAP", "T2 MAP", "T1 MAP post", "T1_T2_ratio"],
    },
    "prostate_mri_anatomy": {
        "t2": ["t2_tse_tra", "AX T2 FSE"],
        "": ["t2_tse_sag", "T2 COR", "t1_tra", "t2 map"],
    },
    "ventricular_short_axis_3label": {
        "cine": ["CINE SAX", "Short axis stack", "cine_sa"],
        "": ["cine_sag", "cine_4ch", "localizer"],
    },
    "valve_landmarks": {"cine": ["cine_4CH", "LAX 2ch", "b-SSFP_lax"], "": ["T1 relaxometry", "CINE SAX"]},
    "wholeBrainSeg_Large_UNEST_segmentation": {
        "t1": ["T1 in MNI305"],
        "": ["t1_mprage_sag", "T1 in MNI152", "OMNISCAN T1", "T1 MNI"],
    },
}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_a_series_is_wanted_in_the_role_that_its_description_says_and_in_no_other(name: str) -> None:
    card, _ = card_of(name)
    (rule,) = parse_rules([RuleTable(name="zoo", pipeline=card.name)], {card.name: card})
    for role, descriptions in DESCRIPTIONS[name].items():
        for description in descriptions:
            header = Dataset()
            header.SeriesDescription = description
            fit = [
                want.role
                for want in rule.wants
                for clause in want.clauses
                if clause.keyword == "SeriesDescription" and judge_clause(clause, header) is Verdict.YES
            ]
            assert fit == [role] * bool(role), description


@pytest.mark.parametrize("name", CARDS)
def test_pins_hold_the_configuration_and_all_that_is_run(name: str) -> None:
    card, terms = card_of(name)
    pins = pins_of(CARDS[name])
    assert "configs/metadata.json" in pins
    assert {"configs/inference.json", "configs/inference.yaml"} & pins.keys()
    for file, pin in pins.items():
        refuse_pin(pin)
        assert pin.startswith("sha256:") or file.startswith("models/")
    if terms.weights not in pins:  # the zoo publishes no hash of it
        assert name in ("pediatric_abdominal_ct_segmentation", "prostate_mri_anatomy")
        assert "The zoo publishes no hash" in CARDS[name].read_text()
    assert ("nobody vouches for the weights" in card.warning) == (terms.weights not in pins)


def test_an_empty_folder_is_unlike_every_card(tmp_path: Path) -> None:
    for card in CARDS.values():
        assert len(unlike_card(card, tmp_path)) == len(pins_of(card))


@pytest.mark.parametrize("name", TRAPS)
def test_every_known_trap_of_a_configuration_is_cured(name: str) -> None:
    bundle = card_of(name)[0].bundle
    for key, wanted in TRAPS[name].items():
        if isinstance(wanted, dict):
            assert wanted.items() <= bundle[key].items()
        elif isinstance(wanted, list):
            assert set(wanted) <= set(bundle[key])
        else:
            assert bundle[key] == wanted


def test_the_children_of_one_card_and_the_adults_of_the_others_are_told_apart() -> None:
    for name in CARDS:
        spec = next(iter(card_of(name)[0].inputs.values()))
        if name.startswith("pediatric"):
            assert spec.age_years == (0.0, 18.0)
            assert spec.needs_age
        elif spec.modality == ("CT",):
            assert spec.age_years and spec.age_years[0] >= 16


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name.startswith("brats") else ()) for name in CARDS],
)
def test_a_card_accepts_the_case_that_is_simulated_for_it(name: str) -> None:
    """So that ``radnode pipelines add`` can try it; what a card expects to see is another matter."""
    card, _ = card_of(name)
    refuse_unfit(card, simulated_case(card))


def test_the_classes_of_the_promptable_network_are_those_it_has_and_that_are_no_class_of_classes() -> None:
    _, terms = card_of("vista3d")
    assert len(terms.values) == 117
    assert sorted({*terms.values, *terms.unused}) == list(range(1, 133))
    assert f"not in ({', '.join(map(str, terms.unused))})" in terms.overrides["everything_labels"]


def test_the_regions_of_a_brain_tumour_stand_in_the_order_of_the_channels() -> None:
    card, terms = card_of("brats_mri_segmentation")
    assert [segment.kind.value for segment in card.segments] == [
        "TUMOR-CORE",
        "WHOLE-TUMOR",
        "ENHANCING-TUMOR",
    ]
    assert terms.channels == ("tumor core", "whole tumor", "enhancing tumor")
    assert list(card.inputs) == ["t1c", "t1", "t2", "flair"]


def test_a_card_beside_its_bundle_reads_as_the_same_card(tmp_path: Path) -> None:
    shutil.copyfile(CARDS["spleen_ct_segmentation"], tmp_path / "card.toml")
    assert read_card(tmp_path / "card.toml").bundle == card_of("spleen_ct_segmentation")[0].bundle
