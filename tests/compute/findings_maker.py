"""A card, a case and good findings for it, to be spoilt one thing at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.contract import Card, Code, Evaluation, Findings, Image, InputSpec, Measurement, Segment

SHAPE = (4, 5, 6)  #: slices, rows, columns
ANATOMY = Code("123037004", "SCT", "Anatomical Structure")
HU = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
ML = Code("mL", "UCUM", "milliliter")
VOLUME = Code("118565006", "SCT", "Volume")
LUNG = Code("39607008", "SCT", "Lung")
SPLEEN = Code("78961009", "SCT", "Spleen")


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
        "folder": Path(__file__).parent,
        "digest": "0" * 64,
    }
    return Card(**plain | changes)


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
