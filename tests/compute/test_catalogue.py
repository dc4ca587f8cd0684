"""Which pipelines run: ours, and those that somebody approved, file by file."""

from __future__ import annotations

import pytest

from node.compute import installed
from node.compute.catalogue import OURS
from node.config import ExternalPipeline
from node.errors import ConfigError
from pipelines.contract import folder_digest

CARD = """
name = "spleen"
version = "1.0.0"
title = "Spleen"
maker = "test"
intended_use = "test"
use = "spleen.code:Spleen"
[inputs.ct]
modality = ["CT"]
unit = "[hnsf'U]"
"""


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "spleen"
    made.mkdir()
    (made / "card.toml").write_text(CARD)
    (made / "code.py").write_text("class Spleen: pass\n")
    return made


def entry(folder, sha256=None):
    return ExternalPipeline(folder=folder, sha256=sha256 or folder_digest(folder))


def complaint(external):
    with pytest.raises(ConfigError) as caught:
        installed(external)
    head, *lines = str(caught.value).splitlines()
    assert head == "Some pipelines cannot be used:"
    return "\n".join(line.strip() for line in lines)


def test_our_own_pipelines_are_there_without_any_configuration():
    cards = installed({})
    assert set(cards) == {path.parent.name.replace("_", "-") for path in OURS.glob("*/card.toml")}
    assert all(len(card.digest) == 64 for card in cards.values())


def test_an_approved_folder_is_a_pipeline(folder):
    card = installed({"spleen": entry(folder)})["spleen"]
    assert card.folder == folder.resolve()
    assert card.digest == folder_digest(folder)


def test_a_folder_that_nobody_approved_is_not_and_the_digest_to_approve_is_told(folder):
    assert complaint({"spleen": entry(folder, "0" * 64)}) == (
        f"[pipelines.spleen] nobody approved what is in {folder} now: its digest is {folder_digest(folder)}. "
        "Look at what it holds, then write that as sha256 to approve it"
    )


def test_any_change_of_an_approved_folder_is_noticed(folder):
    approved = entry(folder)
    (folder / "code.py").write_text("class Spleen: x = 1\n")
    assert "nobody approved" in complaint({"spleen": approved})
    (folder / "code.py").write_text("class Spleen: pass\n")
    assert "spleen" in installed({"spleen": approved})
    (folder / "more.py").write_text("")
    assert "nobody approved" in complaint({"spleen": approved})


def test_what_the_digest_cannot_vouch_for_is_refused(folder):
    (folder / "__pycache__").mkdir()
    (folder / "weights.pt").symlink_to("/etc/hostname")
    told = complaint({"spleen": entry(folder)})
    assert "__pycache__ holds compiled code, which the digest leaves out" in told
    assert "weights.pt is a link, so the digest cannot vouch for it" in told


def test_code_outside_the_approved_folder_is_refused(folder):
    (folder / "card.toml").write_text(CARD.replace("spleen.code:", "os.path:"))
    assert "its code, 'os.path:Spleen', lies outside the approved folder" in complaint(
        {"spleen": entry(folder)}
    )
    (folder / "card.toml").write_text(CARD.replace("spleen.code:Spleen", "pipelines.bundle:BundlePipeline"))
    assert "spleen" in installed({"spleen": entry(folder)})


def test_all_complaints_come_at_once(folder, tmp_path):
    (folder / "card.toml").write_text(CARD.replace("spleen.code", "elsewhere"))
    told = complaint({"liver": entry(folder, "f" * 64), "none": entry(tmp_path, "f" * 64)}).splitlines()
    assert [line.split("]")[0] for line in told] == ["[pipelines.liver"] * 3 + ["[pipelines.none"]
    assert "the card in" in told[0]
    assert "There is no file" in told[3]


def test_a_name_that_is_taken_is_told(folder):
    ours = next(iter(installed({})))
    (folder / "card.toml").write_text(CARD.replace('name = "spleen"', f'name = "{ours}"'))
    assert f"there is another pipeline {ours!r}" in complaint({ours: entry(folder)})
