"""Images that stand for themselves become one array: radiographs, mammograms, ultrasound, photographs.

Such images have no place in a patient frame, so nothing is said of one: slices follow each other as
instances and frames do, and the affine holds the distances of pixels alone. Values are those that a
viewer shows at first sight, 0 black and 1 white; nothing is resampled.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from node.assemble.colour import eight_bits, grey_of
from node.assemble.display import groups_of, looks_of, palette_for
from node.assemble.distance import Distance, common, distance_of
from node.assemble.facts import NO_UNITS, facts_of
from node.assemble.frames import Facts, accepted_modality, patient_of
from node.assemble.look import Look
from node.assemble.order import check_card
from node.assemble.pixels import COLOUR_COST, MAX_VOXELS, PixelFormat, pixel_format, read_frames
from node.assemble.reason import Reason, refused, some
from node.assemble.table import Table
from node.header.read import parse
from node.header.value import integer_of, text_of
from node.model import Instance, Slice, Volume
from pipelines.contract import Image, InputSpec

#: Frames of one input; each has a record, whatever its size.
MAX_PLANES: Final = 1 << 16
#: What a model may also want to know of a projection; none of it is identity.
_VIEW: Final = ("ViewPosition", "ImageLaterality", "Laterality", "PresentationIntentType")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Picture:
    """One instance: one or more frames of one size."""

    instance: Instance
    pixels: PixelFormat
    patient: tuple[str, str]
    modality: str
    number: int | None
    looks: tuple[Look, ...]  #: of every frame, or one for all; () in colour
    palette: Table | None
    distance: Distance
    frame_of_reference_uid: str
    facts: Facts
    notes: tuple[str, ...]

    def look(self, index: int) -> Look:
        return self.looks[min(index, len(self.looks) - 1)]


def load_planes(instances: Sequence[Instance], spec: InputSpec) -> Volume:
    """Return the images of one series, each frame a slice.

    Parameters
    ----------
    instances
        Of one series, each once. In the order of Instance Number, then of SOP Instance UID.
    spec
        What the card accepts; its unit is "1", since display values have none.

    Returns
    -------
    Volume
        ``image.array`` is (slices, rows, columns) float32, 0..1; ``image.colour`` RGB where any
        image is in colour. ``slices`` have no position, and ``image.is_spatial`` is False.

    Raises
    ------
    InputRefused
        With a code of `Reason`.
    """
    pictures = [_read(instance, spec.modality) for instance in instances]
    pictures.sort(key=lambda p: (inf if p.number is None else p.number, p.instance.sop_instance_uid))
    _check(pictures, spec)
    distance = common([picture.distance for picture in pictures])
    row_mm, column_mm = distance.mm or (1.0, 1.0)
    affine = np.diag((1.0, row_mm, column_mm, 1.0))
    if distance.mm is not None:
        check_card(
            affine, {axis: spec.spacing_mm[axis] for axis in ("row", "column") if axis in spec.spacing_mm}
        )
    array, colour = _decode(pictures)
    first = pictures[0]
    frames_of_reference = {picture.frame_of_reference_uid for picture in pictures}
    return Volume(
        image=Image(
            array=array,
            affine=affine,
            unit=NO_UNITS,
            modality=first.modality,
            facts=_common_facts([picture.facts for picture in pictures]),
            is_spatial=False,
            is_calibrated=distance.mm is not None,
            colour=colour,
        ),
        slices=tuple(_slices(pictures)),
        series_uid=first.instance.series_uid,
        study_uid=first.instance.study_uid,
        frame_of_reference_uid=frames_of_reference.pop() if len(frames_of_reference) == 1 else "",
        notes=tuple(_notes(pictures, distance)),
    )


def _read(instance: Instance, modalities: Collection[str]) -> _Picture:
    parsed = parse(instance.path)
    ds = parsed.dataset
    modality = accepted_modality(ds, modalities)
    format_ = pixel_format(parsed, instance.path, for_display=True)
    # Above the grey values of such an image lie the colours of a supplemental palette (C.8.16.2.1.1).
    if not format_.is_colour and text_of(ds, "PixelPresentation").upper() in ("COLOR", "MIXED"):
        raise refused(Reason.COLOUR_UNKNOWN, "The images mix grey values and the colours of a palette.")
    groups = groups_of(ds, format_.frames)
    looks, notes = looks_of(ds, format_, groups)
    distances = [distance_of(ds, format_.rows, format_.columns, group) for group in groups]
    facts = facts_of(ds) | {name: text for name in _VIEW if (text := text_of(ds, name))}
    if facts.get("PresentationIntentType") == "FOR PROCESSING":
        notes.append("The images are raw (FOR PROCESSING), not made for display")
    return _Picture(
        instance=instance,
        pixels=format_,
        patient=patient_of(ds),
        modality=modality,
        number=integer_of(ds, "InstanceNumber"),
        looks=looks,
        palette=palette_for(parsed, format_),
        distance=common(distances),
        frame_of_reference_uid=text_of(ds, "FrameOfReferenceUID"),
        facts=facts,
        notes=tuple(dict.fromkeys(notes)),
    )


def _check(pictures: Sequence[_Picture], spec: InputSpec) -> None:
    """Refuse what cannot be one array of images of one patient, before anything is decoded."""
    if spec.unit != NO_UNITS.value:
        raise refused(
            Reason.UNIT_NOT_ACCEPTED, f"Images for display have no unit; this pipeline needs {spec.unit}."
        )
    if (patients := len({picture.patient for picture in pictures})) > 1:
        raise refused(
            Reason.SEVERAL_PATIENTS,
            f"The images of this series name {patients} different patients. Nothing was computed; "
            "correct the series at its source.",
        )
    if len(modalities := {picture.modality for picture in pictures}) > 1:
        raise refused(
            Reason.MODALITY_NOT_ACCEPTED,
            f"The images are of several modalities: {', '.join(sorted(modalities))}.",
        )
    sizes = list(dict.fromkeys((picture.pixels.rows, picture.pixels.columns) for picture in pictures))
    if len(sizes) > 1:
        told = ", ".join(f"{rows} x {columns}" for rows, columns in sizes[:4])
        raise refused(
            Reason.SEVERAL_SIZES,
            f"The images of this series have {len(sizes)} sizes ({told}{' ...' if len(sizes) > 4 else ''}) "
            "and this pipeline takes one. Narrow the rule, for instance by View Position or Rows.",
        )
    count = sum(picture.pixels.frames for picture in pictures)
    if count < spec.slices_min:
        raise refused(
            Reason.TOO_FEW_SLICES, f"The series has {some(count, 'image')}; {spec.slices_min} are needed."
        )
    if count > MAX_PLANES:
        raise refused(
            Reason.PIXEL_BUDGET, f"The series has {count} images, which is more than this node decodes."
        )
    rows, columns = sizes[0]
    cost = COLOUR_COST if any(picture.pixels.is_colour for picture in pictures) else 1
    if count * rows * columns * cost > MAX_VOXELS:
        raise refused(
            Reason.PIXEL_BUDGET,
            f"The series has {count} images of {rows} x {columns} pixels, more than this node decodes.",
        )


def _decode(pictures: Sequence[_Picture]) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None]:
    """Return display values, (slices, rows, columns) float32, and colours, (..., 3) uint8, if any."""
    shape = (sum(p.pixels.frames for p in pictures), pictures[0].pixels.rows, pictures[0].pixels.columns)
    array = np.empty(shape, dtype=np.float32)
    colour = None
    if any(picture.pixels.is_colour for picture in pictures):
        colour = np.empty((*shape, 3), dtype=np.uint8)
    start = 0
    for picture in pictures:
        end = start + picture.pixels.frames
        if colour is not None and picture.pixels.is_colour:
            _paint(picture, colour[start:end], array[start:end])
        else:
            _develop(picture, array[start:end])
            if colour is not None:
                for grey, rgb in zip(array[start:end], colour[start:end], strict=True):
                    rgb[...] = np.rint(grey * np.float32(255.0))[..., None]
        start = end
    return array, colour


def _paint(picture: _Picture, colour: NDArray[np.uint8], array: NDArray[np.float32]) -> None:
    """Write the frames of a picture in colour: RGB, and their luminance."""
    for index, stored in _frames(picture):
        rgb, bits = stored, picture.pixels.bits_stored
        if (palette := picture.palette) is not None:
            rgb, bits = palette.of(stored), palette.bits
        colour[index] = eight_bits(rgb, bits)
        grey_of(colour[index], array[index])


def _develop(picture: _Picture, array: NDArray[np.float32]) -> None:
    """Write the frames of a grey picture."""
    low, high = inf, -inf  # of the whole instance, so that a cine does not flicker
    for index, stored in _frames(picture):
        picture.look(index).measured(stored, array[index])
        image = array[index][~np.isnan(array[index])]
        if image.size:
            low, high = min(low, float(image.min())), max(high, float(image.max()))
    for index, values in enumerate(array):
        picture.look(index).display(values, (low, high))


def _frames(picture: _Picture) -> Iterator[tuple[int, NDArray[Any]]]:
    return read_frames(picture.instance.path, picture.pixels, range(picture.pixels.frames))


def _common_facts(facts: Sequence[Facts]) -> dict[str, float | str]:
    """Return what is true of every image: a view position of the first alone would mislead."""
    first = facts[0]
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in facts)}


def _slices(pictures: Sequence[_Picture]) -> Iterator[Slice]:
    for picture in pictures:
        for index in range(picture.pixels.frames):
            yield Slice(
                sop_class_uid=picture.instance.sop_class_uid,
                sop_instance_uid=picture.instance.sop_instance_uid,
                frame=index + 1 if picture.pixels.multiframe else None,
                path=picture.instance.path,
                position_mm=None,
            )


def _notes(pictures: Sequence[_Picture], distance: Distance) -> list[str]:
    notes = [note for picture in pictures for note in picture.notes]
    if distance.note:
        notes.append(distance.note)
    elif distance.mm is None:
        notes.append("The distance of pixels is not known, so no length and no area can be told")
    if any(picture.facts.get("LossyImageCompression") == "01" for picture in pictures):
        notes.append("The images were compressed with loss")
    return list(dict.fromkeys(notes))
