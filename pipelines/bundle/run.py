"""An item goes through a bundle: preprocessing, inferer and network, postprocessing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import SaliencyInferer
from monai.transforms import Compose
from monai.transforms.utils import reset_ops_id
from monai.utils import CommonKeys, set_determinism

from pipelines.bundle.device import pinned_to
from pipelines.bundle.modules import BundleModules
from pipelines.bundle.steps import Stage, first_of, forgive, is_keyed
from pipelines.bundle.weights import data_only
from pipelines.geometry import GeometryChanged

CPU = torch.device("cpu")
LONGEST = 200  #: characters that are told of an error's message


@dataclass(slots=True, kw_only=True)
class Loaded:
    """A bundle that is ready to run on one device."""

    device: torch.device
    amp: bool
    preprocessing: Compose
    image_key: str  #: what the bundle calls its (first) image
    network: torch.nn.Module
    inferer: Callable[..., Any]
    stages: tuple[Stage, ...]  #: of the postprocessing
    modules: BundleModules
    extras: Mapping[str, Any] = field(default_factory=dict)  #: further entries of each item
    #: As `monai.engines.utils.default_prepare_batch`, where the bundle or the card has its own.
    prepare_batch: Callable[..., Any] | None = None
    collate: Callable[..., Any] | None = None  #: the bundle's own, for that
    decollates: bool = True  #: False: postprocessing is given batches
    #: An answer that is a table becomes entries of the item: a handler, not the evaluator, goes on.
    spreads: bool = False
    result: str = ""  #: key of the result, where several are saved
    is_picture: bool = True  #: False: scores, boxes or points, which lie where their numbers say
    given_on: torch.device = CPU  #: where the transforms find the item


@dataclass(frozen=True, slots=True)
class Answer:
    """What was caught where the bundle would have saved it."""

    #: One channel-first MetaTensor on the grid to which the bundle returned; or what a bundle of
    #: another kind gives: scores (classes,), a table of boxes, labels and scores, a table of all that
    #: would have been saved under different keys.
    pred: Any
    item: Mapping[str, Any]  #: everything that lay beside it, by the bundle's keys
    #: What the network saw, (channels, ...) with its affine, before anything was done afterwards.
    ready: MetaTensor | None = None


class BundleFailed(RuntimeError):
    """A part of the bundle raised something; the sentence says which part, and what."""


def run(loaded: Loaded, item: Mapping[str, MetaTensor]) -> Answer:
    """Take one case through a bundle, the same way each time.

    Parameters
    ----------
    item
        Key -> (channels, columns, rows, slices), on any device.

    Raises
    ------
    BundleFailed
        A part of the bundle failed for another reason than memory.
    GeometryChanged
        The network's answer is no picture of what it saw.
    """
    if loaded.given_on != CPU:
        with suppress(torch.OutOfMemoryError):
            return _run(loaded, {key: tensor.to(loaded.given_on) for key, tensor in item.items()})
    return _run(loaded, item)


def _run(loaded: Loaded, item: Mapping[str, MetaTensor]) -> Answer:
    with at_work(loaded):
        with _part("preprocessing"):
            prepared, ready = prepare(loaded, item)
        with _part("network"):
            given = predict(loaded, prepared, ready)
        with _part("postprocessing"):
            return finish(loaded, prepared, ready, given)


@contextmanager
def _part(name: str) -> Iterator[None]:
    """Name the part of the bundle in which something failed."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError, GeometryChanged):
        raise
    except Exception as error:
        raise BundleFailed(f"the bundle's {name} failed: {told(error)}") from error


def told(error: BaseException) -> str:
    """Return the kind of an error's root and the first line of what it says, printable and short."""
    while error.__cause__ is not None:
        error = error.__cause__
    first = str(error)[:10_000].strip().split("\n", 1)[0]
    said = " ".join("".join(c if c.isprintable() else " " for c in first).split())
    return f"{type(error).__name__}: {said if len(said) <= LONGEST else said[:LONGEST] + '...'}"


def at_work(loaded: Loaded) -> ExitStack:
    """Return the context in which a bundle's parts may be called; `run` enters it itself."""
    stack = ExitStack()
    stack.enter_context(loaded.modules.visible())
    stack.enter_context(pinned_to(loaded.device))
    stack.enter_context(data_only())
    # A map of what the answer rests on needs the gradients.
    needs_gradients = isinstance(loaded.inferer, SaliencyInferer)
    stack.enter_context(torch.enable_grad() if needs_gradients else torch.inference_mode())
    return stack


