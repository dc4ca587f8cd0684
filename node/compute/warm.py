"""Inside a worker: pipelines stay in memory between cases, as long as there is room for them."""

from __future__ import annotations

import gc
import importlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from node.compute.load import load_pipeline
from node.errors import MemoryExceeded, PipelineFailed
from pipelines.contract import Card, Pipeline

#: Above this share of the memory in use the pipeline unused for longest gives way; the rest is for the
#: work itself, which takes most of it.
FULL: Final = 0.5

#: What libraries say when memory is short, beside `MemoryError`.
_SHORT_CLASSES: Final = ("OutOfMemoryError",)
_SHORT_WORDS: Final = ("out of memory", "can't allocate memory", "not enough memory")

Answer = TypeVar("Answer")


class Shelf:
    """Pipelines that are ready to run on one device.

    Parameters
    ----------
    used_share
        Tells how much of the memory is in use, 0 to 1.
    """

    def __init__(self, device: str, used_share: Callable[[], float]) -> None:
        self._device = device
        self.used_share = used_share
        self._kept: OrderedDict[str, tuple[Card, Pipeline]] = OrderedDict()  # by digest, newest last

    @property
    def names(self) -> list[str]:
        """Of the pipelines that are ready, the one used last at the end."""
        return [card.name for card, _ in self._kept.values()]

    def known(self, digest: str) -> Card | None:
        """Return the card of a pipeline that is ready."""
        return self._kept[digest][0] if digest in self._kept else None

    def take(self, card: Card) -> Pipeline:
        """Return a pipeline that is ready to run; while it is kept, the same one.

        Raises
        ------
        PipelineFailed
            Its code cannot be imported, is no `Pipeline`, or failed to load.
        MemoryExceeded
            There is no room for it, even alone.
        """
        if card.digest not in self._kept:
            self.trim()
            self._kept[card.digest] = card, self.roomy(card, lambda: load_pipeline(card, self._device))
        self._kept.move_to_end(card.digest)
        return self._kept[card.digest][1]

    def trim(self) -> None:
        """Let go of what was not used for longest, until there is room or one is left."""
        while len(self._kept) > 1 and self.used_share() > FULL:
            self._kept.popitem(last=False)
            release(self._device)

    def roomy(self, card: Card, act: Callable[[], Answer]) -> Answer:
        """Do something for a pipeline; where memory is short, again with all others gone.

        Raises
        ------
        MemoryExceeded
            It is short even so.
        """
        try:
            return act()
        except PipelineFailed as error:
            if not _is_short(error):
                raise
        # Out here nothing refers to the failed try any more, whose frames hold what it had made.
        for digest in [digest for digest in self._kept if digest != card.digest]:
            del self._kept[digest]
        release(self._device)
        try:
            return act()
        except PipelineFailed as error:
            if not _is_short(error):
                raise
            self._kept.clear()
            raise MemoryExceeded(
                f"{card.name} needs more memory than there is for it on {self._device}, even alone; give it "
                "a larger device or more of [compute] memory_gb, or smaller windows."
            ) from error


def used_share(device: str, memory_bytes: int) -> float:
    """Return how much of the memory for a device is in use: 0 to 1.

    Parameters
    ----------
    memory_bytes
        What this process may have on processors.
    """
    if device == "cpu":
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        kib = next((int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), 0)
        return kib * 1024 / memory_bytes
    share: float = importlib.import_module("pipelines.device").used_share(device)
    return share


def release(device: str) -> None:
    """Give memory back to the device."""
    gc.collect()
    if device != "cpu":
        importlib.import_module("pipelines.device").release(device)


def _is_short(error: BaseException | None) -> bool:
    """Say whether an error, or one behind it, is for want of memory."""
    seen = 0
    while error is not None and seen < 20:
        said = str(error).lower() if isinstance(error, RuntimeError) else ""
        if isinstance(error, MemoryError) or type(error).__name__ in _SHORT_CLASSES:
            return True
        if any(words in said for words in _SHORT_WORDS):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False
