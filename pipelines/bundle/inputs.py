"""A case becomes the items that a bundle's transforms take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from pipelines.bundle.terms import EACH_OF_KIND, Each, Terms
from pipelines.contract import Card, Case, Image, InputRefused, InputSpec
from pipelines.geometry import (
    Grid,
    grid_of,
    phases_metatensor,
    picture_metatensor,
    share_a_grid,
    to_metatensor,
    waveform_metatensor,
)
from pipelines.resample import resample

#: At least this share of the first role's grid must lie inside of an image that is taken to it.
LEAST_COVERED = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What goes through a bundle at once, and where its answer belongs."""

    item: dict[str, MetaTensor]  #: key -> channel-first tensor, each in its own memory
    grid: Grid  #: on which the answer must lie: that of the first role's tensor
    image: Image  #: the first role's image, cut to this part
    start: int  #: the first slice of ``image`` in the whole


def prepare(card: Card, terms: Terms, case: Case) -> tuple[dict[str, Image], list[str]]:
    """Return the case with every ``grid = "resample"`` taken to the first role's grid, and cautions.

    Raises
    ------
    InputRefused
        ``different-frame``, ``no-overlap`` or ``different-grids``.
    """
    first, *others = card.inputs
    given = {role: case[role] for role in card.inputs}
    cautions = []
    for role in others:
        spec = card.inputs[role]
        if spec.grid != "resample" or share_a_grid(case[first], case[role]):
            continue
        _refuse_frame(card, first, role, case)
        nearest = bool(spec.result)
        image = case[role]
        lowest = float(image.array.min()) if terms.padding is None else terms.padding
        outside = 0.0 if nearest else lowest  # outside of an outline is no segment
        values, covered = resample(
            image.array[np.newaxis],
            image.affine,
            case[first].array.shape,
            case[first].affine,
            linear=not nearest,
            outside=outside,
        )
        if covered < LEAST_COVERED:
            raise InputRefused(
                "no-overlap",
                f"The series for {role!r} covers {covered:.0%} of the series for {first!r}; {card.title} "
                f"needs at least {LEAST_COVERED:.0%}. Send series of the same part of the body.",
            )
        given[role] = replace(image, array=values[0], affine=case[first].affine)
        cautions.append(
            f"The input {role!r} was resampled to the grid of {first!r} "
            f"({'nearest value' if nearest else 'linear interpolation'}), trusting their common frame "
            f"of reference; it covers {covered:.0%} of it."
        )
    return given, cautions


def parts_of(card: Card, terms: Terms, case: Case, image_key: str) -> Iterator[Part]:
    """Yield what goes through the bundle, one after the other.

    Parameters
    ----------
    case
        As `prepare` returned it.
    image_key
        What the bundle calls its image; ``[bundle] keys`` gives roles other names.
    """
    first = next(iter(card.inputs))
    image = case[first]
    each = terms.each or EACH_OF_KIND[card.inputs[first].kind]
    slices = {"slice": 1, "phase": image.slices, "case": len(image.array)}[each]
    for start in range(0, len(image.array), slices):
        groups: dict[str, list[MetaTensor]] = {}
        cuts = {role: _cut(case[role], image, start, slices) for role in card.inputs}
        for role, cut in cuts.items():
            key = terms.keys.get(role, image_key)
            groups.setdefault(key, []).append(_tensor(cut, card.inputs[role], terms, each))
        # Where the answer belongs is kept apart: transforms of a bundle may change the item in place.
        grid = grid_of(groups[terms.keys.get(first, image_key)][0])
        item = {key: tensors[0] if len(tensors) == 1 else _stack(tensors) for key, tensors in groups.items()}
        yield Part(item=item, grid=grid, image=cuts[first], start=start)


def refuse_different_grids(card: Card, case: Case) -> None:
    """Refuse images that are not on one grid, and cannot be taken to one.

    Raises
    ------
    InputRefused
        ``different-grids``, ``different-frame``.
    """
    first, *others = card.inputs
    for role in others:
        rule = card.inputs[role].grid
        if rule == "any" or share_a_grid(case[first], case[role]):
            continue
        if rule == "resample":
            _refuse_frame(card, first, role, case)
            continue
        raise InputRefused(
            "different-grids",
            f"{card.title} needs series on one common grid; these differ in position, "
            "spacing or size. Send series that were registered and resampled to each other.",
        )


def _refuse_frame(card: Card, first: str, role: str, case: Case) -> None:
    """Refuse to resample between images of which it is not known that they lie in one frame."""
    one, other = case[first], case[role]
    if not (one.is_spatial and other.is_spatial) or max(one.phases, other.phases) > 1 or one.is_waveform:
        raise InputRefused(
            "different-grids",
            f"The series for {role!r} differs from that for {first!r} in size or position, and only "
            f"volumes can be resampled to each other. Send series of one geometry to {card.title}.",
        )
    if not one.frame_of_reference or one.frame_of_reference != other.frame_of_reference:
        known = one.frame_of_reference and other.frame_of_reference
        raise InputRefused(
            "different-frame",
            f"The series for {role!r} and {first!r} "
            f"{'lie in different frames of reference' if known else 'do not say their frame of reference'}, "
            f"so their positions cannot be compared. {card.title} needs series of one examination without "
            "repositioning, or series that were registered to each other.",
        )


def _cut(image: Image, first: Image, start: int, slices: int) -> Image:
    """Return one part of an image, a view; whole where it is not laid out as the first role is."""
    if len(image.array) != len(first.array) or slices == len(image.array):
        return image
    affine = image.affine.copy()
    affine[:3, 3] += image.affine[:3, 0] * (start % image.slices)
    return replace(
        image,
        array=image.array[start : start + slices],
        colour=None if image.colour is None else image.colour[start : start + slices],
        affine=affine,
        phases=1,
    )


def _tensor(image: Image, spec: InputSpec, terms: Terms, each: Each) -> MetaTensor:
    """Return one image as the bundle's own loader would have given it, channel first."""
    # Own memory: transforms of a bundle may write in place, and the source is measured later.
    if spec.kind == "waveform":
        return waveform_metatensor(image)
    if each == "slice":
        return picture_metatensor(_values(image, terms)[:, 0], image)
    if not image.is_spatial:
        return picture_metatensor(_values(image, terms), image)
    return phases_metatensor(image) if image.phases > 1 else to_metatensor(image, copy=True)


def _values(image: Image, terms: Terms) -> NDArray[np.float32]:
    """Return (channels, slices, rows, columns) float32, in memory of its own, as `terms.Colour` says."""
    if terms.colour == "grey":
        return image.array[np.newaxis].copy()
    if terms.colour == "grey255":
        return np.rint(image.array[np.newaxis] * 255).astype(np.float32)
    if image.colour is None:  # three equal channels
        bytes_ = np.repeat(np.rint(image.array * 255)[np.newaxis], 3, axis=0)
    else:
        bytes_ = np.moveaxis(image.colour, -1, 0)
    return (bytes_ / np.float32(1 if terms.colour == "rgb255" else 255)).astype(np.float32)


def _stack(tensors: list[MetaTensor]) -> MetaTensor:
    """Return several images as channels of one; where they lie is that of the first."""
    joined = torch.cat([tensor.as_tensor() for tensor in tensors])
    return MetaTensor(joined, meta=dict(tensors[0].meta))
