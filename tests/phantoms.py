"""Simulated DICOM of known content: every test that needs an image makes it here.

Conventions: arrays are (slices, rows, columns); an affine takes such an index to LPS millimetres,
as in `pipelines.contract`. All UIDs are derived from ``seed``, so the same call writes the same
identity. All patients are invented.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    generate_uid,
)

from node.model import Instance

Affine = NDArray[np.float64]  #: (4, 4): (slice, row, column) -> LPS mm
Order = Literal["forward", "reversed", "shuffled"]

#: name -> (direction of growing column index, direction of growing row index), LPS unit vectors.
ORIENTATIONS: Mapping[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "axial": ((1, 0, 0), (0, 1, 0)),
    "sagittal": ((0, 1, 0), (0, 0, -1)),
    "coronal": ((1, 0, 0), (0, 0, -1)),
    "prone": ((-1, 0, 0), (0, -1, 0)),
    "oblique": ((0.96, 0.28, 0.0), (-0.2688, 0.9216, -0.28)),
}


def make_affine(
    orientation: str = "axial",
    spacing_mm: tuple[float, float, float] = (2.5, 0.8, 0.7),
    origin_mm: tuple[float, float, float] = (-70.0, -60.0, 40.0),
    *,
    reversed_slices: bool = False,
) -> Affine:
    """Return an affine of a named orientation.

    Parameters
    ----------
    spacing_mm
        Along (slice, row, column).
    origin_mm
        LPS position of the centre of voxel (0, 0, 0).
    reversed_slices
        Slice index grows against the normal (the cross product of Image Orientation), so the
        affine is left-handed; a loader that orders along the normal gives the array flipped.
    """
    along_columns, along_rows = (np.array(v, dtype=np.float64) for v in ORIENTATIONS[orientation])
    normal = np.cross(along_columns, along_rows) * (-1.0 if reversed_slices else 1.0)
    affine = np.eye(4)
    affine[:3, 0] = normal * spacing_mm[0]
    affine[:3, 1] = along_rows * spacing_mm[1]
    affine[:3, 2] = along_columns * spacing_mm[2]
    affine[:3, 3] = origin_mm
    return affine


def to_world(affine: Affine, index: NDArray[np.floating[Any]] | Sequence[float]) -> NDArray[np.float64]:
    """Return LPS millimetres of (slice, row, column) indices, shape (..., 3)."""
    return np.asarray(index, dtype=np.float64) @ affine[:3, :3].T + affine[:3, 3]


def world_grid(shape: tuple[int, int, int], affine: Affine) -> NDArray[np.float64]:
    """Return the LPS position of every voxel centre: (slices, rows, columns, 3), millimetres."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    return to_world(affine, index)


def sphere(
    shape: tuple[int, int, int], affine: Affine, centre_mm: Sequence[float], radius_mm: float
) -> NDArray[np.bool_]:
    """Return the voxels whose centre lies in a ball: (slices, rows, columns), bool."""
    distance: NDArray[np.bool_] = (
        np.linalg.norm(world_grid(shape, affine) - np.asarray(centre_mm), axis=-1) <= radius_mm
    )
    return distance


class Phantom(NamedTuple):
    """An image whose answer is known."""

    array_hu: NDArray[np.int16]  #: (slices, rows, columns), Hounsfield units
    mask: NDArray[np.bool_]  #: (slices, rows, columns): where array_hu is above 200 HU
    centroid_mm: NDArray[np.float64]  #: (3,) LPS centroid of the mask


