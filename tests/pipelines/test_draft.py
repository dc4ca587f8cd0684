"""A draft says what the bundle says, marks what it concluded, and leaves blank what nobody told it."""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from pathlib import Path

import pytest

from node.assemble.facts import PET_UNITS
from pipelines.bundle.files import find_files
from pipelines.bundle.terms import read_terms
from pipelines.contract import CardError, read_card
from pipelines.draft import draft_card, open_points, read_said
from pipelines.draft.card import card_name
from pipelines.draft.names import match, slug
from tests.bundles import threshold_config, threshold_metadata, with_steps

ZOO = os.environ.get("RADNODE_ZOO", "")


def write(folder: Path, metadata=None, config=None, *, weights: bool = True) -> Path:
    (folder / "configs").mkdir(parents=True, exist_ok=True)
    said = threshold_metadata() if metadata is None else metadata
    (folder / "configs" / "metadata.json").write_text(said if isinstance(said, str) else json.dumps(said))
    (folder / "configs" / "inference.json").write_text(json.dumps(config or threshold_config()))
    if weights:
        (folder / "models").mkdir(exist_ok=True)
        (folder / "models" / "model.pt").write_bytes(b"weights")
    return folder


def drafted(folder: Path, name: str = "my_bundle"):
    text = draft_card(read_said(folder, name))
    return text, tomllib.loads(text), open_points(text)


def accepted(folder: Path, text: str, **changed: str):
    """Complete a draft as a person who changes these keys and confirms the rest; hold it to the bundle."""
    lines = []
    for line in text.splitlines():
        kept, mark, _ = line.partition("  # CONFIRM: ")
        key = kept.partition(" = ")[0]
        if key in changed:
            kept, mark = f"{key} = {changed[key]}", ""
        lines.append(kept if mark else kept.partition("  # MISSING: ")[0])
    (folder / "card.toml").write_text("\n".join(lines))
    assert not open_points("\n".join(lines))
    card = read_card(folder / "card.toml")
    terms = read_terms(card)
    find_files(card, terms)
    return card, terms


def formats(image=None, pred=None, **more):
    base = {
        "type": "image",
        "format": "hounsfield",
        "modality": "CT",
        "num_channels": 1,
        "spatial_shape": [96] * 3,
    }
    out = {
        "type": "image",
        "format": "segmentation",
        "num_channels": 2,
        "channel_def": {"0": "background", "1": "spleen"},
    }
    inputs, outputs = {"image": base | (image or {})}, {"pred": out | (pred or {})}
    return {"version": "1.0.0", "network_data_format": {"inputs": inputs, "outputs": outputs}, **more}


def test_what_the_bundle_says_stands_there_without_a_mark(tmp_path):
    text, card, points = drafted(write(tmp_path, formats(authors="A group", intended_use="Spleens.")))
    assert card["name"] == "my-bundle"
    assert card["maker"] == "A group"
    assert card["inputs"] == {"ct": {"modality": ["CT"], "unit": "[hnsf'U]", "kind": "volume"}}
    assert card["segments"] == [{"number": 1, "structure": "spleen"}]
    assert card["bundle"]["weights_sha256"] == hashlib.sha256(b"weights").hexdigest()
    marked = {point.split(", ")[1].partition(":")[0] for point in points}
    assert marked == {"intended_use", "output"}, text


def test_what_nobody_said_is_blank_and_asked_for(tmp_path):
    _, card, points = drafted(write(tmp_path, {}, weights=False))
    assert card["maker"] == card["intended_use"] == card["version"] == card["bundle"]["output"] == ""
    for key in ("version", "maker", "intended_use", "modality", "output", "weights"):
        assert any(f", {key}: " in point for point in points), key


