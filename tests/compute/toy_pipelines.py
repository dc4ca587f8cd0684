"""Pipelines, good and bad, as a card may name them."""

from __future__ import annotations

import sys

import numpy as np

from pipelines.contract import Card, Case, Findings, InputRefused
from tests.compute.findings_maker import findings


class Good:
    """Says what it should."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.loads: list[str] = []

    def load(self, device: str) -> None:
        self.loads.append(device)

    def check(self, case: Case) -> None:
        assert set(case) == {"ct"}

    def analyze(self, case: Case) -> Findings:
        return findings()


class Raises(Good):
    def analyze(self, case):
        raise RuntimeError("out of\x1b[31m luck")


class ChangesTheVoxels(Good):
    def analyze(self, case):
        case["ct"].array[:] = 0
        return findings()


class ChangesTheColours(Good):
    def analyze(self, case):
        case["ct"].colour[:] = 0
        return findings()


class RaisesUnprintable(Good):
    def analyze(self, case):
        class Odd(Exception):
            def __str__(self):
                raise ValueError

        raise Odd


class Exits(Good):
    def check(self, case):
        sys.exit(0)


class Refuses(Good):
    def check(self, case):
        raise InputRefused("no-lungs", "There are no lungs.")


class FailsToLoad(Good):
    def load(self, device):
        raise FileNotFoundError("weights.pt")


class MovesTheImage(Good):
    """Changes the affine in place, and hands that back as its own."""

    def analyze(self, case):
        affine = case["ct"].affine
        affine[:3, 3] += 10
        return findings(affine=affine)


class ReturnsNothing(Good):
    def analyze(self, case):
        return None


class WrongShape(Good):
    def analyze(self, case):
        return findings(labelmap=np.zeros((4, 5, 7), np.uint8))


class NoPipeline:
    def __init__(self, card: Card) -> None:
        pass
