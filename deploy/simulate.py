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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy import ndimage

Plane = NDArray[np.float32]
Progress = Callable[[int, int], None]

SAMPLES = 2  #: points per voxel along each axis; their mean gives partial volume
TOP_MM, BOTTOM_MM = 135.0, -165.0  #: what the default stack covers, along z
FIELD_MM = 384.0  #: width of the default field of view
APEX_MM = 112.0
CARINA_MM = 30.0

LABEL = "SIMULATED CHEST - NOT A PATIENT"

# Hounsfield units of what the body is made of
AIR, FAT, MUSCLE, SKIN, BLOOD, LIVER, SPLEEN, STOMACH = -1000, -100, 50, 20, 45, 60, 50, 25
CORTEX, MARROW, DISC, PARENCHYMA, EMPHYSEMA = 700, 220, 90, -860, -985


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


@dataclass(frozen=True, slots=True)
class Tube:
    """A straight tube with round ends between two points, LPS millimetres."""

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    radius_mm: float


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
    bullae, vessels = list(_bullae(random)), list(_vessels(random))
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000.0

    hu = np.empty(shape, dtype=np.float32)
    shares = np.zeros((3, *shape), dtype=np.float32)  # left, right, emphysema: share of each voxel
    for index in range(shape[0]):
        plane_hu = np.zeros((shape[1] * SAMPLES, shape[2] * SAMPLES), dtype=np.float32)
        for depth in _fine(0, 1):
            section = _Section(affine, index + depth, shape[1:])
            values, left, right = _body(section, junction_mm)
            lungs, holes = left | right, np.zeros_like(left)
            for tube in bullae:
                section.draw(tube, holes, True, lungs)
            for tube in vessels:
                section.draw(tube, holes, False, lungs)
            _paint(values, holes, EMPHYSEMA)
            for tube in vessels:
                section.draw(tube, values, BLOOD, lungs)
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


def _fine(low: int, high: int) -> NDArray[np.float64]:
    """Return the sample points of the voxels ``low`` to ``high``, in voxel units around their centres."""
    return (np.arange(low * SAMPLES, high * SAMPLES) + 0.5) / SAMPLES - 0.5


class _Section:
    """The sample points of one plane: where they lie, and how to draw tubes among them."""

    def __init__(self, affine: NDArray[np.float64], index: float, shape: tuple[int, ...]) -> None:
        self.affine, self.index, self.shape = affine, index, shape
        self.inverse = np.linalg.inv(affine)
        self.spacing = np.linalg.norm(affine[:3, :3], axis=0)
        self.x, self.y, self.z = self._points(slice(0, shape[0]), slice(0, shape[1]))

    def _points(self, rows: slice, columns: slice) -> tuple[Plane, ...]:
        """Return x, y and z of the samples of some voxels, in the smallest shapes that broadcast."""
        r, c = _fine(rows.start, rows.stop)[:, None], _fine(columns.start, columns.stop)[None, :]
        points = []
        for i in range(3):
            along = self.affine[i]
            point = np.full((1, 1), along[0] * self.index + along[3])
            for step, axis in ((along[1], r), (along[2], c)):
                if step:
                    point = point + step * axis
            points.append(point.astype(np.float32))
        return tuple(points)

    def draw(
        self, tube: Tube, plane: NDArray[Any], value: float, inside: NDArray[np.bool_] | None = None
    ) -> None:
        """Set the samples within a tube (and ``inside``) to ``value``; looks at the tube's box only."""
        ends = np.stack([tube.start, tube.end]) @ self.inverse[:3, :3].T + self.inverse[:3, 3]  # in voxels
        margin = tube.radius_mm / self.spacing + 0.5
        low, high = ends.min(axis=0) - margin, ends.max(axis=0) + margin
        if not low[0] <= self.index <= high[0]:
            return
        rows, columns = (
            slice(*np.clip([int(low[i]), int(high[i]) + 2], 0, self.shape[i - 1])) for i in (1, 2)
        )
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        box = np.s_[
            rows.start * SAMPLES : rows.stop * SAMPLES, columns.start * SAMPLES : columns.stop * SAMPLES
        ]
        within = _distance(tube, *self._points(rows, columns)) < tube.radius_mm
        _paint(plane[box], within if inside is None else within & inside[box], value)


def _paint(plane: NDArray[Any], where: NDArray[np.bool_], value: Any) -> None:
    np.copyto(plane, value, where=where, casting="unsafe")


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