def asymmetric_phantom(shape: tuple[int, int, int], affine: Affine) -> Phantom:
    """Return an image without any symmetry, so that no flip or transposition goes unnoticed.

    Air (-1000 HU) around a soft tissue box (40 HU, with a ramp along each axis) that holds one
    bright body (300 HU) of three bars of different lengths meeting in one corner.
    """
    n, r, c = shape
    array = np.full(shape, -1000, dtype=np.int16)
    ramp = np.add.outer(np.add.outer(np.arange(n) * 3, np.arange(r) * 2), np.arange(c))
    inside = np.zeros(shape, dtype=bool)
    inside[:, r // 8 : r - r // 8, c // 8 : c - c // 8] = True
    array[inside] = (40 + ramp % 97)[inside]
    mask = np.zeros(shape, dtype=bool)
    s0, r0, c0 = n // 5, r // 4, c // 4
    mask[s0 : s0 + max(1, n // 2), r0 : r0 + 2, c0 : c0 + 2] = True
    mask[s0 : s0 + 1, r0 : r0 + r // 3, c0 : c0 + 2] = True
    mask[s0 : s0 + 1, r0 : r0 + 2, c0 : c0 + c // 2] = True
    array[mask] = 300
    return Phantom(array, mask, to_world(affine, np.argwhere(mask).mean(axis=0)))


def uid_of(*seeds: object) -> str:
    """Return a UID derived from its arguments."""
    return str(generate_uid(prefix="2.25.", entropy_srcs=[str(s) for s in seeds]))


Edit = Callable[[int, Dataset], None]


def write_ct_series(
    folder: Path,
    array_hu: NDArray[Any],
    affine: Affine,
    *,
    seed: str = "phantom",
    order: Order = "forward",
    numbering: Order = "forward",
    signed: bool = True,
    rescale: Sequence[tuple[float, float]] | tuple[float, float] | None = None,
    padding: int | None = None,
    padding_mask: NDArray[np.bool_] | None = None,
    transfer_syntax: str = ExplicitVRLittleEndian,
    drop: Sequence[int] = (),
    duplicate: Sequence[int] = (),
    tilt_deg: float = 0.0,
    jitter_mm: float = 0.0,
    localizer: bool = False,
    patient_name: str = "Phantom^Simulated",
    character_set: str | list[str] | None = "ISO_IR 192",
    headers: Mapping[str, Any] | None = None,
    edit: Edit | None = None,
) -> list[Path]:
    """Write one CT Image Storage file per slice and return their paths in the order written.

    Parameters
    ----------
    array_hu
        (slices, rows, columns) Hounsfield units, whole numbers.
    affine
        (slice, row, column) -> LPS mm.
    seed
        Everything that identifies (study, series, instances, frame of reference) derives from it.
    order
        In which order files are written and named.
    numbering
        How Instance Number runs over the slices of the array.
    signed
        Pixel Representation 1, Rescale Intercept 0; else unsigned with intercept -1024.
    rescale
        (slope, intercept) for all slices, or one pair per slice.
    padding, padding_mask
        Stored value written as Pixel Padding Value where the (rows, columns) mask is true.
    drop, duplicate
        Array indices to leave out; to write a second time with another SOP Instance UID.
    tilt_deg
        Gantry tilt: positions are sheared along the rows.
    jitter_mm
        Slices are displaced in plane to and fro by this much.
    localizer
        A coronal localizer of the same series and frame of reference is written as well.
    headers, edit
        Keyword -> value for all slices (None deletes); ``edit(index, dataset)`` before saving.
    """
    count, rows, columns = array_hu.shape
    stored, pairs = _stored(array_hu, signed=signed, rescale=rescale)
    if padding is not None:
        where = np.ones((rows, columns), bool) if padding_mask is None else padding_mask
        stored[:, where] = padding
    numbers = _sequence(count, numbering, seed)
    wanted = [i for i in _sequence(count, order, seed) if i not in set(drop)]
    copies = [(i, 0) for i in wanted] + [(i, 1) for i in duplicate]
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for file_number, (index, copy) in enumerate(copies):
        ds = _patient_and_study(seed, "CT", CTImageStorage, patient_name, character_set)
        ds.SOPInstanceUID = uid_of(seed, "instance", index, copy)
        ds.InstanceNumber = numbers.index(index) + 1 if not copy else count + file_number + 1
        position = to_world(affine, (index, 0, 0))
        position = position + unit(affine[:3, 1]) * np.tan(np.deg2rad(tilt_deg)) * step(affine) * index
        position = position + unit(affine[:3, 2]) * jitter_mm * (1 if index % 2 else -1)
        _plane(ds, affine, position)
        ds.GantryDetectorTilt = tilt_deg
        _ct_acquisition(ds)
        _pixels(ds, stored[index], signed=signed)
        ds.RescaleSlope, ds.RescaleIntercept = (_ds(v) for v in pairs[index])
        ds.RescaleType = "HU"
        if padding is not None:
            ds.add_new("PixelPaddingValue", "SS" if signed else "US", padding)
        _apply(ds, headers)
        if edit is not None:
            edit(index, ds)
        paths.append(_save(ds, folder / f"{file_number:04d}.dcm", transfer_syntax))
    if localizer:
        paths.append(_write_localizer(folder / "localizer.dcm", seed, array_hu, affine))
    return paths


def instances_of(paths: Iterable[Path]) -> tuple[Instance, ...]:
    """Return the records that the node would have of these files.

    The hash is of the whole file here; the node's is of the data set.
    """
    instances = []
    for path in paths:
        ds = dcmread(path, stop_before_pixels=True)
        content = path.read_bytes()
        instances.append(
            Instance(
                sop_instance_uid=str(ds.SOPInstanceUID),
                sop_class_uid=str(ds.SOPClassUID),
                series_uid=str(ds.SeriesInstanceUID),
                study_uid=str(ds.StudyInstanceUID),
                transfer_syntax_uid=str(ds.file_meta.TransferSyntaxUID),
                path=path,
                sha256=sha256(content).hexdigest(),
                size_bytes=len(content),
                arrived_at=datetime(2026, 1, 2, 9, 0, tzinfo=UTC),
                sender="PHANTOM",
            )
        )
    return tuple(instances)


def write_mr_series(folder: Path, array: NDArray[Any], affine: Affine, **options: Any) -> list[Path]:
    """Write MR Image Storage slices; options as in `write_ct_series`, values are arbitrary units."""
    headers: dict[str, Any] = {
        "Modality": "MR",
        "SOPClassUID": MRImageStorage,
        "ImageType": ["ORIGINAL", "PRIMARY", "M"],
        "ScanningSequence": "GR",
        "SequenceVariant": "SP",
        "ScanOptions": "",
        "MRAcquisitionType": "3D",
        "EchoTime": "2.5",
        "EchoNumbers": 1,
        "RepetitionTime": "1900",
        "EchoTrainLength": 1,
        "RescaleType": "US",
        "KVP": None,
        "ConvolutionKernel": None,
        "GantryDetectorTilt": None,
    }
    options["headers"] = {**headers, **(options.get("headers") or {})}
    options.setdefault("signed", True)
    return write_ct_series(folder, array, affine, **options)


def write_pet_series(folder: Path, array: NDArray[Any], affine: Affine, **options: Any) -> list[Path]:
    """Write PET slices in Bq/ml; PET slopes differ from slice to slice, so give ``rescale``."""
    headers: dict[str, Any] = {
        "Modality": "PT",
        "SOPClassUID": PositronEmissionTomographyImageStorage,
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "Units": "BQML",
        "SeriesType": ["STATIC", "IMAGE"],
        "CountsSource": "EMISSION",
        "CorrectedImage": ["ATTN", "DECY"],
        "DecayCorrection": "START",
        "CollimatorType": "NONE",
        "FrameReferenceTime": "0",
        "DecayFactor": "1",
        "PatientPosition": None,
        "ActualFrameDuration": "60000",
        "NumberOfSlices": array.shape[0],
        "RadiopharmaceuticalInformationSequence": Items([]),
        "PatientOrientationCodeSequence": Items([]),
        "PatientGantryRelationshipCodeSequence": Items([]),
        "RescaleType": None,
        "KVP": None,
        "ConvolutionKernel": None,
        "GantryDetectorTilt": None,
    }
    options["headers"] = {**headers, **(options.get("headers") or {})}
    edit = options.pop("edit", None)

    def number(index: int, ds: Dataset) -> None:
        ds.ImageIndex = index + 1
        if edit is not None:
            edit(index, ds)

    return write_ct_series(folder, array, affine, edit=number, **options)


def write_enhanced_ct(
    path: Path,
    array_hu: NDArray[Any],
    affine: Affine,
    *,
    seed: str = "phantom-enhanced",
    order: Order = "forward",
    signed: bool = True,
    rescale: Sequence[tuple[float, float]] | tuple[float, float] | None = None,
    transfer_syntax: str = ExplicitVRLittleEndian,
    patient_name: str = "Phantom^Simulated",
    character_set: str | list[str] | None = "ISO_IR 192",
    headers: Mapping[str, Any] | None = None,
    edit: Callable[[Dataset], None] | None = None,
) -> Path:
    """Write one Enhanced CT Image Storage file; frames are stored in ``order``."""
    count = array_hu.shape[0]
    stored, pairs = _stored(array_hu, signed=signed, rescale=rescale)
    ds = _patient_and_study(seed, "CT", EnhancedCTImageStorage, patient_name, character_set)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    ds.AcquisitionDate, ds.AcquisitionTime = "20260102", "090000"
    _enhanced_common(ds)
    frames = _sequence(count, order, seed)
    _pixels(ds, stored[frames], signed=signed)
    ds.SharedFunctionalGroupsSequence = Items([_shared_ct(affine)])
    ds.PerFrameFunctionalGroupsSequence = Items(
        [_frame_group(affine, i, 1, (1, i + 1), pairs[i], "HU") for i in frames]
    )
    _apply(ds, headers)
    if edit is not None:
        edit(ds)
    return _save(ds, path, transfer_syntax)


def write_enhanced_mr(
    path: Path,
    array: NDArray[Any],
    affine: Affine,
    *,
    seed: str = "phantom-enhanced-mr",
    order: Order = "forward",
    echo_times_ms: Sequence[float] = (2.5,),
    b_values: Sequence[float] = (),
    transfer_syntax: str = ExplicitVRLittleEndian,
    patient_name: str = "Phantom^Simulated",
    character_set: str | list[str] | None = "ISO_IR 192",
    headers: Mapping[str, Any] | None = None,
    edit: Callable[[Dataset], None] | None = None,
) -> Path:
    """Write one Enhanced MR Image Storage file with one volume per echo time and b-value.

    Volume ``k`` (echoes outermost) holds ``array + k``. The acquisition groups which say nothing
    about geometry (coils, timing, averages) are left out, so validators complain of them.
    """
    count = array.shape[0]
    ds = _patient_and_study(seed, "MR", EnhancedMRImageStorage, patient_name, character_set)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    ds.AcquisitionDate, ds.AcquisitionTime = "20260102", "090000"
    _enhanced_common(ds)
    ds.ResonantNucleus, ds.MagneticFieldStrength, ds.KSpaceFiltering = "1H", 3.0, "NONE"
    volumes = [(echo, b) for echo in echo_times_ms for b in (b_values or (None,))]
    planes, groups = [], []
    for k, (echo, b) in enumerate(volumes):
        for i in _sequence(count, order, seed):
            planes.append(array[i] + k)
            group = _frame_group(affine, i, k + 1, (k + 1, i + 1), (1.0, 0.0), "US")
            group.MREchoSequence = Items([_item(EffectiveEchoTime=float(echo))])
            if b is not None:
                diffusion = _item(DiffusionDirectionality="ISOTROPIC" if b else "NONE", DiffusionBValue=b)
                group.MRDiffusionSequence = Items([diffusion])
            groups.append(group)
    _pixels(ds, np.stack(planes).astype(np.int16), signed=True)
    ds.SharedFunctionalGroupsSequence = Items([_shared_mr(affine)])
    ds.PerFrameFunctionalGroupsSequence = Items(groups)
    _apply(ds, headers)
    if edit is not None:
        edit(ds)
    return _save(ds, path, transfer_syntax)


def unit(vector: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the direction of a vector."""
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float64)


def step(affine: Affine) -> float:
    """Return the distance between neighbouring slices in millimetres."""
    return float(np.linalg.norm(affine[:3, 0]))


def _item(**values: Any) -> Dataset:
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def _ds(value: float) -> str:
    """Return a Decimal String: at most 16 characters (PS3.5 6.2)."""
    for digits in range(15, 3, -1):
        text = f"{float(value):.{digits}g}"
        if len(text) <= 16:
            return text
    raise ValueError(f"{value} does not fit a DS")


def _sequence(count: int, order: Order, seed: str) -> list[int]:
    indices = list(range(count))
    if order == "reversed":
        indices.reverse()
    elif order == "shuffled":
        random.Random(seed).shuffle(indices)
    return indices


def _stored(
    array: NDArray[Any],
    *,
    signed: bool,
    rescale: Sequence[tuple[float, float]] | tuple[float, float] | None,
) -> tuple[NDArray[Any], list[tuple[float, float]]]:
    """Return stored values and the (slope, intercept) of each slice."""
    count = array.shape[0]
    given: Any = (1.0, 0.0 if signed else -1024.0) if rescale is None else rescale
    pairs = [given] * count if np.isscalar(given[0]) else list(given)
    slopes, intercepts = (np.array(v, dtype=np.float64)[:, None, None] for v in zip(*pairs, strict=True))
    dtype = np.int16 if signed else np.uint16
    stored = np.rint((array - intercepts) / slopes)
    limits = np.iinfo(dtype)
    if stored.min() < limits.min or stored.max() > limits.max:
        raise ValueError("the array does not fit 16 bits with this rescale")
    return stored.astype(dtype), [(float(m), float(b)) for m, b in pairs]


def _patient_and_study(
    seed: str, modality: str, sop_class: str, patient_name: str, character_set: str | list[str] | None
) -> Dataset:
    ds = Dataset()
    if character_set is not None:
        ds.SpecificCharacterSet = character_set
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = uid_of(seed, "instance")
    ds.PatientName, ds.PatientID = patient_name, "SIMULATED-1"
    ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = "19600101", "O", "066Y"
    ds.StudyInstanceUID, ds.StudyID = uid_of(seed, "study"), "1"
    ds.StudyDate, ds.StudyTime = "20260102", "085900"
    ds.SeriesDate, ds.SeriesTime = "20260102", "085930"
    ds.ContentDate, ds.ContentTime = "20260102", "090001"
    ds.AccessionNumber, ds.ReferringPhysicianName = "ACC1", ""
    ds.StudyDescription, ds.SeriesDescription = "Simulated study", "Simulated series"
    ds.SeriesInstanceUID, ds.SeriesNumber = uid_of(seed, "series"), 3
    ds.Modality = modality
    ds.Manufacturer, ds.ManufacturerModelName = "radnode phantom", "simulation"
    ds.DeviceSerialNumber, ds.SoftwareVersions = "1", "1"
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = uid_of(seed, "frame of reference"), ""
    ds.PatientPosition, ds.BodyPartExamined = "HFS", "CHEST"
    ds.AcquisitionNumber, ds.InstanceNumber = 1, 1
    return ds


def _plane(ds: Dataset, affine: Affine, position: NDArray[np.float64]) -> None:
    """Image Plane module (PS3.3 C.7.6.2)."""
    ds.PixelSpacing = [_ds(np.linalg.norm(affine[:3, 1])), _ds(np.linalg.norm(affine[:3, 2]))]
    ds.SliceThickness = _ds(step(affine))
    ds.ImageOrientationPatient = [_ds(v) for v in (*unit(affine[:3, 2]), *unit(affine[:3, 1]))]
    ds.ImagePositionPatient = [_ds(v) for v in position]


def _ct_acquisition(ds: Dataset) -> None:
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.AcquisitionDate, ds.AcquisitionTime = "20260102", "090000"
    ds.KVP, ds.ConvolutionKernel = "120", "B"


def _pixels(ds: Dataset, stored: NDArray[Any], *, signed: bool) -> None:
    """Image Pixel module (PS3.3 C.7.6.3) of a (rows, columns) or (frames, rows, columns) array."""
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = stored.shape[-2:]
    if stored.ndim == 3:
        ds.NumberOfFrames = stored.shape[0]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    ds.PixelRepresentation = int(signed)
    ds.add_new(
        "PixelData", "OW", np.ascontiguousarray(stored).astype(stored.dtype.newbyteorder("<")).tobytes()
    )


def _apply(ds: Dataset, headers: Mapping[str, Any] | None) -> None:
    for keyword, value in (headers or {}).items():
        if value is None:
            if keyword in ds:
                delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)


def _save(ds: Dataset, path: Path, transfer_syntax: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(str(path), ds, file_meta=meta, preamble=b"\0" * 128)
    if transfer_syntax == ImplicitVRLittleEndian:
        meta.TransferSyntaxUID = ImplicitVRLittleEndian
    elif transfer_syntax != ExplicitVRLittleEndian:
        file.compress(transfer_syntax, generate_instance_uid=False)
    file.save_as(path, enforce_file_format=True)
    return path


def _write_localizer(path: Path, seed: str, array_hu: NDArray[Any], affine: Affine) -> Path:
    """A coronal overview of the same series, as scanners send it."""
    ds = _patient_and_study(seed, "CT", CTImageStorage, "Phantom^Simulated", "ISO_IR 192")
    ds.SOPInstanceUID = uid_of(seed, "localizer")
    ds.InstanceNumber = 1000
    centre = to_world(affine, (np.array(array_hu.shape) - 1) / 2)
    plane = make_affine("coronal", (1.0, 2.0, 2.0), tuple(centre))
    _plane(ds, plane, to_world(plane, (0, -32, -32)))
    _ct_acquisition(ds)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    _pixels(ds, np.full((64, 64), -500, dtype=np.int16), signed=True)
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = "1", "0", "HU"
    return _save(ds, path, ExplicitVRLittleEndian)


def _enhanced_common(ds: Dataset) -> None:
    """Enhanced image, multi-frame dimension and acquisition context modules (PS3.3 C.7.6.17)."""
    ds.PixelPresentation, ds.VolumetricProperties = "MONOCHROME", "VOLUME"
    ds.VolumeBasedCalculationTechnique = "NONE"
    ds.ContentQualification, ds.BurnedInAnnotation, ds.LossyImageCompression = "RESEARCH", "NO", "00"
    ds.AcquisitionDateTime, ds.AcquisitionDuration = "20260102090000", 1.0
    ds.PresentationLUTShape = "IDENTITY"
    ds.AcquisitionContextSequence = Items([])
    organization = uid_of(ds.SOPInstanceUID, "dimensions")
    ds.DimensionOrganizationSequence = Items([_item(DimensionOrganizationUID=organization)])
    ds.DimensionIndexSequence = Items(
        [
            _item(
                DimensionOrganizationUID=organization,
                DimensionIndexPointer=pointer,
                FunctionalGroupPointer=0x00209111,
            )
            for pointer in (0x00209056, 0x00209057)  # Stack ID, In-Stack Position Number
        ]
    )


def _shared_planes(affine: Affine) -> Dataset:
    group = Dataset()
    group.PixelMeasuresSequence = Items(
        [
            _item(
                SliceThickness=_ds(step(affine)),
                PixelSpacing=[_ds(np.linalg.norm(affine[:3, 1])), _ds(np.linalg.norm(affine[:3, 2]))],
            )
        ]
    )
    orientation = [_ds(v) for v in (*unit(affine[:3, 2]), *unit(affine[:3, 1]))]
    group.PlaneOrientationSequence = Items([_item(ImageOrientationPatient=orientation)])
    region = _item(CodeValue="51185008", CodingSchemeDesignator="SCT", CodeMeaning="Chest")
    group.FrameAnatomySequence = Items([_item(FrameLaterality="U", AnatomicRegionSequence=Items([region]))])
    window = _item(WindowCenter="40", WindowWidth="400")
    group.FrameVOILUTSequence = Items([window])
    return group


_FRAME_TYPE = {
    "FrameType": ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
    "PixelPresentation": "MONOCHROME",
    "VolumetricProperties": "VOLUME",
    "VolumeBasedCalculationTechnique": "NONE",
}


def _shared_ct(affine: Affine) -> Dataset:
    """Functional groups of Enhanced CT (PS3.3 A.38.1.4), with invented acquisition values."""
    group = _shared_planes(affine)
    group.CTImageFrameTypeSequence = Items([_item(**_FRAME_TYPE)])
    group.CTAcquisitionTypeSequence = Items(
        [_item(AcquisitionType="SEQUENCED", ConstantVolumeFlag="NO", FluoroscopyFlag="NO")]
    )
    group.CTAcquisitionDetailsSequence = Items(
        [
            _item(
                RotationDirection="CW",
                RevolutionTime=1.0,
                SingleCollimationWidth=1.0,
                TotalCollimationWidth=10.0,
                TableHeight=100.0,
                GantryDetectorTilt=0.0,
                DataCollectionDiameter=500.0,
            )
        ]
    )
    group.CTReconstructionSequence = Items(
        [
            _item(
                ReconstructionAlgorithm="FILTER_BACK_PROJ",
                ConvolutionKernel="B",
                ConvolutionKernelGroup="BODY",
                ImageFilter="STANDARD",
                ReconstructionDiameter=500.0,
                ReconstructionAngle=360.0,
                ReconstructionPixelSpacing=[1.0, 1.0],
            )
        ]
    )
    group.CTGeometrySequence = Items(
        [_item(DistanceSourceToDetector=1000.0, DistanceSourceToDataCollectionCenter=500.0)]
    )
    position = _item(
        TablePosition=0.0,
        ReconstructionTargetCenterPatient=[0.0, 0.0, 0.0],
        DataCollectionCenterPatient=[0.0, 0.0, 0.0],
    )
    group.CTPositionSequence = Items([position])
    group.IrradiationEventIdentificationSequence = Items([_item(IrradiationEventUID=uid_of("irradiation"))])
    group.CTTableDynamicsSequence = Items([_item(TableSpeed=10.0)])
    group.CTExposureSequence = Items(
        [
            _item(
                ExposureTimeInms=1000.0,
                XRayTubeCurrentInmA=200.0,
                ExposureInmAs=200.0,
                ExposureModulationType="NONE",
            )
        ]
    )
    group.CTXRayDetailsSequence = Items(
        [_item(KVP="120", FocalSpots=[1.0], FilterType="FLAT", FilterMaterial="ALUMINUM")]
    )
    return group


def _shared_mr(affine: Affine) -> Dataset:
    group = _shared_planes(affine)
    frame_type = {
        **_FRAME_TYPE,
        "ComplexImageComponent": "MAGNITUDE",
        "AcquisitionContrast": "T1",
    }
    group.MRImageFrameTypeSequence = Items([_item(**frame_type)])
    return group


def _frame_group(
    affine: Affine,
    index: int,
    stack: int,
    dimension: tuple[int, int],
    rescale: tuple[float, float],
    rescale_type: str,
) -> Dataset:
    group = Dataset()
    group.FrameContentSequence = Items(
        [
            _item(
                FrameAcquisitionNumber=1,
                FrameReferenceDateTime="20260102090000",
                FrameAcquisitionDateTime="20260102090000",
                FrameAcquisitionDuration=1.0,
                StackID=str(stack),
                InStackPositionNumber=index + 1,
                DimensionIndexValues=list(dimension),
            )
        ]
    )
    position = [_ds(v) for v in to_world(affine, (index, 0, 0))]
    group.PlanePositionSequence = Items([_item(ImagePositionPatient=position)])
    slope, intercept = rescale
    group.PixelValueTransformationSequence = Items(
        [_item(RescaleSlope=_ds(slope), RescaleIntercept=_ds(intercept), RescaleType=rescale_type)]
    )
    return group
