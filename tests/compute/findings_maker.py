"""A card, a case and good findings for it, to be spoilt one thing at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.contract import (
    Card,
    Code,
    Detection,
    Evaluation,
    Findings,
    Image,
    InputSpec,
    Map,
    Measurement,
    Segment,
)

SHAPE = (4, 5, 6)  #: slices, rows, columns
ANATOMY = Code("91723000", "SCT", "Anatomical Structure")
HU = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
ML = Code("mL", "UCUM", "milliliter")
VOLUME = Code("118565006", "SCT", "Volume")
LUNG = Code("39607008", "SCT", "Lung")
SPLEEN = Code("78961009", "SCT", "Spleen")
NODULE = Code("27925004", "SCT", "Nodule")
NO_UNITS = Code("1", "UCUM", "no units")
POINTS = {
    "point": [[1.0, 2.0, 3.0]],
    "line": [[1.0, 2.0, 3.0], [2.5, 2.0, 3.0], [3.0, 4.0, 0.0]],
    "box": [[0.0, 0.0, 0.0], [3.0, 4.0, 5.0]],
    "contour": [[1.0, 1.0, 1.0], [1.0, 3.0, 1.5], [1.0, 2.0, 4.0]],
}


def segment(number: int, kind: Code = LUNG, **changes: Any) -> Segment:
    """Return one segment of a kind."""
    return Segment(**{"number": number, "label": kind.meaning, "category": ANATOMY, "kind": kind} | changes)


def card(**changes: Any) -> Card:
    """Return a card that declares lungs and a spleen."""
    plain = {
        "name": "toy",
        "version": "1",
        "title": "Toy",
        "maker": "test",
        "intended_use": "test",
        "use": "tests.compute.toy_pipelines:Good",
        "inputs": {"ct": InputSpec(modality=("CT",), unit=HU.value)},
        "segments": (segment(1, LUNG), segment(2, SPLEEN)),
        "detects": (NODULE,),
        "folder": Path(__file__).parent,
        "digest": "0" * 64,
    }
    return Card(**plain | changes)


def detection(number: int = 1, shape: str = "point", **changes: Any) -> Detection:
    """Return a nodule of a shape."""
    plain = {
        "number": number,
        "label": f"Nodule {number}",
        "category": ANATOMY,
        "kind": NODULE,
        "shape": shape,
        "points": np.array(POINTS.get(shape, POINTS["point"])),
        "confidence": 0.75,
    }
    return Detection(**plain | changes)


def a_map(**changes: Any) -> Map:
    """Return a probability of the first segment everywhere."""
    plain = {"label": "Lung", "quantity": LUNG, "unit": NO_UNITS, "segment": 1}
    return Map(**{"array": np.full(SHAPE, 0.5, np.float32), **plain, **changes})


def image(**changes: Any) -> Image:
    """Return an image of water."""
    plain = {
        "array": np.zeros(SHAPE, np.float32),
        "affine": np.array([[0, 0, 1, 5], [0, 1, 0, 6], [2, 0, 0, 7], [0, 0, 0, 1]], np.float64),
        "unit": HU,
        "modality": "CT",
    }
    return Image(**plain | changes)


def findings(**changes: Any) -> Findings:
    """Return good findings on that image: a lung, a spleen, a volume of each, one evaluation."""
    labelmap = np.zeros(SHAPE, np.uint8)  # (slices, rows, columns)
    labelmap[1], labelmap[2] = 1, 2
    plain = Findings(
        labelmap=labelmap,
        affine=image().affine,
        segments=(segment(1, LUNG), segment(2, SPLEEN)),
        measurements=(
            Measurement(name=VOLUME, value=1.5, unit=ML, segment=1),
            Measurement(name=VOLUME, value=float("nan"), unit=ML, segment=2),
        ),
        evaluations=(Evaluation(name=SPLEEN, value=LUNG, probability=0.5),),
        cautions=("Motion.",),
    )
    return replace(plain, **changes)