# ---------------------------------------------------------------------------------------------
# The body: every function takes planes of x, y, z in LPS millimetres.


def _ellipse(
    x: Plane, y: Plane, centre: tuple[float, float], axes: tuple[Any, Any], power: float = 2.0
) -> Plane:
    """Return a radius that is below 1 inside of a (super)ellipse."""
    radius: Plane = (
        np.abs((x - centre[0]) / axes[0]) ** power + np.abs((y - centre[1]) / axes[1]) ** power
    ) ** (1.0 / power)
    return radius


def _ellipsoid(
    x: Plane, y: Plane, z: Plane, centre: tuple[float, float, float], axes: tuple[float, float, float]
) -> Plane:
    """Return a radius that is below 1 inside of an ellipsoid."""
    parts = (((v - c) / a) ** 2 for v, c, a in zip((x, y, z), centre, axes, strict=True))
    radius: Plane = np.sqrt(sum(parts))
    return radius


def _dome(x: Plane, y: Plane) -> Plane:
    """Return the height of the upper face of the diaphragm; right stands higher than left."""
    right = -62.0 - 85.0 * (((x + 62.0) / 85.0) ** 2 + ((y - 2.0) / 95.0) ** 2)
    left = -76.0 - 80.0 * (((x - 66.0) / 80.0) ** 2 + ((y - 2.0) / 92.0) ** 2)
    return np.maximum(np.maximum(right, left), -152.0)


def _body(section: _Section, junction_mm: float) -> tuple[Plane, NDArray[np.bool_], NDArray[np.bool_]]:
    """Return HU, left lung and right lung at each sample of a section."""
    x, y, z = section.x, section.y, section.z
    hu = np.full((section.shape[0] * SAMPLES, section.shape[1] * SAMPLES), AIR, dtype=np.float32)
    _table(hu, x, y)

    shoulders = np.clip((z - 60.0) / 80.0, 0.0, 1.0)
    width, depth = 168.0 - 10.0 * shoulders, 116.0 - 14.0 * shoulders
    torso = _ellipse(x, y, (0.0, 8.0), (width, depth), 2.4)
    _paint(hu, torso < 1.0, SKIN)
    _paint(hu, torso < 0.985, FAT)
    _paint(hu, _ellipse(x, y, (0.0, 8.0), (width - 15.0, depth - 13.0), 2.3) < 1.0, MUSCLE)
    cavity = _ellipse(x, y, (0.0, 4.0), (130.0 - 6.0 * shoulders, 86.0 - 8.0 * shoulders), 2.2)
    _ribs(hu, x, y, z, cavity)
    inside_chest = cavity < 1.0
    _paint(hu, inside_chest, 35.0)  # mediastinal tissue and pleural space, unless something else is there
    _mediastinum(hu, x, y, z, inside_chest)

    # The lungs: inside of the chest wall, tapering to the apex, above the diaphragm ...
    taper = np.sqrt(np.clip(1.0 - np.clip((z + 5.0) / (APEX_MM + 5.0), 0.0, 1.0) ** 2.6, 0.0, 1.0))
    axes = np.maximum(130.0 * taper, 1.0), np.maximum(84.0 * taper, 1.0)
    wall = _ellipse(np.abs(x) - 52.0 * (1 - taper), y, (0.0, 4.0), axes, 2.2)
    dome = _dome(x, y)
    room = (wall < 0.985) & (z > dome) & (z < APEX_MM)
    # ... and outside of mediastinum, heart, spine, hilum and aorta.
    front = 0.5 - 0.5 * np.cos(np.pi * np.clip((y + 52.0) / 44.0, 0.0, 1.0))
    back = np.clip((y - 30.0) / 40.0, 0.0, 1.0)
    half = junction_mm / 2 + front * (26.0 - 6.0 * np.clip((z - 20.0) / 60.0, 0.0, 1.0) + 5.0 * back)
    heart = _ellipsoid(x, y, z, (24.0, -14.0, -52.0), (62.0, 46.0, 56.0))
    hila = np.minimum(
        _ellipsoid(x, y, z, (-34.0, 16.0, 2.0), (20.0, 18.0, 22.0)),
        _ellipsoid(x, y, z, (40.0, 18.0, -2.0), (18.0, 17.0, 21.0)),
    )
    aorta = _aorta(x, y, z)
    room &= (np.abs(x - 2.0) > half) & (heart > 1.0) & (hila > 1.0) & (aorta > 15.5)
    room &= np.hypot(x, y - 72.0) > 25.0

    _paint(hu, (heart < 0.97) & (z > dome - 8.0), BLOOD)
    _paint(hu, hila < 1.0, 30.0)
    _paint(hu, aorta < 14.0, BLOOD)
    _abdomen(hu, x, y, z, inside_chest, dome)
    _backbone(hu, x, y, z)
    sternum = (np.abs(x) < 17.0) & (np.abs(y + 86.0 - 0.06 * (z - 20.0)) < 5.5) & (z > -70.0)
    _paint(hu, sternum, 260.0)
    # Parenchyma is denser where it hangs (the patient lies on the back) and never quite even.
    _paint(hu, room, PARENCHYMA + 0.28 * y + _wobble(x, y, z))
    _airways(hu, section)
    return hu, room & (x > 2.0), room & (x < 2.0)


