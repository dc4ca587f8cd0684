"""A MONAI bundle behind the four moments of `pipelines.contract.Pipeline`."""

from __future__ import annotations

import sys

import torch
from monai.inferers import SimpleInferer
from monai.transforms import LoadImage, LoadImaged, SaveImage, SaveImaged

from pipelines.bundle.analysis import analyze
from pipelines.bundle.config import compose_of, parse, role_of, until_caught
from pipelines.bundle.expect import refuse_unexpected
from pipelines.bundle.files import find_files
from pipelines.bundle.handover import HandOver
from pipelines.bundle.inputs import refuse_different_grids
from pipelines.bundle.run import Loaded
from pipelines.bundle.terms import read_terms
from pipelines.bundle.weights import read_weights
from pipelines.check import refuse_unfit
from pipelines.contract import Card, CardError, Case, Findings


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
        on = torch.device(device)
        root = str(self.files.root)
        if (self.files.root / "scripts").is_dir() and root not in sys.path:
            sys.path.insert(0, root)  # the bundle's own modules are named scripts.*
        try:
            parser = parse(self.card, self.terms, self.files, on)
            network = role_of(parser, self.terms, "network_def")
            preprocessing = compose_of(role_of(parser, self.terms, "preprocessing"))
            postprocessing = compose_of(role_of(parser, self.terms, "postprocessing"))
            inferer = role_of(parser, self.terms, "inferer") or SimpleInferer()
            amp = "evaluator::amp" in parser and bool(parser.get_parsed_content("evaluator::amp"))
        except CardError:
            raise
        except Exception as error:  # expressions and scripts of a bundle may raise anything
            raise CardError(
                f"{self.card.name}: the bundle's configuration cannot be used: {error}"
            ) from error
        if not isinstance(network, torch.nn.Module):
            raise CardError(f"{self.card.name}: the bundle's network_def is no torch module")
        handed = [key for step in preprocessing.transforms if isinstance(step, HandOver) for key in step.keys]
        image_key = handed[0] if handed else "image"
        postprocessing, pred_key = until_caught(postprocessing, image_key)
        for step in (*preprocessing.transforms, *postprocessing.transforms):
            if isinstance(step, LoadImage | LoadImaged | SaveImage | SaveImaged):
                raise CardError(f"{self.card.name}: {type(step).__name__} is made inside an expression")
        read_weights(network, self.files.weights, on, self.card.name)
        self._loaded = Loaded(
            device=on,
            amp=amp and on.type == "cuda",
            preprocessing=preprocessing,
            image_key=image_key,
            network=network.to(on).eval(),
            inferer=inferer,
            postprocessing=postprocessing,
            pred_key=pred_key,
        )

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
