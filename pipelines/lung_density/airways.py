"""The windpipe and the main bronchi, so that they can be left out of the lungs.

The windpipe is the round, dark thing that goes down the middle from plane to plane. From it the air
is grown with a rising limit of HU until it breaks into the lungs; the last limit before that is kept
(explosion control: Mori and others, ICPR 1996).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipelines.contract import InputRefused
from pipelines.lung_density.grid import Grid

Mask = NDArray[np.bool_]  #: (feet to head, front to back, right to left)

AREA_MM2 = (50.0, 900.0)  #: of the lumen in one plane: from children's to enlarged windpipes
SHIFT_MM = 9.0  #: how far the lumen may move from plane to plane
LENGTH_LEAST_MM = 25.0
OFF_CENTRE_MOST_MM = 45.0
BELOW_MM, BESIDE_MM = 70.0, 70.0  #: how far below and beside its end main bronchi are looked for


@dataclass(slots=True)
class _Chain:
    """Round dark spots of consecutive planes that lie below each other."""

    planes: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    centres: list[tuple[float, float]] = field(default_factory=list)  # mm (front to back, right to left)


def find_airways(grid: Grid, inside: Mask) -> Mask:
    """Return windpipe and main bronchi.

    Parameters
    ----------
    inside
        Air inside of the body.

    Raises
    ------
    InputRefused
        ``no-windpipe``.
    """
    labels, chain = _windpipe(grid, inside)
    pipe = np.zeros(inside.shape, dtype=bool)
    for plane, label in zip(chain.planes, chain.labels, strict=True):
        pipe[plane] = labels[plane] == label
    return _grown(grid, inside, pipe, chain)


def _windpipe(grid: Grid, inside: Mask) -> tuple[NDArray[np.int32], _Chain]:
    flat = np.zeros((3, 3, 3), dtype=bool)
    flat[1] = ndimage.generate_binary_structure(2, 1)
    labels, count = ndimage.label(inside, structure=flat)
    tall, deep, wide = grid.spacing_mm
    sizes = np.bincount(labels.ravel(), minlength=count + 1) * deep * wide
    dark = ndimage.mean(grid.hu, labels, np.arange(count + 1))
    by_plane: dict[int, list[int]] = {}
    boxes = ndimage.find_objects(labels)
    for label, box in enumerate(boxes, start=1):
        extent = max((box[1].stop - box[1].start) * deep, (box[2].stop - box[2].start) * wide)
        round_enough = sizes[label] > 0.35 * extent**2
        if AREA_MM2[0] <= sizes[label] <= AREA_MM2[1] and dark[label] < -700.0 and round_enough:
            by_plane.setdefault(box[0].start, []).append(label)

    done: list[_Chain] = []
    growing: list[_Chain] = []
    for plane in range(grid.hu.shape[0] - 1, -1, -1):  # from the head down
        next_growing: list[_Chain] = []
        for label in by_plane.get(plane, []):
            rows, columns = np.nonzero(labels[plane][boxes[label - 1][1:]] == label)
            centre = (
                (boxes[label - 1][1].start + float(rows.mean())) * deep,
                (boxes[label - 1][2].start + float(columns.mean())) * wide,
            )
            reach = SHIFT_MM + 0.5 * tall
            above = [c for c in growing if np.hypot(*np.subtract(c.centres[-1], centre)) <= reach]
            best = min(
                above, key=lambda c: float(np.hypot(*np.subtract(c.centres[-1], centre))), default=None
            )
            chain = _Chain() if best is None else best
            if best is not None:
                growing.remove(best)
            chain.planes.append(plane)
            chain.labels.append(label)
            chain.centres.append(centre)
            next_growing.append(chain)
        done += growing
        growing = next_growing
    done += growing

    upper = float(np.median(np.nonzero(inside)[0]))  # the windpipe lies above the middle of the lungs
    middle_mm = float(np.median(np.nonzero(grid.hu > -200.0)[2])) * wide

    def worth(chain: _Chain) -> float:
        if np.mean(chain.planes) < upper:
            return 0.0
        off = abs(float(np.mean([c[1] for c in chain.centres])) - middle_mm)
        return len(chain.planes) * tall * max(0.0, 1.0 - off / OFF_CENTRE_MOST_MM)

    best_chain = max(done, key=worth, default=None)
    if (
        best_chain is None
        or worth(best_chain) < LENGTH_LEAST_MM * 0.5
        or len(best_chain.planes) * tall < LENGTH_LEAST_MM
    ):
        raise InputRefused(
            "no-windpipe",
            "No windpipe was found above the lungs, so this does not look like a CT of the whole chest. "
            "Send a series that reaches from above the lungs to below them.",
        )
    return labels, best_chain


def _grown(grid: Grid, inside: Mask, pipe: Mask, chain: _Chain) -> Mask:
    """Grow from the windpipe into the main bronchi, and stop before the lungs."""
    tall, deep, wide = grid.spacing_mm
    end, (front, side) = chain.planes[-1], chain.centres[-1]
    box = (
        slice(max(0, end - int(BELOW_MM / tall)), None),
        slice(max(0, int((front - BESIDE_MM) / deep)), int((front + BESIDE_MM) / deep) + 1),
        slice(max(0, int((side - BESIDE_MM) / wide)), int((side + BESIDE_MM) / wide) + 1),
    )
    hu, within, seed = grid.hu[box], inside[box], pipe[box]
    kept = seed
    volume = np.count_nonzero(seed)
    for limit in range(-980, -780, 10):
        labels, _ = ndimage.label(within & (hu < limit))
        touched = np.unique(labels[seed & (hu < limit)])
        touched = touched[touched > 0]
        if not touched.size:
            continue
        grown = np.isin(labels, touched) | seed
        now = np.count_nonzero(grown)
        if now * grid.block_ml > 25.0 + 1.25 * volume * grid.block_ml:
            break
        kept, volume = grown, now
    airways = pipe.copy()
    airways[box] |= kept
    return airways