def _wobble(x: Plane, y: Plane, z: Plane) -> Plane:
    """Return a slow unevenness of the parenchyma, about +-20 HU."""
    waves = np.sin(x / 11.0 + z / 17.0) * np.sin(y / 9.0 - z / 13.0) + np.sin((x + y) / 6.0 + z / 7.0)
    return 10.0 * waves


def _table(hu: Plane, x: Plane, y: Plane) -> None:
    """A mattress and a carbon table with a foam core: matter as light as lung, outside of the body."""
    sag = y + 0.0007 * x**2  # the table top is a shallow trough
    top = np.abs(x) < 220.0
    _paint(hu, top & (np.abs(sag - 120.0) < 8.0), -930.0)
    _paint(hu, top & (np.abs(sag - 144.0) < 16.0), -960.0)
    _paint(hu, top & (np.abs(np.abs(sag - 144.0) - 15.0) < 1.2), -250.0)


def _ribs(hu: Plane, x: Plane, y: Plane, z: Plane, cavity: Plane) -> None:
    """Slanting hoops in the chest wall, lower in front than behind."""
    slanted = np.mod(z - 0.35 * (y - 4.0), 25.0) - 12.5
    off = np.hypot((cavity - 1.065) * 95.0, slanted * 0.62)
    reach = (np.abs(x) > 14.0) & ((y > -60.0) | (np.abs(x) > 40.0))
    _paint(hu, (off < 4.5) & reach, CORTEX)
    _paint(hu, (off < 2.8) & reach, MARROW)


def _mediastinum(hu: Plane, x: Plane, y: Plane, z: Plane, inside_chest: NDArray[np.bool_]) -> None:
    """Fat in front, the ascending aorta and the superior vena cava."""
    _paint(hu, inside_chest & (np.abs(x - 2.0) < 30.0) & (y < -20.0) & (z > -10.0), -90.0)
    _paint(hu, inside_chest & (np.hypot(x + 12.0, y + 4.0) < 14.0) & (z > -20.0) & (z < 70.0), BLOOD)
    _paint(hu, inside_chest & (np.hypot(x + 28.0, y + 2.0) < 9.0) & (z > -20.0), BLOOD)


def _aorta(x: Plane, y: Plane, z: Plane) -> Plane:
    """Return the distance from the midline of arch and descending aorta."""
    descending = np.where(z < 52.0, np.hypot(x - 20.0, y - 44.0), 1e3)
    arch = np.hypot(np.hypot(y - 20.0, z - 46.0) - 24.0, x - 4.0 - 0.35 * (y - 10.0))
    return np.minimum(descending, np.where(z > 46.0, arch, 1e3))


def _abdomen(hu: Plane, x: Plane, y: Plane, z: Plane, inside_chest: NDArray[np.bool_], dome: Plane) -> None:
    """Diaphragm, liver, spleen and a stomach with a bubble of gas under the left dome."""
    below = inside_chest & (z < dome)
    deep = below & (z < dome - 3.5)
    _paint(hu, below, MUSCLE)
    _paint(hu, deep, -95.0)
    _paint(hu, deep & (x < 26.0 - 0.25 * (y + 60.0)), LIVER)
    _paint(hu, deep & (_ellipsoid(x, y, z, (88.0, 50.0, -112.0), (36.0, 34.0, 30.0)) < 1.0), SPLEEN)
    stomach = _ellipsoid(x, y, z, (62.0, -8.0, -118.0), (44.0, 46.0, 36.0))
    _paint(hu, deep & (stomach < 1.0), MUSCLE)
    _paint(hu, deep & (stomach < 0.9), np.where(y < -6.0, AIR, STOMACH))


