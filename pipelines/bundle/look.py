"""A first look at a bundle and its card, before its network is built: what a person has to put right.

A task for a confined worker, since whatever reads files from outside belongs there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipelines.bundle.files import find_files
from pipelines.bundle.needs import unmet_needs
from pipelines.bundle.terms import read_terms
from pipelines.contract import CardError, read_card


def look(payload: Mapping[str, Any], _device: str, report: Callable[[str, float], None]) -> dict[str, Any]:
    """Hold a bundle against its card.

    Parameters
    ----------
    payload
        ``card``: the path of a card.

    Returns
    -------
    dict
        ``reasons``: why the card cannot be used, none if it can; ``needs``: packages that the bundle
        names and that are missing or older here.
    """
    report("look", 0.05)
    try:
        card = read_card(Path(payload["card"]))
        files = find_files(card, read_terms(card))
    except CardError as error:
        return {"reasons": [str(error)], "needs": []}
    return {"reasons": [], "needs": list(unmet_needs(files.metadata))}
