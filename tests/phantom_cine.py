"""A ball that beats, and heartbeats as a curve: simulated DICOM over time, of known content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, TwelveLeadECGWaveformStorage

from tests.phantoms import (
    Affine,
    make_affine,
    sphere,
    to_world,
    uid_of,
    write_enhanced_mr,
    write_mr_series,
)

BLOOD, TISSUE = 600, 200
#: Milliseconds from one phase to the next.
PHASE_MS = 40.0


class Heart(NamedTuple):
    """A ball whose volume at every phase is known."""

    array: NDArray[np.int16]  #: (phases, slices, rows, columns)
    masks: NDArray[np.bool_]  #: same shape: where the ball is
    affine: Affine
    volumes_ml: list[float]  #: of the ball itself, 4/3 pi r^3
    centre_mm: NDArray[np.float64]


def beating_ball(
    phases: int = 6,
    shape: tuple[int, int, int] = (9, 40, 36),
    spacing_mm: tuple[float, float, float] = (6.0, 1.5, 1.4),
    orientation: str = "oblique",
) -> Heart:
    """Return a ball of 24 mm that shrinks to 16 mm at mid-cycle and grows again; no two voxels by chance."""
    affine = make_affine(orientation, spacing_mm)
    centre_mm = to_world(affine, [(n - 1) / 2 for n in shape])
    cycle = (1 - np.cos(2 * np.pi * np.arange(phases) / phases)) / 2  # 0 at the first phase, 1 mid-way
    radii_mm = 24 - 8 * cycle
    masks = np.stack([sphere(shape, affine, centre_mm, float(radius)) for radius in radii_mm])
    ramp = np.add.outer(np.add.outer(np.arange(shape[0]) * 5, np.arange(shape[1])), np.arange(shape[2]) * 2)
    array = np.where(masks, BLOOD, TISSUE + ramp).astype(np.int16)
    array[:, 0, 0, 0] = np.arange(phases)  # which phase this is
    volumes_ml = [float(4 / 3 * np.pi * radius**3 / 1000) for radius in radii_mm]
    return Heart(array, masks, affine, volumes_ml, centre_mm)


Edit = Callable[[int, int, Dataset], None]


def write_cine(
    folder: Path,
    array: NDArray[Any],
    affine: Affine,
    *,
    habit: str = "siemens",
    edit: Edit | None = None,
    drop: Sequence[tuple[int, int]] = (),
    seed: str = "cine",
    **options: Any,
) -> list[Path]:
    """Write MR Image Storage, one file per slice and phase, in a random order.

    Parameters
    ----------
    array
        (phases, slices, rows, columns).
    habit
        "siemens": Trigger Time, which differs a little from slice to slice, and nothing else.
        "ge": Trigger Time from 0 with Cardiac Number of Images, one Temporal Position for all.
        "philips": Temporal Position Identifier and Trigger Time. "clock": Acquisition Time alone.
    edit
        ``edit(phase, slice, dataset)`` before saving.
    drop
        (phase, slice) to leave out.
    """
    phases, count = array.shape[:2]

    def of_phase(index: int, ds: Dataset) -> None:
        phase, place = divmod(index, count)
        ds.ImagePositionPatient = [f"{v:.6f}" for v in to_world(affine, (place, 0, 0))]
        ds.InstanceNumber = place * phases + phase + 1
        ds.AcquisitionNumber = place + 1
        ds.NominalInterval = 1000
        if habit == "siemens":
            ds.TriggerTime = f"{phase * (PHASE_MS + 0.25 * place):.2f}"
        elif habit == "ge":
            ds.TriggerTime, ds.CardiacNumberOfImages = f"{phase * PHASE_MS:g}", phases
            ds.TemporalPositionIdentifier = 1
        elif habit == "philips":
            ds.TemporalPositionIdentifier, ds.NumberOfTemporalPositions = phase + 1, phases
            ds.TriggerTime = f"{phase * PHASE_MS:g}"
        elif habit == "clock":
            ds.AcquisitionTime = f"0959{50 + phase * 4:02d}.5" if phase < 3 else f"1000{phase * 4 - 10:02d}.5"
        if edit is not None:
            edit(phase, place, ds)

    dropped = [phase * count + place for phase, place in drop]
    flat = array.reshape(-1, *array.shape[2:])
    options = {"order": "shuffled", **options}
    return write_mr_series(folder, flat, affine, seed=seed, edit=of_phase, drop=dropped, **options)


def write_enhanced_cine(
    path: Path, array: NDArray[Any], affine: Affine, *, times: str = "both", **options: Any
) -> Path:
    """Write one Enhanced MR file; ``times``: "index", "delay" (Nominal Cardiac Trigger Delay) or "both"."""
    phases, count = array.shape[:2]

    def edit(ds: FileDataset) -> None:
        # frames are slices of a phase in a random order, phase by phase
        stored = np.empty((phases * count, *array.shape[2:]), dtype="<i2")
        for number, group in enumerate(ds.PerFrameFunctionalGroupsSequence):
            content = group.FrameContentSequence[0]
            phase, place = number // count, int(content.InStackPositionNumber) - 1
            stored[number] = array[phase, place]
            content.StackID = "1"
            content.DimensionIndexValues = [phase + 1, place + 1]
            if times in ("index", "both"):
                content.TemporalPositionIndex = phase + 1
            if times in ("delay", "both"):
                delay = Dataset()
                delay.NominalCardiacTriggerDelayTime = phase * PHASE_MS
                group.CardiacSynchronizationSequence = Items([delay])
        ds.PixelData = stored.tobytes()

    options = {"order": "shuffled", "seed": "enhanced-cine", **options}
    return write_enhanced_mr(path, array[0], affine, echo_times_ms=(2.5,) * phases, edit=edit, **options)


LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
_CODES = (1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8)


def channel(number: int, **values: Any) -> Dataset:
    """Return a definition of one standard lead in microvolts: 2.5 uV a step."""
    source, unit, ds = Dataset(), Dataset(), Dataset()
    source.CodeValue, source.CodingSchemeDesignator = f"2:{_CODES[number % 12]}", "MDC"
    source.CodeMeaning = f"Lead {LEADS[number % 12]}"
    unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "uV", "UCUM", "microvolt"
    ds.ChannelSourceSequence = Items([source])
    ds.ChannelSensitivity, ds.ChannelSensitivityUnitsSequence = "2.5", Items([unit])
    ds.ChannelSensitivityCorrectionFactor, ds.ChannelBaseline = "1", "0"
    ds.ChannelSampleSkew = "0"
    ds.WaveformBitsStored = 16
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def group(
    stored: NDArray[Any],
    *,
    sampling_hz: float = 500.0,
    interpretation: str = "SS",
    channels: Sequence[Dataset] = (),
    **values: Any,
) -> Dataset:
    """Return a multiplex group of (channels, samples) stored values."""
    ds = Dataset()
    ds.MultiplexGroupTimeOffset = "0"
    ds.WaveformOriginality = "ORIGINAL"
    ds.NumberOfWaveformChannels, ds.NumberOfWaveformSamples = stored.shape
    ds.SamplingFrequency = f"{sampling_hz:g}"
    ds.ChannelDefinitionSequence = Items(channels or [channel(n) for n in range(len(stored))])
    ds.WaveformBitsAllocated = stored.dtype.itemsize * 8
    ds.WaveformSampleInterpretation = interpretation
    data = np.ascontiguousarray(stored.T).tobytes()
    ds.add_new("WaveformData", "OB" if stored.dtype.itemsize == 1 else "OW", data + b"\0" * (len(data) % 2))
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def sines(channels: int = 12, samples: int = 5000, sampling_hz: float = 500.0) -> NDArray[np.int16]:
    """Return (channels, samples) stored values: sines of 1 mV (400 steps), one Hz more for each channel."""
    time_s = np.arange(samples) / sampling_hz
    return np.rint(400 * np.sin(2 * np.pi * np.outer(np.arange(1, channels + 1), time_s))).astype(np.int16)


def write_ecg(path: Path, groups: Sequence[Dataset], *, seed: str = "ecg", **headers: Any) -> Path:
    """Write a 12-lead ECG with these groups."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = TwelveLeadECGWaveformStorage, uid_of(seed, "instance", path.name)
    ds.StudyDate = ds.ContentDate = "20260102"
    ds.StudyTime = ds.ContentTime = "090000"
    ds.AcquisitionDateTime = "20260102090000"
    ds.AccessionNumber, ds.ReferringPhysicianName, ds.StudyID = "A1", "", "S1"
    ds.Modality, ds.Manufacturer = "ECG", "Simulated"
    ds.PatientName, ds.PatientID = "Phantom^Simulated", "SIMULATED-1"
    ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = "19700101", "O", "056Y"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uid_of(seed, "study"), uid_of(seed, "series")
    ds.SeriesNumber, ds.InstanceNumber = 1, 1
    ds.AcquisitionContextSequence = Items([])
    ds.WaveformSequence = Items(groups)
    for keyword, value in headers.items():
        setattr(ds, keyword, value)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(str(path), ds, preamble=b"\0" * 128, file_meta=meta)
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save_as(path, enforce_file_format=True)
    return path
