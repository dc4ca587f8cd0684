"""Files held against the hashes that a card was written for: the standard library alone."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

#: How a pin is written. MD5 is no protection against an attacker; it is what the Model Zoo publishes
#: of its weights, and tells another version or a broken download. Whom to trust, an approved digest
#: of the whole folder says.
_PIN = re.compile(r"(sha256:[0-9a-f]{64}|md5:[0-9a-f]{32})")


def refuse_pin(pin: str) -> None:
    """Raise ValueError for what is no pin."""
    if not _PIN.fullmatch(pin):
        raise ValueError(f"{pin!r} is no pin; write 'sha256:' or 'md5:' and the hash in lower case")


def pin_of(path: Path, algorithm: str = "sha256") -> str:
    """Return the pin of a file, e.g. "sha256:0f3a...".

    Raises
    ------
    OSError
        It cannot be read.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False))
    return f"{algorithm}:{digest.hexdigest()}"


def differences(root: Path, pins: Mapping[str, str]) -> tuple[str, ...]:
    """Return one sentence for each file of a folder that is not the pinned one; none if all are.

    Parameters
    ----------
    pins
        File, relative to ``root`` -> its pin.

    Raises
    ------
    ValueError
        Something is no pin.
    """
    return tuple(told for name, pin in pins.items() if (told := _difference(root, name, pin)))


def _difference(root: Path, name: str, pin: str) -> str:
    refuse_pin(pin)
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()):
        return f"{name} leads out of the folder."
    if not path.is_file():
        return f"{name} is missing."
    algorithm = pin.partition(":")[0]
    try:
        found = pin_of(path, algorithm)
    except OSError as error:
        return f"{name} cannot be read: {error.strerror}."
    return "" if found == pin else f"{name} has {found}, expected is {pin}."
