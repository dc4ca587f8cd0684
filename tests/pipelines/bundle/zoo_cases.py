"""A case of known content for each bundle of `tests.bundle_zoo`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from pipelines.contract import Case, Code, Image
from tests.bundles import image_of, phantom_case
from tests.phantom_cine import beating_ball
from tests.phantoms import make_affine

NO_UNITS = Code("1", "UCUM", "no units")
SHAPE = (12, 40, 44)


def volume(orientation: str = "oblique") -> Case:
    """Return the asymmetric phantom as a CT."""
    return phantom_case(orientation, SHAPE)[0]


def picture(slices: int = 1, rows: int = 24, columns: int = 30, modality: str = "MG") -> Image:
    """Return grey pictures: dark, with one bright rectangle that moves from one to the next."""
    array = np.full((slices, rows, columns), 0.2, np.float32)
    for index in range(slices):
        array[index, 4 : 4 + 8, 6 + index : 6 + index + 5] = 1.0
    affine = np.diag([1.0, 0.4, 0.3, 1.0])
    return Image(array=array, affine=affine, unit=NO_UNITS, modality=modality, is_spatial=False)


def colour(slices: int = 3, rows: int = 48, columns: int = 64) -> Image:
    """Return coloured pictures: red on the left, with a blue rectangle that moves."""
    rgb = np.zeros((slices, rows, columns, 3), np.uint8)
    rgb[..., : columns // 2, 0] = 90
    for index in range(slices):
        rgb[index, 5 : 5 + 16, 40 + 2 * index : 40 + 2 * index + 10] = (10, 20, 250)
    grey = (rgb @ np.array([0.299, 0.587, 0.114]) / 255).astype(np.float32)
    return replace(picture(slices, rows, columns, "ES"), array=grey, colour=rgb)


def cells() -> Image:
    """Return a picture with one red cell, one green cell, and one red pixel."""
    image = colour(1)
    rgb = np.zeros_like(image.colour)
    rgb[0, 10:14, 8:15] = (200, 30, 30)
    rgb[0, 30:36, 40:44] = (30, 200, 30)
    rgb[0, 2, 60] = (250, 0, 0)
    return replace(image, colour=rgb, array=rgb.mean(-1).astype(np.float32) / 255)


def magnetic(array: object, affine: object, frame: str = "1.2.3") -> Image:
    """Return an MR image."""
    return replace(image_of(array, affine), unit=NO_UNITS, modality="MR", frame_of_reference=frame)


def brain() -> Case:
    """Return four series of one grid; only the last shows anything."""
    image = volume()["ct"]
    dark = np.zeros_like(image.array)
    dark[0, 0] = 1.0
    shown = np.where(image.array > 200, 1000.0, np.where(image.array > -500, 300.0, 0.0))
    series = {name: magnetic(dark, image.affine) for name in ("t1c", "t1", "t2")}
    return {**series, "flair": magnetic(shown, image.affine)}


def pelvis() -> Case:
    """Return T2 on a fine grid and a map on a coarse one that is bright in a ball."""
    fine = make_affine("oblique", (3.0, 0.9, 0.8))
    coarse = make_affine("oblique", (4.0, 1.7, 1.6))
    coarse[:3, 3] -= fine[:3, :3] @ [2.0, 3.0, 3.0]  # somewhat larger on all sides
    at = np.stack(np.meshgrid(*map(np.arange, (16, 34, 36)), indexing="ij"), -1)
    places = at @ coarse[:3, :3].T + coarse[:3, 3]
    middle = fine[:3, :3] @ [6.0, 20.0, 22.0] + fine[:3, 3]
    distance = np.linalg.norm(places - middle, axis=-1)
    return {
        "t2": magnetic(np.zeros(SHAPE), fine),
        "adc": magnetic(np.where(distance < 9.0, 800.0, 0.0), coarse),
    }


def grown(factor: float = 2.0) -> Case:
    """Return an examination and an earlier one, whose bright part was ``factor`` times smaller."""
    now = image_of(volume("axial")["ct"].array)
    voxels = np.argwhere(now.array > 200)
    before = np.full((12, 40, 44), -1000.0)
    before[tuple(voxels[: int(len(voxels) / factor)].T)] = 300.0
    return {"current": now, "before": image_of(before, make_affine("sagittal"))}


def chained() -> Case:
    """Return a CT, and outlines of another pipeline that hold half of it."""
    image = volume()["ct"]
    lungs = np.zeros_like(image.array)
    lungs[: SHAPE[0] // 3], lungs[SHAPE[0] // 3 :] = 1.0, 2.0
    return {
        "ct": image,
        "lungs": Image(array=lungs, affine=image.affine, unit=NO_UNITS, modality="SEG"),
    }


def heart() -> Case:
    """Return a ball that beats, over six phases."""
    made = beating_ball(spacing_mm=(6.0, 2.0, 1.9), shape=(9, 32, 32))
    return {
        "cine": Image(
            array=made.array.reshape(-1, 32, 32).astype(np.float32),
            affine=made.affine,
            unit=NO_UNITS,
            modality="MR",
            phases=len(made.array),
            frame_of_reference="1.2.3",
        )
    }


def long_axis() -> Case:
    """Return one slice over five phases, with a bright spot that moves."""
    array = np.full((5, 30, 36), 10.0, np.float32)
    for phase in range(5):
        array[phase, 8 + phase : 11 + phase, 20:25] = 100.0
    affine = make_affine("oblique", (8.0, 1.5, 1.4))
    return {"cine": Image(array=array, affine=affine, unit=NO_UNITS, modality="MR", phases=5)}


def heartbeat(peak: float = 900.0) -> Case:
    """Return twelve channels of two seconds, in microvolts."""
    time = np.arange(1000) / 500.0
    array = np.outer(np.linspace(0.2, 1.0, 12), peak * np.sin(2 * np.pi * 1.2 * time))
    return {
        "ecg": Image(
            array=array[:, np.newaxis].astype(np.float32),
            affine=np.eye(4),
            unit=Code("uV", "UCUM", "microvolt"),
            modality="ECG",
            facts={"sampling_hz": 500.0, "channels": "I II III"},
            is_spatial=False,
        )
    }


CASES: dict[str, Callable[[], Case]] = {
    **dict.fromkeys(
        ("labels", "one-hot", "probabilities", "network-space", "image", "nodules", "landmark"), volume
    ),
    "channels": brain,
    "two-keys": pelvis,
    "prior": grown,
    "chained": chained,
    "density": lambda: {"view": picture()},
    "in-body": lambda: {"video": colour()},
    "tools": lambda: {"video": colour()},
    "cells": lambda: {"tile": cells()},
    "ventricle": heart,
    "valves": long_axis,
    "rhythm": heartbeat,
}
