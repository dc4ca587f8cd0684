"""An item goes through a bundle: preprocessing, inferer and network, postprocessing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from monai.utils import set_determinism

from pipelines.bundle.config import is_keyed


@dataclass(slots=True)
class Loaded:
    """A bundle that is ready to run on one device."""

    device: torch.device
    amp: bool
    preprocessing: Compose
    image_key: str
    network: torch.nn.Module
    inferer: Callable[..., Any]
    postprocessing: Compose
    pred_key: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What was caught where the bundle would have saved it."""

    pred: Any  #: one channel-first MetaTensor, or what a bundle of another kind gives
    item: Mapping[str, Any]  #: everything that lay beside it, by the bundle's keys
    #: What the network saw, (channels, ...) with its affine, before anything was done afterwards.
    ready: MetaTensor | None = None


def run(loaded: Loaded, item: Mapping[str, MetaTensor]) -> Answer:
    """Take one case through a bundle, the same way each time.

    Parameters
    ----------
    item
        Key -> (channels, columns, rows, slices), on any device.

    Raises
    ------
    ValueError
        The network gave something else than a tensor.
    """
    set_determinism(seed=0)
    for compose in (loaded.preprocessing, loaded.postprocessing):
        compose.set_random_state(seed=0)
    with torch.inference_mode():
        image = item[loaded.image_key]
        prepared: Any = loaded.preprocessing(dict(item) if is_keyed(loaded.preprocessing) else image)
        ready = prepared[loaded.image_key] if isinstance(prepared, Mapping) else prepared
        ready = ready if isinstance(ready, MetaTensor) else MetaTensor(torch.as_tensor(ready))
        with torch.autocast(loaded.device.type, enabled=loaded.amp):
            batch = ready.unsqueeze(0).to(loaded.device)
            given = loaded.inferer(inputs=batch, network=loaded.network)
        if not isinstance(given, torch.Tensor):
            raise ValueError(f"the network gave a {type(given).__name__}; a single tensor is needed")
        # As decollating does: the answer inherits where the image lies and what was done to it.
        pred = MetaTensor(
            torch.Tensor.as_subclass(given, torch.Tensor)[0].float(),
            meta=dict(ready.meta),  # its affine too
            applied_operations=list(ready.applied_operations),
        )
        beside = prepared if isinstance(prepared, Mapping) else {loaded.image_key: ready}
        if not is_keyed(loaded.postprocessing):
            return Answer(loaded.postprocessing(pred), beside, ready)
        done = loaded.postprocessing({**beside, "pred": pred})
        return Answer(done[loaded.pred_key], done, ready)
