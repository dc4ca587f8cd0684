"""The body of the simulated chest: ellipses, tubes and domes, sampled plane by plane.

Frame: LPS millimetres (x to the Left, y to Posterior, z to the head), origin in mid-chest. Positions
x, y and z come as arrays that broadcast to the plane, so that an axial plane costs little.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]

SAMPLES = 2  #: points per voxel along each axis; their mean gives partial volume
APEX_MM = 112.0
CARINA_MM = 30.0

# Hounsfield units of what the body is made of
AIR, FAT, MUSCLE, SKIN, BLOOD, LIVER, SPLEEN, STOMACH = -1000, -100, 50, 20, 45, 60, 50, 25
CORTEX, MARROW, DISC, PARENCHYMA, EMPHYSEMA = 700, 220, 90, -860, -985


@dataclass(frozen=True, slots=True)
class Tube:
    """A straight tube with round ends between two points, LPS millimetres."""

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    radius_mm: float


def fine(low: int, high: int) -> NDArray[np.float64]:
    """Return the sample points of the voxels ``low`` to ``high``, in voxel units around their centres."""
    return (np.arange(low * SAMPLES, high * SAMPLES) + 0.5) / SAMPLES - 0.5


class Tubes:
    """Tubes together with the voxel boxes that hold them."""

    def __init__(self, tubes: Iterable[Tube], affine: NDArray[np.float64]) -> None:
        self.tubes = list(tubes)
        ends = np.array([(tube.start, tube.end) for tube in self.tubes])  # (tubes, 2, xyz), mm
        inverse = np.linalg.inv(affine)
        voxels = ends @ inverse[:3, :3].T + inverse[:3, 3]
        radii = np.array([tube.radius_mm for tube in self.tubes])
        margin = radii[:, None] / np.linalg.norm(affine[:3, :3], axis=0) + 0.5
        self.low, self.high = voxels.min(axis=1) - margin, voxels.max(axis=1) + margin
        #: (tubes, 2, axes), int: first voxel, and one past the last
        self.boxes = np.stack([np.floor(self.low), np.ceil(self.high) + 1], axis=1).astype(int)

    def reaching(self, index: float) -> NDArray[np.intp]:
        """Return the numbers of the tubes that reach a plane."""
        return np.flatnonzero((self.low[:, 0] <= index) & (index <= self.high[:, 0]))


class Section:
    """The sample points of one plane: where they lie, and how to draw tubes among them."""

    def __init__(self, affine: NDArray[np.float64], index: float, shape: tuple[int, ...]) -> None:
        self.affine, self.index, self.shape = affine, index, shape
        self.x, self.y, self.z = self._points(slice(0, shape[0]), slice(0, shape[1]))

    def _points(self, rows: slice, columns: slice) -> tuple[Plane, ...]:
        """Return x, y and z of the samples of some voxels, in the smallest shapes that broadcast."""
        r, c = fine(rows.start, rows.stop)[:, None], fine(columns.start, columns.stop)[None, :]
        points = []
        for i in range(3):
            along = self.affine[i]
            point = np.full((1, 1), along[0] * self.index + along[3])
            for step, axis in ((along[1], r), (along[2], c)):
                if step:
                    point = point + step * axis
            points.append(point.astype(np.float32))
        return tuple(points)

    def drawn(self, tubes: Tubes) -> NDArray[np.bool_]:
        """Return which samples lie in any of the tubes; only each tube's own box is looked at."""
        inside = np.zeros([n * SAMPLES for n in self.shape], dtype=bool)
        for number in tubes.reaching(self.index):
            rows, columns = (
                slice(*np.clip(tubes.boxes[number, :, axis], 0, self.shape[axis - 1]).tolist())
                for axis in (1, 2)
            )
            if rows.start < rows.stop and columns.start < columns.stop:
                box = tuple(slice(side.start * SAMPLES, side.stop * SAMPLES) for side in (rows, columns))
                tube = tubes.tubes[number]
                inside[box] |= _distance(tube, *self._points(rows, columns)) < tube.radius_mm
        return inside


def paint(plane: NDArray[Any], where: NDArray[np.bool_], value: Any) -> None:
    np.copyto(plane, value, where=where, casting="unsafe")


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


