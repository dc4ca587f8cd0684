"""Weights are read as data, never as pickled code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from pipelines.contract import CardError


def read_weights(network: torch.nn.Module, path: Path | None, device: torch.device, name: str) -> None:
    """Give a network its weights.

    Parameters
    ----------
    path
        A state dict, or a checkpoint that holds one; None for a network without parameters.
    name
        Of the card, for the sentence.

    Raises
    ------
    CardError
        There are none, they hold more than tensors, or they do not fit the network.
    """
    if path is None:
        if any(True for _ in network.parameters()):
            raise CardError(f"{name}: the network has parameters; the card names no weights")
        return
    try:
        network.load_state_dict(_state_dict(path, device))
    except UnpicklingError as error:
        raise CardError(f"{name}: {path.name} cannot be loaded: it holds more than tensors") from error
    except (RuntimeError, ValueError, TypeError, ImportError, OSError, KeyError) as error:
        told = getattr(error, "strerror", None) or error  # without the number
        raise CardError(f"{name}: {path.name} cannot be loaded: {told}") from error


def _state_dict(path: Path, device: torch.device) -> Mapping[str, Any]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file  # an extra: only bundles that ship this format need it

        tensors: Mapping[str, Any] = load_file(path, device=str(device))
        return tensors
    content = torch.load(path, map_location=device, weights_only=True)
    for key in ("model", "state_dict", "network"):  # checkpoints of MONAI's and others' savers
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise ValueError(f"it holds a {type(content).__name__}, not a state dict")
    return content
