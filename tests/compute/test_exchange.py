"""What workers hand each other: whole, nameless, and believed by nobody."""

from __future__ import annotations

import json
import os
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from node.compute.exchange import (
    CASE,
    FINDINGS,
    read_case,
    read_findings,
    read_volumes,
    write_case,
    write_findings,
)
from node.compute.exchange.typed import Untyped, plain, record_of
from node.errors import FindingsInvalid
from node.model import Slice, Volume
from pipelines.contract import Card, Code, Findings, Image, Measurement, read_card
from tests.compute.findings_maker import ML, POINTS, SHAPE, VOLUME, a_map, card, detection, findings, image
from tests.paths import REPOSITORY

CANARY = "1.2.826.4711"  #: stands in every identifier of the source


def a_volume(**changes) -> Volume:
    slices = tuple(
        Slice(
            sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
            sop_instance_uid=f"{CANARY}.{index}",
            frame=None,
            path=Path("/data/instances") / CANARY / str(index),
            position_mm=(0.0, 0.0, 2.0 * index),
        )
        for index in range(SHAPE[0])
    )
    rng = np.random.default_rng(3)
    plain_image = image(
        array=rng.normal(size=SHAPE).astype(np.float32),
        facts={"SliceThickness": 2.0, "Manufacturer": "test"},
        frame_of_reference=f"{CANARY}.9",
    )
    return Volume(
        **{
            "image": plain_image,
            "slices": slices,
            "series_uid": f"{CANARY}.1",
            "study_uid": f"{CANARY}.2",
            "frame_of_reference_uid": f"{CANARY}.9",
            "notes": ("A localizer was left out",),
        }
        | changes
    )


def same(one: Image, other: Image) -> None:
    for field in fields(Image):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if isinstance(mine, np.ndarray):
            np.testing.assert_array_equal(mine, theirs)
            assert mine.dtype == theirs.dtype
        elif field.name != "frame_of_reference":
            assert mine == theirs, field.name


def test_a_case_comes_out_as_it_went_in(tmp_path):
    colour = np.arange(np.prod(SHAPE) * 3, dtype=np.uint8).reshape(*SHAPE, 3)
    grey = a_volume()
    volumes = {
        "ct": grey,
        "prior": replace(grey, image=replace(grey.image, colour=colour, phases=2, is_spatial=False)),
        "other": replace(grey, image=replace(grey.image, frame_of_reference=f"{CANARY}.8")),
        "turned": replace(grey, image=replace(grey.image, array=grey.image.array.T)),  # of another layout
    }
    write_case(volumes, tmp_path)
    found = read_volumes(tmp_path)
    assert list(found) == list(volumes)
    for role, volume in volumes.items():
        same(volume.image, found[role].image)
        assert replace(found[role], image=volume.image) == volume
    frames = [one.image.frame_of_reference for one in found.values()]
    assert frames[0] == frames[1] == frames[3] != frames[2], "who shares one can still be told"


def test_what_a_model_is_given_names_nobody(tmp_path):
    write_case({"ct": a_volume()}, tmp_path)
    given = b"".join(file.read_bytes() for file in (tmp_path / CASE).iterdir())
    assert CANARY.encode() not in given
    assert b"instances" not in given
    assert CANARY in (tmp_path / "source.json").read_text()


def test_the_voxels_of_a_case_are_mapped_and_cannot_be_written(tmp_path):
    write_case({"ct": a_volume()}, tmp_path)
    array = read_case(tmp_path / CASE)["ct"].array
    assert isinstance(array.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0, 0] = 1


def labelled(dtype):
    return findings().labelmap.astype(dtype)


GOOD = {
    "labels": findings(),
    "wide labels": findings(labelmap=labelled(np.uint16)),
    "labels of another layout": findings(labelmap=np.asfortranarray(findings().labelmap)),
    "masks": findings(labelmap=None, masks=np.stack([findings().labelmap == n for n in (1, 2)])),
    "no masks": Findings(masks=np.zeros((0, *SHAPE), bool), affine=image().affine),
    "nothing": Findings(cautions=("Nothing was seen.",)),
    "maps": findings(maps=(a_map(), a_map(segment=None, label="Second"))),
    "detections": findings(detections=tuple(detection(n, s) for n, s in enumerate(POINTS, start=1))),
    "a union": findings(
        measurements=(Measurement(name=VOLUME, value=np.float64(2.5), unit=ML, union=(1, 2), check="volume"),)
    ),
    "on a named role": findings(role="ct"),
}


@pytest.mark.parametrize("made", GOOD.values(), ids=GOOD.keys())
def test_findings_come_out_as_they_went_in(tmp_path, made):
    write_findings(made, tmp_path / FINDINGS)
    found = read_findings(tmp_path, card(), {"ct": image()})
    assert json.dumps(plain(found)) == json.dumps(plain(made))
    for name in ("labelmap", "masks"):
        mine, theirs = getattr(made, name), getattr(found, name)
        assert (mine is None) == (theirs is None)
        assert mine is None or mine.dtype == theirs.dtype


def edit(**changes):
    def act(folder):
        path = folder / "findings.json"
        content = json.loads(path.read_text())
        for key, value in changes.items():
            content[key] = value
        path.write_text(json.dumps(content))

    return act


def edit_segment(**changes):
    def act(folder):
        path = folder / "findings.json"
        content = json.loads(path.read_text())
        content["segments"][0] |= changes
        path.write_text(json.dumps(content))

    return act


def link_to_a_file(folder):
    (folder / "labelmap.npy").rename(folder.parent / "elsewhere.npy")
    (folder / "labelmap.npy").symlink_to(folder.parent / "elsewhere.npy")


def hard_link(folder):
    os.link(folder / "labelmap.npy", folder.parent / "elsewhere.npy")


