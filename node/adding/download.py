"""A bundle of MONAI's Model Zoo by its name, fetched by MONAI's own downloader in a process of its own.

It is ``monai.bundle.download``; ``python -m monai.bundle download`` is the same and needs a package more.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from node.errors import ConfigError
from node.text import clean

LONGEST_S: Final = 3600.0
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_FETCH: Final = (
    "import sys; from monai.bundle import download; "
    "download(name=sys.argv[1], bundle_dir=sys.argv[2], progress=False)"
)
#: What the downloader imports, and what they are called where packages come from.
_NEEDS: Final = {"requests": "requests", "huggingface_hub": "huggingface-hub"}
#: Words of the downloader's libraries when nobody answers.
_NO_NETWORK: Final = (
    "name resolution",
    "resolve",
    "unreachable",
    "timed out",
    "refused",
    "connection",
    "offline",
    "proxy",
)


def is_name(text: str) -> bool:
    """Say whether a text can be the name of a bundle, rather than a path."""
    return _NAME.fullmatch(text) is not None


def download(name: str, folder: Path, longest_s: float = LONGEST_S) -> Path:
    """Fetch a bundle; return its folder, which lies in ``folder``.

    Raises
    ------
    ConfigError
        There is no network, no such bundle, a package is missing, or it took too long.
    """
    nothing = f"There is no folder or file {name!r} here, and the bundle of that name cannot be fetched"
    instead = "Fetch it on another machine and name its folder or zip."
    lacks = [needed for module, needed in _NEEDS.items() if importlib.util.find_spec(module) is None]
    if lacks:
        raise ConfigError(
            f"{nothing}: MONAI's downloader needs {' and '.join(lacks)} "
            f"(pip install 'radnode[zoo]'). {instead}"
        )
    # -P: nothing is imported from the working folder.
    command = [sys.executable, "-P", "-W", "ignore", "-c", _FETCH, name, str(folder)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=longest_s, cwd=folder, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError(
            f"The download of {name!r} took longer than {longest_s:g} s and was ended. {instead}"
        ) from error
    if done.returncode == 0 and (folder / name).is_dir():
        return folder / name
    said = done.stderr.strip().splitlines()
    last = clean(said[-1], 200) if said else "it said nothing"
    why = (
        "there is no network, or none that reaches the Model Zoo"
        if any(word in done.stderr.lower() for word in _NO_NETWORK)
        else "MONAI's downloader failed"
    )
    raise ConfigError(f"{nothing}: {why} ({last}). {instead}")
