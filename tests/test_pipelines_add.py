"""A bundle is brought to a node as a person brings it, from the command line to an analysed study."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import tomllib
from pathlib import Path

import pydicom
import pytest
import torch

from node.adding import add as adding
from node.adding import card as cards
from node.cli import main
from node.compute.record import read_trial, record_of
from pipelines.draft import open_points
from tests.bundle_zoo import ZOO, write_zoo
from tests.bundles import write_bundle
from tests.toy_node import CARD, CODE, small_ct, truth_ml, volumes_ml

pytestmark = pytest.mark.long

CONFIG = '[node]\ndata = "data"\n[accept]\nreserve_gb = 0.01\n[compute]\ndevices = ["cpu"]\n'


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A site with a configuration; commands run in its folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "node.toml").write_text(CONFIG)
    return tmp_path


def radnode(capsys, monkeypatch, *words) -> tuple[int, str]:
    """Run a command in this process; return its exit code and all that it said."""
    monkeypatch.setattr(sys, "argv", ["radnode", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return int(ended.value.code or 0), said.out + said.err


@pytest.fixture
def run(capsys, monkeypatch):
    return lambda *words: radnode(capsys, monkeypatch, *words)


def cardless(folder: Path) -> Path:
    """Write a bundle that has weights and no card."""
    write_bundle(folder, network=torch.nn.Identity())
    (folder / "card.toml").unlink()
    (folder / "LICENSE").write_text("Apache License\nVersion 2.0\n")
    return folder


def completed(draft: str) -> str:
    """Return a draft as a person completes it."""
    blanks = {"maker": "Our group", "intended_use": "Bright things on CT.", "structure": "spleen"}
    for key, value in blanks.items():
        draft = re.sub(rf'(?m)^{key} = ""  # MISSING.*$', f'{key} = "{value}"', draft)
    return re.sub(r"(?m)  # CONFIRM: .*$", "", draft)


def test_from_a_folder_without_a_card_to_an_analysed_study(site, run):
    bundle = cardless(site / "bright_things")
    code, said = run("pipelines", "add", "bright_things", "--yes")
    assert code == 1
    assert "not deployable, for" in said
    assert "maker: missing" in said
    draft = site / "bright_things.card.draft.toml"
    assert open_points(draft.read_text())
    assert not [*(site / "data" / "pipelines").glob("[!.]*")], "nothing is left of what was refused"
    assert tomllib.loads((site / "node.toml").read_text()) == tomllib.loads(CONFIG)

    draft.write_text(completed(draft.read_text()))
    code, said = run("pipelines", "add", "bright_things", "--yes")
    assert code == 0, said
    assert "passed on cpu" in said
    assert "bright: " in said
    assert "licence of the code: Apache License (LICENSE)" in said
    copy = site / "data" / "pipelines" / "bright-things"
    trial = read_trial(copy)
    assert trial.verdict == "passed"
    assert trial.seconds["compute"] > 0
    assert 0.1 < trial.memory_gb < 8
    assert trial.made_with["torch"] == torch.__version__
    entry = tomllib.loads((site / "node.toml").read_text())["pipelines"]["bright-things"]
    assert entry == {"folder": "data/pipelines/bright-things", "sha256": trial.digest}
    assert not (bundle / "card.toml").exists(), "the bundle itself is left alone"

    _, said = run("check")
    assert re.search(r"pipeline bright-things: tried on 20\d\d-\d\d-\d\d, passed on cpu", said)
    code, said = run("pipelines", "show", "bright-things")
    assert code == 0
    assert "outlines 1: bright = Spleen (78961009, SCT)" in said
    assert "trial on a simulated case: passed" in said
    small_ct(site / "ct")
    code, said = run("analyze", "ct", "--out", "results", "--pipeline", "bright-things")
    assert code == 0, said
    made = [pydicom.dcmread(file) for file in (site / "results").glob("*.dcm")]
    assert volumes_ml([one for one in made if "ContentSequence" in one])[0] == pytest.approx(
        truth_ml(), rel=0.01
    )

    code, said = run("pipelines", "remove", "bright-things", "--yes")
    assert code == 0, said
    assert not copy.exists()
    assert not record_of(copy).exists()
    assert tomllib.loads((site / "node.toml").read_text()) == tomllib.loads(CONFIG)


def test_a_draft_is_never_written_over(site, run):
    cardless(site / "b")
    run("pipelines", "add", "b")
    draft = site / "b.card.draft.toml"
    draft.write_text(
        draft.read_text().replace('maker = ""  # MISSING: who answers for the algorithm', 'maker = "Me"')
    )
    mine = draft.read_text()
    code, said = run("pipelines", "add", "b")
    assert code == 1
    assert "maker: missing" not in said
    assert "intended_use: missing" in said
    assert draft.read_text() == mine


def toy(folder: Path, check: str = "pass") -> Path:
    """Write a pipeline with code of its own, which needs no torch."""
    folder.mkdir(parents=True)
    (folder / "card.toml").write_text(CARD)
    passes = "def check(self, case):\n        "
    (folder / "pipeline.py").write_text(CODE.replace(f"{passes}pass", f"{passes}{check}"))
    return folder


def test_a_zip_with_a_card_and_another_name(site, run):
    toy(site / "src" / "toy_threshold")
    shutil.make_archive(str(site / "toy_v1.0.0"), "zip", site / "src")
    code, said = run("pipelines", "add", "toy_v1.0.0.zip", "--as", "bright-spots")
    assert code == 1, said
    assert "Nothing was approved: node.toml is as it was" in said
    assert "--yes" in said
    assert "holds 1 Python files: this is a program" in said
    printed = re.search(r'\[pipelines\.bright-spots\]\nfolder = "data/.*"\nsha256 = "(.*)"\n', said)
    assert printed.group(1) == read_trial(site / "data" / "pipelines" / "toy_threshold").digest
    assert "bright-spots" not in (site / "node.toml").read_text(), "nobody said yes"

    again = ("pipelines", "add", "toy_v1.0.0.zip", "--as", "bright-spots")
    code, said = run(*again, "--yes")
    assert code == 0, said
    code, said = run(*again)
    assert code == 0, "it is approved already"
    assert "approves these files already" in said


def test_where_there_is_no_configuration_nothing_is_left_undone(site, run):
    (site / "node.toml").unlink()
    code, said = run("pipelines", "add", toy(site / "toy"))
    assert code == 0, said
    assert "[pipelines.toy-threshold]" in said
    assert "Nothing was approved" not in said


def test_a_pipeline_with_code_of_its_own_lies_in_the_folder_that_its_code_names(site, run):
    code, said = run("pipelines", "add", toy(site / "toy"), "--yes")
    assert code == 0, said
    assert (site / "data" / "pipelines" / "toy_threshold" / "pipeline.py").is_file()
    code, said = run("pipelines", "--json")
    assert json.loads(said)["toy-threshold"]["trial"] == "passed"


def test_a_pipeline_whose_code_fails_is_told_and_left_out(site, run):
    toy(site / "toy", "raise ValueError('no such luck')")
    code, said = run("pipelines", "add", "toy", "--yes")
    assert code == 1
    assert "no such luck" in said
    assert not [*(site / "data" / "pipelines").glob("[!.]*")]


def test_a_refusal_of_what_was_simulated_passes_and_is_told(site, run):
    refusal = "InputRefused('no-phantom', 'A phantom is needed.')"
    toy(site / "toy", f"from pipelines.contract import InputRefused; raise {refusal}")
    code, said = run("pipelines", "add", "toy", "--yes")
    assert code == 0, said
    assert "it loads, and refuses what was simulated" in said
    assert "A phantom is needed." in said
    assert read_trial(site / "data" / "pipelines" / "toy_threshold").verdict == "refused"


def test_wrong_weights_are_refused_before_anything_runs(site, run):
    folder = site / "b"
    write_bundle(folder, network=torch.nn.Conv3d(1, 1, 1))
    (folder / "models" / "model.pt").write_bytes(b"other weights")
    code, said = run("pipelines", "add", "b", "--yes")
    assert code == 1
    assert "has SHA-256" in said
    assert "pipelines.tiny" not in (site / "node.toml").read_text()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (('use = "pipelines.bundle:BundlePipeline"', "use = 3"), "card.toml"),
        (('name = "labels"', 'name = "lung-density"'), "is a pipeline of radnode itself"),
        (('name = "labels"', 'name = "../labels"'), "lower case letters"),
        (('kind = "volume"', 'kind = "cube"'), "kind is one of"),
        (('use = "pipelines.bundle:BundlePipeline"', 'use = "../x:Y"'), "is in no package"),
    ],
)
def test_a_card_that_cannot_be_used_is_refused_before_the_trial(site, run, change, told):
    card = write_zoo(site / "labels", "labels")
    text = (card.folder / "card.toml").read_text()
    assert change[0] in text
    (card.folder / "card.toml").write_text(text.replace(*change))
    code, said = run("pipelines", "add", "labels", "--yes")
    assert code == 1
    assert "not deployable, for 1 reason" in said
    assert told in said


def test_other_files_do_not_take_the_place_of_a_pipeline(site, run):
    card = write_zoo(site / "labels", "labels")
    there = site / "data" / "pipelines" / "labels"
    shutil.copytree(card.folder, there)
    (card.folder / "more.txt").write_text("changed")
    code, said = run("pipelines", "add", "labels")
    assert code == 1
    assert "remove it first" in said
    assert not (there / "more.txt").exists()


def test_what_is_not_there_is_told(site, run):
    for name, told in (
        ("no/such/bundle", "There is no folder or file no/such/bundle."),
        ("no_such_bundle", "cannot be fetched"),
    ):
        code, said = run("pipelines", "add", name)
        assert code == 2
        assert told in said
    code, said = run("pipelines", "remove", "nothing")
    assert code == 2
    assert "There is no pipeline 'nothing'" in said
    code, said = run("pipelines", "show", "nothing")
    assert code == 2
    assert "installed are: lung-density" in said


def test_what_was_fetched_without_a_card_is_kept_for_the_person_who_goes_on(site, run, monkeypatch):
    def download(name, folder):
        return cardless(folder / name)

    monkeypatch.setattr(adding, "download", download)
    code, said = run("pipelines", "add", "some_bundle")
    assert code == 1
    assert f"What was fetched is in {site / 'some_bundle'}" in said
    assert (site / "some_bundle" / "configs" / "metadata.json").is_file()
    assert (site / "some_bundle.card.draft.toml").is_file()
    code, said = run("pipelines", "add", "some_bundle")
    assert "the draft" not in said, "it goes on with what is there"
    assert "maker: missing" in said


def test_what_a_killed_command_left_goes_with_the_next_day(site, run):
    shelf = site / "data" / "pipelines"
    for name in (".new-old", ".new-now"):
        (shelf / name).mkdir(parents=True)
    os.utime(shelf / ".new-old", (0, 0))
    cardless(site / "b")
    run("pipelines", "add", "b")
    assert {one.name for one in shelf.iterdir()} == {".new-now", ".tried"}


def test_a_pipeline_that_rules_use_is_not_removed(site, run):
    rule = '[[rules]]\nname = "spots"\npipeline = "labels"\n'
    (site / "node.toml").write_text(CONFIG + rule)
    code, said = run("pipelines", "remove", "labels", "--yes")
    assert code == 2
    assert "used by 'spots'" in said


def test_a_zoo_card_is_used_where_every_pin_holds_and_refused_where_one_does_not(site, run, monkeypatch):
    folder = cardless(site / "some_bundle")
    weights = folder / "models" / "model.pt"
    config = hashlib.sha256((folder / "configs" / "inference.json").read_bytes()).hexdigest()
    md5 = hashlib.md5(weights.read_bytes(), usedforsecurity=False).hexdigest()
    ours = site / "ours.toml"
    text = (
        'name = "some-bundle"\nversion = "1.0.0"\ntitle = "T"\nmaker = "M"\nintended_use = "U"\n'
        'use = "pipelines.bundle:BundlePipeline"\nmeasure = ["volume"]\n'
        '[inputs.ct]\nmodality = ["CT"]\nunit = "[hnsf\'U]"\n'
        '[bundle]\noutput = "labels"\nweights = "models/model.pt"\nchannels = ["bright"]\n'
        f'[bundle.pins]\n"configs/inference.json" = "sha256:{config}"\n"models/model.pt" = "md5:{md5}"\n'
        '[[segments]]\nnumber = 1\nstructure = "spleen"\n'
    )
    ours.write_text(text)
    monkeypatch.setattr(cards, "zoo_cards", lambda: {"some_bundle": ours})
    code, said = run("pipelines", "add", "some_bundle", "--yes")
    assert code == 0, said
    assert "every file that it pins is what it was written for" in said
    assert "nobody vouches" not in said
    written = tomllib.loads((site / "data" / "pipelines" / "some-bundle" / "card.toml").read_text())
    assert written["bundle"]["weights_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()

    run("pipelines", "remove", "some-bundle", "--yes")
    pinned = ours.read_text()
    ours.write_text(pinned.replace(f'"models/model.pt" = "md5:{md5}"\n', ""))
    kept = weights.read_bytes()
    weights.unlink()
    code, said = run("pipelines", "add", "some_bundle")
    assert code == 1
    assert "the weights, models/model.pt, are missing" in said
    ours.write_text(pinned)
    weights.write_bytes(kept)

    torch.save(torch.nn.Conv3d(1, 1, 1).state_dict(), weights)
    code, said = run("pipelines", "add", "some_bundle")
    assert code == 1
    assert "models/model.pt has md5:" in said
    assert f"expected is md5:{md5}" in said
    assert (site / "some_bundle.card.draft.toml").is_file(), "a person may go on from a draft"


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_every_kind_of_bundle_passes_its_trial(site, run, name):
    write_zoo(site / name, name)
    code, said = run("pipelines", "add", name, "--yes")
    assert code == 0, said
    assert "passed on cpu" in said
    assert "found in it: nothing" not in said
