"""What several profiles share, and what becomes of an object that cannot be made or is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from node.encode import EXTRA_MAKERS, Maker, encode
from node.encode.common import named_instances
from node.encode.lint import JUDGES
from node.encode.material import Material, NotApplicable
from node.encode.render.pdf import make_pdf
from node.encode.seg.make import make_segs
from node.errors import EncodeError
from node.profile import Profile
from tests.encode.helpers import (
    LEFT_LUNG,
    a_job,
    a_phantom_case,
    encoded,
    findings_of,
)


def _no_judge(*_: object) -> Iterator[str]:
    yield "it is not what it should be"


def _half_made(material: Material) -> Iterator[Dataset]:
    yield from make_pdf(material)
    raise EncodeError("the second page is missing")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (EncodeError("the outlines do not fit"), "(pdf) was made: the outlines do not fit"),
        (ValueError("PATIENT^NAME"), "(pdf) was made: ValueError"),
        (NotApplicable("There is nothing to print."), "There is nothing to print."),
    ],
)
def test_an_extra_that_cannot_be_made_is_left_out_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def failing(material: Material) -> Iterator[Dataset]:
        raise error
        yield

    volume, mask = a_phantom_case(tmp_path / "in")
    monkeypatch.setitem(EXTRA_MAKERS, "pdf", failing)
    (tmp_path / "out").mkdir()
    findings = findings_of(volume, [mask], [LEFT_LUNG])
    profiles = (Profile(also=("pdf", "rtstruct")), Profile(report="air", also=("pdf",)))
    made = encode(a_job(), findings, {"ct": volume}, tmp_path / "out", profiles)
    assert "pdf" not in {thing.kind for thing in made.objects}
    assert "rtstruct" in {thing.kind for thing in made.objects}
    assert len([note for note in made.notes if told in note]) == 1
    assert not any("PATIENT" in note for note in made.notes)


def test_an_extra_that_its_judge_refuses_is_neither_kept_nor_referred_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume, mask = a_phantom_case(tmp_path / "in")
    monkeypatch.setitem(JUDGES, "rtstruct", _no_judge)
    monkeypatch.setitem(EXTRA_MAKERS, "pdf", _half_made)
    (tmp_path / "out").mkdir()
    findings = findings_of(volume, [mask], [LEFT_LUNG])
    profiles = (Profile(also=("rtstruct", "pdf")), Profile(report="air", also=("rtstruct",)))
    made = encode(a_job(), findings, {"ct": volume}, tmp_path / "out", profiles)
    kept = {thing.sop_instance_uid for thing in made.objects}
    assert {thing.kind for thing in made.objects} == {"seg", "sr-measurements", "sr-text", "sr-air", "pdf"}
    assert {thing.path for thing in made.objects} == set((tmp_path / "out").iterdir())
    assert {uid for uids in made.profiles.values() for uid in uids} == kept
    sources = {plane.sop_instance_uid for plane in volume.slices}
    for thing in made.objects:
        assert set(thing.refers_to) <= kept
        named = named_instances(pydicom.dcmread(thing.path))
        assert named <= kept | sources, thing.kind
    assert any("left out: it is not what it should be" in note for note in made.notes)
    assert any("Not every PDF report (pdf) was made" in note for note in made.notes)


def test_a_segmentation_that_its_judge_refuses_still_fails_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume, mask = a_phantom_case(tmp_path / "in")
    monkeypatch.setitem(JUDGES, "seg", _no_judge)
    with pytest.raises(EncodeError, match="not what it should be"):
        encoded(volume, findings_of(volume, [mask], [LEFT_LUNG]), tmp_path / "out")


def test_a_profile_that_differs_in_coordinates_alone_shares_what_does_not_depend_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume, mask = a_phantom_case(tmp_path / "in")
    times: list[str] = []

    def counted(kind: str, maker: Maker) -> Maker:
        def making(material: Material) -> Iterator[Dataset]:
            times.append(kind)
            return maker(material)

        return making

    monkeypatch.setattr("node.encode.make_segs", counted("seg", make_segs))
    monkeypatch.setitem(EXTRA_MAKERS, "rtstruct", counted("rtstruct", EXTRA_MAKERS["rtstruct"]))
    (tmp_path / "out").mkdir()
    findings = findings_of(volume, [mask], [LEFT_LUNG])
    profiles = (Profile(also=("rtstruct",)), Profile(coordinates="patient", also=("rtstruct",)))
    encode(a_job(), findings, {"ct": volume}, tmp_path / "out", profiles)
    assert times == ["seg", "rtstruct"]
