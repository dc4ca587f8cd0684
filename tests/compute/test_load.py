"""Pipelines in a worker: blamed for what they do, held to their contract."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from node.compute.load import load_pipeline, run_pipeline
from node.errors import FindingsInvalid, PipelineFailed
from pipelines.contract import InputRefused, read_card
from tests.compute.findings_maker import card, image

CASE = {"ct": image()}


def toy(name, **changes):
    return card(use=f"tests.compute.toy_pipelines:{name}", digest=name, **changes)


def run(name):
    the_card = toy(name)
    return run_pipeline(load_pipeline(the_card, "cpu"), the_card, CASE)


def test_a_good_pipeline_gives_its_findings():
    assert len(run("Good").segments) == 2


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Raises", r"toy failed while analyzing: RuntimeError at toy_pipelines\.py:\d+: out of \[31m luck"),
        ("RaisesUnprintable", r"toy failed while analyzing: Odd at toy_pipelines\.py:\d+$"),
        ("Exits", r"toy failed while checking: SystemExit at toy_pipelines\.py:\d+: 0"),
        ("FailsToLoad", r"toy failed while loading: FileNotFoundError at toy_pipelines\.py:\d+: weights\.pt"),
        (
            "NoPipeline",
            r"tests\.compute\.toy_pipelines:NoPipeline of toy lacks one of load, check and analyze",
        ),
        ("Missing", r"toy failed while being imported: AttributeError at .*Missing"),
        ("findings", r"toy failed while being imported: TypeError at load\.py:\d+: .* is no class"),
    ],
)
def test_what_a_pipeline_raises_is_told_with_moment_and_place(name, sentence):
    with pytest.raises(PipelineFailed, match=sentence):
        run(name)


def test_a_refusal_passes_unchanged():
    with pytest.raises(InputRefused) as caught:
        run("Refuses")
    assert caught.value.code == "no-lungs"


def test_what_does_not_fit_the_card_never_reaches_the_pipeline():
    the_card = toy("Raises")
    pipeline = load_pipeline(the_card, "cpu")
    for spoilt, code in [
        ({}, "missing-input"),
        ({"ct": image(modality="MR")}, "wrong-modality"),
        ({"ct": image(array=np.full((4, 5, 6), np.nan, np.float32))}, "not-finite"),
    ]:
        with pytest.raises(InputRefused) as caught:
            run_pipeline(pipeline, the_card, spoilt)
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("ReturnsNothing", "toy broke its contract: it returned NoneType instead of Findings."),
        ("WrongShape", "toy broke its contract: its label map has the shape (4, 5, 7), not (4, 5, 6)."),
        ("MovesTheImage", "toy broke its contract: the affine of its outlines is not the image's own."),
    ],
)
def test_findings_that_break_the_contract_are_not_used(name, sentence):
    before = CASE["ct"].affine.copy()
    with pytest.raises(FindingsInvalid) as caught:
        run(name)
    assert str(caught.value) == sentence
    assert np.array_equal(CASE["ct"].affine, before)


def test_a_pipeline_cannot_change_the_voxels_that_its_numbers_are_checked_against():
    before = CASE["ct"].array.copy()
    with pytest.raises(PipelineFailed, match="read-only"):
        run("ChangesTheVoxels")
    assert np.array_equal(CASE["ct"].array, before)


def test_a_pipeline_cannot_change_the_colours_that_a_picture_shows():
    colour = np.full((*CASE["ct"].array.shape, 3), 9, np.uint8)
    coloured = {"ct": replace(CASE["ct"], colour=colour)}
    the_card = toy("ChangesTheColours")
    with pytest.raises(PipelineFailed, match="read-only"):
        run_pipeline(load_pipeline(the_card, "cpu"), the_card, coloured)
    assert (colour == 9).all()


def an_outside_pipeline(folder, name):
    folder.mkdir(parents=True)
    (folder / "card.toml").write_text(
        f"""
        name = "{name}"
        version = "1"
        title = "Outside"
        maker = "test"
        intended_use = "test"
        use = "{folder.name}.code:Toy"
        [inputs.ct]
        modality = ["CT"]
        unit = "[hnsf'U]"
        """
    )
    (folder / "code.py").write_text("from tests.compute.toy_pipelines import Good as Toy\n")
    return read_card(folder / "card.toml")


def test_an_outside_pipeline_is_imported_from_its_own_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    made = load_pipeline(an_outside_pipeline(tmp_path / "outside_toy", "outside"), "cpu")
    assert made.card.name == "outside"


def test_a_folder_never_runs_the_code_of_its_namesake(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    load_pipeline(an_outside_pipeline(tmp_path / "a" / "namesake_toy", "first"), "cpu")
    second = an_outside_pipeline(tmp_path / "b" / "namesake_toy", "second")
    with pytest.raises(PipelineFailed, match="another package has the name"):
        load_pipeline(second, "cpu")
