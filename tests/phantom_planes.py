"""Simulated images that stand for themselves: radiographs, ultrasound, photographs. See `phantoms`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from tests.phantoms import uid_of

CLASSES = {
    "CR": ComputedRadiographyImageStorage,
    "DX": DigitalXRayImageStorageForPresentation,
    "US": UltrasoundImageStorage,
}


def item(**values: Any) -> Dataset:
    """Return a data set with these attributes."""
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def write_plane(
    path: Path,
    stored: NDArray[Any],
    *,
    modality: str = "DX",
    photometric: str = "MONOCHROME2",
    bits: int | None = None,
    number: int | None = 1,
    seed: str = "plane",
    transfer_syntax: str = ExplicitVRLittleEndian,
    headers: Mapping[str, Any] | None = None,
    edit: Callable[[Dataset], None] | None = None,
) -> Path:
    """Write one image of stored values.

    Parameters
    ----------
    stored
        (rows, columns), (frames, rows, columns), or, for a colour model of three samples, the same
        with (..., 3); its type says bits allocated and sign.
    number
        Instance Number; it also makes the SOP Instance UID.
    headers
        Keywords to set, or with None to delete.
    """
    colour = photometric in ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
    frames = stored.shape[0] if stored.ndim == (4 if colour else 3) else None
    rows, columns = (stored.shape[:-1] if colour else stored.shape)[-2:]
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = UltrasoundMultiFrameImageStorage if modality == "US" and frames else CLASSES[modality]
    ds.SOPInstanceUID = uid_of(seed, "instance", number, path.name)
    ds.PatientName, ds.PatientID = "Phantom^Simulated", "SIMULATED-1"
    ds.PatientBirthDate, ds.PatientSex = "19600101", "O"
    ds.StudyInstanceUID, ds.StudyID = uid_of(seed, "study"), "1"
    ds.StudyDate, ds.StudyTime = "20260102", "085900"
    ds.ContentDate, ds.ContentTime = "20260102", "090001"
    ds.AccessionNumber, ds.ReferringPhysicianName = "ACC1", ""
    ds.SeriesInstanceUID, ds.SeriesNumber = uid_of(seed, "series"), 1
    ds.Modality, ds.Manufacturer = modality, "radnode phantom"
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.PatientOrientation = ["L", "F"]
    if number is not None:
        ds.InstanceNumber = number
    if frames:
        ds.NumberOfFrames, ds.FrameTime = frames, 40
        ds.FrameIncrementPointer = 0x00181063
    allocated = stored.dtype.itemsize * 8
    ds.SamplesPerPixel, ds.PhotometricInterpretation = (3 if colour else 1), photometric
    if colour:
        ds.PlanarConfiguration = 0
    ds.Rows, ds.Columns = rows, columns
    ds.BitsAllocated = allocated
    ds.BitsStored = bits or allocated
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(stored.dtype.kind == "i")
    big = transfer_syntax == ExplicitVRBigEndian
    data = stored.astype(stored.dtype.newbyteorder(">" if big else "<")).tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OB" if allocated == 8 else "OW"
    for keyword, value in (headers or {}).items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    if edit is not None:
        edit(ds)
    return save(ds, path, transfer_syntax)


def save(ds: Dataset, path: Path, transfer_syntax: str) -> Path:
    """Write a data set as a Part 10 file, compressed where the syntax says so."""
    meta = FileMetaDataset()
    compressed = transfer_syntax not in (ExplicitVRLittleEndian, ExplicitVRBigEndian)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian if compressed else transfer_syntax
    little = transfer_syntax != ExplicitVRBigEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = FileDataset(str(path), ds, file_meta=meta, preamble=b"\0" * 128, is_little_endian=little)
    dcmwrite(path, whole, implicit_vr=False, little_endian=little, enforce_file_format=True)
    if compressed:
        whole = dcmread(path)
        whole.compress(transfer_syntax, generate_instance_uid=False)
        whole.save_as(path, enforce_file_format=True)
    return path


def ramp(rows: int = 20, columns: int = 30, step: int = 7, start: int = 0) -> NDArray[np.uint16]:
    """Return an image without any symmetry: (rows, columns) uint16."""
    return (start + step * np.add.outer(np.arange(rows) * 3, np.arange(columns))).astype(np.uint16)


def region(
    delta_x: float, delta_y: float, *, units: Sequence[int] = (3, 3), end: Sequence[int] = (20, 10)
) -> Dataset:
    """Return an item of Sequence of Ultrasound Regions; 3 is centimetres, 4 seconds."""
    return item(
        RegionSpatialFormat=1,
        RegionDataType=1,
        RegionFlags=2,
        RegionLocationMinX0=0,
        RegionLocationMinY0=0,
        RegionLocationMaxX1=end[0],
        RegionLocationMaxY1=end[1],
        PhysicalUnitsXDirection=units[0],
        PhysicalUnitsYDirection=units[1],
        PhysicalDeltaX=delta_x,
        PhysicalDeltaY=delta_y,
    )
