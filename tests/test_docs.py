"""What the documents promise is what the code does."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import requires
from typing import get_args

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydantic import BaseModel

from node.assign import parse_rules
from node.assign.operators import OPERATORS
from node.cli import app
from node.compute import installed
from node.config import Config, DimseDestination, read_config
from node.profile import EXTRAS, Coordinates, Report, Segmentation
from tests.paths import REPOSITORY


def keys_of(model: type[BaseModel], prefix: str = "") -> set[str]:
    """Return every key of a table and of those below it."""
    found = set()
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found |= keys_of(annotation, f"{prefix}{name}.")
        else:
            found.add(f"{prefix}{name}")
    return found


def keys_in(table: dict, prefix: str = "") -> set[str]:
    found = set()
    for name, value in table.items():
        found |= keys_in(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}"}
    return found


def test_the_annotated_configuration_names_every_key_with_its_default():
    path = REPOSITORY / "deploy" / "node.toml"
    config, defaults = read_config(path, {}), Config()
    said = keys_in(tomllib.loads(path.read_text(encoding="utf-8")))
    free = ("destinations", "sources", "pipelines", "rules")
    absent = {"accept.folder.path", "accept.policies", "tls.certificate", "tls.key", "tls.authorities"}
    assert keys_of(Config) - {*absent, *free} <= said
    for table in set(Config.model_fields) - {*free, "node"}:
        assert getattr(config, table) == getattr(defaults, table), table
    assert config.node.ae_title == defaults.node.ae_title


def test_the_annotated_configuration_tells_all_of_a_clause_and_its_example_is_one():
    text = (REPOSITORY / "deploy" / "node.toml").read_text(encoding="utf-8")
    (told,) = re.findall(r"^# A clause is .*? a table of ([a-z, ]+)\.$", text, flags=re.MULTILINE)
    assert set(told.split(", ")) == {*OPERATORS, "present"}
    (example,) = re.findall(r"^# a value or a list it goes in a table: (.*)$", text, flags=re.MULTILINE)
    (rule,) = read_config(REPOSITORY / "deploy" / "node.toml", {}).rules
    (parsed,) = parse_rules([rule.model_copy(update={"match": tomllib.loads(example)})], installed({}))
    (clause,) = parsed.wants[0].clauses
    assert clause.keyword == "BodyPartExamined" and clause.missing == "yes"


def test_the_annotated_configuration_tells_what_a_destination_may_be_given():
    path = REPOSITORY / "deploy" / "node.toml"
    archive = read_config(path, {}).destinations["archive"]
    text = path.read_text(encoding="utf-8")
    assert set(tomllib.loads(text)["destinations"]["archive"]) == set(DimseDestination.model_fields)
    for keyword, choices in (
        ("report", Report),
        ("segmentation", Segmentation),
        ("coordinates", Coordinates),
    ):
        assert getattr(archive, keyword) == DimseDestination.model_fields[keyword].default
        assert all(f'"{choice}"' in text for choice in get_args(choices)), keyword
    assert archive.also == ()
    assert all(f'"{extra}"' in text for extra in EXTRAS)


def test_every_distribution_that_an_install_brings_is_pinned():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (REPOSITORY / "deploy" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {canonicalize_name(line.partition("==")[0]) for line in lines if "==" in line}
    asked = [Requirement(text) for text in project["dependencies"] + project["optional-dependencies"]["test"]]
    brought = set()
    while asked:
        wanted = asked.pop()
        name = canonicalize_name(wanted.name)
        if name not in brought:
            brought.add(name)
            asked += [one for text in requires(name) or () if applies(one := Requirement(text), wanted)]
    assert brought - pinned == set()


def applies(one: Requirement, wanted_by: Requirement) -> bool:
    """Say whether a requirement counts on this machine, with the extras that were asked for."""
    extras = wanted_by.extras or {""}
    return one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras)


def test_every_command_that_the_readme_names_exists():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"radnode ([a-z]+)", text))
    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    known |= {group.name for group in app.registered_groups}
    assert named <= known
    assert {"serve", "analyze", "status", "explain", "retry", "cancel", "check", "pipelines"} <= known


def test_the_readme_names_the_two_commands_first_and_files_that_exist():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    first = re.search(r"```\n(.*?)```", text, re.DOTALL).group(1)
    assert first.splitlines()[0].startswith("deploy/demo.sh")
    assert first.splitlines()[1].startswith("deploy/test.sh")
    for name in re.findall(r"`((?:node|pipelines|deploy|\.github)/[\w./-]+)`", text):
        assert (REPOSITORY / name).exists(), name
    for name in re.findall(r"\]\(([\w./-]+)\)", text):
        assert (REPOSITORY / name).exists(), name
