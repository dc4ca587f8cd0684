"""How full an accelerator is, as PyTorch sees it."""

from __future__ import annotations

import gc

import torch


def used_share(device: str) -> float:
    """Return how much of a device's memory is in use, by anybody: 0 to 1.

    What PyTorch keeps for itself to use again counts as free.
    """
    free, total = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return 1.0 - (free + kept) / total


def release(device: str) -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    if device != "cpu":
        torch.cuda.empty_cache()
