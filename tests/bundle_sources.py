"""DICOM for each bundle of `tests.bundle_zoo`: the cases of `zoo_cases`, written as their machines would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, VLEndoscopicImageStorage

from pipelines.contract import Image
from tests.phantom_cine import group, write_cine, write_ecg, write_enhanced_cine
from tests.phantom_planes import write_plane
from tests.phantoms import uid_of, write_ct_series, write_enhanced_ct, write_mr_series
from tests.pipelines.bundle import zoo_cases

Sources = dict[str, list[Path]]  #: role -> files


def headers_of(name: str, role: str, **more: Any) -> dict[str, Any]:
    """Return what tells a series apart: the study by its bundle, the series by its role."""
    return {
        "StudyInstanceUID": uid_of(name, "study"),
        "SeriesInstanceUID": uid_of(name, "series", role),
        "StudyDescription": name,
        "SeriesDescription": role,
        **more,
    }


def volume(folder: Path, name: str, role: str, image: Image, **headers: Any) -> list[Path]:
    """Write one file per slice, in no order."""
    write = write_ct_series if image.modality == "CT" else write_mr_series
    return write(
        folder / role,
        image.array.astype(np.int16),
        image.affine,
        seed=f"{name} {role}",
        order="shuffled",
        headers=headers_of(name, role, FrameOfReferenceUID=uid_of(name, "frame"), **headers),
    )


def enhanced(folder: Path, name: str, role: str, image: Image) -> list[Path]:
    """Write one file of all slices, in no order."""
    headers = headers_of(name, role)
    array = image.array.astype(np.int16)
    return [
        write_enhanced_ct(
            folder / f"{role}.dcm", array, image.affine, seed=name, order="shuffled", headers=headers
        )
    ]


def _all(name: str) -> Callable[[Path], Sources]:
    def write(folder: Path) -> Sources:
        case = zoo_cases.CASES[name]()
        return {role: volume(folder, name, role, image) for role, image in case.items()}

    return write


def _enhanced(name: str) -> Callable[[Path], Sources]:
    def write(folder: Path) -> Sources:
        return {"ct": enhanced(folder, name, "ct", zoo_cases.CASES[name]()["ct"])}

    return write


def _nodules(folder: Path) -> Sources:
    """Along the axes of the patient: a box in millimetres is upright."""
    return {"ct": volume(folder, "nodules", "ct", zoo_cases.volume("coronal")["ct"])}


def _chained(folder: Path) -> Sources:
    return {"ct": volume(folder, "chained", "ct", zoo_cases.volume()["ct"])}


def _prior(folder: Path) -> Sources:
    case, name = zoo_cases.grown(), "prior"
    old = {"StudyInstanceUID": uid_of("long ago"), "StudyDate": "20250102", "AcquisitionDate": "20250102"}
    return {
        "current": volume(folder, name, "current", case["current"]),
        "before": volume(folder, name, "before", case["before"], **old),
    }


def _mammogram(folder: Path) -> Sources:
    stored = np.rint(zoo_cases.picture().array[0] * 4095).astype(np.uint16)
    headers = headers_of(
        "density",
        "view",
        Modality="MG",
        SOPClassUID=DigitalMammographyXRayImageStorageForPresentation,
        ImagerPixelSpacing=[0.4, 0.3],
        WindowCenter=2048,
        WindowWidth=4096,
        ImageLaterality="L",
    )
    return {"view": [write_plane(folder / "view.dcm", stored, bits=12, seed="density", headers=headers)]}


def _endoscopy(name: str, role: str) -> Callable[[Path], Sources]:
    def write(folder: Path) -> Sources:
        headers = headers_of(name, role, Modality="ES", SOPClassUID=VLEndoscopicImageStorage)
        frames = zoo_cases.CASES[name]()[role].colour
        return {
            role: [
                write_plane(
                    folder / f"{number}.dcm",
                    frame,
                    modality="US",
                    photometric="RGB",
                    number=number,
                    seed=name,
                    headers=headers,
                )
                for number, frame in enumerate(frames, start=1)
            ]
        }

    return write


def _ultrasound(folder: Path) -> Sources:
    frames = zoo_cases.CASES["tools"]()["video"].colour
    headers = headers_of("tools", "video")
    file = write_plane(
        folder / "cine.dcm", frames, modality="US", photometric="RGB", seed="tools", headers=headers
    )
    return {"video": [file]}


def _heart(folder: Path) -> Sources:
    image = zoo_cases.heart()["cine"]
    array = image.array.reshape(image.phases, -1, *image.array.shape[1:]).astype(np.int16)
    headers = headers_of("ventricle", "cine")
    return {"cine": write_cine(folder, array, image.affine, seed="ventricle", headers=headers)}


def _long_axis(folder: Path) -> Sources:
    image = zoo_cases.long_axis()["cine"]
    array = image.array[:, np.newaxis].astype(np.int16)
    headers = headers_of("valves", "cine")
    return {"cine": [write_enhanced_cine(folder / "cine.dcm", array, image.affine, headers=headers)]}


def _heartbeat(folder: Path) -> Sources:
    stored = np.rint(zoo_cases.heartbeat()["ecg"].array[:, 0] / 2.5).astype(np.int16)
    headers = headers_of("rhythm", "ecg")
    return {"ecg": [write_ecg(folder / "ecg.dcm", [group(stored)], seed="rhythm", **headers)]}


SOURCES: dict[str, Callable[[Path], Sources]] = {
    **{name: _all(name) for name in ("labels", "channels", "network-space", "two-keys", "image")},
    **{name: _enhanced(name) for name in ("one-hot", "probabilities", "landmark")},
    "nodules": _nodules,
    "chained": _chained,
    "prior": _prior,
    "density": _mammogram,
    "in-body": _endoscopy("in-body", "video"),
    "tools": _ultrasound,
    "cells": _endoscopy("cells", "tile"),
    "ventricle": _heart,
    "valves": _long_axis,
    "rhythm": _heartbeat,
}
