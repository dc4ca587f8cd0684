"""Workers as on a kernel that shuts nothing in: there more can go wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from node.compute import supervisor
from tests.paths import REPOSITORY

#: Python runs it at the start of a process.
_FREE = """
import sys
if any("node.compute.worker" in word for word in sys.orig_argv):
    from node.compute import sandbox
    lack = "this kernel has no Landlock"
    lacks = dict.fromkeys(("files", "network", "processes", "signals"), lack)
    sandbox.confine = lambda **_: sandbox.Confinement(**lacks)
"""


@contextmanager
def changed(scratch: Path, code: str = _FREE) -> Iterator[None]:
    """Have every worker with its folder below ``scratch`` run something before it begins."""
    folder = scratch.parent / "at-start"
    folder.mkdir(parents=True)
    (folder / "sitecustomize.py").write_text(code)
    genuine = supervisor._environment

    def environment(inherited, home, *more):
        path = {"PYTHONPATH": f"{REPOSITORY}:{folder}"} if home.is_relative_to(scratch) else {}
        return {**genuine(inherited, home, *more), **path}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "_environment", environment)
        yield
