"""The instances that a rule selected become the volume that a pipeline sees.

A volume is faithful or it is refused: nothing is averaged, resampled, interpolated or guessed.
Called in a worker process that has a deadline and a memory cap; it decodes pixels of strangers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from node.assemble.facts import HOUNSFIELD, facts_of, unit_of
from node.assemble.frames import Frame, frames_of
from node.assemble.header import read_header
from node.assemble.order import TOLERANCE_MM, Grid, arrange, coincident
from node.assemble.pixels import MAX_VOXELS, read_frames
from node.assemble.planes import load_planes
from node.assemble.reason import Reason, plain, refused, some
from node.assemble.split import Stack, split
from node.model import Instance, Slice, Volume, Volumes
from pipelines.contract import Card, Code, Image, InputRefused, InputSpec

#: What padding becomes: air in Hounsfield units, no signal elsewhere.
PADDING_HU = -1024.0


def load_volumes(inputs: Mapping[str, Sequence[Instance]], card: Card) -> Volumes:
    """Return one volume per role of a card.

    Raises
    ------
    InputRefused
        ``input-missing``, or whatever `load_volume` refuses, naming the role when there are several.
    """
    volumes = {}
    for role, spec in card.inputs.items():
        try:
            volumes[role] = load_volume(inputs.get(role, ()), spec)
        except InputRefused as refusal:
            if len(card.inputs) == 1:
                raise
            raise InputRefused(refusal.code, f"Input '{role}': {refusal.sentence}") from refusal
    return volumes


def load_volume(instances: Sequence[Instance], spec: InputSpec) -> Volume:
    """Return the one volume of a series that a card accepts; `load_planes` where it wants planes.

    Parameters
    ----------
    instances
        Of one series; localizers and the like may be among them and are left out.
    spec
        What the card accepts.

    Returns
    -------
    Volume
        ``image.array`` is (slices, rows, columns) float32 in ``image.unit``, slices in order along
        the normal (row direction x column direction); ``notes`` tell what was left out.

    Raises
    ------
    InputRefused
        With a code of `Reason`.
    """
    chosen = _unique(instances)
    if spec.kind == "planes":
        return load_planes(chosen, spec)
    frames = [frame for instance in chosen for frame in frames_of(instance, spec.modality)]
    if (patients := len({frame.patient for frame in frames})) > 1:
        raise refused(
            Reason.SEVERAL_PATIENTS,
            f"The images of this series name {patients} different patients. Nothing was computed; "
            "correct the series at its source.",
        )
    parts = split(frames)
    grid, unit, notes = _choose(parts.stacks, parts.left_out, spec)
    header = read_header(grid.frames[0].instance.path)
    notes += _numbering_notes(frames)
    facts = facts_of(header)
    if facts.get("LossyImageCompression") == "01":
        notes.append("The images were compressed with loss")
    first = grid.frames[0]
    return Volume(
        image=Image(
            array=_decode(grid, unit),
            affine=grid.affine,
            unit=unit,
            modality=first.modality,
            facts=facts,
        ),
        slices=tuple(_slice_of(frame) for frame in grid.frames),
        series_uid=first.instance.series_uid,
        study_uid=first.instance.study_uid,
        frame_of_reference_uid=first.at.frame_of_reference_uid,
        notes=tuple(notes),
    )


def _unique(instances: Sequence[Instance]) -> list[Instance]:
    """Return instances once each, after checking that they are of one series."""
    if not instances:
        raise refused(Reason.INPUT_MISSING, "There are no images for this input.")
    if len(series := {instance.series_uid for instance in instances}) > 1:
        raise refused(Reason.SEVERAL_SERIES, f"Images of {len(series)} series were given as one input.")
    unique: dict[str, Instance] = {}
    for instance in instances:
        known = unique.setdefault(instance.sop_instance_uid, instance)
        if known.sha256 != instance.sha256:
            raise refused(
                Reason.CONFLICTING_INSTANCES,
                f"Two different images have the SOP Instance UID {instance.sop_instance_uid}.",
            )
    return list(unique.values())


def _choose(
    stacks: Sequence[Stack], left_out: Sequence[str], spec: InputSpec
) -> tuple[Grid, Code, list[str]]:
    """Return the only stack that the card accepts, its unit, and notes about the others."""
    fit: list[tuple[Stack, Grid, Code, list[str]]] = []
    refusals: list[InputRefused] = []
    for stack in stacks:
        try:
            fit.append((stack, *_try(stack, spec)))
        except InputRefused as refusal:
            refusals.append(refusal)
    if any(not stack.is_derived for stack, *_ in fit):
        fit = [one for one in fit if not one[0].is_derived]
    if not fit:
        raise refusals[0] if refusals else _nothing(left_out)
    if len(fit) > 1:
        listed = "; ".join(stack.label for stack, *_ in fit[:4]) + (" ..." if len(fit) > 4 else "")
        raise refused(
            Reason.SEVERAL_VOLUMES,
            f"The series holds {len(fit)} volumes and this pipeline takes one: {listed}. "
            "Send the wanted one as a series of its own, or narrow the rule.",
        )
    stack, grid, unit, notes = fit[0]
    notes = [*left_out, *notes, *(f"Left out: {other.label}" for other in stacks if other is not stack)]
    if stack.is_derived:
        notes.append("The images are derived (DERIVED\\SECONDARY), not acquired")
    return grid, unit, notes


def _nothing(left_out: Sequence[str]) -> InputRefused:
    told = ", ".join(left_out)
    if "without" in told:
        return refused(Reason.NO_GEOMETRY, f"The images cannot be placed in the patient: {told}.")
    return refused(Reason.LOCALIZER_ONLY, f"The series holds no volume: {told}.")


def _try(stack: Stack, spec: InputSpec) -> tuple[Grid, Code, list[str]]:
    """Return grid, unit and notes of a stack that the card accepts; else raise why not."""
    first = stack.frames[0]
    if len(stack.frames) * first.pixels.rows * first.pixels.columns > MAX_VOXELS:
        raise refused(
            Reason.PIXEL_BUDGET,
            f"The volume has {len(stack.frames)} slices of {first.pixels.rows} x {first.pixels.columns} "
            "pixels, which is more than this node decodes.",
        )
    unit = unit_of(stack.frames)
    if unit.value != spec.unit:
        raise refused(
            Reason.UNIT_NOT_ACCEPTED,
            f"The pixel values are in {unit.meaning}; this pipeline needs {spec.unit}.",
        )
    frames, notes = _without_copies(stack.frames)
    grid = arrange(frames, slices_min=spec.slices_min, spacing_mm=spec.spacing_mm)
    if grid.deviation_mm > TOLERANCE_MM / 10:
        notes.append(f"Slices lie up to {plain(grid.deviation_mm)} mm off an even grid")
    return grid, unit, notes


def _without_copies(frames: Sequence[Frame]) -> tuple[list[Frame], list[str]]:
    """Drop frames that are sent twice under two UIDs; refuse different ones at one position."""
    groups = coincident(frames)
    dropped: set[int] = set()
    for group in groups:
        original = _values(group[0])
        for copy in group[1:]:
            apart_mm = np.linalg.norm(np.subtract(group[0].at.position_mm, copy.at.position_mm))
            if apart_mm > TOLERANCE_MM or not np.array_equal(original, _values(copy)):
                _refuse_coincident(frames, groups)
            dropped.add(id(copy))
    kept = [frame for frame in frames if id(frame) not in dropped]
    return kept, [f"{some(len(dropped), 'image')} sent twice, used once"] if dropped else []


def _refuse_coincident(frames: Sequence[Frame], groups: Sequence[Sequence[Frame]]) -> None:
    sizes = {len(group) for group in groups}
    if len(sizes) == 1 and sum(map(len, groups)) == len(frames):
        raise refused(
            Reason.SEVERAL_VOLUMES,
            f"Each of {len(groups)} positions holds {sizes.pop()} different images, and no attribute says "
            "which belong together.",
        )
    raise refused(
        Reason.DUPLICATE_POSITION,
        f"At {some(len(groups), 'position')} of the series there is more than one image, with different "
        "content; which one is right cannot be known.",
    )


def _numbering_notes(frames: Sequence[Frame]) -> list[str]:
    """Note what Instance Numbers say about slices missing at the ends, where geometry is silent."""
    numbers = sorted({frame.instance_number for frame in frames if frame.instance_number is not None})
    if len(numbers) < 2:
        return []
    missing = numbers[-1] - numbers[0] + 1 - len(numbers)
    if numbers[0] > 1 and numbers[0] <= len(numbers):
        missing += numbers[0] - 1
    if not 0 < missing < len(numbers):
        return []
    return [f"Instance numbers leave out {missing} of {numbers[-1]}: images at the ends may be missing"]


def _decode(grid: Grid, unit: Code) -> NDArray[np.float32]:
    """Return the rescaled voxels: (slices, rows, columns), float32, in ``unit``."""
    format_ = grid.frames[0].pixels
    array = np.empty((len(grid.frames), format_.rows, format_.columns), dtype=np.float32)
    fill = PADDING_HU if unit == HOUNSFIELD else 0.0
    by_instance: dict[str, list[int]] = {}
    for place, frame in enumerate(grid.frames):
        by_instance.setdefault(frame.instance.sop_instance_uid, []).append(place)
    for places in by_instance.values():
        first = grid.frames[places[0]]
        place_of = {grid.frames[place].index: place for place in places}
        for index, stored in read_frames(first.instance.path, first.pixels, list(place_of)):
            place = place_of[index]
            _rescale(stored, grid.frames[place], fill, array[place])
    return array


def _rescale(stored: NDArray[Any], frame: Frame, fill: float, out: NDArray[np.float32]) -> None:
    """Write one (rows, columns) plane of measured values into ``out``."""
    slope = 1.0 if frame.slope is None else frame.slope
    intercept = 0.0 if frame.intercept is None else frame.intercept
    if slope == 1.0 and frame.pixels.bits_allocated <= 16:  # exact in float32, and the usual case
        np.add(stored, np.float32(intercept), out=out, casting="unsafe", dtype=np.float32)
    else:
        out[...] = stored * np.float64(slope) + intercept
    if frame.padding is not None:
        low, high = frame.padding
        out[(stored >= low) & (stored <= high)] = fill
    if not np.isfinite(out).all():
        raise refused(Reason.NOT_DECODABLE, "Rescaling gives values that are not finite numbers.")


def _values(frame: Frame) -> NDArray[np.float32]:
    """Return one frame alone, rescaled."""
    out = np.empty((frame.pixels.rows, frame.pixels.columns), dtype=np.float32)
    for _, stored in read_frames(frame.instance.path, frame.pixels, [frame.index]):
        _rescale(stored, frame, 0.0, out)
    return out


def _slice_of(frame: Frame) -> Slice:
    return Slice(
        sop_class_uid=frame.instance.sop_class_uid,
        sop_instance_uid=frame.instance.sop_instance_uid,
        frame=frame.number,
        path=frame.instance.path,
        position_mm=frame.at.position_mm,
    )
