"""The same slices over time become one grid with phases: a heartbeat, the passage of contrast.

Every slice must be there once in every phase. Which phase a frame belongs to is said in different
places by different makers; the first attribute that every frame has, and that tells the frames of
each slice apart, decides. Slices of a cine over several heartbeats have slightly different times,
so phases are counted within each slice, and a time is the median over the slices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Final

import numpy as np

from node.assemble.facts import facts_of
from node.assemble.frames import Frame
from node.assemble.order import TOLERANCE_MM, Grid, arrange, check_card, place_of
from node.assemble.reason import Reason, plain, refused, some
from node.assemble.split import positions_along_normal
from node.header.read import read_header

#: What may tell phases apart, the most trustworthy first; those of `Frame.hints`. The clock comes
#: last: a step of the table, or a second heartbeat, changes it as well.
_ORDERS: Final = (
    "temporal position",
    "trigger time",
    "cardiac phase",
    "respiratory phase",
    "temporal offset",
    "frame reference time",
    "acquisition",
    "acquisition date and time",
    "acquisition time",
)
#: Of these every slice must have the same values: they count, and a slice that lacks one has a gap.
_COUNTS: Final = frozenset({"temporal position", "cardiac phase", "respiratory phase"})
#: What is a time -> how many milliseconds one of it is; None: a clock, of which only differences count.
_TIMES: Final[Mapping[str, float | None]] = {
    "trigger time": 1.0,
    "temporal offset": 1000.0,
    "frame reference time": 1.0,
    "acquisition date and time": None,
    "acquisition time": None,
}
_MS_A_DAY: Final = 86_400_000.0

Rows = list[list[Frame]]  #: for each slice along the normal its frames, phase by phase


def without_phase(frame: Frame) -> Frame:
    """Return a frame whose temporal position no longer sets it apart from its siblings."""
    apart = dict(frame.apart)
    moved = {"temporal position": apart.pop("temporal position")} if "temporal position" in apart else {}
    return replace(frame, apart=apart, hints={**moved, **frame.hints})


def arrange_phases(
    frames: Sequence[Frame],
    *,
    slices_min: int = 1,
    spacing_mm: Mapping[str, tuple[float, float]] | None = None,
) -> Grid:
    """Return the regular grid on which the slices of every phase lie.

    Parameters
    ----------
    frames
        Of one stack, from `without_phase`.
    slices_min, spacing_mm
        What a card accepts; one slice alone is as thick as it says.

    Returns
    -------
    Grid
        All slices of the first phase along the normal, then all of the second ...

    Raises
    ------
    InputRefused
        ``too-few-phases``, ``phases-unequal``, ``phase-order-unknown``, ``shifted-slices``, or what
        `node.assemble.order.arrange` refuses of one phase.
    """
    slices = _slices_of(frames)
    phases = len(slices[0])
    if (odd := next((one for one in slices if len(one) != phases), None)) is not None:
        raise refused(
            Reason.PHASES_UNEQUAL,
            f"The slice at {place_of(slices[0][0])} mm has {some(phases, 'phase')}, the one at "
            f"{place_of(odd[0])} mm has {len(odd)}. Send the whole series again, or each acquisition "
            "as a series of its own.",
        )
    if phases < 2:
        raise refused(
            Reason.TOO_FEW_PHASES,
            "The series holds every slice once; this pipeline needs the same slices over several phases.",
        )
    order = _order_of(slices)
    rows = [sorted(one, key=lambda frame: frame.hints[order]) for one in slices]
    if order in _COUNTS:
        _check_equal(rows, order)
    first = [row[0] for row in rows]
    grid = (
        _alone(first[0], spacing_mm or {})
        if len(rows) == 1 and slices_min <= 1
        else arrange(first, slices_min=slices_min, spacing_mm=spacing_mm)
    )
    _check_still(rows)
    times_ms = _times_of(rows, order)
    facts: dict[str, float | str] = {"phase_order": order}
    if times_ms is not None:
        facts["phase_times_ms"] = ",".join(plain(time) for time in times_ms)
    ordered = tuple(row[phase] for phase in range(phases) for row in rows)
    return replace(grid, frames=ordered, phases=phases, facts=facts)


def _slices_of(frames: Sequence[Frame]) -> Rows:
    """Return the frames by position, along the normal, in no order yet at each."""
    along = positions_along_normal(frames)
    slices: Rows = []
    last = -np.inf
    for i in np.argsort(along, kind="stable"):
        if along[i] - last > TOLERANCE_MM:
            slices.append([])
            last = along[i]
        slices[-1].append(frames[i])
    return slices


def _order_of(slices: Rows) -> str:
    """Return the first attribute that every frame has and that tells the frames of each slice apart."""
    told = []
    for name in _ORDERS:
        values = [[frame.hints.get(name) for frame in one] for one in slices]
        if not any(value is not None for one in values for value in one):
            continue
        kinds = {type(value) for one in values for value in one}
        if len(kinds) == 1 and all(len(set(one)) == len(one) for one in values):
            return name
        told.append(name)
    what = f"{' and '.join(told)} do not tell them apart" if told else "no time or position in time is given"
    raise refused(
        Reason.PHASE_ORDER_UNKNOWN,
        f"The order of the {len(slices[0])} phases of a slice is not known: {what}. Send the series as the "
        "scanner made it.",
    )


def _check_equal(rows: Rows, order: str) -> None:
    """Refuse slices whose phases have other numbers than those of the first."""
    meant = [frame.hints[order] for frame in rows[0]]
    for row in rows:
        if [frame.hints[order] for frame in row] != meant:
            raise refused(
                Reason.PHASES_UNEQUAL,
                f"The slices at {place_of(rows[0][0])} and {place_of(row[0])} mm have as many phases, but "
                f"not the same ones ({order}). Images are missing; send the whole series again.",
            )


def _check_still(rows: Rows) -> None:
    """Refuse slices that move from phase to phase; the affine would hold for one of them only."""
    for row in rows:
        places = np.array([frame.at.position_mm for frame in row], dtype=np.float64)  # (phases, 3) LPS mm
        off_mm = float(np.linalg.norm(places - places[0], axis=1).max())
        if off_mm > TOLERANCE_MM:
            raise refused(
                Reason.SHIFTED_SLICES,
                f"The slice at {place_of(row[0])} mm moves by {plain(off_mm)} mm from phase to phase; every "
                "phase must lie at the same place.",
            )


def _alone(frame: Frame, limits: Mapping[str, tuple[float, float]]) -> Grid:
    """Return the grid of one slice, whose thickness stands for the distance to a next one."""
    thickness_mm = _thickness_mm(frame)
    if thickness_mm is None or not 0 < thickness_mm <= 1000:
        raise refused(
            Reason.NO_GEOMETRY,
            "The series has one slice, which does not say how thick it is (Slice Thickness).",
        )
    at = frame.at
    affine = np.eye(4)
    affine[:3, 0] = at.normal * thickness_mm
    affine[:3, 1] = np.array(at.along_rows) * at.spacing_mm[0]
    affine[:3, 2] = np.array(at.along_columns) * at.spacing_mm[1]
    affine[:3, 3] = at.position_mm
    check_card(affine, limits)
    return Grid((frame,), affine, 0.0)


def _thickness_mm(frame: Frame) -> float | None:
    from_facts = facts_of(read_header(frame.instance.path)).get("SliceThickness")
    return from_facts if isinstance(from_facts, float) else None


def _times_of(rows: Rows, order: str) -> list[float] | None:
    """Return the time of every phase, ms; None where no time is given that grows with the phases."""
    for name in (order, *_TIMES):
        if name not in _TIMES:
            continue
        values = [[_ms(frame.hints.get(name), _TIMES[name]) for frame in row] for row in rows]
        table = np.array(values, dtype=np.float64)  # (slices, phases); None becomes not a number
        if not np.isfinite(table).all():
            continue
        times = np.median(table, axis=0)
        if _TIMES[name] is None:
            times = times - times[0]
        if (np.diff(times) > 0).all():
            return [float(time) for time in times]
    return None


def _ms(value: float | str | None, scale: float | None) -> float | None:
    """Return milliseconds of a time, or of a clock (a DICOM time or date and time, read as a number)."""
    if not isinstance(value, float):
        return None
    if scale is not None:
        return value * scale
    day, clock = divmod(value, 1e6)
    hours, rest = divmod(clock, 1e4)
    minutes, seconds = divmod(rest, 1e2)
    try:
        days = date(int(day) // 10000, int(day) // 100 % 100, int(day) % 100).toordinal() if day else 0
    except ValueError:
        return None
    return days * _MS_A_DAY + ((hours * 60 + minutes) * 60 + seconds) * 1000