@pytest.mark.parametrize(
    ("metadata", "config", "output"),
    [
        (formats(), with_steps([], [{"_target_": "AsDiscreted", "keys": "pred", "argmax": True}]), "labels"),
        (
            formats(),
            with_steps([], [{"_target_": "AsDiscreted", "keys": "pred", "argmax": True, "to_onehot": 2}]),
            "one-hot",
        ),
        (
            formats(pred={"num_channels": 3, "channel_def": {"0": "a", "1": "b", "2": "c"}}),
            with_steps([], [{"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5}]),
            "channels",
        ),
        (
            formats(pred={"num_channels": 3}),
            with_steps([], [{"_target_": "Activationsd", "keys": "pred", "sigmoid": True}]),
            "probabilities",
        ),
        (formats(pred={"format": "classes", "channel_def": {"0": "A", "1": "B"}}), None, "scores"),
        (formats(pred={"format": "dict", "type": "object", "channel_def": None}), None, "boxes"),
        (formats(pred={"format": "points"}), None, "points"),
        (formats(pred={"format": "hounsfield"}), None, "image"),
    ],
)
def test_the_kind_of_output_is_guessed_and_never_silently(tmp_path, metadata, config, output):
    _, card, points = drafted(write(tmp_path, metadata, config))
    assert card["bundle"]["output"] == output
    if output not in ("scores", "points"):
        assert any(", output: confirm" in point for point in points)
    else:
        assert any("missing" in point for point in points), "what each of them means is for a person"


@pytest.mark.parametrize(
    ("output", "after", "place"),
    [
        ("dict", [], {"frame": "network", "box_mode": "xyzxyz"}),
        (
            "dict",
            [
                {"_target_": "AffineBoxToWorldCoordinated", "box_keys": "box", "affine_lps_to_ras": True},
                {
                    "_target_": "ConvertBoxModed",
                    "box_keys": "box",
                    "src_mode": "xyzxyz",
                    "dst_mode": "cccwhd",
                },
            ],
            {"frame": "lps-mm", "box_mode": "cccwhd"},
        ),
        (
            "dict",
            [{"_target_": "AffineBoxToWorldCoordinated", "box_keys": "box"}],
            {"frame": "ras-mm", "box_mode": "xyzxyz"},
        ),
        ("points", [], {"frame": "network", "points_first": True}),
    ],
)
def test_where_boxes_and_points_lie_is_asked_for(tmp_path, output, after, place):
    metadata = formats(pred={"format": output, "channel_def": None})
    _, card, points = drafted(write(tmp_path, metadata, with_steps([], after)))
    assert place.items() <= card["bundle"].items()
    for key in place:
        assert any(f", {key}: confirm" in point for point in points)


@pytest.mark.parametrize(
    ("image", "why"),
    [
        ({"type": "noise"}, "out of noise"),
        ({"num_channels": 2, "channel_def": {"0": "moving image", "1": "fixed image"}}, "registers"),
    ],
)
def test_what_no_card_can_make_a_finding_of_is_said_at_once(tmp_path, image, why):
    _, card, points = drafted(write(tmp_path, formats(image=image)))
    assert card["bundle"]["output"] == ""
    assert any(why in point for point in points)


THRESHOLD = [{"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5}]


@pytest.mark.parametrize(
    ("names", "claimed", "output", "channels"),
    [
        ({"0": "brain"}, 1, "channels", ["brain"]),
        ({"0": "background", "1": "spleen"}, 1, "labels", ["spleen"]),
        ({"0": "background", "1": "spleen"}, 2, "labels", ["spleen"]),
        ({"0": "background", "1": "spleen"}, None, "labels", ["spleen"]),
        ({"0": "Background", "1": "liver", "2": "spleen"}, 3, "one-hot", ["liver", "spleen"]),
        ({"0": "liver", "1": "spleen"}, 2, "channels", ["liver", "spleen"]),
    ],
)
def test_a_draft_of_a_threshold_is_accepted_as_it_is_confirmed(tmp_path, names, claimed, output, channels):
    metadata = formats(
        pred={"num_channels": claimed, "channel_def": names}, authors="A", intended_use="Tests."
    )
    text, card, _ = drafted(write(tmp_path, metadata, with_steps([], THRESHOLD)))
    assert card["bundle"]["output"] == output
    assert card["bundle"]["channels"] == channels
    assert [segment["structure"] for segment in card["segments"]] == channels
    accepted(tmp_path, text)


@pytest.mark.parametrize(
    ("names", "wrong", "told"),
    [
        ({"0": "Brain"}, '"labels"', "names one channel, 0 'brain'.* output = 'channels' and channels"),
        (
            {"0": "background", "1": "spleen"},
            '"channels"',
            "claims 2 channels, of which 0 is 'background'.* output = 'labels' if one channel",
        ),
    ],
)
def test_an_output_that_no_name_makes_right_is_refused_with_the_one_that_works(tmp_path, names, wrong, told):
    metadata = formats(pred={"num_channels": 1, "channel_def": names}, authors="A", intended_use="Tests.")
    text, _, _ = drafted(write(tmp_path, metadata, with_steps([], THRESHOLD)))
    with pytest.raises(CardError, match=told):
        accepted(tmp_path, text, output=wrong)
    accepted(tmp_path, text)


def test_the_leads_of_a_waveform_are_one_series(tmp_path):
    leads = {str(number): f"lead {number}" for number in range(12)}
    image = {"modality": "ECG", "num_channels": 12, "channel_def": leads, "spatial_shape": [5000]}
    metadata = formats(
        image, {"format": "classes", "channel_def": {"0": "A", "1": "B"}}, authors="A", intended_use="Tests."
    )
    text, card, _ = drafted(write(tmp_path, metadata))
    assert card["inputs"] == {
        "ecg": {"modality": ["ECG"], "unit": "mV", "kind": "waveform", "slices_min": 12}
    }
    code = '{ value = "1", scheme = "99TEST", meaning = "x" }'
    made, _ = accepted(tmp_path, text, question=code, code=code)
    assert made.inputs["ecg"].slices_min == 12


def test_several_modalities_are_split_over_the_roles_in_their_order(tmp_path):
    image = {"modality": "CT, PT", "num_channels": 2}
    metadata = formats(image, authors="A", intended_use="Tests.")
    text, card, points = drafted(write(tmp_path, metadata, with_steps([], THRESHOLD)))
    assert [(role, one["modality"], one["unit"]) for role, one in card["inputs"].items()] == [
        ("ct", ["CT"], "[hnsf'U]"),
        ("pt", ["PT"], PET_UNITS["GML"].value),
    ]
    assert sum(", modality: confirm" in point for point in points) == 2
    assert any(", unit: confirm" in point for point in points), "a PET may be in two units"
    made, _ = accepted(tmp_path, text)
    assert made.inputs["pt"].grid == "resample"
    image = {"modality": "CT, PT", "num_channels": 3}
    _, card, points = drafted(write(tmp_path, formats(image)))
    assert [one["modality"] for one in card["inputs"].values()] == [[""]] * 3
    assert any("'ct, pt'" in point for point in points), "more channels than modalities: nobody can tell"


def test_the_unit_of_a_pet_is_the_one_that_the_node_gives(tmp_path):
    _, card, points = drafted(write(tmp_path, formats({"modality": "PET"})))
    assert card["inputs"]["pt"]["unit"] == PET_UNITS["GML"].value
    assert any(", unit: confirm: UCUM; that of standardized" in point for point in points)


def test_channels_of_the_image_become_roles_whose_series_is_asked_for(tmp_path):
    channels = {"0": "T1c", "1": "T1", "2": "T2", "3": "FLAIR"}
    image = {"modality": "MRI", "num_channels": 4, "channel_def": channels}
    _, card, points = drafted(write(tmp_path, formats(image=image)))
    assert list(card["inputs"]) == ["t1c", "t1", "t2", "flair"]
    assert sum(", select: missing" in point for point in points) == 4


def test_colours_are_one_picture_and_not_three_series(tmp_path):
    image = {
        "format": "RGB",
        "modality": "regular",
        "num_channels": 3,
        "channel_def": {"0": "R", "1": "G", "2": "B"},
    }
    _, card, _ = drafted(write(tmp_path, formats(image=image)))
    assert list(card["inputs"]) == ["image"]
    assert card["inputs"]["image"]["kind"] == "planes"
    assert card["bundle"]["colour"] == "rgb255"


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("spleen", ("spleen", True)),
        ("Left Kidney", ("kidney_left", True)),
        ("kidney_left", ("kidney_left", True)),
        ("Left Kideny", ("kidney_left", False)),
        ("right kideny", ("kidney_right", False)),
        ("IVC", ("inferior_vena_cava", False)),
        ("Portal and Splenic Veins", ("portal_and_splenic_vein", False)),
        ("kidney", None),
        ("quux", None),
        ("", None),
        ("!!", None),
    ],
)
def test_a_name_finds_its_structure_and_a_side_is_never_guessed(said, found):
    assert match(said) == found


def test_a_structure_that_was_only_like_the_name_is_to_be_confirmed(tmp_path):
    text, card, points = drafted(
        write(tmp_path, formats(pred={"channel_def": {"0": "background", "1": "Left Kideny", "2": "quux"}}))
    )
    assert [segment["structure"] for segment in card["segments"]] == ["kidney_left", ""]
    assert any("confirm: the bundle says 'Left Kideny'" in point for point in points), text
    assert any("'quux' by its name" in point for point in points)


@pytest.mark.parametrize(
    "metadata",
    [
        "",
        "[]",
        "nonsense",
        "[" * 100_000,
        json.dumps({"version": ["1"], "network_data_format": {"inputs": 3, "outputs": {"pred": None}}}),
        json.dumps(formats(image={"num_channels": 10**9, "spatial_shape": "x", "modality": {"a": 1}})),
        json.dumps(
            formats(
                pred={"channel_def": {"x": 1, "-1": "a", "1" * 50: "b", "1": 'q"\\\n[[segments]]\x7f\ud800'}}
            )
        ),
        json.dumps(formats(name='"""\n# [bundle]', authors='x"\nuse = "os:system')),
    ],
)
def test_metadata_that_are_wrong_or_hostile_still_give_a_draft_that_parses(tmp_path, metadata):
    _, card, points = drafted(write(tmp_path, metadata))
    assert card["use"] == "pipelines.bundle:BundlePipeline"
    assert points


def test_weights_by_another_name_are_to_be_confirmed_and_missing_ones_told(tmp_path):
    folder = write(tmp_path / "a", formats(), weights=False)
    (folder / "models").mkdir()
    for name in ("final.pt", "other.pth"):
        (folder / "models" / name).write_bytes(b"w")
    _, card, points = drafted(folder)
    assert card["bundle"]["weights"] == "models/final.pt"
    assert any(", weights: confirm: not models/other.pth" in point for point in points)
    elsewhere = write(tmp_path / "b", formats(), weights=False)
    (elsewhere / "large_files.yml").write_text("large_files: []")
    assert any(", weights: missing: large_files.yml" in point for point in drafted(elsewhere)[2])


def test_the_segments_of_a_long_list_keep_their_values(tmp_path):
    names = {"0": "background", "1": "liver", "3": "spleen"}
    config = with_steps([], [{"_target_": "AsDiscreted", "keys": "pred", "argmax": True}])
    _, card, _ = drafted(write(tmp_path, formats(pred={"channel_def": names}), config))
    assert card["bundle"]["values"] == [1, 3]
    assert card["bundle"]["channels"] == ["liver", "spleen"]


@pytest.mark.parametrize(
    ("output", "names", "has_background", "channels"),
    [
        ("one-hot", {"0": "background", "1": "liver"}, True, ["liver"]),
        ("one-hot", {"0": "spleen", "1": "liver"}, False, ["spleen", "liver"]),
        ("one-hot", {"1": "liver", "2": "spleen"}, True, ["liver", "spleen"]),
        ("probabilities", {"0": "background", "1": "liver"}, True, ["liver"]),
        ("probabilities", {"0": "spleen", "1": "liver"}, False, ["spleen", "liver"]),
        ("probabilities", {}, False, None),
    ],
)
def test_whether_the_first_channel_is_a_segment_is_written_and_asked_for(
    tmp_path, output, names, has_background, channels
):
    last = (
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True, "to_onehot": 2}
        if output == "one-hot"
        else {"_target_": "Activationsd", "keys": "pred", "sigmoid": True}
    )
    metadata = formats(pred={"channel_def": names})
    _, card, points = drafted(write(tmp_path, metadata, with_steps([], [last])))
    assert card["bundle"]["output"] == output
    assert card["bundle"]["background"] is has_background
    assert card["bundle"].get("channels") == channels
    assert any(", background: confirm" in point for point in points)


def test_names_of_pipelines_and_roles():
    assert card_name("Swin_UNETR  (v2)") == "swin-unetr-v2"
    assert card_name("///") == "bundle"
    assert len(card_name("a_" * 200)) <= 63
    assert slug("T1 c!") == "t1_c"
    assert slug("T1", {"t1"}) == "t1_2"
    assert slug("3D") == "input_3d"


def test_a_card_without_marks_has_no_open_points():
    assert open_points('name = "x"  # a comment\n') == ()
    assert open_points("a = 1  # MISSING: b") == ("line 1, a: missing: b",)


@pytest.mark.zoo
@pytest.mark.skipif(not ZOO, reason="RADNODE_ZOO names no checkout of the Model Zoo")
def test_every_bundle_of_the_zoo_gets_a_draft_that_lists_what_is_missing():
    folders = [path for path in sorted(Path(ZOO, "models").iterdir()) if (path / "configs").is_dir()]
    assert len(folders) > 25
    for folder in folders:
        _, card, points = drafted(folder, folder.name)
        assert card["name"] == card_name(folder.name)
        assert points, folder.name
        assert card["bundle"]["weights"] or any(", weights: " in point for point in points)
