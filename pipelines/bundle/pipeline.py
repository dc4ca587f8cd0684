"""A MONAI bundle behind the four moments of `pipelines.contract.Pipeline`."""

from __future__ import annotations

import torch

from pipelines.bundle.analysis import analyze
from pipelines.bundle.expect import refuse_unexpected
from pipelines.bundle.files import find_files
from pipelines.bundle.inputs import refuse_different_grids
from pipelines.bundle.load import load
from pipelines.bundle.run import Loaded
from pipelines.bundle.terms import read_terms
from pipelines.check import refuse_unfit
from pipelines.contract import Card, Case, Findings


class BundlePipeline:
    """A bundle's folder and its card.

    Raises
    ------
    CardError
        A file is missing, the weights are not the pinned ones, or card and bundle disagree.
    """

    def __init__(self, card: Card) -> None:
        self.card = card
        self.terms = read_terms(card)
        self.files = find_files(card, self.terms)
        self._loaded: Loaded | None = None

    def load(self, device: str) -> None:
        """Build the network and its transforms and read the weights onto ``device``."""
        self._loaded = load(self.card, self.terms, self.files, torch.device(device))

    def check(self, case: Case) -> None:
        """Refuse what the card does not accept or expect."""
        refuse_unfit(self.card, case)
        refuse_different_grids(self.card, case)
        for expectation in self.terms.expects:
            refuse_unexpected(expectation, case[next(iter(self.card.inputs))])

    def analyze(self, case: Case) -> Findings:
        """Run the bundle; see `pipelines.bundle.analysis.analyze`.

        Raises
        ------
        ValueError
            The result is not on the source grid (`GeometryChanged`), or is not what the card says.
        RuntimeError
            `load` was not called, or a part of the bundle failed.
        """
        if self._loaded is None:
            raise RuntimeError(f"{self.card.name}: load() comes before analyze()")
        return analyze(self._loaded, self.card, self.terms, case)
