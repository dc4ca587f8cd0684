"""What stands where a bundle's configuration loads its images and saves its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from typing import Any

from monai.data import MetaTensor
from monai.utils import MetaKeys


class HandOver:
    """Stands where a configuration says LoadImage or LoadImaged: the image is already here.

    What it gives has the shape which the loader would have given: no channel axis, unless the
    author asked for one there or there are several channels.
    """

    def __init__(self, keys: str | Sequence[str] = (), ensure_channel_first: bool = False, **_: Any) -> None:
        self.keys = (keys,) if isinstance(keys, str) else tuple(keys)
        self.ensure_channel_first = ensure_channel_first

    def __call__(self, item: Any) -> Any:
        """Return the item with its images shaped as loaded."""
        if isinstance(item, Mapping):
            return {key: self._shaped(value) if key in self.keys else value for key, value in item.items()}
        return self._shaped(item)

    def _shaped(self, tensor: MetaTensor) -> MetaTensor:
        if self.ensure_channel_first or len(tensor) > 1:
            return tensor
        bare = tensor[0]  # (columns, rows, slices)
        bare.meta[MetaKeys.ORIGINAL_CHANNEL_DIM] = nan  # MONAI's word for "no channel"
        return bare


class Catch:
    """Stands where a configuration says SaveImage or SaveImaged: here the result is taken."""

    def __init__(self, keys: str | Sequence[str] = (), **_: Any) -> None:
        self.keys = (keys,) if isinstance(keys, str) else tuple(keys)

    def __call__(self, item: Any) -> Any:
        """Return the item untouched."""
        return item


STAND_INS = {
    **dict.fromkeys(("LoadImage", "LoadImaged", "LoadImageD", "LoadImageDict"), HandOver),
    **dict.fromkeys(("SaveImage", "SaveImaged", "SaveImageD", "SaveImageDict"), Catch),
}
