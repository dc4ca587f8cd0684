"""A map of what an answer rests on, for bundles that give scores.

Three ways, each by MONAI: hide one place after another and see how much the score falls
(occlusion); see how much each voxel moves the score (gradient, averaged over noise); see which
places a layer of the network looks at for the answer (gradcam). None of them outlines a disease.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from math import ceil, prod

import numpy as np
import torch
from monai.utils import set_determinism
from monai.visualize import GradCAM, OcclusionSensitivity, SmoothGrad
from numpy.typing import NDArray

from pipelines import codes
from pipelines.bundle.inputs import Part
from pipelines.bundle.outputs.place import resampled
from pipelines.bundle.run import Loaded, at_work, prepare
from pipelines.bundle.terms import Explain, Terms
from pipelines.contract import Code, Map
from pipelines.geometry import grid_of

#: Of a case of many pictures, those of the highest scores are explained.
MOST_PARTS = 4
#: The network runs at most about so often for one map: windows grow with the image.
MOST_PASSES = 600
SAMPLES = 16  #: noisy copies over which a gradient is averaged
#: Values of one batch of hidden places, about 256 MB.
BATCH_VALUES = 2**26

QUANTITY: dict[Explain, Code] = {
    "occlusion": codes.SALIENCY,
    "gradient": codes.SALIENCY,
    "gradcam": codes.GRADIENT_CLASS_ACTIVATION,
}
_HOW: dict[Explain, str] = {
    "occlusion": "where hiding a part of the image lowers its score",
    "gradient": "where small changes of the image change its score",
    "gradcam": "which places one layer of the network counted for it",
}


def caution_of(how: Explain, answer: str, explained: int, parts: int) -> str:
    """Return what a reader is told of the map."""
    rest = f" {explained} of {parts} images are explained." if explained < parts else ""
    return (
        f"The map of {answer!r} shows {_HOW[how]}, as a share of its highest value. It is no outline, no "
        f"measurement and no proof of the answer.{rest}"
    )


def map_of(how: Explain, answer: str, array: NDArray[np.float32]) -> Map:
    """Return a map, (slices, rows, columns), 0..1."""
    return Map(label=f"Saliency: {answer}"[:64], quantity=QUANTITY[how], unit=codes.NO_UNITS, array=array)


def parts_to_explain(scores: NDArray[np.float64]) -> list[int]:
    """Return which parts have the highest scores, (parts,), at most `MOST_PARTS`, in their order."""
    return sorted(np.argsort(-scores, kind="stable")[:MOST_PARTS].tolist())


def explain(loaded: Loaded, terms: Terms, part: Part, index: int) -> NDArray[np.float32]:
    """Return what one answer rests on, on the grid of the part.

    Parameters
    ----------
    index
        Of the answer, in the order of the bundle's scores.

    Returns
    -------
    NDArray
        (slices, rows, columns), float32, 0 or more, in no unit.

    Raises
    ------
    ValueError
        The bundle's network takes more than an image or gives another number of scores than the card
        has answers, or there is no such layer.
    """
    if loaded.prepare_batch is not None:
        raise ValueError("a network that is given more than an image cannot be explained")
    with at_work(loaded):
        ready = prepare(loaded, part.item)[1]
    # What was made in inference mode has no gradients; a copy has.
    batch = torch.tensor(ready.as_tensor().cpu().numpy(), dtype=torch.float32, device=loaded.device)[None]
    set_determinism(seed=0)
    with at_work(loaded), torch.inference_mode(False), torch.enable_grad():
        heat = _heat(loaded, terms, batch, index)
    on_source: NDArray[np.float32] = resampled(heat, grid_of(ready), part.grid, linear=True)[0]
    return on_source


def _heat(loaded: Loaded, terms: Terms, batch: torch.Tensor, index: int) -> NDArray[np.float32]:
    """Return (1, *spatial), 0 or more."""
    answers = len(terms.answers)
    if terms.explain == "occlusion":
        with torch.no_grad():
            return _occlusion(_Scores(loaded.network, answers), batch, index)
    if terms.explain == "gradient":
        gradient = SmoothGrad(_Scores(loaded.network, answers), n_samples=SAMPLES, verbose=False)(
            batch, index=index
        )
        return _numpy(gradient.abs().sum(dim=1))
    layers = dict(loaded.network.named_modules())
    if terms.explain_layer not in layers:
        raise ValueError(f"the network has no layer {terms.explain_layer!r}; see named_modules()")
    network = _Scores(
        copy.deepcopy(loaded.network).requires_grad_(), answers
    )  # hooks would stay on the warm one
    look = GradCAM(network, f"network.{terms.explain_layer}", postprocessing=lambda heat: heat)
    return _numpy(look(batch, class_idx=index)[:, 0])


def _occlusion(network: torch.nn.Module, batch: torch.Tensor, index: int) -> NDArray[np.float32]:
    shape = tuple(batch.shape[2:])
    look = OcclusionSensitivity(
        network,
        mask_size=window(shape),
        n_batch=max(1, min(16, BATCH_VALUES // batch.numel())),
        verbose=False,
        mode="mean_img",
        overlap=0.5,
        activate=False,
    )
    hidden, _ = look(batch)  # (1, answers, *spatial): the score while each place is hidden
    fall = network(batch)[0, index] - hidden[0, index]
    return _numpy(fall.clamp(min=0)[None])


def _numpy(tensor: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = torch.Tensor.as_subclass(tensor, torch.Tensor).detach().cpu().numpy()
    return array


def window(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the smallest window, overlapping by half, that needs at most `MOST_PASSES` places."""
    for parts in range(16, 1, -1):
        size = tuple(ceil(length / parts) for length in shape)
        places = (
            ceil((length - side) / max(1, side // 2)) + 1 for length, side in zip(shape, size, strict=True)
        )
        if prod(places) <= MOST_PASSES:
            return size
    return tuple(ceil(length / 2) for length in shape)


class _Scores(torch.nn.Module):
    """A network whose answer is (batch, answers), whatever it gives.

    One score for two answers is that of the second, as `pipelines.bundle.outputs.scores` reads it; one
    score for one answer is its own.
    """

    def __init__(self, network: torch.nn.Module, answers: int) -> None:
        super().__init__()
        self.network = network
        self.answers = answers

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        given = self.network(batch)
        while isinstance(given, list | tuple):
            given = given[0]
        scores: torch.Tensor = given.flatten(1).float()
        if scores.shape[1] == 1 and self.answers == 2:
            scores = torch.cat([-scores, scores], dim=1)
        if scores.shape[1] != self.answers:
            raise ValueError(f"the network gives {scores.shape[1]} scores for {self.answers} answers")
        return scores
