"""Results of other pipelines as inputs: put beside what was loaded, and kept for those to come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from node.compute.exchange.outlines import read_outlines, write_outlines
from node.model import Made, Volume, Volumes
from pipelines.contract import Card, Code, Findings

_LABELS = Code("1", "UCUM", "no units")


def with_results(volumes: Volumes, card: Card, results: Mapping[str, Made]) -> dict[str, Volume]:
    """Return the roles of a card, in its order: what was loaded, and what others outlined on the first.

    Parameters
    ----------
    results
        Role -> what another pipeline made.

    Raises
    ------
    FindingsInvalid, InputRefused
        As `read_outlines` says.
    """
    first = volumes[next(iter(card.series_inputs))]
    whole: dict[str, Volume] = {}
    for role, spec in card.inputs.items():
        if not spec.result:
            whole |= {role: volumes[role]} if role in volumes else {}  # it may be optional
            continue
        made = results[role]
        labels = read_outlines(made, spec.segments, role, first)
        image = replace(first.image, array=labels, unit=_LABELS, modality="SEG", colour=None, facts={})
        what = ", ".join(spec.segments) or "everything"
        note = f"{what} as outlined by {made.pipeline} {made.version}, not by a person"
        whole[role] = replace(first, image=image, notes=(note,))
    return whole


def keep(findings: Findings, volumes: Volumes, folder: Path) -> dict[str, Any]:
    """Keep what other pipelines and rules may ask of findings; return it as fields of an `Outcome`."""
    volume = volumes[findings.role or next(iter(volumes))]  # they are in the order of the card
    segments = {one.number: one.label for one in findings.segments}
    detections = {one.number: one.label for one in findings.detections}
    return {
        "outlines": write_outlines(findings, volume, folder),
        "segments": tuple(
            {"label": one.label, "voxels": int(np.count_nonzero(findings.mask(one.number)))}
            for one in findings.segments
        ),
        "detections": tuple(
            {"label": one.label, "confidence": one.confidence} for one in findings.detections
        ),
        "evaluations": tuple(
            {
                "name": one.name.meaning,
                "value": one.value.meaning,
                "segment": segments.get(one.segment or 0, detections.get(one.detection or 0, "")),
                "probability": one.probability,
            }
            for one in findings.evaluations
        ),
    }
