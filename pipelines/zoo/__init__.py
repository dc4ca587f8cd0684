"""Cards for bundles of MONAI's Model Zoo: what a bundle cannot say itself, and where it would go wrong.

A card is for the version of the bundle whose files it pins. ``radnode pipelines add`` puts it beside
the bundle as ``card.toml`` once the pins hold, and writes the SHA-256 of the weights into it. Nothing
of a bundle is in here: names and numbers of its labels, hashes of its files, and what the card
decides.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

from pipelines.pins import differences


def zoo_cards() -> Mapping[str, Path]:
    """Return name of a bundle -> its card."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.toml"))}


def pins_of(card: Path) -> Mapping[str, str]:
    """Return what a card pins: file of the bundle -> "sha256:..." or "md5:..."."""
    table = tomllib.loads(card.read_text(encoding="utf-8"))["bundle"]["pins"]
    return {str(name): str(pin) for name, pin in table.items()}


def unlike_card(card: Path, folder: Path) -> tuple[str, ...]:
    """Return one sentence for each file of a bundle's folder that is not what a card was written for.

    None: the card may be used with this folder.
    """
    return differences(folder, pins_of(card))
