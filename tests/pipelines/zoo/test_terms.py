"""What cards for published bundles need of the ``[bundle]`` table: pins, single measures, unused classes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.bundle import BundlePipeline
from pipelines.bundle.files import find_files
from pipelines.bundle.terms import read_terms
from pipelines.contract import Card, CardError
from pipelines.pins import pin_of
from tests.bundle_zoo import ZOO, write
from tests.bundles import loaded, phantom_case, threshold_metadata, write_bundle

LABELS = 'output = "labels"'


def files_of(card: Card) -> None:
    find_files(card, read_terms(card))


def with_third_class(folder: Path, more: str) -> Card:
    metadata = threshold_metadata()
    metadata["network_data_format"]["outputs"]["pred"]["channel_def"]["2"] = "never"
    return write_bundle(folder, metadata=metadata, bundle=f"{LABELS}\n{more}")


def test_a_measure_of_one_segment_is_taken_beside_those_of_all(tmp_path: Path) -> None:
    card = write_bundle(
        tmp_path, bundle=f'{LABELS}\n[bundle.measure]\nBright = ["maximum"]', measure=("volume",)
    )
    pipeline = BundlePipeline(card)
    pipeline.load("cpu")
    findings = pipeline.analyze(phantom_case("axial", (12, 40, 44))[0])
    assert [measurement.check for measurement in findings.measurements] == ["volume", "maximum"]


@pytest.mark.parametrize(
    ("line", "told"), [('Dark = ["volume"]', "'Dark'"), ('Bright = ["weight"]', "'weight'")]
)
def test_a_measure_of_nothing_or_of_no_name_is_refused(tmp_path: Path, line: str, told: str) -> None:
    card = write_bundle(tmp_path, bundle=f"{LABELS}\n[bundle.measure]\n{line}")
    with pytest.raises(CardError, match=told):
        read_terms(card)


def test_a_class_that_is_not_in_the_card_must_be_said_to_be_unused(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="channel 2 'never' is not in the card"):
        files_of(with_third_class(tmp_path / "open", ""))
    files_of(with_third_class(tmp_path / "said", "unused = [2]"))


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_a_pinned_file_that_was_changed_is_another_version(tmp_path: Path, algorithm: str) -> None:
    write_bundle(tmp_path)
    pin = pin_of(tmp_path / "configs/inference.json", algorithm)
    bundle = f'{LABELS}\n[bundle.pins]\n"configs/inference.json" = "{pin}"'
    files_of(write_bundle(tmp_path, bundle=bundle))
    card = write_bundle(tmp_path, config={"network_def": {}}, bundle=bundle)
    with pytest.raises(CardError, match=r"another version of the bundle.* configs/inference\.json has"):
        files_of(card)


def test_a_pin_without_the_name_of_its_hash_is_refused(tmp_path: Path) -> None:
    card = write_bundle(tmp_path, bundle=f'{LABELS}\n[bundle.pins]\n"configs/inference.json" = "{"0" * 64}"')
    with pytest.raises(CardError, match="is no pin"):
        read_terms(card)


@pytest.mark.parametrize(
    ("name", "line"), [("nodules", 'frame = "lps-mm"'), ("landmark", 'frame = "network"')]
)
def test_boxes_and_points_are_never_placed_by_a_default(tmp_path: Path, name: str, line: str) -> None:
    bundle = ZOO[name]
    read_terms(write(tmp_path, bundle))
    card = write(tmp_path, replace(bundle, terms=bundle.terms.replace(line, "")))
    with pytest.raises(CardError, match=r"needs \[bundle\] frame, one of ras-mm, lps-mm, source, network"):
        read_terms(card)


ROI = "(x > 200).float()"


def probable(folder: Path, network: str, names: tuple[str, ...], terms: str) -> Card:
    """Return the card of a bundle that gives probabilities of Bright and Dark by channels of these names."""
    terms = f'output = "probabilities"\n{terms}'
    card = write(
        folder, replace(ZOO["probabilities"], network=network, segments=["Bright", "Dark"], terms=terms)
    )
    said = {"outputs": {"pred": {"channel_def": {str(number): name for number, name in enumerate(names)}}}}
    (folder / "configs/metadata.json").write_text(json.dumps({"network_data_format": said}))
    return card


def test_probabilities_with_a_background_mean_what_the_bundle_and_the_card_say(tmp_path: Path) -> None:
    three = f"torch.cat([1 - {ROI}, {ROI}, 0 * x], 1)"
    names = ("background", "bright", "dark")
    case, mask, _ = phantom_case()
    findings = loaded(probable(tmp_path / "a", three, names, "background = true")).analyze(case)
    assert [one.segment for one in findings.maps] == [1, 2]
    assert np.array_equal(findings.mask(1), mask) and not findings.mask(2).any()
    for terms in ("", "background = false"):
        with pytest.raises(CardError, match="'bright' in the card, but channel 0 is 'background'"):
            loaded(probable(tmp_path / "b", three, names, terms))


@pytest.mark.parametrize(
    ("terms", "channels"), [("", 3), ("background = false", 3), ("background = true", 2)]
)
def test_channels_that_no_word_of_the_card_explains_are_refused_and_not_shifted(
    tmp_path: Path, terms: str, channels: int
) -> None:
    network = f"torch.cat([{ROI}, {', '.join(['0 * x'] * (channels - 1))}], 1)"
    with pytest.raises(ValueError, match=f"gave {channels} channels; the card describes"):
        loaded(probable(tmp_path, network, (), terms)).analyze(phantom_case()[0])


def test_a_background_of_what_has_no_channels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="background is for output = 'one-hot' or 'probabilities'"):
        read_terms(write_bundle(tmp_path, bundle=f"{LABELS}\nbackground = false"))
