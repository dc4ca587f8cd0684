"""What a person sees at the command line: sentences, never a traceback."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pydicom
import pytest
from typer.testing import CliRunner

from node import cli, flow
from node.accept import spool_file
from node.analyze import Analysis
from node.cli import app
from node.config import read_config
from node.model import Outcome
from node.profile import EXTRAS, LABELMAP_CLASS, Coordinates, Report, Segmentation
from node.serve import open_node, utc_now
from pipelines.contract import folder_digest
from tests.harness import RADNODE, wait_until
from tests.paths import REPOSITORY
from tests.toy_node import make_node, small_ct

SR_TEXT = "1.2.840.10008.5.1.4.1.1.88.22"


def radnode(*words, cwd=None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([RADNODE, *map(str, words)], capture_output=True, text=True, timeout=120, cwd=cwd)
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """Configuration with the toy pipeline."""
    return make_node(tmp_path_factory.mktemp("toy"), archive_port=9).config


def test_analyze_writes_objects_and_a_picture_and_says_what_it_found(toy, tmp_path):
    small_ct(tmp_path / "ct")
    done = radnode("analyze", tmp_path / "ct", "--out", tmp_path / "out", "--config", toy)
    assert done.returncode == 0, done.stderr
    assert "Bright things" in done.stdout
    assert "Volume" in done.stdout
    made = [pydicom.dcmread(file) for file in (tmp_path / "out").glob("*.dcm")]
    assert len(made) == 3
    assert len(list((tmp_path / "out").glob("*.png"))) == 1
    again = radnode("analyze", tmp_path / "ct", "--out", tmp_path / "again", "--config", toy)
    assert again.returncode == 0
    names = {file.name for file in (tmp_path / "out").glob("*.dcm")}
    assert names == {file.name for file in (tmp_path / "again").glob("*.dcm")}, "the same work, the same UIDs"


def test_analyze_gives_what_it_is_asked_for(toy, tmp_path):
    small_ct(tmp_path / "ct")
    asked = ("--report", "air", "--segmentation", "labelmap", "--also", "rtstruct", "--also", "pdf")
    done = radnode("analyze", tmp_path / "ct", "--out", tmp_path / "out", "--config", toy, *asked)
    assert done.returncode == 0, done.stdout + done.stderr
    made = {pydicom.dcmread(file).SOPClassUID for file in (tmp_path / "out").glob("*.dcm")}
    assert made == {
        LABELMAP_CLASS,
        pydicom.uid.Comprehensive3DSRStorage,
        pydicom.uid.RTStructureSetStorage,
        pydicom.uid.EncapsulatedPDFStorage,
    }


@pytest.mark.parametrize(
    ("option", "choices"),
    [
        ("--report", get_args(Report)),
        ("--segmentation", get_args(Segmentation)),
        ("--coordinates", get_args(Coordinates)),
        ("--also", EXTRAS),
    ],
)
def test_analyze_names_the_choices_to_who_asks_for_another(tmp_path, option, choices):
    words = ["analyze", str(tmp_path), "--out", str(tmp_path / "out"), option, "fax"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert all(f"'{choice}'" in done.stderr for choice in choices)


def test_what_results_are_called_is_as_configured(toy, tmp_path):
    small_ct(tmp_path / "ct")
    config = tmp_path / "node.toml"
    results = '[results]\nseries_number = 700\nseries_description = "research {what} by {pipeline}"\n'
    text = toy.read_text().replace('folder = "toy', f'folder = "{toy.parent}/toy')
    config.write_text(results + text, encoding="utf-8")
    done = radnode(
        "analyze",
        tmp_path / "ct",
        "--out",
        tmp_path / "out",
        "--config",
        config,
        "--also",
        "secondary-capture",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    made = [pydicom.dcmread(file) for file in (tmp_path / "out").glob("*.dcm")]
    assert {one.SeriesNumber: one.SeriesDescription for one in made} == {
        700: "research segmentation by toy-threshold",
        701: "research measurements by toy-threshold",
        702: "research report by toy-threshold",
        709: "research overlay by toy-threshold",
    }


def test_a_refusal_is_told_and_is_no_failure(toy, tmp_path):
    small_ct(tmp_path / "ct", drop=[3])
    done = radnode("analyze", tmp_path / "ct", "--out", tmp_path / "out", "--config", toy)
    assert done.returncode == 0
    assert "refused" in done.stdout
    assert "gap" in done.stdout
    assert not list((tmp_path / "out").glob("*.dcm"))


def test_of_two_files_with_one_identity_the_first_is_used_and_it_is_said(toy, tmp_path):
    first, *_ = small_ct(tmp_path / "ct")
    other = pydicom.dcmread(first)
    other.ImageComments = "not the same"
    other.save_as(tmp_path / "ct" / "zz.dcm")
    done = radnode("analyze", tmp_path / "ct", "--out", tmp_path / "out", "--config", toy)
    (line,) = [line for line in done.stdout.splitlines() if "skipped" in line]
    assert "zz.dcm" in line
    assert "that one is used" in line
    assert "quarantine" not in done.stdout


@pytest.mark.parametrize("out", ["file", "file/below", "/proc/below"])
def test_results_that_have_no_place_are_a_sentence(toy, tmp_path, out):
    small_ct(tmp_path / "ct")
    (tmp_path / "file").write_text("no folder")
    done = radnode("analyze", tmp_path / "ct", "--out", tmp_path / out, "--config", toy)
    assert done.returncode == 2
    assert "--out" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_analyze_that_is_ended_leaves_no_images_behind(tmp_path, number):
    config = make_node(tmp_path / "toy", archive_port=9).config
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    small_ct(tmp_path / "ct", headers={"ConvolutionKernel": "SLOW"})
    process = subprocess.Popen(
        [RADNODE, "analyze", tmp_path / "ct", "--out", tmp_path / "new" / "out", "--config", config],
        env={**os.environ, "TMPDIR": str(scratch)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    wait_until(lambda: list(scratch.glob("radnode-*/staging/*")), "a job is under way")
    process.send_signal(number)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert b"Traceback" not in told
    assert not list(scratch.iterdir())
    assert not (tmp_path / "new").exists()


def test_an_answer_is_told_with_its_probability_and_no_table_stands_empty(tmp_path):
    make_node(tmp_path, archive_port=9)
    code = tmp_path / "toy_threshold" / "pipeline.py"
    answer = (
        'Evaluation(name=Code("R", "99TEST", "Rhythm"), value=Code("S", "99TEST", "Strong"), '
        "probability=0.875)"
    )
    code.write_text(
        code.read_text()
        .replace("Code, Findings", "Code, Evaluation, Findings")
        .replace("measurements=(volume,)", f"evaluations=({answer},)")
    )
    config = tmp_path / "node.toml"
    digest = folder_digest(code.parent)
    config.write_text(re.sub('sha256 = ".*"', f'sha256 = "{digest}"', config.read_text()))
    small_ct(tmp_path / "ct")
    done = radnode("analyze", tmp_path / "ct", "--out", tmp_path / "out", "--config", config)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "  Rhythm: Strong (probability 87.5 %)" in done.stdout.splitlines()
    assert re.search(r"(?m)^  outlined: Bright things, \d+ voxels$", done.stdout)
    assert "measurement" not in done.stdout.replace("measurements", ""), "a table without rows says nothing"


def test_all_that_was_found_is_told(capsys):
    row = {"name": "Area", "value": None, "unit": "mm2", "segment": "Polyp"}
    told = Outcome(
        objects=(),
        summary=(row,),
        detections=({"label": "Nodule", "confidence": 0.9}, {"label": "Nodule", "confidence": None}),
        segments=({"label": "Polyp", "voxels": 7}, {"label": "Tool", "voxels": 0}),
    )
    cli._tell_found(told)
    said = capsys.readouterr().out
    assert "not measured" in said
    assert "None" not in said
    assert "  detected: Nodule, 2\n  outlined: Tool, none found\n" in said
    cli._tell_found(Outcome(objects=()))
    assert capsys.readouterr().out == "  nothing was found\n"


def test_each_of_many_files_that_are_skipped_for_one_reason_is_told_by_name(capsys):
    cli._tell(
        Analysis(
            skipped=[*((Path(f"{n}.txt"), "This is no DICOM file.") for n in range(9)), (Path("x"), "Cut.")]
        ),
        Path("out"),
    )
    assert capsys.readouterr().out.splitlines() == [
        *(f"skipped {n}.txt: This is no DICOM file." for n in range(9)),
        "skipped x: Cut.",
    ]


def test_the_module_is_the_program(tmp_path):
    words = [sys.executable, "-m", "node.cli", "--help"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, cwd=REPOSITORY)
    assert done.returncode == 0
    assert "analyze" in done.stdout


def test_a_truncated_file_is_skipped_with_its_name(toy, tmp_path):
    file, *_ = small_ct(tmp_path / "ct")
    file.write_bytes(file.read_bytes()[:-1000])
    done = radnode("analyze", tmp_path / "ct", "--out", tmp_path / "out", "--config", toy)
    line = next(line for line in done.stdout.splitlines() if "skipped" in line)
    assert file.name in line
    assert "in the middle of" in line


def test_a_file_that_the_disk_does_not_give_is_skipped_with_its_name(toy, tmp_path):
    unreadable = "/proc/self/mem"  # a plain file, every read of which fails
    done = radnode("analyze", unreadable, "--out", tmp_path / "out", "--config", toy)
    assert done.returncode == 2, done.stderr
    assert f"{unreadable}: The file cannot be read" in done.stderr
    assert radnode("explain", unreadable, "--config", toy).returncode == 2


def test_a_data_folder_that_cannot_be_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("no folder")
    config = tmp_path / "node.toml"
    config.write_text('[node]\ndata = "file/data"\n')
    done = radnode("serve", "--config", config)
    assert done.returncode == 2
    assert "[node] data" in done.stderr


def test_a_folder_without_dicom_says_so(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "letter.txt").write_text("Dear colleague")
    done = radnode("analyze", tmp_path / "in", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "no DICOM" in done.stderr
    (tmp_path / "in" / "letter.txt").unlink()
    for command in (("analyze", tmp_path / "in", "--out", tmp_path / "out"), ("explain", tmp_path / "in")):
        empty = radnode(*command)
        assert empty.returncode == 2
        assert "no DICOM" in empty.stderr
    assert not (tmp_path / "out").exists(), "nothing was read, so nothing is left behind"


def test_a_path_that_does_not_exist_says_so(tmp_path):
    nowhere = tmp_path / "nowhere"
    for command in (("analyze", nowhere, "--out", tmp_path / "out"), ("explain", nowhere)):
        done = radnode(*command)
        assert done.returncode == 2
        assert f"There is no file or folder {nowhere}" in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_unknown_pipeline_lists_the_known_ones(tmp_path):
    small_ct(tmp_path / "ct")
    done = radnode("analyze", tmp_path / "ct", "--out", tmp_path / "out", "--pipeline", "lung-densty")
    assert done.returncode == 2
    assert "lung-density" in done.stderr


def test_a_config_typo_names_table_and_key_and_suggests(tmp_path):
    config = tmp_path / "node.toml"
    config.write_text("[assemble]\nquiets = 3\n")
    done = radnode("serve", "--config", config)
    assert done.returncode == 2
    assert "[assemble] quiets" in done.stderr
    assert "quiet_s" in done.stderr


def test_a_port_in_use_says_whose(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        config = tmp_path / "node.toml"
        config.write_text(
            '[node]\ndata = "data"\n[show]\nport = 0\n[accept]\nreserve_gb = 0\n'
            f"[accept.dimse]\nport = {port}\n"
        )
        done = radnode("serve", "--config", config)
    assert done.returncode == 2
    assert str(port) in done.stderr
    assert Path(sys.executable).name.split(".")[0][:6] in done.stderr, "the process that has it"


def test_check_tells_every_complaint_at_once(tmp_path):
    config = tmp_path / "node.toml"
    config.write_text(
        "[show]\nport = 0\n[accept]\nreserve_gb = 1e9\n[accept.dimse]\nport = 0\n"
        '[destinations.a]\ntransport = "dimse"\nae_title = "A"\nhost = "127.0.0.1"\nport = 9\n'
        '[[rules]]\nname = "r"\npipeline = "nothing"\n'
    )
    done = radnode("check", "--config", config)
    assert done.returncode == 1
    complaints = [line for line in done.stdout.splitlines() if line.startswith("no ")]
    assert len(complaints) == 3, done.stdout
    for word in ("reserve_gb", "nothing", "C-ECHO"):
        assert any(word in line for line in complaints)


def test_check_is_content_with_a_sound_node(tmp_path):
    config = tmp_path / "node.toml"
    config.write_text(
        "[show]\nport = 0\n[accept]\nreserve_gb = 0\n[accept.dimse]\nport = 0\n"
        '[destinations.shelf]\ntransport = "folder"\npath = "shelf"\n'
        '[[rules]]\nname = "r"\npipeline = "lung-density"\nsend_to = ["shelf"]\n'
        '[rules.match]\nModality = "CT"\n'
    )
    done = radnode("check", "--config", config)
    assert done.returncode == 0, done.stdout


def test_check_knows_ports_of_ipv6(tmp_path):
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
    config = tmp_path / "node.toml"
    config.write_text('[accept.dimse]\nhost = "::1"\nport = 0\n')
    assert "ok port 0" in radnode("check", "--config", config).stdout


def test_pipelines_lists_the_cards():
    done = radnode("pipelines")
    assert "lung-density" in done.stdout
    assert "phantom-inserts" in done.stdout
    cards = json.loads(radnode("pipelines", "--json").stdout)
    for card in cards.values():
        assert len(card["sha256"]) == 64
        assert card["sha256"] in done.stdout


def test_the_digest_of_a_pipeline_that_nobody_approved_is_told_to_who_writes_none(tmp_path):
    config = make_node(tmp_path, archive_port=9).config
    approved = json.loads(radnode("pipelines", "--json", "--config", config).stdout)["toy-threshold"][
        "sha256"
    ]
    config.write_text(config.read_text().replace(approved, ""))
    assert approved in radnode("check", "--config", config).stdout


def test_explain_shows_every_clause_with_the_value_it_saw(toy, tmp_path):
    small_ct(tmp_path / "ct", localizer=True)
    done = radnode("explain", tmp_path / "ct", "--config", toy)
    assert done.returncode == 0
    assert "MATCHES" in done.stdout
    assert "left out" in done.stdout
    assert "LOCALIZER" in done.stdout
    told = json.loads(radnode("explain", tmp_path / "ct", "--config", toy, "--json").stdout)
    (series,) = told.values()
    assert series["rules"][0]["matched"]
    assert series["jobs"] == []


def test_a_refused_series_is_told_with_its_reason(tmp_path):
    config = make_node(tmp_path / "node", archive_port=9).config
    with open_node(read_config(config)) as node:
        for file in small_ct(tmp_path / "ct", drop=[3]):
            series_uid = flow.receive(*spool_file(file, node.store), node).series_uid
        flow.plan(series_uid, node)
        flow.compute(node.journal.claim(utc_now()), node, lambda step, done: None)
    (refused,) = json.loads(radnode("status", "--config", config, "--json").stdout)["refused"]
    assert refused["series_uids"] == [series_uid]
    assert "gap" in refused["reason"]
    told = json.loads(radnode("explain", series_uid, "--config", config, "--json").stdout)
    assert told[series_uid]["jobs"] == [refused | {"destinations": []}]
    for command in (("status",), ("explain", series_uid)):
        lines = [line.strip() for line in radnode(*command, "--config", config).stdout.splitlines()]
        assert refused["reason"] in lines
        assert f"series {series_uid}" in lines
        assert any("refused" in line for line in lines)


def test_a_job_that_does_not_exist_is_a_sentence(toy):
    assert radnode("retry", "7", "--config", toy).returncode == 2, "no node has run there yet"


def test_every_name_in_the_world_comes_back(toy, tmp_path):
    names = {
        "japanese": ("Yamada^Tarou=山田^太郎=やまだ^たろう", ["", "ISO 2022 IR 87"]),
        "korean": ("Hong^Gildong=洪^吉洞=홍^길동", ["", "ISO 2022 IR 149"]),
        "chinese": ("Wang^XiaoDong=王^小东", "GB18030"),
        "greek": ("Διονυσιος", "ISO_IR 126"),
        "russian": ("Люксембург", "ISO_IR 144"),
        "latin": ("Buc^Jérôme", "ISO_IR 100"),
    }
    for which, (name, character_set) in names.items():
        small_ct(tmp_path / "in" / which, seed=which, patient_name=name, character_set=character_set)
    done = radnode("analyze", tmp_path / "in", "--out", tmp_path / "out", "--config", toy)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = {}
    for file in (tmp_path / "out").glob("*.dcm"):
        made = pydicom.dcmread(file)
        found.setdefault(str(made.PatientName), []).append(made.Modality)
    assert sorted(found) == sorted(name for name, _ in names.values())
    assert all(sorted(kinds) == ["SEG", "SR", "SR"] for kinds in found.values())
