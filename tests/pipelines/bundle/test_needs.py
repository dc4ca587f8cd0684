"""What a bundle says it needs is held against what is installed."""

from __future__ import annotations

import json

from pipelines.bundle.needs import unmet_needs


def needs(tmp_path, **said):
    path = tmp_path / "metadata.json"
    path.write_text(json.dumps(said))
    return unmet_needs(path)


def test_what_is_missing_or_older_is_told_in_a_sentence_and_nothing_else(tmp_path):
    told = needs(
        tmp_path,
        monai_version="99.0.0",
        pytorch_version="1.13.1",
        numpy_version="1.2",
        required_packages_version={"nibabel": "3.2.1", "no-such-package": "0.4"},
        optional_packages_version={"another-such": "7"},
    )
    another, monai, missing = told
    assert another == "The bundle names the package another-such 7, which is not installed."
    assert monai.startswith("The bundle was made with monai 99.0.0; installed is 1.")
    assert missing == "The bundle names the package no-such-package 0.4, which is not installed."


def test_metadata_without_needs_or_that_cannot_be_read_needs_nothing(tmp_path):
    assert needs(tmp_path) == ()
    assert needs(tmp_path, required_packages_version=None, monai_version="odd") == ()
    assert needs(tmp_path, required_packages_version=["torch"]) == ()
    assert unmet_needs(tmp_path / "none.json") == ()
