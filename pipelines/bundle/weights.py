"""Weights are read as data, never as pickled code."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pipelines.contract import CardError

#: What checkpoints hold beside tensors: numpy's numbers and arrays, which are data as well.
_NUMPY = [
    np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
    np._core.multiarray.scalar,  # type: ignore[attr-defined]
    np.ndarray,
    np.dtype,
    *(type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd"),
]
#: Under which savers put the state dict of a network.
_KEYS = ("model", "state_dict", "network", "net", "model_state_dict")
#: What wrappers put before every name.
_PREFIXES = ("module.", "_orig_mod.")


@contextmanager
def data_only() -> Iterator[None]:
    """Let `torch.load` read nothing but data, whoever calls it and whatever he asks for."""
    key = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(key)
    os.environ[key] = "1"
    try:
        with torch.serialization.safe_globals(_NUMPY):
            yield
    finally:
        os.environ.pop(key)
        if before is not None:
            os.environ[key] = before


def is_torchscript(path: Path | None) -> bool:
    """Say whether a file is a TorchScript archive: a network and its weights in one."""
    if path is None or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.count("/") == 1 and name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: Path, device: torch.device, name: str) -> torch.nn.Module:
    """Return the network of a TorchScript archive on ``device``.

    Raises
    ------
    CardError
        It cannot be read.
    """
    try:
        network: torch.nn.Module = torch.jit.load(str(path), map_location=device)  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError, OSError) as error:
        raise CardError(f"{name}: {path.name} cannot be loaded: {_told(error)}") from error
    return network


def read_weights(
    network: torch.nn.Module, path: Path | None, device: torch.device, name: str, key: str = ""
) -> None:
    """Give a network its weights.

    Parameters
    ----------
    path
        A state dict, or a checkpoint that holds one, of torch or safetensors, whatever its name
        ends in; None for a network without parameters.
    name
        Of the card, for the sentence.
    key
        Under which the bundle looks for the state dict in a checkpoint.

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
        with data_only():
            network.load_state_dict(_state_dict(path, device, key))
    except UnpicklingError as error:
        raise CardError(
            f"{name}: {path.name} cannot be loaded: it holds more than tensors, such as a whole pickled "
            f"network, which would be a program; save its state_dict() instead"
        ) from error
    except (RuntimeError, ValueError, TypeError, ImportError, OSError, KeyError, EOFError) as error:
        raise CardError(f"{name}: {path.name} cannot be loaded: {_told(error)}") from error


def _state_dict(path: Path, device: torch.device, key: str) -> Mapping[str, Any]:
    content = _content(path, device)
    for inner in dict.fromkeys((key, *_KEYS)):  # checkpoints of MONAI's and others' savers
        if isinstance(content, Mapping) and isinstance(content.get(inner), Mapping):
            content = content[inner]
    if not isinstance(content, Mapping):
        raise ValueError(f"it holds a {type(content).__name__}, not a state dict")
    for prefix in _PREFIXES:
        if content and all(str(name).startswith(prefix) for name in content):
            content = {name.removeprefix(prefix): tensor for name, tensor in content.items()}
    tensors: Mapping[str, Any] = content
    return tensors


def _content(path: Path, device: torch.device) -> Any:
    if _is_safetensors(path):
        try:
            return load_file(path, device=str(device))
        except SafetensorError as error:
            raise ValueError(str(error)) from error
    return torch.load(path, map_location=device, weights_only=True)


def _is_safetensors(path: Path) -> bool:
    """Say whether a file begins with the length of a JSON header, as safetensors do."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def _told(error: Exception) -> object:
    return getattr(error, "strerror", None) or error  # without the number