def link_to_a_folder(folder):
    folder.rename(folder.parent / "elsewhere")
    folder.symlink_to(folder.parent / "elsewhere")


def pipe(folder):
    (folder / "findings.json").unlink()
    os.mkfifo(folder / "findings.json")


def device(folder):
    (folder / "findings.json").unlink()
    (folder / "findings.json").symlink_to("/dev/zero")


def a_folder_as_file(folder):
    (folder / "labelmap.npy").unlink()
    (folder / "labelmap.npy").mkdir()


def a_file_as_folder(folder):
    folder.rename(folder.parent / "elsewhere")
    folder.write_text("")


def nothing(folder):
    folder.rename(folder.parent / "elsewhere")


def too_short(folder):
    os.truncate(folder / "labelmap.npy", 200)


def sparse_and_huge(folder):
    os.truncate(folder / "labelmap.npy", 1 << 40)


def pickled(folder):
    np.save(folder / "labelmap.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)


def another_shape_of_the_same_size(folder):
    np.save(folder / "labelmap.npy", np.zeros(SHAPE[::-1], np.uint8))


def another_order(folder):
    np.save(folder / "labelmap.npy", np.asfortranarray(np.zeros(SHAPE, np.uint8)))


def huge_json(folder):
    os.truncate(folder / "findings.json", 1 << 40)


def deep_json(folder):
    (folder / "findings.json").write_text("[" * 100_000)


def no_json(folder):
    (folder / "findings.json").write_bytes(b"\x80\x04\x95pickle")


def a_list(folder):
    (folder / "findings.json").write_text("[]")


SPOILT = [
    (link_to_a_file, r"labelmap\.npy cannot be opened"),
    (hard_link, r"labelmap\.npy is no plain file of its own"),
    (link_to_a_folder, "there is no folder findings"),
    (pipe, r"findings\.json is no plain file of its own"),
    (device, r"findings\.json cannot be opened"),
    (a_folder_as_file, r"labelmap\.npy is no plain file of its own"),
    (a_file_as_folder, "there is no folder findings"),
    (nothing, "there is no folder findings"),
    (too_short, r"labelmap\.npy has 200 bytes; an array of uint8 and \(4, 5, 6\) has 248"),
    (sparse_and_huge, r"labelmap\.npy has 1099511627776 bytes"),
    (pickled, r"labelmap\.npy has \d+ bytes"),
    (another_shape_of_the_same_size, r"labelmap\.npy does not begin as an array of uint8 and \(4, 5, 6\)"),
    (another_order, r"labelmap\.npy does not begin as"),
    (huge_json, r"findings\.json has 1099511627776 bytes; \d+ are the most"),
    (deep_json, r"findings\.json is no JSON"),
    (no_json, r"findings\.json is no JSON"),
    (a_list, r"findings\.json holds no mapping"),
    (edit(more=1), "findings may have no 'more'"),
    (edit(segments=5), "segments of findings is a whole number, not a list"),
    (edit(segments=[[]]), "an entry of segments of findings is a list, not a mapping"),
    (edit(affine=[["1"]]), "affine of findings"),
    (edit(affine=[[1], [1, 2]]), "affine of findings"),
    (edit(role=["ct"]), "role of findings"),
    (edit(role="mr"), "on the grid of 'mr', which is no input"),
    (edit(labelmap="object"), "its label map is of none of the types uint8, uint16"),
    (edit(labelmap="float32"), "its label map is of none of the types"),
    (edit(labelmap=["uint8"]), "its label map is of none of the types"),
    (edit(maps=[{}] * 100), "its maps are not a list of at most 64"),
    (edit(maps=[{}]), "map-1.npy cannot be opened"),
    (edit(masks=True), "masks.npy cannot be opened"),
    (edit_segment(number=True), "number of an entry of segments of findings is bool, not a whole number"),
    (edit_segment(label=3), "label of an entry of segments of findings is a whole number, not text"),
    (edit_segment(kind=["1", "SCT"]), "kind of an entry of segments of findings has 2 parts, not 3"),
    (edit_segment(number=2), "broke its contract: its segments are not numbered 1, 2, 3"),
    (edit_segment(path="/etc"), "an entry of segments of findings may have no 'path'"),
]


@pytest.mark.parametrize(("change", "sentence"), SPOILT, ids=[s[1][:40] for s in SPOILT])
def test_what_a_pipeline_left_is_not_believed(tmp_path, change, sentence):
    write_findings(findings(), tmp_path / FINDINGS)
    change(tmp_path / FINDINGS)
    with pytest.raises(FindingsInvalid, match=sentence):
        read_findings(tmp_path, card(), {"ct": image()})


def test_every_card_of_ours_survives_the_way_to_a_worker():
    for path in sorted((REPOSITORY / "pipelines").rglob("card.toml")):
        made = read_card(path)
        assert record_of(Card, json.loads(json.dumps(plain(made)))) == made


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({}, "Code|has no"),
        ({"name": VOLUME, "value": "1"}, "has no"),
        ([], "Measurement is a list, not a mapping"),
    ],
)
def test_a_record_is_made_of_all_its_fields_or_not_at_all(content, sentence):
    with pytest.raises(Untyped, match=sentence):
        record_of(Measurement, content)


def test_a_number_too_large_for_one_is_told():
    content = plain(Measurement(name=VOLUME, value=1.0, unit=ML)) | {"value": 10**400}
    with pytest.raises(Untyped, match="value of Measurement is too large a number"):
        record_of(Measurement, content)


def test_not_a_number_survives():
    content = json.loads(json.dumps(plain(Measurement(name=VOLUME, value=float("nan"), unit=ML))))
    assert np.isnan(record_of(Measurement, content).value)
    assert isinstance(record_of(Measurement, content).name, Code)
