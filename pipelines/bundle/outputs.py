"""What comes out of a bundle becomes findings, as the card's ``[bundle] output`` says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.bundle.outline import labelmap_of_labels, labelmap_of_one_hot, masks_of_channels
from pipelines.bundle.run import Answer
from pipelines.bundle.terms import Terms
from pipelines.contract import Card, Case, Findings
from pipelines.geometry import channels_from_metatensor
from pipelines.measure import measure_segment


def findings_of(answer: Answer, card: Card, terms: Terms, case: Case) -> Findings:
    """Return the findings on the grid of the card's first input, with the card's measurements.

    Raises
    ------
    ValueError
        The result is not on the source grid (`GeometryChanged`), or is not what the card says.
    """
    role = next(iter(card.inputs))
    image = case[role]
    channels = channels_from_metatensor(answer.pred, image)  # (channels, slices, rows, columns)
    labelmap, masks = _outlines(channels, card, terms)
    findings = Findings(
        labelmap=labelmap, masks=masks, affine=image.affine, role=role, segments=card.segments
    )
    measurements = [
        measurement
        for segment in card.segments
        for measurement in measure_segment(
            card.measure, findings.mask(segment.number), image, segment=segment.number
        )
    ]
    return replace(findings, measurements=tuple(measurements))


def _outlines(
    channels: NDArray[Any], card: Card, terms: Terms
) -> tuple[NDArray[np.unsignedinteger] | None, NDArray[np.bool_] | None]:
    """Return a label map, or masks where segments may overlap."""
    count = len(card.segments)
    if terms.output == "labels":
        return labelmap_of_labels(channels, terms.values or tuple(range(1, count + 1))), None
    if terms.output == "one-hot":
        return labelmap_of_one_hot(channels, count, terms.background), None
    return None, masks_of_channels(channels, count)
