"""Findings of every sort at once, on a small simulated CT: what each kind of object must cope with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from node.model import Volume
from pipelines.contract import Code, Detection, Evaluation, Findings, Map, Measurement
from tests.encode.helpers import (
    ABNORMAL,
    LEFT_LUNG,
    LUNG,
    NODULE,
    NODULE_SEGMENT,
    RIGHT,
    RIGHT_LUNG,
    findings_of,
    single_frame_volume,
)
from tests.phantoms import make_affine

SHAPE = (12, 64, 56)  #: (slices, rows, columns)
PROBABILITY = Code("C0018", "99TEST", "Probability")
NO_UNITS = Code("1", "UCUM", "no units")
MILLIMETRE = Code("mm", "UCUM", "millimeter")
LENGTH = Code("410668003", "SCT", "Length")
SEVERITY = Code("246112005", "SCT", "Severity")
MODERATE = Code("6736007", "SCT", "Moderate")


@dataclass(frozen=True)
class Rich:
    volume: Volume
    findings: Findings


def rich(folder: Path, *, overlap: bool = True) -> Rich:
    """Return two lungs and a nodule (in the right lung, where ``overlap``), four detections, two maps."""
    array = np.random.default_rng(11).integers(-1000, 200, SHAPE).astype(np.int16)
    volume = single_frame_volume(folder, array, make_affine("oblique"))
    left, right, nodule = (np.zeros(SHAPE, bool) for _ in range(3))
    left[2:10, 10:50, 5:24] = True
    right[2:10, 10:50, 30:52] = True
    nodule[4:7, 20:27, 36:44] = True
    if not overlap:
        right &= ~nodule
    findings = findings_of(volume, [left, right, nodule], [LEFT_LUNG, RIGHT_LUNG, NODULE_SEGMENT])
    points = {
        "point": [[5.0, 23.0, 40.0]],
        "line": [[5.0, 20.0, 36.0], [5.0, 26.0, 43.0]],
        "box": [[4.0, 20.0, 36.0], [6.0, 26.0, 43.0]],
        "contour": [[5.0, 20.0, 36.0], [5.0, 20.0, 43.0], [5.0, 26.0, 43.0], [5.0, 26.0, 36.0]],
    }
    detections = tuple(
        Detection(
            number=number,
            label=f"Nodule {shape}",
            category=ABNORMAL,
            kind=NODULE,
            shape=shape,  # type: ignore[arg-type]
            points=np.array(where),
            confidence=0.5 + number / 10,
            laterality=RIGHT,
            anatomic_region=LUNG,
        )
        for number, (shape, where) in enumerate(points.items(), start=1)
    )
    heat = np.zeros(SHAPE, np.float32)
    heat[nodule] = np.linspace(0.1, 1.0, int(nodule.sum()), dtype=np.float32)
    maps = (
        Map(label="Attention", quantity=PROBABILITY, unit=NO_UNITS, array=heat),
        Map(label="Nodule", quantity=PROBABILITY, unit=NO_UNITS, array=heat, segment=3),
    )
    more = (
        Measurement(name=LENGTH, value=8.5, unit=MILLIMETRE, detection=2),
        Measurement(name=LENGTH, value=float("nan"), unit=MILLIMETRE, detection=3),
    )
    evaluations = (
        Evaluation(name=SEVERITY, value=MODERATE, probability=0.75),
        Evaluation(name=SEVERITY, value=MODERATE, segment=3, probability=0.25),
        Evaluation(name=SEVERITY, value=MODERATE, detection=4),
    )
    return Rich(
        volume,
        replace(
            findings,
            detections=detections,
            maps=maps,
            measurements=(*findings.measurements, *more),
            evaluations=evaluations,
            cautions=("Cut off below.",),
        ),
    )
