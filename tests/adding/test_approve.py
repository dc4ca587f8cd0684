"""One table of a configuration is changed, and not a byte of the rest."""

from __future__ import annotations

import stat
import tomllib

import pytest

from node.adding.approve import rewrite, table, with_table, without_table
from node.errors import ConfigError

TEXT = """\
# ours
[node]
data = "data"  # here

[pipelines.other]
folder = "/opt/other"
sha256 = "00"

[[rules]]
name = "all"
pipeline = "other"
"""


def wanted(name="x", digest="ab"):
    return f'[pipelines.{name}]\nfolder = "data/pipelines/{name}"\nsha256 = "{digest}"\n'


def test_a_table_is_added_at_the_end_and_all_else_stays():
    made = with_table(TEXT, "x", wanted())
    assert made.startswith(TEXT.rstrip())
    assert tomllib.loads(made)["pipelines"]["x"] == {"folder": "data/pipelines/x", "sha256": "ab"}
    assert with_table("", "x", wanted()) == wanted()


def test_a_table_that_is_there_is_put_right_in_its_place():
    made = with_table(TEXT, "other", wanted("other", "cd"))
    assert tomllib.loads(made)["pipelines"] == {"other": {"folder": "data/pipelines/other", "sha256": "cd"}}
    assert made.index("[pipelines.other]") < made.index("[[rules]]")
    assert "# ours" in made
    assert "# here" in made


def test_adding_and_taking_out_gives_what_was_there():
    assert tomllib.loads(without_table(with_table(TEXT, "x", wanted()), "x")) == tomllib.loads(TEXT)
    assert without_table(TEXT, "x") == TEXT
    assert "pipelines.other" not in without_table(TEXT, "other")


@pytest.mark.parametrize(
    "text",
    [
        '[pipelines]\nx = { folder = "a", sha256 = "b" }\n',
        'pipelines.x.folder = "a"\npipelines.x.sha256 = "b"\n',
    ],
)
def test_what_is_written_otherwise_is_left_to_a_person(text):
    for change in (lambda: with_table(text, "x", wanted()), lambda: without_table(text, "x")):
        with pytest.raises(ConfigError, match="by hand"):
            change()


def test_a_folder_below_the_configuration_is_told_from_there(tmp_path):
    inside = table("x", tmp_path / "data" / "pipelines" / "x", "ab", tmp_path / "node.toml")
    assert inside == wanted()
    outside = table("x", tmp_path / "x", "ab", tmp_path / "sub" / "node.toml")
    assert tomllib.loads(outside)["pipelines"]["x"]["folder"] == str(tmp_path / "x")


def test_the_file_is_replaced_at_once_with_its_mode(tmp_path):
    path = tmp_path / "node.toml"
    path.write_text("a = 1\n")
    path.chmod(0o640)
    rewrite(path, "a = 2\n")
    assert path.read_text() == "a = 2\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [*tmp_path.iterdir()] == [path]
