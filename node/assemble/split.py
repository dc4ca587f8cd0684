"""The frames of one series become stacks, each of which may be one volume.

What certainly does not belong together is split: size, spacing, orientation, frame of reference,
image type, echo, b-value, temporal position. What may differ within an honest volume (acquisition
number, trigger time) splits only where it explains that positions occur more than once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from node.assemble.frames import Frame
from node.assemble.reason import plain, some

#: Image Orientation components of one stack agree within this (0.06 degrees).
ORIENTATION_TOLERANCE: Final = 1e-3
#: Pixel Spacing of one stack agrees within this part of itself.
SPACING_TOLERANCE: Final = 1e-3
#: Two frames nearer than this along the normal are at the same position.
SAME_POSITION_MM: Final = 0.01

#: Words in Image Type that mean "made for orientation" and "projected": never a volume.
_LOCALIZERS: Final = frozenset({"LOCALIZER", "SCOUT", "TOPOGRAM"})
_PROJECTIONS: Final = frozenset(
    {"MIP", "MINIP", "MAX_IP", "MIN_IP", "PROJECTION IMAGE", "CSAMAXIP", "CSAMINIP"}
)


@dataclass(frozen=True, slots=True)
class Stack:
    """Frames that could be one volume, in no order yet."""

    frames: tuple[Frame, ...]
    label: str  #: what sets it apart from its siblings, for people

    @property
    def is_derived(self) -> bool:
        """Whether it was computed from other images and is not the primary result (C.7.6.1.1.2)."""
        return self.frames[0].image_type[:2] == ("DERIVED", "SECONDARY")


@dataclass(frozen=True, slots=True)
class Split:
    """What one series holds."""

    stacks: tuple[Stack, ...]  #: the largest first
    left_out: tuple[str, ...]  #: sentences about frames that cannot be of a volume


def split(frames: Iterable[Frame], *, by_phase: bool = True) -> Split:
    """Return the stacks of one series and what was left out. Pure; opens no file.

    Parameters
    ----------
    by_phase
        Frames at one position that an attribute tells apart are of several stacks; else they stay
        together, for `node.assemble.cine`.
    """
    kept = []
    counts: Counter[str] = Counter()
    for frame in frames:
        kind = _left_out_as(frame)
        if kind is None:
            kept.append(frame)
        else:
            counts[kind] += 1
    left_out = [f"{some(count, *kind.split(' ', 1))} left out" for kind, count in sorted(counts.items())]
    groups = _group(kept)
    stacks = [
        Stack(tuple(part), ", ".join(filter(None, (label, more, some(len(part), "image")))))
        for group, label in zip(groups, _labels(groups), strict=True)
        for part, more in (_explain_repeats(group) if by_phase else [(group, "")])
    ]
    stacks.sort(key=lambda stack: -len(stack.frames))
    return Split(tuple(stacks), tuple(left_out))


def _left_out_as(frame: Frame) -> str | None:
    kind = set(frame.image_type)
    if kind & _LOCALIZERS:
        return "localizer"
    if kind & _PROJECTIONS:
        return "projection"
    return f"image without {frame.plane}" if isinstance(frame.plane, str) else None


def _group(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Group by everything that must agree; near numbers count as equal."""
    exact: dict[Hashable, list[Frame]] = {}
    for frame in frames:
        exact.setdefault((_exact_key(frame)), []).append(frame)
    groups: list[list[Frame]] = []
    for candidates in exact.values():
        near: list[list[Frame]] = []
        for frame in candidates:
            home = next((group for group in near if _agrees(group[0], frame)), None)
            if home is None:
                near.append([frame])
            else:
                home.append(frame)
        groups += near
    return groups


def _exact_key(frame: Frame) -> Hashable:
    return (
        frame.modality,
        frame.at.frame_of_reference_uid,
        frame.pixels.rows,
        frame.pixels.columns,
        frame.rescale_type,
        frame.image_type,
        tuple(sorted(frame.apart.items())),
    )


def _agrees(a: Frame, b: Frame) -> bool:
    directions = np.subtract((a.at.along_columns, a.at.along_rows), (b.at.along_columns, b.at.along_rows))
    spacing = np.array((a.at.spacing_mm, b.at.spacing_mm))
    return bool(
        np.abs(directions).max() <= ORIENTATION_TOLERANCE
        and np.abs(spacing[0] - spacing[1]).max() <= SPACING_TOLERANCE * spacing.min()
    )


_DIFFERENCES: Final[dict[str, Callable[[Frame], str]]] = {
    "modality": lambda f: f.modality,
    "frame of reference": lambda f: f"frame of reference {f.at.frame_of_reference_uid}",
    "size": lambda f: f"{f.pixels.rows} x {f.pixels.columns} pixels",
    "type": lambda f: "\\".join(f.image_type),
    "facts": lambda f: ", ".join(f"{name} {_said(value)}" for name, value in f.apart.items()),
    "spacing": lambda f: f"pixels of {' x '.join(plain(s) for s in f.at.spacing_mm)} mm",
    "orientation": lambda f: "normal (" + ", ".join(plain(v) for v in f.at.normal) + ")",
}


def _labels(groups: Sequence[Sequence[Frame]]) -> list[str]:
    """Say for each group in what it differs from the others."""
    words = [[say(group[0]) for group in groups] for say in _DIFFERENCES.values()]
    telling = [column for column in words if len(set(column)) > 1]
    return [", ".join(column[i] for column in telling if column[i]) for i in range(len(groups))]


def _explain_repeats(group: list[Frame]) -> list[tuple[list[Frame], str]]:
    """Split a group where positions repeat and one attribute explains it wholly, else leave it."""
    if _most_at_one_position(group) > 1:
        for name in {name: None for frame in group for name in frame.hints}:
            parts: dict[float | str, list[Frame]] = {}
            for frame in group:
                parts.setdefault(frame.hints.get(name, ""), []).append(frame)
            even = len({len(part) for part in parts.values()}) == 1
            if (
                1 < len(parts) < len(group)
                and even
                and all(_most_at_one_position(p) == 1 for p in parts.values())
            ):
                return [(part, f"{name} {_said(value)}") for value, part in parts.items()]
    return [(group, "")]


def _most_at_one_position(frames: Sequence[Frame]) -> int:
    places = positions_along_normal(frames)
    bins = np.unique(np.rint(places / SAME_POSITION_MM), return_counts=True)[1]
    return int(bins.max())


def positions_along_normal(frames: Sequence[Frame]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return where frames lie along the normal of the first: (frames,) float64, millimetres."""
    return np.array([frame.at.position_mm for frame in frames], dtype=np.float64) @ frames[0].at.normal


def _said(value: float | str) -> str:
    return value if isinstance(value, str) else plain(value)
