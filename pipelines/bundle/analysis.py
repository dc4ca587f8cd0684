"""A case goes through a bundle, in one part or in several, and becomes findings."""

from __future__ import annotations

from pipelines.bundle.inputs import item_of
from pipelines.bundle.outputs import findings_of
from pipelines.bundle.run import Loaded, run
from pipelines.bundle.terms import Terms
from pipelines.contract import Card, Case, Findings


def analyze(loaded: Loaded, card: Card, terms: Terms, case: Case) -> Findings:
    """Return what a bundle says of a case.

    Raises
    ------
    ValueError
        The result is not on the source grid (`GeometryChanged`), or is not what the card says.
    """
    item = item_of(card, terms, case, loaded.image_key)
    return findings_of(run(loaded, item), card, terms, case)