def body(section: Section, junction_mm: float) -> tuple[Plane, NDArray[np.bool_], NDArray[np.bool_]]:
    """Return HU, left lung and right lung at each sample of a section."""
    x, y, z = section.x, section.y, section.z
    hu = np.full((section.shape[0] * SAMPLES, section.shape[1] * SAMPLES), AIR, dtype=np.float32)
    _table(hu, x, y)

    shoulders = np.clip((z - 60.0) / 80.0, 0.0, 1.0)
    width, depth = 168.0 - 10.0 * shoulders, 116.0 - 14.0 * shoulders
    torso = _ellipse(x, y, (0.0, 8.0), (width, depth), 2.4)
    paint(hu, torso < 1.0, SKIN)
    paint(hu, torso < 0.985, FAT)
    paint(hu, _ellipse(x, y, (0.0, 8.0), (width - 15.0, depth - 13.0), 2.3) < 1.0, MUSCLE)
    cavity = _ellipse(x, y, (0.0, 4.0), (130.0 - 6.0 * shoulders, 86.0 - 8.0 * shoulders), 2.2)
    _ribs(hu, x, y, z, cavity)
    inside_chest = cavity < 1.0
    paint(hu, inside_chest, 35.0)  # mediastinal tissue and pleural space, unless something else is there
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

    paint(hu, (heart < 0.97) & (z > dome - 8.0), BLOOD)
    paint(hu, hila < 1.0, 30.0)
    paint(hu, aorta < 14.0, BLOOD)
    _abdomen(hu, x, y, z, inside_chest, dome)
    _backbone(hu, x, y, z)
    sternum = (np.abs(x) < 17.0) & (np.abs(y + 86.0 - 0.06 * (z - 20.0)) < 5.5) & (z > -70.0)
    paint(hu, sternum, 260.0)
    # Parenchyma is denser where it hangs (the patient lies on the back) and never quite even.
    paint(hu, room, PARENCHYMA + 0.28 * y + _wobble(x, y, z))
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
    paint(hu, top & (np.abs(sag - 120.0) < 8.0), -930.0)
    paint(hu, top & (np.abs(sag - 144.0) < 16.0), -960.0)
    paint(hu, top & (np.abs(np.abs(sag - 144.0) - 15.0) < 1.2), -250.0)


def _ribs(hu: Plane, x: Plane, y: Plane, z: Plane, cavity: Plane) -> None:
    """Slanting hoops in the chest wall, lower in front than behind."""
    slanted = np.mod(z - 0.35 * (y - 4.0), 25.0) - 12.5
    off = np.hypot((cavity - 1.065) * 95.0, slanted * 0.62)
    reach = (np.abs(x) > 14.0) & ((y > -60.0) | (np.abs(x) > 40.0))
    paint(hu, (off < 4.5) & reach, CORTEX)
    paint(hu, (off < 2.8) & reach, MARROW)


def _mediastinum(hu: Plane, x: Plane, y: Plane, z: Plane, inside_chest: NDArray[np.bool_]) -> None:
    """Fat in front, the ascending aorta and the superior vena cava."""
    paint(hu, inside_chest & (np.abs(x - 2.0) < 30.0) & (y < -20.0) & (z > -10.0), -90.0)
    paint(hu, inside_chest & (np.hypot(x + 12.0, y + 4.0) < 14.0) & (z > -20.0) & (z < 70.0), BLOOD)
    paint(hu, inside_chest & (np.hypot(x + 28.0, y + 2.0) < 9.0) & (z > -20.0), BLOOD)


def _aorta(x: Plane, y: Plane, z: Plane) -> Plane:
    """Return the distance from the midline of arch and descending aorta."""
    descending = np.where(z < 52.0, np.hypot(x - 20.0, y - 44.0), 1e3)
    arch = np.hypot(np.hypot(y - 20.0, z - 46.0) - 24.0, x - 4.0 - 0.35 * (y - 10.0))
    return np.minimum(descending, np.where(z > 46.0, arch, 1e3))


