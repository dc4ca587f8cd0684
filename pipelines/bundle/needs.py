"""What a bundle says in its metadata that it needs, held against what is installed.

Bundles name the versions of the day they were made, and packages for training that a node does not
use. So nothing is refused for it: it is told, and it explains a bundle that does not load.
"""

from __future__ import annotations

import json
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

#: Keys of the metadata that say the version of one package, and that package's name.
_SINGLE = {"monai_version": "monai", "pytorch_version": "torch", "numpy_version": "numpy"}
#: Tables of package -> version; the second is the older name.
_TABLES = ("required_packages_version", "optional_packages_version")


def unmet_needs(metadata: Path) -> tuple[str, ...]:
    """Return one sentence for each package that is missing, or older than the bundle's.

    Parameters
    ----------
    metadata
        The bundle's ``metadata.json``; one that cannot be read needs nothing.
    """
    try:
        said = json.loads(metadata.read_text(encoding="utf-8"))
        needs = {package: str(said[key]) for key, package in _SINGLE.items() if key in said}
        for table in _TABLES:
            needs |= {str(package): str(wanted) for package, wanted in (said.get(table) or {}).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return ()
    return tuple(sentence for package in sorted(needs) if (sentence := _unmet(package, needs[package])))


def _unmet(package: str, wanted: str) -> str:
    try:
        found = version(package)
    except (PackageNotFoundError, ValueError):
        return f"The bundle names the package {package} {wanted}, which is not installed."
    is_older = _numbers(found) < _numbers(wanted)
    return f"The bundle was made with {package} {wanted}; installed is {found}." if is_older else ""


def _numbers(said: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", said)[:3])
