"""Files held against pins."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.pins import differences, pin_of

SHA256 = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, "abc"
MD5 = "md5:900150983cd24fb0d6963f7d28e17f72"  # RFC 1321, "abc"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/model.pt").write_bytes(b"abc")
    return tmp_path


def test_files_that_are_the_pinned_ones_differ_in_nothing(folder: Path) -> None:
    assert differences(folder, {"models/model.pt": SHA256}) == ()
    assert differences(folder, {"models/model.pt": MD5}) == ()
    assert pin_of(folder / "models/model.pt") == SHA256


def test_each_file_that_differs_is_told_with_what_was_found(folder: Path) -> None:
    (folder / "other").write_bytes(b"abd")
    told = differences(folder, {"other": SHA256, "models/model.pt": MD5, "lost": MD5})
    assert len(told) == 2
    assert told[0].startswith("other has sha256:")
    assert SHA256 in told[0]
    assert told[1] == "lost is missing."


def test_a_pin_does_not_lead_out_of_the_folder(folder: Path) -> None:
    assert differences(folder / "models", {"../models/model.pt": MD5}) == ()
    assert "leads out" in differences(folder / "models", {"../other": MD5})[0]


@pytest.mark.parametrize("pin", ["", "abc", SHA256.upper(), SHA256[7:], "sha1:00", f"{MD5} "])
def test_what_is_no_pin_is_an_error(folder: Path, pin: str) -> None:
    with pytest.raises(ValueError, match="is no pin"):
        differences(folder, {"models/model.pt": pin})
