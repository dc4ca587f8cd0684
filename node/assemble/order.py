"""A stack of frames becomes a regular grid, or is refused. Pure geometry; opens no file.

Order is the position along the slice normal, never Instance Number. The grid must explain every
position within a stated tolerance, because a model sees only array and affine: whatever they do
not say is lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import atan2, degrees
from typing import Final

import numpy as np
from numpy.typing import NDArray

from node.assemble.frames import Facts, Frame
from node.assemble.reason import Reason, plain, refused, some
from node.assemble.split import SAME_POSITION_MM, positions_along_normal

#: A slice may lie this far from its place on the regular grid: senders round positions to 0.1 mm,
#: which displaces by 0.05 mm, and 0.02 mm of jitter is common.
TOLERANCE_MM: Final = 0.1
#: ... but never by more than this part of the slice spacing.
TOLERANCE_OF_SPACING: Final = 0.1
#: Distances within this part of a whole multiple of the usual one are gaps.
GAP_TOLERANCE: Final = 0.1

_AXES: Final = ("x", "y", "z")


@dataclass(frozen=True, slots=True)
class Grid:
    """Frames in order along their normal, phase after phase, and where they lie."""

    frames: tuple[Frame, ...]
    affine: NDArray[np.float64]  #: (4, 4): (slice, row, column) -> LPS mm
    deviation_mm: float  #: the largest distance of a slice from its place on the grid
    phases: int = 1  #: how often the same slices follow each other in ``frames``
    facts: Facts = field(default_factory=dict)  #: about the phases


def coincident(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Return the groups of two or more frames at the same position along the normal."""
    places = positions_along_normal(frames)
    order = np.argsort(places, kind="stable")
    groups: list[list[Frame]] = []
    start = 0
    for i in range(1, len(order) + 1):
        if i == len(order) or places[order[i]] - places[order[i - 1]] > SAME_POSITION_MM:
            if i - start > 1:
                groups.append([frames[j] for j in order[start:i]])
            start = i
    return groups


def arrange(
    frames: Sequence[Frame],
    *,
    slices_min: int = 2,
    spacing_mm: Mapping[str, tuple[float, float]] | None = None,
) -> Grid:
    """Return the regular grid on which frames lie.

    Parameters
    ----------
    frames
        Of one stack: same orientation, size and pixel spacing; no two at one position.
    slices_min, spacing_mm
        What a card accepts; axes "slice", "row", "column".

    Raises
    ------
    InputRefused
        ``too-few-slices``, ``gantry-tilt``, ``shifted-slices``, ``slice-gap``,
        ``variable-spacing`` or ``spacing-outside-card``.
    """
    least = max(2, slices_min)
    if len(frames) < least:
        raise refused(
            Reason.TOO_FEW_SLICES, f"The volume has {some(len(frames), 'slice')}; {least} are needed."
        )
    # float64, LPS mm: (n,) along the normal; (n, 3) positions
    along = positions_along_normal(frames)
    order = np.argsort(along, kind="stable")
    along = along[order]
    ordered = tuple(frames[i] for i in order)
    positions = np.array([frame.at.position_mm for frame in ordered], dtype=np.float64)
    first = ordered[0].at

    step_mm, start_mm = _even(along)
    _check_spacing(ordered, along, step_mm, start_mm)
    in_plane = positions - np.outer(along, first.normal)
    _check_shear(along, in_plane, step_mm)

    affine = np.eye(4)
    affine[:3, 0] = first.normal * step_mm
    affine[:3, 1] = np.array(first.along_rows) * first.spacing_mm[0]
    affine[:3, 2] = np.array(first.along_columns) * first.spacing_mm[1]
    affine[:3, 3] = first.normal * start_mm + in_plane.mean(axis=0)
    expected = affine[:3, 3] + np.outer(np.arange(len(ordered)), affine[:3, 0])
    deviation_mm = float(np.linalg.norm(positions - expected, axis=1).max())
    check_card(affine, spacing_mm or {})
    return Grid(ordered, affine, deviation_mm)


