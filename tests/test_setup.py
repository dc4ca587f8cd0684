"""deploy/setup.sh, with a Python that only writes down what it is asked."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tests.paths import REPOSITORY

PRETENDER = """#!/bin/sh
case "$1 $2" in
    "-c "*) exit "${TOO_OLD:-0}" ;;
    "--version "*) echo "Python ${VERSION:-3.11.2}" ;;
    "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "-m pip") echo "$@" >> pip.log && exit "${PIP:-0}" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "a check out"
    (folder / "deploy").mkdir(parents=True)
    for name in ("pyproject.toml", "deploy/constraints.txt", "deploy/setup.sh"):
        shutil.copy(REPOSITORY / name, folder / name)
    (tmp_path / "python").write_text(PRETENDER)
    (tmp_path / "python").chmod(0o755)
    return folder


def set_up(checkout, **environment):
    """Run it from somewhere else; return how it ended and how often pip was called so far."""
    environment = {**os.environ, "PYTHON": str(checkout.parent / "python"), **environment}
    command = [str(checkout / "deploy" / "setup.sh")]
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False)
    log = checkout / "pip.log"
    return done, len(log.read_text().splitlines()) if log.exists() else 0


def test_it_installs_once_and_again_when_what_is_wanted_changes(checkout):
    done, calls = set_up(checkout)
    assert (done.returncode, calls) == (0, 3), done.stderr
    assert set_up(checkout)[1] == 3
    with (checkout / "deploy" / "constraints.txt").open("a") as file:
        file.write("# a change\n")
    assert set_up(checkout)[1] == 6


@pytest.mark.parametrize("change", ["moved", "another Python", "no interpreter"])
def test_an_environment_that_no_longer_works_is_made_again(checkout, change):
    set_up(checkout)
    if change == "moved":
        checkout = checkout.rename(checkout.with_name("elsewhere"))
    if change == "no interpreter":
        (checkout / ".venv" / "bin" / "python").unlink()
    done, calls = set_up(checkout, VERSION="3.12.1" if change == "another Python" else "3.11.2")
    assert (done.returncode, calls) == (0, 6), done.stderr


def test_what_was_cut_off_is_taken_up_again(checkout):
    assert set_up(checkout, PIP="1")[0].returncode == 1
    assert set_up(checkout)[0].returncode == 0


def test_a_python_that_is_too_old_or_absent_is_named(checkout):
    done, calls = set_up(checkout, TOO_OLD="1", VERSION="3.9.1")
    assert done.returncode == 1 and "needs Python 3.11" in done.stderr and "3.9.1" in done.stderr
    done, calls = set_up(checkout, PYTHON="/no/such/python")
    assert done.returncode == 1 and "/no/such/python" in done.stderr
    assert calls == 0