def _abdomen(hu: Plane, x: Plane, y: Plane, z: Plane, inside_chest: NDArray[np.bool_], dome: Plane) -> None:
    """Diaphragm, liver, spleen and a stomach with a bubble of gas under the left dome."""
    below = inside_chest & (z < dome)
    deep = below & (z < dome - 3.5)
    paint(hu, below, MUSCLE)
    paint(hu, deep, -95.0)
    paint(hu, deep & (x < 26.0 - 0.25 * (y + 60.0)), LIVER)
    paint(hu, deep & (_ellipsoid(x, y, z, (88.0, 50.0, -112.0), (36.0, 34.0, 30.0)) < 1.0), SPLEEN)
    stomach = _ellipsoid(x, y, z, (62.0, -8.0, -118.0), (44.0, 46.0, 36.0))
    paint(hu, deep & (stomach < 1.0), MUSCLE)
    paint(hu, deep & (stomach < 0.9), np.where(y < -6.0, AIR, STOMACH))


def _backbone(hu: Plane, x: Plane, y: Plane, z: Plane) -> None:
    """Vertebral bodies and discs, the canal behind them, and spinous processes."""
    disc = np.mod(z, 27.0) < 6.0
    body = np.hypot(x / 1.1, y - 68.0)
    paint(hu, body < 17.0, np.where(disc, DISC, CORTEX * 0.6))
    paint(hu, body < 15.0, np.where(disc, DISC, MARROW))
    arch = np.hypot(x, y - 92.0)
    paint(hu, (arch < 13.0) & (body >= 17.0), CORTEX * 0.6)
    paint(hu, arch < 8.0, 25.0)
    paint(hu, (np.abs(x) < 3.5) & (np.abs(y - 110.0) < 7.0) & ~disc, CORTEX * 0.6)


#: Windpipe and main bronchi end inside the hila, that is, outside of the lungs as defined above.
_AIRWAYS = (
    Tube(np.array([2.0, 12.0, 300.0]), np.array([2.0, 16.0, CARINA_MM]), 9.0),
    Tube(np.array([1.0, 16.0, CARINA_MM]), np.array([-27.0, 17.0, 8.0]), 7.0),
    Tube(np.array([3.0, 16.0, CARINA_MM]), np.array([34.0, 19.0, 4.0]), 6.2),
)


def _airways(hu: Plane, section: Section) -> None:
    """The oesophagus with a little air, then walls and lumen of the windpipe and main bronchi."""
    x, y, z = section.x, section.y, section.z
    paint(hu, np.hypot(x - 5.0, y - 34.0) < 5.0, 40.0)
    paint(hu, (np.hypot(x - 5.0, y - 33.0) < 1.8) & (z > 40.0), AIR)
    walls = [Tube(tube.start, tube.end, tube.radius_mm + 1.6) for tube in _AIRWAYS]
    paint(hu, section.drawn(Tubes(walls, section.affine)), 30.0)
    paint(hu, section.drawn(Tubes(_AIRWAYS, section.affine)), AIR)


def _distance(tube: Tube, x: Plane, y: Plane, z: Plane) -> Plane:
    """Return the distance of each point from a tube's midline, millimetres."""
    axis = tube.end - tube.start
    dx, dy, dz = x - tube.start[0], y - tube.start[1], z - tube.start[2]
    along = np.clip((dx * axis[0] + dy * axis[1] + dz * axis[2]) / float(axis @ axis), 0.0, 1.0)
    distance: Plane = np.sqrt(
        (dx - along * axis[0]) ** 2 + (dy - along * axis[1]) ** 2 + (dz - along * axis[2]) ** 2
    )
    return distance


def bullae(random: np.random.Generator) -> Iterator[Tube]:
    """Scatter low-attenuation blobs: mostly in the upper right lung, some in the upper left one."""
    for centre, spread, count in (
        ((-68.0, 0.0, 62.0), (16.0, 24.0, 18.0), 22),
        ((72.0, 8.0, 45.0), (12.0, 18.0, 16.0), 8),
    ):
        for _ in range(count):
            start = np.array(centre) + random.normal(0.0, spread)
            yield Tube(start, start + random.normal(0.0, 3.0, size=3), random.uniform(6.0, 15.0))


def vessels(random: np.random.Generator) -> Iterator[Tube]:
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
    if radius_mm < 1.0:
        return
    end = start + heading * length_mm
    yield Tube(start, end, radius_mm)
    for _ in range(2):
        turned = heading + random.normal(0.0, 0.45, size=3)
        shrink = random.uniform(0.68, 0.8)
        yield from _branch(end, turned / np.linalg.norm(turned), radius_mm * shrink, length_mm * 0.82, random)
