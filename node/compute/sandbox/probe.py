"""Whether this machine can shut pipelines in: a process tries it on itself and tells.

``python -m node.compute.sandbox.probe`` prints what is kept from it and what is not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

import node
from node.compute.sandbox import Confinement, confine
from node.compute.sandbox.landlock import READ
from node.compute.sandbox.places import of_the_system

_LONGEST_S = 60

#: What an operator can do where isolation is not whole and pipelines come from outside.
REMEDY = (
    "pipelines from outside are not run here unless the kernel shuts them in; "
    'run the node where it does, or accept what is lacking with [compute] isolation = "best"'
)


def probe(data: Path) -> Confinement:
    """Return what would be kept from a worker of this node.

    Parameters
    ----------
    data
        The data folder, which lies badly where every pipeline may read.
    """
    with tempfile.TemporaryDirectory() as home:
        environment = {
            **{name: value for name, value in os.environ.items() if name in ("PATH", "LD_LIBRARY_PATH")},
            "PYTHONPATH": str(Path(node.__file__).parents[1]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        command = [sys.executable, "-P", "-m", "node.compute.sandbox.probe"]
        try:
            asked = subprocess.run(
                command, cwd=home, env=environment, capture_output=True, timeout=_LONGEST_S, check=True
            )
            found = Confinement(**json.loads(asked.stdout))
        except (OSError, ValueError, TypeError, subprocess.SubprocessError) as error:
            lack = f"a process that tried it on itself failed ({type(error).__name__})"
            return Confinement(files=lack, network=lack, processes=lack, signals=lack)
    if not found.files and (place := exposing(data)):
        told = {**asdict(found), "files": f"the data folder lies in {place}, which pipelines may read"}
        return Confinement(**told)
    return found


def unconfined(isolation: str, outside: Collection[str], found: Confinement) -> str:
    """Return why pipelines from outside cannot be used, or "" where they can or there are none.

    Parameters
    ----------
    isolation
        As in [compute].
    outside
        Their names.
    """
    if found.is_whole or isolation == "best" or not outside:
        return ""
    return f"{', '.join(sorted(outside))}: {REMEDY}. Pipelines are {found}"


def exposing(folder: Path) -> Path | None:
    """Return the place, readable to every pipeline, that a folder lies in; None where it is hidden."""
    hidden = folder.resolve()
    for place, rights in of_the_system("cuda:0"):
        if rights == READ and place.exists() and hidden.is_relative_to(place.resolve()):
            return place
    return None


if __name__ == "__main__":
    json.dump(asdict(confine(readable=[], writable=[Path.cwd()])), sys.stdout)