def prepare(loaded: Loaded, item: Mapping[str, MetaTensor]) -> tuple[dict[str, Any], MetaTensor]:
    """Return the item after preprocessing, and what the network is to see: (channels, ...)."""
    set_determinism(seed=0)
    absent = {CommonKeys.LABEL} - item.keys() - loaded.extras.keys()  # the truth: a node has none
    for compose in (loaded.preprocessing, *(stage.steps for stage in loaded.stages)):
        compose.set_random_state(seed=0)
        forgive(compose, absent)
    whole = {**loaded.extras, **item}
    prepared = loaded.preprocessing(whole if is_keyed(loaded.preprocessing) else item[loaded.image_key])
    if not isinstance(prepared, Mapping):
        prepared = {**loaded.extras, loaded.image_key: prepared}
    key = CommonKeys.IMAGE if CommonKeys.IMAGE in prepared else loaded.image_key
    ready = prepared[key]
    ready = ready if isinstance(ready, MetaTensor) else MetaTensor(torch.as_tensor(ready))
    prepared = {**prepared, key: ready}
    for value in prepared.values():
        if isinstance(value, MetaTensor):
            reset_ops_id(value)  # a copy of the same transforms may invert them, as in other processes
    return prepared, ready


def predict(loaded: Loaded, prepared: Mapping[str, Any], ready: MetaTensor) -> Any:
    """Return what the inferer gives for a batch of one, as it is."""
    with torch.autocast(loaded.device.type, enabled=loaded.amp):
        inputs, args, kwargs = _batch(loaded, prepared, ready)
        return loaded.inferer(inputs, loaded.network, *args, **kwargs)


def finish(loaded: Loaded, prepared: Mapping[str, Any], ready: MetaTensor, given: Any) -> Answer:
    """Return the answer after postprocessing, taken where it would have been saved."""
    pred = first_of(given) if loaded.decollates else given
    if loaded.is_picture:
        _refuse_other_shapes(pred, ready)
    pred = _located(pred, ready, top=True)
    beside = dict(prepared) if loaded.decollates else _batched(prepared)
    if not any(is_keyed(stage.steps) or stage.keys for stage in loaded.stages):
        for stage in loaded.stages:
            pred = stage.steps(pred)
        return Answer(pred, beside, ready)
    spread = pred if loaded.spreads and isinstance(pred, Mapping) else {}
    done: dict[str, Any] = {**beside, CommonKeys.PRED: pred, **spread}
    caught: dict[str, Any] = {}
    for stage in loaded.stages:
        done = stage.steps(done)
        caught |= {key: done[key] for key in stage.keys if key in done and key not in beside}
    done = {**done, **caught}
    if loaded.result:
        return Answer(done[loaded.result], done, ready)
    if spread and not caught:
        return Answer({key: done[key] for key in spread if key in done}, done, ready)
    if CommonKeys.PRED in caught or not caught:
        return Answer(done[CommonKeys.PRED], done, ready)
    return Answer(next(iter(caught.values())) if len(caught) == 1 else caught, done, ready)


def _batch(
    loaded: Loaded, prepared: Mapping[str, Any], ready: MetaTensor
) -> tuple[Any, tuple[Any, ...], Mapping[str, Any]]:
    """Return what the inferer is called with: inputs, further arguments by position and by name."""
    if loaded.prepare_batch is None:
        return ready.unsqueeze(0).to(loaded.device), (), {}
    if loaded.collate is not None:
        batch = loaded.collate([dict(prepared)])
    else:
        batch = _batched(prepared) if is_keyed(loaded.preprocessing) else ready.unsqueeze(0)
    inputs, _, *more = loaded.prepare_batch(batch, loaded.device, False)
    args, kwargs = more or ((), {})
    return inputs, tuple(args), kwargs


def _batched(prepared: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item as a batch of one: tensors get the axis, all else stays as it is."""
    return {
        key: value.unsqueeze(0) if isinstance(value, torch.Tensor) else value
        for key, value in prepared.items()
    }


def _located(value: Any, ready: MetaTensor, *, top: bool = False) -> Any:
    """Let an answer inherit where the image lies and what was done to it, as decollating does."""
    if isinstance(value, torch.Tensor):
        plain = torch.Tensor.as_subclass(value.detach(), torch.Tensor)
        if not top and not _is_on_grid(plain, ready):  # boxes, scores, another resolution
            return plain
        meta = dict(ready.meta)  # its affine too
        return MetaTensor(plain.float(), meta=meta, applied_operations=list(ready.applied_operations))
    if isinstance(value, Mapping):
        return {key: _located(part, ready) for key, part in value.items()}
    if isinstance(value, list):
        return [_located(part, ready) for part in value]
    return value


def _is_on_grid(value: torch.Tensor, ready: MetaTensor) -> bool:
    """Say whether the last axes of an answer, after channels or none, are those of the image."""
    axes = ready.ndim - 1
    return tuple(value.shape[-axes:]) == tuple(ready.shape[1:])  # shorter ones differ in length


def _refuse_other_shapes(value: Any, ready: MetaTensor) -> None:
    """Refuse an answer of which no part has a value for each voxel that the network saw.

    The author's Invertd would undo what was done to the image as if the answer were as fine, and claim
    the grid of the source for what lies elsewhere.
    """
    parts = [part for part in _tensors(value) if part.ndim >= ready.ndim - 1]
    if parts and not any(_is_on_grid(part, ready) for part in parts):
        raise GeometryChanged(
            f"the network answers with shape {tuple(parts[0].shape)} to an image of shape "
            f"{tuple(ready.shape)}, so where its voxels lie is not known; the bundle's inferer must resize "
            "the answer to what the network saw"
        )


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(part)
