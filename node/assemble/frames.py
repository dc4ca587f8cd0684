"""Instances become frames: one record per plane, single-frame and enhanced multi-frame alike.

An enhanced object says where its frames lie in functional groups, per frame or shared (PS3.3
C.7.6.16); a single-frame object says it at the top of its data set. After this module nothing
needs to know the difference.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from node.assemble.pixels import PixelFormat, pixel_format
from node.assemble.reason import Reason, refused
from node.header.read import Parsed, parse
from node.header.value import integer_of, items_of, number_of, numbers_of, text_of, texts_of
from node.model import Instance

Vector = tuple[float, float, float]  #: LPS
Facts = Mapping[str, float | str]

#: No patient is farther from the origin, and no pixel larger, than this.
_FARTHEST_MM: Final = 1e5
_LARGEST_SPACING_MM: Final = 1e3
#: Orientation vectors may be off unit length, and off the right angle, by this much.
_DIRECTION_TOLERANCE: Final = 1e-3

#: Frames that differ in one of these never belong to one volume.
#: Words for people -> (functional group, keyword); "" is the top level as well as the fallback.
_APART: Final = {
    "echo time": ("MREchoSequence", "EffectiveEchoTime"),
    "b-value": ("MRDiffusionSequence", "DiffusionBValue"),
    "temporal position": ("FrameContentSequence", "TemporalPositionIndex"),
    "stack": ("FrameContentSequence", "StackID"),
    "label type": ("ArterialSpinLabelingSequence", "ASLContext"),
}
_APART_SINGLE: Final = {
    "echo time": "EchoTime",
    "echo": "EchoNumbers",
    "b-value": "DiffusionBValue",
    "temporal position": "TemporalPositionIdentifier",
    "stack": "StackID",
}
#: These may differ from slice to slice within one honest volume (a step-and-shoot CT has one
#: Acquisition Number per rotation), so they only serve to explain positions that occur repeatedly.
_HINTS: Final = {
    "trigger time": ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    "cardiac phase": ("CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase"),
    "respiratory phase": ("RespiratorySynchronizationSequence", "NominalPercentageOfRespiratoryPhase"),
    "acquisition": ("FrameContentSequence", "FrameAcquisitionNumber"),
    "acquisition date and time": ("FrameContentSequence", "FrameAcquisitionDateTime"),
    "kernel": ("CTReconstructionSequence", "ConvolutionKernel"),
    "temporal offset": ("TemporalPositionSequence", "TemporalPositionTimeOffset"),
}
_HINTS_SINGLE: Final = {
    "trigger time": "TriggerTime",
    "cardiac phase": "NominalPercentageOfCardiacPhase",
    "acquisition": "AcquisitionNumber",
    "acquisition time": "AcquisitionTime",
    "kernel": "ConvolutionKernel",
    "frame reference time": "FrameReferenceTime",
    "slice thickness": "SliceThickness",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """Where a frame lies in the patient (PS3.3 C.7.6.2)."""

    frame_of_reference_uid: str
    position_mm: Vector  #: Image Position (Patient): centre of the first pixel, LPS
    along_columns: Vector  #: unit vector of growing column index, LPS
    along_rows: Vector  #: unit vector of growing row index, LPS
    spacing_mm: tuple[float, float]  #: between rows, between columns

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector across the plane, (3,) float64, LPS: row direction x column direction."""
        return np.cross(np.array(self.along_columns), np.array(self.along_rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One plane of pixels: what it is, where it lies, what its values mean."""

    instance: Instance
    patient: tuple[str, str]  #: ID and its issuer; compared, never shown
    index: int  #: 0-based frame of the instance
    pixels: PixelFormat
    modality: str
    plane: Plane | str  #: or, where it cannot be placed in the patient, what it lacks for that
    slope: float | None  #: None: no rescale given
    intercept: float | None
    rescale_type: str
    padding: tuple[int, int] | None  #: lowest and highest stored value that means "no data here"
    image_type: tuple[str, ...]
    instance_number: int | None
    apart: Facts
    hints: Facts

    @property
    def number(self) -> int | None:
        """1-based frame number as DICOM references count; None for a single-frame object."""
        return self.index + 1 if self.pixels.multiframe else None

    @property
    def at(self) -> Plane:
        """Where it lies, for frames that `node.assemble.split` has let through."""
        if isinstance(self.plane, str):
            raise ValueError(f"this frame lacks {self.plane}")
        return self.plane


def frames_of(instance: Instance, modalities: Collection[str]) -> list[Frame]:
    """Return the frames of one instance in stored order.

    Parameters
    ----------
    modalities
        Those that are wanted; of any other nothing is looked at.

    Raises
    ------
    InputRefused
        ``unreadable``, ``modality-not-accepted``, ``no-pixels``, ``not-greyscale``,
        ``pixel-budget``, ``not-decodable`` or, for a multi-frame object without functional
        groups, ``no-geometry``.
    """
    parsed = parse(instance.path)
    accepted_modality(parsed.dataset, modalities)
    format_ = pixel_format(parsed, instance.path)
    frames = _multi_frame(instance, parsed, format_) if format_.multiframe else None
    return frames or [_single_frame(instance, parsed.dataset, format_)]


def accepted_modality(ds: Dataset, modalities: Collection[str]) -> str:
    """Return the modality, or refuse one that is not wanted: ``modality-not-accepted``."""
    modality = text_of(ds, "Modality")
    if modality not in modalities:
        raise refused(
            Reason.MODALITY_NOT_ACCEPTED,
            f"The images are {modality or 'of no modality'}; "
            f"this pipeline accepts {' and '.join(modalities)}.",
        )
    return modality


def _single_frame(instance: Instance, ds: Dataset, format_: PixelFormat) -> Frame:
    return Frame(
        instance=instance,
        patient=patient_of(ds),
        index=0,
        pixels=format_,
        modality=text_of(ds, "Modality"),
        plane=_plane(text_of(ds, "FrameOfReferenceUID"), ds, ds, ds),
        slope=number_of(ds, "RescaleSlope"),
        intercept=number_of(ds, "RescaleIntercept"),
        rescale_type=_rescale_type(ds, ds),
        padding=padding_of(ds, format_),
        image_type=texts_of(ds, "ImageType")[:4],
        instance_number=integer_of(ds, "InstanceNumber"),
        apart=_facts({name: (ds, keyword) for name, keyword in _APART_SINGLE.items()}),
        hints=_facts({name: (ds, keyword) for name, keyword in _HINTS_SINGLE.items()}) | _direction_hint(ds),
    )


def _multi_frame(instance: Instance, parsed: Parsed, format_: PixelFormat) -> list[Frame]:
    ds = parsed.dataset
    per_frame = items_of(ds, "PerFrameFunctionalGroupsSequence")
    shared = next(iter(items_of(ds, "SharedFunctionalGroupsSequence")), Dataset())
    if len(per_frame) != format_.frames:
        raise refused(
            Reason.NO_GEOMETRY,
            f"A multi-frame object announces {format_.frames} frames and describes {len(per_frame)}; "
            "where its frames lie is not known.",
        )
    modality = text_of(ds, "Modality")
    frame_of_reference_uid = text_of(ds, "FrameOfReferenceUID")
    colour = any(
        text_of(holder, "PixelPresentation").upper() in ("COLOR", "MIXED", "TRUE_COLOR")
        for holder in (ds, _frame_type(shared))
    )
    if colour:
        raise refused(Reason.NOT_GREYSCALE, "The images hold colour, not measured values.")
    image_type = texts_of(ds, "ImageType")
    padding, patient = padding_of(ds, format_), patient_of(ds)
    frames = []
    for index, own in enumerate(per_frame):

        def group(keyword: str, own: Dataset = own) -> Dataset:
            return next(iter(items_of(own, keyword) or items_of(shared, keyword)), Dataset())

        rescale = group("PixelValueTransformationSequence")
        kind = _frame_type(own) or _frame_type(shared)
        frames.append(
            Frame(
                instance=instance,
                patient=patient,
                index=index,
                pixels=format_,
                modality=modality,
                plane=_plane(
                    frame_of_reference_uid,
                    group("PlanePositionSequence"),
                    group("PlaneOrientationSequence"),
                    group("PixelMeasuresSequence"),
                ),
                slope=number_of(rescale, "RescaleSlope"),
                intercept=number_of(rescale, "RescaleIntercept"),
                rescale_type=_rescale_type(rescale, ds),
                padding=padding,
                image_type=(texts_of(kind, "FrameType") or image_type)[:4]
                + texts_of(kind, "ComplexImageComponent"),
                instance_number=None,
                apart=_facts({name: (group(g), keyword) for name, (g, keyword) in _APART.items()}),
                hints=_facts({name: (group(g), keyword) for name, (g, keyword) in _HINTS.items()})
                | _direction_hint(
                    next(
                        iter(items_of(group("MRDiffusionSequence"), "DiffusionGradientDirectionSequence")), ds
                    )
                ),
            )
        )
    return frames


def patient_of(ds: Dataset) -> tuple[str, str]:
    """Return the ID and its issuer, to be compared and never shown."""
    return text_of(ds, "PatientID"), text_of(ds, "IssuerOfPatientID")


def _frame_type(group: Dataset) -> Dataset:
    """Return the frame type macro of whichever modality (PS3.3 C.8.13.5.1, C.8.15.3.1, ...)."""
    for keyword in ("CTImageFrameTypeSequence", "MRImageFrameTypeSequence", "PETFrameTypeSequence"):
        if items := items_of(group, keyword):
            return items[0]
    return Dataset()


def _facts(sources: Mapping[str, tuple[Dataset, str]]) -> dict[str, float | str]:
    facts: dict[str, float | str] = {}
    for name, (ds, keyword) in sources.items():
        number = number_of(ds, keyword)
        value = round(number, 3) if number is not None else text_of(ds, keyword)
        if value != "":
            facts[name] = value
    return facts


def _direction_hint(ds: Dataset) -> dict[str, float | str]:
    direction = numbers_of(ds, "DiffusionGradientOrientation", 3)
    return {"gradient direction": " ".join(f"{v:.3f}" for v in direction)} if direction else {}


def _rescale_type(rescale: Dataset, ds: Dataset) -> str:
    """Return the unit as the object names it: Rescale Type, or Units of a PET image."""
    return (text_of(ds, "Units") or text_of(rescale, "RescaleType")).upper()


def _plane(
    frame_of_reference_uid: str, position_of: Dataset, orientation_of: Dataset, spacing_of: Dataset
) -> Plane | str:
    """Return the plane that these data sets describe, or the name of what is missing or wrong.

    Without a Frame of Reference UID a result could not say where it lies either: it must repeat
    the source's and may not invent one (PS3.3 C.7.4.1).
    """
    position = numbers_of(position_of, "ImagePositionPatient", 3)
    orientation = numbers_of(orientation_of, "ImageOrientationPatient", 6)
    spacing = numbers_of(spacing_of, "PixelSpacing", 2)
    if not frame_of_reference_uid:
        return "Frame of Reference UID"
    if position is None or max(map(abs, position)) > _FARTHEST_MM:
        return "Image Position (Patient)"
    if orientation is None:
        return "Image Orientation (Patient)"
    if spacing is None or not all(0 < s <= _LARGEST_SPACING_MM for s in spacing):
        return "Pixel Spacing"
    columns, rows = np.array(orientation[:3]), np.array(orientation[3:])
    lengths = np.linalg.norm(columns), np.linalg.norm(rows)
    off = max(abs(float(v)) for v in (lengths[0] - 1.0, lengths[1] - 1.0, columns @ rows))
    if off > _DIRECTION_TOLERANCE:
        return "two directions at right angles in Image Orientation (Patient)"
    return Plane(
        frame_of_reference_uid=frame_of_reference_uid,
        position_mm=(position[0], position[1], position[2]),
        along_columns=_vector(columns / lengths[0]),
        along_rows=_vector(rows / lengths[1]),
        spacing_mm=(spacing[0], spacing[1]),
    )


def _vector(array: NDArray[np.float64]) -> Vector:
    return float(array[0]), float(array[1]), float(array[2])


def padding_of(ds: Dataset, format_: PixelFormat) -> tuple[int, int] | None:
    """Return the range of stored values that are no measurement (PS3.3 C.7.5.1.1.2)."""
    first = integer_of(ds, "PixelPaddingValue")
    if first is None:
        return None
    last = integer_of(ds, "PixelPaddingRangeLimit")
    ends = [format_.as_stored(v) for v in (first, first if last is None else last)]
    return min(ends), max(ends)
