"""Simulated CT of a quality-assurance phantom: a water tank with sphere and rod inserts.

Everything is a signed distance in patient millimetres, so a scene can be seen by any grid, of any
orientation and spacing, and its true volumes are known from formulas.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]  # (..., 3), LPS millimetres

AIR_HU, WATER_HU, WALL_HU, TABLE_HU = -1000.0, 0.0, 120.0, -150.0
ACRYLIC_HU, TEFLON_HU = (95.0, 155.0), (850.0, 1000.0)  #: of the inserts; scanners and batches differ


@dataclass(frozen=True, slots=True, kw_only=True)
class Sphere:
    """A ball of one material."""

    centre_mm: NDArray[np.float64]  #: (3,) LPS
    radius_mm: float
    value_hu: float

    @property
    def volume_ml(self) -> float:
        """True volume."""
        return 4 / 3 * pi * self.radius_mm**3 / 1000

    @property
    def reach_mm(self) -> float:
        """Radius of the ball around it."""
        return self.radius_mm

    def distance_mm(self, points: Points) -> NDArray[np.float64]:
        """Return the signed distance to the surface, negative inside."""
        return np.asarray(np.linalg.norm(points - self.centre_mm, axis=-1) - self.radius_mm)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rod:
    """A straight cylinder with flat ends."""

    centre_mm: NDArray[np.float64]  #: (3,) LPS
    axis: NDArray[np.float64]  #: (3,) unit vector, LPS
    radius_mm: float
    length_mm: float
    value_hu: float

    @property
    def volume_ml(self) -> float:
        """True volume."""
        return pi * self.radius_mm**2 * self.length_mm / 1000

    @property
    def reach_mm(self) -> float:
        """Radius of the ball around it."""
        return float(np.hypot(self.radius_mm, self.length_mm / 2))

    def distance_mm(self, points: Points) -> NDArray[np.float64]:
        """Return the signed distance to the surface, negative inside."""
        offset = points - self.centre_mm
        along = offset @ self.axis
        across = np.sqrt(np.maximum((offset**2).sum(-1) - along**2, 0))
        side, end = across - self.radius_mm, np.abs(along) - self.length_mm / 2
        outside = np.hypot(np.maximum(side, 0), np.maximum(end, 0))
        return np.asarray(np.minimum(np.maximum(side, end), 0) + outside)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A tank of water on a table, and what is in it."""

    tank: Rod
    wall_mm: float
    table_mm: float  #: thickness of the plate below (posterior of) the tank; 0 for none
    inserts: tuple[Sphere | Rod, ...]


def random_scene(rng: np.random.Generator) -> Scene:
    """Return a tank with two to twelve inserts that touch neither each other nor the wall.

    Spheres are of acrylic and rods of teflon, as in common test objects. The wall of the tank is of
    acrylic too, and the blurred edge of a rod passes through the value of a sphere, so that a
    threshold alone would not do.
    """
    tank = Rod(
        centre_mm=rng.uniform(-60, 60, 3),
        axis=_unit(rng.normal(0, [0.12, 0.12, 1]) if rng.random() < 0.7 else rng.normal(0, 1, 3)),
        radius_mm=rng.uniform(75, 115),
        length_mm=rng.uniform(110, 200),
        value_hu=WATER_HU,
    )
    wall_mm = rng.uniform(3, 8)
    inserts: list[Sphere | Rod] = []
    wanted = int(rng.integers(2, 13))
    for _ in range(400):
        if len(inserts) == wanted:
            break
        insert = _random_insert(rng, tank)
        room = -tank.distance_mm(insert.centre_mm) - wall_mm - 4
        if insert.reach_mm < room and all(
            np.linalg.norm(insert.centre_mm - other.centre_mm) > insert.reach_mm + other.reach_mm + 4
            for other in inserts
        ):
            inserts.append(insert)
    table_mm = rng.uniform(8, 20) if rng.random() < 0.5 else 0.0
    return Scene(tank=tank, wall_mm=wall_mm, table_mm=table_mm, inserts=tuple(inserts))


def render(
    scene: Scene, points: Points, *, blur_mm: float = 1.0, noise_hu: float = 0.0, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what a scanner sees of a scene, and the truth.

    Parameters
    ----------
    points
        (slices, rows, columns, 3), LPS millimetres of the voxel centres.
    blur_mm
        Width of every edge: the resolution of the scanner.
    noise_hu
        Standard deviation of the noise.

    Returns
    -------
    image
        (slices, rows, columns), Hounsfield units.
    truth
        (2, slices, rows, columns), share of each voxel that is sphere and that is rod, 0..1.
    """
    tank = scene.tank.distance_mm(points)
    image = np.full(points.shape[:-1], AIR_HU)
    if scene.table_mm:
        top = scene.tank.centre_mm[1] + scene.tank.length_mm / 2 + scene.tank.radius_mm
        image = _paint(image, np.abs(points[..., 1] - top) - scene.table_mm / 2, TABLE_HU, blur_mm)
    image = _paint(image, tank, WALL_HU, blur_mm)
    image = _paint(image, tank + scene.wall_mm, WATER_HU, blur_mm)
    truth = np.zeros((2, *points.shape[:-1]), np.float32)
    for insert in scene.inserts:
        distance = insert.distance_mm(points)
        image = _paint(image, distance, insert.value_hu, blur_mm)
        kind = 0 if isinstance(insert, Sphere) else 1
        truth[kind] = np.maximum(truth[kind], _inside(distance, 2.0))
    noise = np.random.default_rng(seed).normal(0, noise_hu, image.shape) if noise_hu else 0.0
    return (image + noise).astype(np.float32), truth


def grid_points(affine: NDArray[np.float64], shape: tuple[int, ...]) -> Points:
    """Return the LPS position in millimetres of every voxel centre of a grid, (*shape, 3)."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    return np.asarray(index @ affine[:3, :3].T + affine[:3, 3])


def _random_insert(rng: np.random.Generator, tank: Rod) -> Sphere | Rod:
    centre_mm = tank.centre_mm + rng.uniform(-1, 1, 3) * 0.8 * tank.radius_mm
    if rng.random() < 0.5:
        return Sphere(centre_mm=centre_mm, radius_mm=rng.uniform(10, 26), value_hu=rng.uniform(*ACRYLIC_HU))
    radius_mm = rng.uniform(8, 14)
    return Rod(
        centre_mm=centre_mm,
        axis=_unit(rng.normal(0, 1, 3)),
        radius_mm=radius_mm,
        length_mm=rng.uniform(3.5, 7) * radius_mm,
        value_hu=rng.uniform(*TEFLON_HU),
    )


def _inside(distance_mm: NDArray[np.float64], width_mm: float) -> NDArray[np.float64]:
    return np.clip(0.5 - distance_mm / width_mm, 0, 1)


def _paint(
    image: NDArray[np.float64], distance_mm: NDArray[np.float64], value: float, blur_mm: float
) -> NDArray[np.float64]:
    share = _inside(distance_mm, blur_mm)
    return image + share * (value - image)


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(vector / np.linalg.norm(vector))