def _even(along: NDArray[np.float64]) -> tuple[float, float]:
    """Return step and start of the even grid nearest to positions in order (least squares)."""
    index = np.arange(len(along)) - (len(along) - 1) / 2
    step_mm = float(index @ along) / float(index @ index)
    return step_mm, float(along.mean() + index[0] * step_mm)


def _check_spacing(
    ordered: Sequence[Frame], along: NDArray[np.float64], step_mm: float, start_mm: float
) -> None:
    """Refuse what is not evenly spaced along the normal."""
    off_mm = np.abs(along - start_mm - np.arange(len(along)) * step_mm).max()
    distances = np.diff(along)
    usual_mm = float(np.median(distances))
    if off_mm <= _tolerance_mm(usual_mm):
        return
    multiples = distances / usual_mm
    whole = np.rint(multiples)
    long = np.flatnonzero(whole >= 2)
    if (
        len(long)
        and np.all(np.abs(multiples - whole) <= GAP_TOLERANCE * np.maximum(1, whole))
        and whole.min() >= 1
    ):
        first = int(long[0])
        missing = int((whole[long] - 1).sum())
        raise refused(
            Reason.SLICE_GAP,
            f"There is a gap between {place_of(ordered[first])} and {place_of(ordered[first + 1])} mm: "
            f"slices are {plain(usual_mm)} mm apart, here {plain(distances[first])} mm. "
            f"{some(missing, 'slice')} {'is' if missing == 1 else 'are'} missing in all. "
            "Send the whole series again.",
        )
    raise refused(
        Reason.VARIABLE_SPACING,
        f"The distance between slices varies from {plain(distances.min())} to {plain(distances.max())} mm; "
        "a volume needs evenly spaced slices.",
    )


def _check_shear(along: NDArray[np.float64], in_plane: NDArray[np.float64], step_mm: float) -> None:
    """Refuse slices that do not lie straight above each other."""
    shift = in_plane - in_plane.mean(axis=0)
    limit_mm = _tolerance_mm(step_mm)
    if np.linalg.norm(shift, axis=1).max() <= limit_mm:
        return
    # Least squares line of the shift against the position: its slope is the shear.
    centred = along - along.mean()
    slope = centred @ shift / float(centred @ centred)
    rest = shift - np.outer(centred, slope)
    if np.linalg.norm(rest, axis=1).max() <= limit_mm:
        tilt = degrees(atan2(float(np.linalg.norm(slope)), 1.0))
        raise refused(
            Reason.GANTRY_TILT,
            f"The slices are sheared by {plain(tilt)} degrees (tilted gantry). This node does not resample; "
            "send a reconstruction with slices at right angles to the table movement.",
        )
    raise refused(
        Reason.SHIFTED_SLICES,
        f"Slices are displaced within their plane by up to {plain(np.linalg.norm(rest, axis=1).max())} mm; "
        "a volume needs slices straight above each other.",
    )


def check_card(affine: NDArray[np.float64], limits: Mapping[str, tuple[float, float]]) -> None:
    """Refuse distances of voxels that a card does not accept: ``spacing-outside-card``."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    for axis, length in zip(("slice", "row", "column"), lengths, strict=True):
        low, high = limits.get(axis, (0.0, np.inf))
        # A hundredth of a millimetre of grace: 5.0 mm slices are often 5.0000003 mm apart.
        if not low - SAME_POSITION_MM <= length <= high + SAME_POSITION_MM:
            raise refused(
                Reason.SPACING_OUTSIDE_CARD,
                f"The {axis} spacing is {plain(length)} mm; this pipeline accepts {plain(low)} to "
                f"{plain(high)} mm.",
            )


def _tolerance_mm(spacing_mm: float) -> float:
    return min(TOLERANCE_MM, TOLERANCE_OF_SPACING * spacing_mm)


def place_of(frame: Frame) -> str:
    """Return where a slice lies along the patient axis nearest to its normal, e.g. ``z = -12.5``."""
    axis = int(np.abs(frame.at.normal).argmax())
    return f"{_AXES[axis]} = {plain(frame.at.position_mm[axis])}"