def _backbone(hu: Plane, x: Plane, y: Plane, z: Plane) -> None:
    """Vertebral bodies and discs, the canal behind them, and spinous processes."""
    disc = np.mod(z, 27.0) < 6.0
    body = np.hypot(x / 1.1, y - 68.0)
    _paint(hu, body < 17.0, np.where(disc, DISC, CORTEX * 0.6))
    _paint(hu, body < 15.0, np.where(disc, DISC, MARROW))
    arch = np.hypot(x, y - 92.0)
    _paint(hu, (arch < 13.0) & (body >= 17.0), CORTEX * 0.6)
    _paint(hu, arch < 8.0, 25.0)
    _paint(hu, (np.abs(x) < 3.5) & (np.abs(y - 110.0) < 7.0) & ~disc, CORTEX * 0.6)


#: Windpipe and main bronchi end inside the hila, that is, outside of the lungs as defined above.
_AIRWAYS = (
    Tube(np.array([2.0, 12.0, 300.0]), np.array([2.0, 16.0, CARINA_MM]), 9.0),
    Tube(np.array([1.0, 16.0, CARINA_MM]), np.array([-27.0, 17.0, 8.0]), 7.0),
    Tube(np.array([3.0, 16.0, CARINA_MM]), np.array([34.0, 19.0, 4.0]), 6.2),
)


def _airways(hu: Plane, section: _Section) -> None:
    """The oesophagus with a little air, then walls and lumen of the windpipe and main bronchi."""
    x, y, z = section.x, section.y, section.z
    _paint(hu, np.hypot(x - 5.0, y - 34.0) < 5.0, 40.0)
    _paint(hu, (np.hypot(x - 5.0, y - 33.0) < 1.8) & (z > 40.0), AIR)
    for tube in _AIRWAYS:
        section.draw(Tube(tube.start, tube.end, tube.radius_mm + 1.6), hu, 30.0)
    for tube in _AIRWAYS:
        section.draw(tube, hu, AIR)


def _distance(tube: Tube, x: Plane, y: Plane, z: Plane) -> Plane:
    """Return the distance of each point from a tube's midline, millimetres."""
    axis = tube.end - tube.start
    dx, dy, dz = x - tube.start[0], y - tube.start[1], z - tube.start[2]
    along = np.clip((dx * axis[0] + dy * axis[1] + dz * axis[2]) / float(axis @ axis), 0.0, 1.0)
    distance: Plane = np.sqrt(
        (dx - along * axis[0]) ** 2 + (dy - along * axis[1]) ** 2 + (dz - along * axis[2]) ** 2
    )
    return distance


# ---------------------------------------------------------------------------------------------
# What differs from seed to seed.


def _bullae(random: np.random.Generator) -> Iterator[Tube]:
    """Scatter low-attenuation blobs: mostly in the upper right lung, some in the upper left one."""
    for centre, spread, count in (
        ((-68.0, 0.0, 62.0), (16.0, 24.0, 18.0), 22),
        ((72.0, 8.0, 45.0), (12.0, 18.0, 16.0), 8),
    ):
        for _ in range(count):
            start = np.array(centre) + random.normal(0.0, spread)
            yield Tube(start, start + random.normal(0.0, 3.0, size=3), random.uniform(6.0, 15.0))


def _vessels(random: np.random.Generator) -> Iterator[Tube]:
    """Grow a tree of vessels from each hilum outwards; what leaves the lungs is not drawn."""
    for hilum, side in ((np.array([-42.0, 16.0, 2.0]), -1.0), (np.array([48.0, 18.0, -2.0]), 1.0)):
        for angle in np.arange(12) * (2.0 * np.pi / 12) + random.uniform(0.0, 0.5):
            heading = np.array([side * random.uniform(0.3, 0.9), 0.7 * np.cos(angle), 1.3 * np.sin(angle)])
            yield from _branch(hilum, heading / np.linalg.norm(heading), 4.2, 34.0, random)


def _branch(
    start: NDArray[np.float64],
    heading: NDArray[np.float64],
    radius_mm: float,
    length_mm: float,
    random: np.random.Generator,
) -> Iterator[Tube]:
    if radius_mm < 0.8:
        return
    end = start + heading * length_mm
    yield Tube(start, end, radius_mm)
    for _ in range(2):
        turned = heading + random.normal(0.0, 0.45, size=3)
        shrink = random.uniform(0.68, 0.8)
        yield from _branch(end, turned / np.linalg.norm(turned), radius_mm * shrink, length_mm * 0.82, random)


# ---------------------------------------------------------------------------------------------
# DICOM


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
