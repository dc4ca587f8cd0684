"""The record of a trial is of exactly the files that were tried."""

from __future__ import annotations

import json

import pytest

from node.compute.catalogue import installed
from node.compute.record import MARK, Trial, complaint_of_trial, read_trial, record_of, write_trial
from node.config import ExternalPipeline
from node.errors import ConfigError
from tests.bundle_zoo import write_zoo


def trial(digest: str, verdict="passed") -> Trial:
    return Trial(verdict=verdict, sentence="", digest=digest, at="2026-01-02T03:04:05+00:00", device="cpu")


def test_a_record_says_what_was_written(tmp_path):
    (tmp_path / "x").mkdir()
    write_trial(trial("ab"), tmp_path / "x")
    assert read_trial(tmp_path / "x") == trial("ab")
    assert complaint_of_trial(tmp_path / "x", "ab") == ""


def test_a_folder_without_a_record_is_of_whoever_approved_its_digest(tmp_path):
    assert read_trial(tmp_path / "x") is None
    assert complaint_of_trial(tmp_path / "x", "ab") == ""


def test_where_pipelines_are_added_each_needs_a_record(tmp_path):
    (tmp_path / MARK).touch()
    assert "never tried" in complaint_of_trial(tmp_path / "x", "ab")
    write_trial(trial("ab"), tmp_path / "x")
    assert complaint_of_trial(tmp_path / "x", "ab") == ""


@pytest.mark.parametrize("verdict", ["passed", "refused"])
def test_other_files_than_those_tried_are_refused_with_the_remedy(tmp_path, verdict):
    write_trial(trial("ab", verdict), tmp_path / "x")
    said = complaint_of_trial(tmp_path / "x", "cd")
    assert "other files" in said
    assert "radnode pipelines add" in said


def test_a_failed_trial_is_refused(tmp_path):
    write_trial(trial("ab", "failed"), tmp_path / "x")
    assert "trial failed" in complaint_of_trial(tmp_path / "x", "ab")


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, '{"verdict": "passed"}', "\udcff"])
def test_what_is_no_record_is_told_and_never_taken_for_one(tmp_path, text):
    record_of(tmp_path / "x").write_text(text, encoding="utf-8", errors="surrogateescape")
    assert "no record" in complaint_of_trial(tmp_path / "x", "ab")


def test_what_a_later_version_adds_to_a_record_is_left_alone(tmp_path):
    write_trial(trial("ab"), tmp_path / "x")
    content = json.loads(record_of(tmp_path / "x").read_text())
    record_of(tmp_path / "x").write_text(json.dumps(content | {"colour": "red"}))
    assert read_trial(tmp_path / "x") == trial("ab")


def test_an_approved_pipeline_whose_record_is_of_other_files_is_not_installed(tmp_path):
    card = write_zoo(tmp_path / "labels", "labels")
    approved = {"labels": ExternalPipeline(folder=card.folder, sha256=card.digest)}
    assert "labels" in installed(approved)
    write_trial(trial(card.digest), card.folder)
    assert "labels" in installed(approved)
    write_trial(trial("00"), card.folder)
    with pytest.raises(ConfigError, match="its trial was of other files"):
        installed(approved)
