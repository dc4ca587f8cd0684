"""A case becomes the item that a bundle's transforms take."""

from __future__ import annotations

import numpy as np
import torch
from monai.data import MetaTensor

from pipelines.bundle.terms import Terms
from pipelines.contract import Card, Case, Image, InputRefused
from pipelines.geometry import to_metatensor


def item_of(card: Card, terms: Terms, case: Case, image_key: str) -> dict[str, MetaTensor]:
    """Return key -> (channels, columns, rows, slices) tensor, each in its own memory.

    Parameters
    ----------
    image_key
        What the bundle calls its image; ``[bundle] keys`` gives roles other names.

    Raises
    ------
    InputRefused
        ``different-grids``: images that become channels of one are not on one grid.
    """
    # Own memory: transforms of a bundle may write in place, and the source is measured later.
    tensors = [to_metatensor(case[role], copy=True) for role in card.inputs]
    return {image_key: tensors[0] if len(tensors) == 1 else torch.cat(tensors)}


def refuse_different_grids(card: Card, case: Case) -> None:
    """Refuse images that are not on one grid.

    Raises
    ------
    InputRefused
        ``different-grids``.
    """
    first, *others = (case[role] for role in card.inputs)
    for image in others:
        if not _is_same_grid(first, image):
            raise InputRefused(
                "different-grids",
                f"{card.title} needs series on one common grid; these differ in position, "
                "spacing or size. Send series that were registered and resampled to each other.",
            )


def _is_same_grid(one: Image, other: Image) -> bool:
    return one.array.shape == other.array.shape and np.allclose(one.affine, other.affine, atol=1e-3)
