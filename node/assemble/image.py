"""The instances that a rule selected become the volume that a pipeline sees.

A volume is faithful or it is refused: nothing is averaged, resampled, interpolated or guessed.
Called in a worker process that has a deadline and a memory cap; it decodes pixels of strangers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from node.assemble.cine import arrange_phases, without_phase
from node.assemble.facts import facts_of, unit_of
from node.assemble.frames import Frame, frames_of
from node.assemble.order import TOLERANCE_MM, Grid, arrange, coincident
from node.assemble.pixels import MAX_VOXELS
from node.assemble.planes import load_planes
from node.assemble.reason import Reason, plain, refused, some
from node.assemble.split import Stack, split
from node.assemble.together import check_together, with_frames_of_reference
from node.assemble.voxels import decode, slice_of, values_of
from node.assemble.waveform import load_waveform
from node.header.read import read_header
from node.model import Instance, Volume, Volumes
from pipelines.contract import Card, Code, Image, InputRefused, InputSpec


def load_volumes(
    inputs: Mapping[str, Sequence[Instance]], card: Card, cautions: Mapping[str, str] = MappingProxyType({})
) -> Volumes:
    """Return one volume per role of a card that takes a series.

    Parameters
    ----------
    cautions
        Role -> what is to be noted of its series.

    Raises
    ------
    InputRefused
        ``input-missing``, or whatever `load_volume` refuses, naming the role when there are several;
        ``several-patients``, ``several-studies`` or ``no-prior`` of inputs that are not of one case.
    """
    check_together(inputs, card)
    volumes = {}
    for role, spec in card.series_inputs.items():
        if spec.optional and not inputs.get(role):
            continue
        try:
            volumes[role] = load_volume(inputs.get(role, ()), spec)
        except InputRefused as refusal:
            if len(card.inputs) == 1:
                raise
            raise InputRefused(refusal.code, f"Input '{role}': {refusal.sentence}") from refusal
        if caution := cautions.get(role):
            volumes[role] = replace(volumes[role], notes=(caution, *volumes[role].notes))
    return with_frames_of_reference(volumes)


def load_volume(instances: Sequence[Instance], spec: InputSpec) -> Volume:
    """Return the one input of a series that a card accepts, of the kind that it wants.

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
        the normal (row direction x column direction), phase after phase of a cine; ``notes`` tell
        what was left out. Other kinds are as `load_planes` and `load_waveform` say.

    Raises
    ------
    InputRefused
        With a code of `Reason`.
    """
    chosen = _unique(instances)
    if spec.kind == "planes":
        return load_planes(chosen, spec)
    if spec.kind == "waveform":
        return load_waveform(chosen, spec)
    frames = [frame for instance in chosen for frame in frames_of(instance, spec.modality)]
    if (patients := len({frame.patient for frame in frames})) > 1:
        raise refused(
            Reason.SEVERAL_PATIENTS,
            f"The images of this series name {patients} different patients. Nothing was computed; "
            "correct the series at its source.",
        )
    is_cine = spec.kind == "cine"
    parts = split([without_phase(frame) for frame in frames], by_phase=False) if is_cine else split(frames)
    grid, unit, notes = _choose(parts.stacks, parts.left_out, spec)
    header = read_header(grid.frames[0].instance.path)
    notes += _numbering_notes(frames)
    facts = facts_of(header)
    if facts.get("LossyImageCompression") == "01":
        notes.append("The images were compressed with loss")
    first = grid.frames[0]
    return Volume(
        image=Image(
            array=decode(grid, unit),
            affine=grid.affine,
            unit=unit,
            modality=first.modality,
            facts={**facts, **grid.facts},
            phases=grid.phases,
        ),
        slices=tuple(slice_of(frame) for frame in grid.frames),
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
            f"The pixel values are in {unit.meaning} ({unit.value}); this pipeline needs {spec.unit}.",
        )
    notes: list[str] = []
    if spec.kind == "cine":
        grid = arrange_phases(stack.frames, slices_min=spec.slices_min, spacing_mm=spec.spacing_mm)
    else:
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
        original = values_of(group[0])
        for copy in group[1:]:
            apart_mm = np.linalg.norm(np.subtract(group[0].at.position_mm, copy.at.position_mm))
            if apart_mm > TOLERANCE_MM or not np.array_equal(original, values_of(copy)):
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
