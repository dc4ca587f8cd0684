"""A bundle runs on the device that the node chose, whatever it says itself.

Configurations pin ``torch.device('cuda')``, scripts call ``.cuda()``: both are told the chosen device.
On CUDA nothing needs to be done for scripts, whose "cuda" is then the node's.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from pipelines.bundle.shortcuts import SHORTCUTS

_CUDA = r"cuda(?::\d+)?"
_LITERAL = re.compile(rf"""(['"]){_CUDA}\1""")
_METHOD = re.compile(r"\.cuda\([^()]*\)")


def said_for(text: str, device: torch.device) -> str:
    """Return a string of a configuration with ``device`` in the place of every CUDA device.

    Parameters
    ----------
    text
        An expression (``$torch.device('cuda:0')``), or a value that is the name of a device.
    """
    if text.startswith("$"):
        return _METHOD.sub(f".to('{device}')", _LITERAL.sub(f"'{device}'", text))
    return str(device) if re.fullmatch(_CUDA, text) else text


def pinned_to(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which torch understands "cuda" as ``device``, also within scripts."""
    return contextlib.nullcontext() if device.type == "cuda" else _Pinned(device)


class _Pinned(TorchFunctionMode):
    """Torch's own hook: sees each call of torch while it is entered."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call ``func``, or what is quicker and gives the same, with the chosen device."""
        if func is torch.Tensor.cuda:
            return args[0].to(self.device)
        if func is torch.device:
            return self._chosen(func(*args, **(kwargs or {})))
        named = {key: self._chosen(value) for key, value in (kwargs or {}).items()}
        quick = SHORTCUTS.get(func, func) if self.device.type == "cpu" else func
        return quick(*(self._chosen(value) for value in args), **named)

    def _chosen(self, value: Any) -> Any:
        is_cuda = (isinstance(value, torch.device) and value.type == "cuda") or (
            isinstance(value, str) and re.fullmatch(_CUDA, value) is not None
        )
        return self.device if is_cuda else value
