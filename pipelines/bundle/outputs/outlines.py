"""Outlines of a bundle: label values, exclusive channels, overlapping channels, probabilities."""

from __future__ import annotations

import numpy as np

from pipelines.bundle.inputs import Part
from pipelines.bundle.outputs.outline import labelmap_of_labels, labelmap_of_one_hot, masks_of_channels
from pipelines.bundle.outputs.place import on_source
from pipelines.bundle.outputs.said import Said, refuse_several
from pipelines.bundle.run import Answer
from pipelines.bundle.terms import Terms
from pipelines.contract import Card

#: How far a probability may lie beyond 0 and 1 by rounding.
ROUNDING = 1e-4


def read_outlines(answer: Answer, part: Part, card: Card, terms: Terms) -> Said:
    """Return outlines of 0 and 1, or of label values."""
    count = len(card.segments)
    channels, cautions = on_source(answer.pred, answer, part, linear=False)
    if terms.output == "labels":
        values = terms.values or tuple(range(1, count + 1))
        return Said(labelmap=labelmap_of_labels(channels, values, terms.nothing), cautions=cautions)
    if terms.output == "one-hot":
        return Said(labelmap=labelmap_of_one_hot(channels, count, terms.has_background), cautions=cautions)
    return Said(masks=masks_of_channels(channels, count), cautions=cautions)


def read_probabilities(answer: Answer, part: Part, card: Card, terms: Terms) -> Said:
    """Return a map for each segment, and its outline where the probability is ``threshold`` or more.

    Raises
    ------
    ValueError
        Another number of channels, or values that are no probabilities.
    """
    channels, cautions = on_source(answer.pred, answer, part, linear=True)
    count = len(card.segments)
    wanted = count + terms.has_background
    if len(channels) != wanted:
        raise ValueError(
            f"the bundle gave {len(channels)} channels; the card describes {wanted}. Whether the first is "
            "that of no segment, [bundle] background says: true or false"
        )
    channels = channels[terms.has_background :]
    low, high = float(channels.min(initial=0.0)), float(channels.max(initial=0.0))
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):  # nor is what is not a number
        raise ValueError(
            f"the bundle gave values from {low:g} to {high:g} for probabilities; it needs its own softmax or "
            "sigmoid (Activationsd)"
        )
    maps = np.clip(channels, 0.0, 1.0, dtype=np.float32)
    return Said(maps=maps, masks=maps >= np.float32(terms.threshold), cautions=cautions)


def read_image(answer: Answer, part: Part, card: Card, terms: Terms) -> Said:
    """Return a generated or restored image.

    Raises
    ------
    ValueError
        It has several channels, or values that are not finite numbers.
    """
    refuse_several(answer.pred)
    lowest = float(answer.pred.min()) if answer.pred.numel() else 0.0
    channels, cautions = on_source(answer.pred, answer, part, linear=True, outside=lowest)
    if len(channels) != 1:
        raise ValueError(f"output = 'image' means one channel; the bundle gave {len(channels)}")
    if not np.isfinite(channels).all():
        raise ValueError("the bundle gave an image with values that are not numbers")
    return Said(maps=np.ascontiguousarray(channels, dtype=np.float32), cautions=cautions)
