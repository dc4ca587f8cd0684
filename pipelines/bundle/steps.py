"""The transforms of a bundle: one flat row of steps, cut where results are saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monai.transforms import (
    Compose,
    EnsureChannelFirst,
    EnsureChannelFirstd,
    LoadImage,
    LoadImaged,
    MapTransform,
    SaveImage,
    SaveImaged,
)

from pipelines.bundle.handover import Catch, HandOver


@dataclass(frozen=True, slots=True)
class Stage:
    """Steps, and what the bundle would have saved after them."""

    steps: Compose
    keys: tuple[str, ...]  #: of what would have been saved; empty for a result without a key


def compose_of(*parts: Any) -> Compose:
    """Return one flat Compose of whatever the configuration gave: Composes, lists, single steps, none.

    What loads or saves files and was made inside an expression gets its stand-in here.
    """
    steps: list[Any] = []
    for part in parts:
        steps += part if isinstance(part, Sequence) and not isinstance(part, Compose) else [part]
    compose = Compose([step for step in steps if step is not None])
    _replace(compose)
    flat = compose.flatten()
    _tell_channels(flat)
    return flat


def stages_of(compose: Compose) -> tuple[Stage, ...]:
    """Return the stages up to the last place where something would be saved; all steps if nothing is."""
    stages: list[Stage] = []
    start = 0
    for index, step in enumerate(compose.transforms):
        if isinstance(step, Catch):
            stages.append(Stage(Compose(compose.transforms[start:index]), step.keys))
            start = index + 1
    return tuple(stages) or (Stage(compose, ()),)


def is_keyed(compose: Compose) -> bool:
    """Say whether these transforms work on a dictionary."""
    return any(isinstance(t, MapTransform) or getattr(t, "keys", ()) for t in compose.transforms)


def loaded_keys(compose: Compose) -> tuple[str, ...]:
    """Return the keys of the images which the bundle would load."""
    return tuple(dict.fromkeys(key for t in compose.transforms if isinstance(t, HandOver) for key in t.keys))


def forgive(compose: Compose, absent: set[str]) -> None:
    """Let steps go on without keys that only a bundle's own data set would bring, such as its truth."""
    for step in compose.transforms:
        if isinstance(step, MapTransform) and absent & set(getattr(step, "keys", ())):
            step.allow_missing_keys = True


def _replace(compose: Compose) -> None:
    """Put stand-ins for loaders and savers, in place: Invertd may refer to this very Compose."""
    steps: list[Any] = []
    for step in compose.transforms:
        if isinstance(step, Compose):
            _replace(step)
        elif isinstance(step, LoadImage | LoadImaged):
            loader = getattr(step, "_loader", step)
            postfix = getattr(step, "meta_key_postfix", ("meta_dict",))
            step = HandOver(
                getattr(step, "keys", ()),
                loader.ensure_channel_first,
                loader.image_only,
                postfix if isinstance(postfix, str) else next(iter(postfix), "meta_dict"),
            )
        elif isinstance(step, SaveImage | SaveImaged):
            step = Catch(getattr(step, "keys", ()))
        steps.append(step)
    compose.transforms = tuple(steps)


def _tell_channels(compose: Compose) -> None:
    """Tell each loader where the next step looks for the channels of its images."""
    dims: dict[str, Any] = {}
    for step in reversed(compose.transforms):
        if isinstance(step, EnsureChannelFirst):
            dims[""] = step.input_channel_dim
        elif isinstance(step, EnsureChannelFirstd):
            dims |= dict.fromkeys(step.keys, step.adjuster.input_channel_dim)
        elif isinstance(step, HandOver):
            step.channel_dims = {key: dims.get(key) for key in step.keys or ("",)}


def first_of(value: Any) -> Any:
    """Return the answer for the one image of a batch, as decollating does.

    A list with one entry is a list of images (detectors answer so); in tuples, tables and other lists
    each part has a batch axis.
    """
    if hasattr(value, "ndim"):
        return value[0] if value.ndim else value
    if isinstance(value, Mapping):
        return {key: first_of(part) for key, part in value.items()}
    if isinstance(value, list) and len(value) == 1:
        return value[0] if isinstance(value[0], Mapping | list | tuple) else first_of(value[0])
    if isinstance(value, list | tuple):
        return [first_of(part) for part in value]
    return value
