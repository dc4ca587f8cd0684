"""The Python modules of a bundle are there while it works, and its own alone."""

from __future__ import annotations

import sys

import pytest

from pipelines.bundle.modules import BundleModules
from tests.bundles import write_scripts


def test_modules_keep_what_they_hold_from_one_case_to_the_next(tmp_path):
    write_scripts(tmp_path, state="SEEN = []\n")
    modules = BundleModules(tmp_path)
    for count in range(3):
        with modules.visible():
            from scripts import state

            assert len(state.SEEN) == count
            state.SEEN.append(count)
        assert not {"scripts", "scripts.state"} & sys.modules.keys()


def test_the_interpreter_is_as_before_also_after_an_error(tmp_path):
    write_scripts(tmp_path, broken="1 / 0\n")
    before = list(sys.path), sys.dont_write_bytecode, sys.modules.keys()
    with pytest.raises(ZeroDivisionError), BundleModules(tmp_path).visible():
        import scripts.broken  # noqa: F401
    assert (list(sys.path), sys.dont_write_bytecode, sys.modules.keys()) == before
    assert not list(tmp_path.rglob("__pycache__"))
