"""A simulated chest CT whose lung volumes are known, for the demo and the tests.

Run ``python deploy/simulate.py OUT`` to write it as CT instances. No patient is involved: the body
is made of ellipses, tubes and domes in millimetres, and every description says SIMULATED.

Frame: LPS millimetres (x to the Left, y to Posterior, z to the head); the origin lies in the middle
of the chest. The lungs are defined by geometry alone: what lies inside the chest wall, above the
diaphragm and outside of mediastinum, heart and hilum. Vessels and small airways inside this surface
belong to the lungs; windpipe and main bronchi run in the mediastinum and do not. The truth is the
share of eight points of each voxel that lies inside, so nothing of it depends on any algorithm.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy import ndimage

from simulated_body import (
    BLOOD,
    EMPHYSEMA,
    SAMPLES,
    Plane,
    Section,
    Tubes,
    body,
    bullae,
    fine,
    paint,
    vessels,
)

Progress = Callable[[int, int], None]

TOP_MM, BOTTOM_MM = 135.0, -165.0  #: what the default stack covers, along z
FIELD_MM = 384.0  #: width of the default field of view

LABEL = "SIMULATED CHEST - NOT A PATIENT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """A simulated chest and what is true of it."""

    array_hu: NDArray[np.int16]  #: (slices, rows, columns), HU
    affine: NDArray[np.float64]  #: (4, 4): (slice, row, column) index -> LPS millimetres
    left_lung: NDArray[np.bool_]  #: (slices, rows, columns): at least half of the voxel is left lung
    right_lung: NDArray[np.bool_]
    emphysema: NDArray[np.bool_]  #: at least half of the voxel is low-attenuation lung
    #: From geometry, not from the masks: left_ml, right_ml, both_ml, emphysema_ml.
    truth: dict[str, float]


def axial_affine(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """Return the affine of an axial stack, lowest slice first, centred on the default coverage."""
    affine = np.diag([0.0, 0.0, 0.0, 1.0])
    affine[2, 0], affine[1, 1], affine[0, 2] = spacing_mm
    middle = np.array([0.0, 12.0, (TOP_MM + BOTTOM_MM) / 2])
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def chest(
    shape: tuple[int, int, int] = (100, 256, 256),
    spacing_mm: tuple[float, float, float] | None = None,
    seed: int = 1,
    *,
    affine: NDArray[np.float64] | None = None,
    junction_mm: float = 3.0,
    noise_hu: float = 14.0,
    progress: Progress = lambda done, total: None,
) -> Simulated:
    """Simulate a chest CT in inspiration, without contrast medium, arms up.

    Parameters
    ----------
    shape
        Slices, rows, columns.
    spacing_mm
        Along (slice, row, column); by default the chest just fits into ``shape``.
    seed
        Of vessels, texture and noise; the same seed gives the same voxels.
    affine
        (4, 4): (slice, row, column) index -> LPS millimetres, for stacks that are not axial.
    junction_mm
        Thickness of the tissue between the lungs behind the breastbone.
    noise_hu
        Standard deviation of the noise in soft tissue.
    progress
        Called with (slices done, slices in all).
    """
    if spacing_mm is None:
        spacing_mm = ((TOP_MM - BOTTOM_MM) / shape[0], FIELD_MM / shape[1], FIELD_MM / shape[2])
    if affine is None:
        affine = axial_affine(shape, spacing_mm)
    random = np.random.default_rng(seed)
    blobs, tree = Tubes(bullae(random), affine), Tubes(vessels(random), affine)
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000.0

    hu = np.empty(shape, dtype=np.float32)
    shares = np.zeros((3, *shape), dtype=np.float32)  # left, right, emphysema: share of each voxel
    for index in range(shape[0]):
        plane_hu = np.zeros((shape[1] * SAMPLES, shape[2] * SAMPLES), dtype=np.float32)
        for depth in fine(0, 1):
            section = Section(affine, index + depth, shape[1:])
            values, left, right = body(section, junction_mm)
            lungs, blood = left | right, section.drawn(tree)
            holes = lungs & section.drawn(blobs) & ~blood
            paint(values, holes, EMPHYSEMA)
            paint(values, lungs & blood, BLOOD)
            plane_hu += values / SAMPLES
            for share, inside in zip(shares, (left, right, holes), strict=True):
                share[index] += _binned(inside.astype(np.float32)) / SAMPLES
        hu[index] = _binned(plane_hu)
        progress(index + 1, shape[0])

    return Simulated(
        array_hu=_scanned(hu, affine, noise_hu, random),
        affine=affine,
        left_lung=shares[0] >= 0.5,
        right_lung=shares[1] >= 0.5,
        emphysema=shares[2] >= 0.5,
        truth={
            "left_ml": float(shares[0].sum(dtype=np.float64)) * voxel_ml,
            "right_ml": float(shares[1].sum(dtype=np.float64)) * voxel_ml,
            "both_ml": float(shares[:2].sum(dtype=np.float64)) * voxel_ml,
            "emphysema_ml": float(shares[2].sum(dtype=np.float64)) * voxel_ml,
        },
    )


def _binned(plane: Plane) -> Plane:
    rows, columns = (n // SAMPLES for n in plane.shape)
    binned: Plane = plane.reshape(rows, SAMPLES, columns, SAMPLES).mean(axis=(1, 3))
    return binned


def _scanned(
    hu: NDArray[np.float32], affine: NDArray[np.float64], noise_hu: float, random: np.random.Generator
) -> NDArray[np.int16]:
    """Add what a scanner adds: blur within the planes, noise with a grain, a floor at -1024."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    blurred = ndimage.gaussian_filter(hu, (0.0, 0.7 / spacing[1], 0.7 / spacing[2]), mode="nearest")
    noise = random.standard_normal(hu.shape, dtype=np.float32)
    grain = ndimage.gaussian_filter(noise, (0.0, 0.8 / spacing[1], 0.8 / spacing[2]))
    grain *= noise_hu / max(float(grain.std()), 1e-6)
    grain *= np.where(blurred < -980.0, 0.5, 1.0)  # quieter in air
    return np.clip(np.rint(blurred + grain), -1024, 3071).astype(np.int16)


