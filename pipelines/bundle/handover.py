"""What stands where a bundle's configuration loads its images and saves its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from typing import Any

from monai.data import MetaTensor
from monai.utils import MetaKeys

#: Where `EnsureChannelFirst` looks for the channels: an axis, "no_channel", or None: as the image says.
ChannelDim = int | str | None


class HandOver:
    """Stands where a configuration says LoadImage or LoadImaged: the image is already here.

    What it gives has the shape which the author's loader would have given: the channels where the
    next step looks for them; no channel axis, unless the author asked for one there or there are
    several channels. The reader does not matter, and neither does ``affine_lps_to_ras``: affines
    are RAS, as those of all of MONAI's readers by default.
    """

    def __init__(
        self,
        keys: str | Sequence[str] = (),
        ensure_channel_first: bool = False,
        image_only: bool | str = True,
        meta_key_postfix: str = "meta_dict",
        **_: Any,
    ) -> None:
        self.keys = (keys,) if isinstance(keys, str) else tuple(keys)
        self.ensure_channel_first = ensure_channel_first
        self.gives_meta = str(image_only).lower() == "false"
        self.meta_key_postfix = meta_key_postfix
        self.channel_dims: dict[str, ChannelDim] = {}  #: key ("" without keys) -> where it is looked for

    def __call__(self, item: Any) -> Any:
        """Return the item with its images shaped as loaded."""
        if not isinstance(item, Mapping):
            return self._shaped("", item)
        given = dict(item)
        for key in self.keys:
            if isinstance(item.get(key), MetaTensor):
                given[key] = self._shaped(key, item[key])
                if self.gives_meta:
                    given[f"{key}_{self.meta_key_postfix}"] = dict(given[key].meta)
        return given

    def _shaped(self, key: str, tensor: MetaTensor) -> MetaTensor:
        channel_dim = self.channel_dims.get(key)
        if self.ensure_channel_first:
            return tensor
        if channel_dim not in (None, "no_channel"):
            return tensor.movedim(0, int(channel_dim or 0))
        if len(tensor) > 1:
            if channel_dim == "no_channel":
                raise ValueError(
                    f"the bundle loads {key or 'its image'} without channels; it has {len(tensor)}"
                )
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
