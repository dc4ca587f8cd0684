"""A case goes through a bundle, in one part or in several, and becomes findings."""

from __future__ import annotations

from pipelines.bundle.inputs import parts_of, prepare
from pipelines.bundle.outputs import READ, findings_of
from pipelines.bundle.run import Loaded, run
from pipelines.bundle.terms import Terms
from pipelines.contract import Card, Case, Findings


def analyze(loaded: Loaded, card: Card, terms: Terms, case: Case) -> Findings:
    """Return what a bundle says of a case.

    Raises
    ------
    InputRefused
        An input cannot be taken to the grid of the first.
    ValueError
        The result is not on the source grid (`GeometryChanged`), or is not what the card says.
    """
    prepared, cautions = prepare(card, terms, case)
    said = []
    for part in parts_of(card, terms, prepared, loaded.image_key):
        answer = run(loaded, part.item)  # what it needed is let go before the next part
        said.append((part.start, READ[terms.output](answer, part, card, terms)))
    return findings_of(said, card, terms, case, cautions)