def write_ct_series(
    folder: Path, simulated: Simulated, seed: int = 1, progress: Progress = lambda done, total: None
) -> list[Path]:
    """Write a simulated chest as CT Image Storage instances, one per slice.

    UIDs are derived from ``seed`` and the geometry, so the same chest is the same series.
    """
    folder.mkdir(parents=True, exist_ok=True)
    affine, spacing = simulated.affine, np.linalg.norm(simulated.affine[:3, :3], axis=0)
    identity = [LABEL, str(seed), str(simulated.array_hu.shape), affine.tobytes().hex()]
    study, series, frame = (
        generate_uid(entropy_srcs=[*identity, what]) for what in ("study", "series", "frame")
    )
    paths = []
    total = len(simulated.array_hu)
    for index, plane in enumerate(simulated.array_hu):
        ds = _ct_instance(plane, spacing, affine)
        ds.SOPInstanceUID = generate_uid(entropy_srcs=[*identity, f"instance {index}"])
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.InstanceNumber = index + 1
        position = affine @ np.array([index, 0, 0, 1])
        ds.ImagePositionPatient = [f"{v:.4f}" for v in position[:3]]
        ds.SliceLocation = f"{position[2]:.4f}"
        path = folder / f"CT{index + 1:04d}.dcm"
        FileDataset(str(path), ds, preamble=b"\0" * 128, file_meta=_file_meta(ds.SOPInstanceUID)).save_as(
            path, enforce_file_format=True
        )
        paths.append(path)
        progress(index + 1, total)
    return paths


def _file_meta(sop_instance_uid: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = sop_instance_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return meta


def _ct_instance(
    plane: NDArray[np.int16], spacing: NDArray[np.float64], affine: NDArray[np.float64]
) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SOPClassUID = CTImageStorage
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20260102"
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "101500"
    ds.AccessionNumber = "SIM0001"
    ds.Modality = "CT"
    ds.Manufacturer = "radnode simulation"
    ds.ManufacturerModelName = "deploy/simulate.py"
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = ds.SeriesDescription = ds.ImageComments = LABEL
    ds.PatientName = "Simulated^Chest"
    ds.PatientID = "SIMULATED"
    ds.PatientBirthDate = ""
    ds.PatientSex = "O"
    ds.StudyID = "SIM"
    ds.SeriesNumber = 2
    ds.AcquisitionNumber = 1
    ds.BodyPartExamined = "CHEST"
    ds.PatientPosition = "HFS"
    ds.PositionReferenceIndicator = ""
    ds.KVP = "120"
    ds.SliceThickness = f"{spacing[0]:.4f}"
    ds.ConvolutionKernel = "SIMULATED SMOOTH"
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "-1024", "1", "HU"
    ds.WindowCenter, ds.WindowWidth = "-600", "1500"
    ds.PixelSpacing = [f"{spacing[1]:.6f}", f"{spacing[2]:.6f}"]
    along_columns, along_rows = affine[:3, 2] / spacing[2], affine[:3, 1] / spacing[1]
    ds.ImageOrientationPatient = [f"{v:.8g}" for v in (*along_columns, *along_rows)]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = plane.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = (plane.astype(np.int32) + 1024).astype("<u2").tobytes()
    return ds


def main(arguments: list[str] | None = None) -> int:
    """Write a simulated chest into a folder and print what is true of it."""
    parser = argparse.ArgumentParser(description="Simulate a chest CT with known lung volumes.")
    parser.add_argument("out", type=Path, help="folder for the CT instances; made if it is not there")
    parser.add_argument("--slices", type=int, default=100, help="number of slices (default 100)")
    parser.add_argument("--size", type=int, default=256, help="rows and columns (default 256)")
    parser.add_argument("--seed", type=int, default=1, help="another seed gives another patient")
    parser.add_argument("--truth", type=Path, help="also write the true volumes to this JSON file")
    options = parser.parse_args(arguments)
    if options.slices < 2 or options.size < 32:
        parser.error("at least 2 slices and a size of 32 are needed")

    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True)) as bar:
        drawing = bar.add_task("simulating", total=options.slices)
        writing = bar.add_task("writing DICOM", total=options.slices)
        simulated = chest(
            (options.slices, options.size, options.size),
            seed=options.seed,
            progress=lambda done, total: bar.update(drawing, completed=done),
        )
        write_ct_series(
            options.out, simulated, options.seed, lambda done, total: bar.update(writing, completed=done)
        )
    truth = json.dumps({name: round(value, 1) for name, value in simulated.truth.items()})
    if options.truth:
        options.truth.write_text(truth + "\n", encoding="utf-8")
    print(truth)
    return 0


if __name__ == "__main__":
    sys.exit(main())
