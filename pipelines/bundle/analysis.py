"""A case goes through a bundle, in one part or in several, and becomes findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipelines.bundle.explain import caution_of, explain, map_of, parts_to_explain
from pipelines.bundle.inputs import parts_of, prepare
from pipelines.bundle.outputs import READ, findings_of
from pipelines.bundle.outputs.said import Said
from pipelines.bundle.outputs.scores import chosen, combine
from pipelines.bundle.run import Loaded, run, told
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
    findings = findings_of(said, card, terms, case, cautions)
    return _explained(findings, [one for _, one in said], loaded, card, terms, prepared)


def _explained(
    findings: Findings, said: Sequence[Said], loaded: Loaded, card: Card, terms: Terms, prepared: Case
) -> Findings:
    """Return findings with a map of what their answer rests on, if the card asks for one."""
    if terms.explain is None:
        return findings
    scores = np.stack([one.scores for one in said if one.scores is not None])  # (parts, answers)
    index = chosen(combine(scores, terms)[0])
    label = terms.answers[index].label
    wanted = parts_to_explain(scores[:, index])
    array = np.zeros(prepared[next(iter(card.inputs))].array.shape, np.float32)
    try:
        for number, part in enumerate(parts_of(card, terms, prepared, loaded.image_key)):
            if number in wanted:
                array[part.start : part.start + len(part.image.array)] = explain(loaded, terms, part, index)
        if not np.isfinite(array).all():
            raise ValueError("it has values that are not numbers")
    except Exception as error:  # noqa: BLE001  a network may raise anything; the answer stands without its map
        caution = f"What the answer rests on could not be shown: {told(error)}"
        return replace(findings, cautions=(*findings.cautions, caution))
    if (highest := float(array.max())) > 0:
        array /= highest
    caution = caution_of(terms.explain, label, len(wanted), len(said))
    return replace(
        findings,
        maps=(*findings.maps, map_of(terms.explain, label, array)),
        cautions=(*findings.cautions, caution),
    )
