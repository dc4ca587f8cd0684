"""Any MONAI bundle as a pipeline: the bundle's folder and a card, no further code.

The bundle's own inference configuration is parsed by MONAI and stays as its author wrote it, with
two exceptions: where it would load an image from a file, the node's image is handed over, and
where it would save the result, the result is caught. So pre- and post-processing run in the
author's order on a real MetaTensor, and the author's Invertd finds its way back to the source grid.
Dataset, loader, evaluator and handlers of the bundle are never built.

A configuration may contain expressions and a bundle may contain scripts: a bundle is a program. It
runs only when the digest of its folder was approved (`Card.digest`), and weights are read as data
(``weights_only``), never as pickled code.

The ``[bundle]`` table of a card is described by `pipelines.terms.Terms`.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.inferers import SimpleInferer
from monai.transforms import Compose, LoadImage, LoadImaged, MapTransform, SaveImage, SaveImaged
from monai.utils import MetaKeys, set_determinism
from numpy.typing import NDArray

from pipelines.check import refuse_unfit
from pipelines.contract import Card, CardError, Case, Findings, InputRefused
from pipelines.expect import refuse_unexpected
from pipelines.geometry import channels_from_metatensor, to_metatensor
from pipelines.measure import measure_segment
from pipelines.outline import labelmap_of_labels, labelmap_of_one_hot, masks_of_channels
from pipelines.terms import PLACES, Terms, find_files, read_terms


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


_STAND_INS = {
    **dict.fromkeys(("LoadImage", "LoadImaged", "LoadImageD", "LoadImageDict"), HandOver),
    **dict.fromkeys(("SaveImage", "SaveImaged", "SaveImageD", "SaveImageDict"), Catch),
}


@dataclass(slots=True)
class _Loaded:
    """A bundle that is ready to run on one device."""

    device: torch.device
    amp: bool
    preprocessing: Compose
    image_key: str
    network: torch.nn.Module
    inferer: Callable[..., Any]
    postprocessing: Compose
    pred_key: str


class BundlePipeline:
    """A MONAI bundle behind the four moments of `pipelines.contract.Pipeline`.

    Raises
    ------
    CardError
        A file is missing, the weights are not the pinned ones, or card and bundle disagree.
    """

    def __init__(self, card: Card) -> None:
        self.card = card
        self.terms = read_terms(card)
        self.files = find_files(card, self.terms)
        self._loaded: _Loaded | None = None

    def load(self, device: str) -> None:
        """Build the network and its transforms and read the weights onto ``device``."""
        on = torch.device(device)
        root = str(self.files.root)
        if (self.files.root / "scripts").is_dir() and root not in sys.path:
            sys.path.insert(0, root)  # the bundle's own modules are named scripts.*
        try:
            parser = self._parser(on)
            network = _role(parser, self.terms, "network_def")
            preprocessing = _compose(_role(parser, self.terms, "preprocessing"))
            postprocessing = _compose(_role(parser, self.terms, "postprocessing"))
            inferer = _role(parser, self.terms, "inferer") or SimpleInferer()
            amp = "evaluator::amp" in parser and bool(parser.get_parsed_content("evaluator::amp"))
        except CardError:
            raise
        except Exception as error:  # expressions and scripts of a bundle may raise anything
            raise CardError(
                f"{self.card.name}: the bundle's configuration cannot be used: {error}"
            ) from error
        if not isinstance(network, torch.nn.Module):
            raise CardError(f"{self.card.name}: the bundle's network_def is no torch module")
        handed = [key for step in preprocessing.transforms if isinstance(step, HandOver) for key in step.keys]
        image_key = handed[0] if handed else "image"
        postprocessing, pred_key = _until_caught(postprocessing, image_key)
        for step in (*preprocessing.transforms, *postprocessing.transforms):
            if isinstance(step, LoadImage | LoadImaged | SaveImage | SaveImaged):
                raise CardError(f"{self.card.name}: {type(step).__name__} is made inside an expression")
        self._read_weights(network, on)
        self._loaded = _Loaded(
            device=on,
            amp=amp and on.type == "cuda",
            preprocessing=preprocessing,
            image_key=image_key,
            network=network.to(on).eval(),
            inferer=inferer,
            postprocessing=postprocessing,
            pred_key=pred_key,
        )

    def check(self, case: Case) -> None:
        """Refuse what the card does not accept or expect."""
        refuse_unfit(self.card, case)
        images = [case[role] for role in self.card.inputs]
        for image in images[1:]:
            if image.array.shape != images[0].array.shape or not np.allclose(
                image.affine, images[0].affine, atol=1e-3
            ):
                raise InputRefused(
                    "different-grids",
                    f"{self.card.title} needs series on one common grid; these differ in position, "
                    "spacing or size. Send series that were registered and resampled to each other.",
                )
        for expectation in self.terms.expects:
            refuse_unexpected(expectation, images[0])

    def analyze(self, case: Case) -> Findings:
        """Run the bundle, and return its outlines on the source grid with the card's measurements.

        Raises
        ------
        ValueError
            The result is not on the source grid (`GeometryChanged`), or is not what the card says.
        RuntimeError
            `load` was not called, or a part of the bundle failed.
        """
        if self._loaded is None:
            raise RuntimeError(f"{self.card.name}: load() comes before analyze()")
        images = [case[role] for role in self.card.inputs]
        # Own memory: transforms of a bundle may write in place, and the source is measured later.
        tensors = [to_metatensor(image, copy=True) for image in images]
        result = _run(self._loaded, tensors[0] if len(tensors) == 1 else torch.cat(tensors))
        channels = channels_from_metatensor(result, images[0])  # (channels, slices, rows, columns)
        labelmap, masks = self._outlines(channels)
        findings = Findings(
            labelmap=labelmap,
            masks=masks,
            affine=images[0].affine,
            role=next(iter(self.card.inputs)),
            segments=self.card.segments,
        )
        measurements = [
            measurement
            for segment in self.card.segments
            for measurement in measure_segment(
                self.card.measure, findings.mask(segment.number), images[0], segment=segment.number
            )
        ]
        return replace(findings, measurements=tuple(measurements))

    def _outlines(
        self, channels: NDArray[Any]
    ) -> tuple[NDArray[np.unsignedinteger] | None, NDArray[np.bool_] | None]:
        """Return a label map, or masks where segments may overlap, as the card's ``output`` says."""
        count = len(self.card.segments)
        if self.terms.output == "labels":
            return labelmap_of_labels(channels, self.terms.values or tuple(range(1, count + 1))), None
        if self.terms.output == "one-hot":
            return labelmap_of_one_hot(channels, count, self.terms.background), None
        return None, masks_of_channels(channels, count)

    def _parser(self, device: torch.device) -> ConfigParser:
        """Return the parsed configuration, with the stand-ins and overrides in place."""
        parser = ConfigParser()
        parser.read_config([str(path) for path in self.files.configs])
        parser.read_meta(str(self.files.metadata))
        known = {"bundle_root": str(self.files.root), "device": device}
        for key, value in {**known, **self.terms.overrides}.items():
            parser.set(value, key)
        with contextlib.chdir(self.files.root):  # macros may name files relative to the bundle
            parser.resolve_macro_and_relative_ids()
        _substitute(parser.get(), self.card)
        evaluator = parser.get("evaluator")
        evaluator = evaluator if isinstance(evaluator, dict) else {}
        name = str(evaluator.get("_target_", "SupervisedEvaluator")).rsplit(".", 1)[-1]
        own = [key for key in ("prepare_batch", "iteration_update") if evaluator.get(key) is not None]
        if name != "SupervisedEvaluator" or own:
            raise CardError(
                f"{self.card.name}: the bundle's evaluator is {name}{' with its own ' if own else ''}"
                f"{', '.join(own)}; only a plain SupervisedEvaluator can be followed"
            )
        return parser

    def _read_weights(self, network: torch.nn.Module, device: torch.device) -> None:
        path = self.files.weights
        if path is None:
            if any(True for _ in network.parameters()):
                raise CardError(f"{self.card.name}: the network has parameters; the card names no weights")
            return
        try:
            network.load_state_dict(_state_dict(path, device))
        except UnpicklingError as error:
            raise CardError(
                f"{self.card.name}: {path.name} cannot be loaded: it holds more than tensors"
            ) from error
        except (RuntimeError, ValueError, TypeError, ImportError, OSError, KeyError) as error:
            told = getattr(error, "strerror", None) or error  # without the number
            raise CardError(f"{self.card.name}: {path.name} cannot be loaded: {told}") from error


def _run(loaded: _Loaded, image: MetaTensor) -> MetaTensor:
    """Take one (channels, columns, rows, slices) image through the bundle."""
    set_determinism(seed=0)
    for compose in (loaded.preprocessing, loaded.postprocessing):
        compose.set_random_state(seed=0)
    with torch.inference_mode():
        item = {loaded.image_key: image} if _keyed(loaded.preprocessing) else image
        item = loaded.preprocessing(item)
        ready = item[loaded.image_key] if isinstance(item, Mapping) else item
        ready = ready if isinstance(ready, MetaTensor) else MetaTensor(torch.as_tensor(ready))
        with torch.autocast(loaded.device.type, enabled=loaded.amp):
            batch = ready.unsqueeze(0).to(loaded.device)
            answer = loaded.inferer(inputs=batch, network=loaded.network)
        if not isinstance(answer, torch.Tensor):
            raise ValueError(f"the network gave a {type(answer).__name__}; a single tensor is needed")
        # As decollating does: the answer inherits where the image lies and what was done to it.
        pred = MetaTensor(
            torch.Tensor.as_subclass(answer, torch.Tensor)[0].float(),
            meta=dict(ready.meta),  # its affine too
            applied_operations=list(ready.applied_operations),
        )
        if not _keyed(loaded.postprocessing):
            return loaded.postprocessing(pred)
        given = item if isinstance(item, Mapping) else {loaded.image_key: ready}
        return loaded.postprocessing({**given, "pred": pred})[loaded.pred_key]


def _keyed(compose: Compose) -> bool:
    """Say whether these transforms work on a dictionary."""
    return any(isinstance(t, MapTransform) or getattr(t, "keys", ()) for t in compose.transforms)


def _role(parser: ConfigParser, terms: Terms, role: str) -> Any:
    """Return what plays a role in the bundle, built; None when nothing does."""
    places = (terms.roles[role],) if role in terms.roles else PLACES[role]
    for place in places:
        if place in parser:
            return parser.get_parsed_content(place)
    if role in terms.roles:
        raise KeyError(f"[bundle.roles] {role} = {places[0]!r} is not in the configuration")
    return None


def _compose(steps: Any) -> Compose:
    """Return one flat Compose of whatever the configuration gave: a Compose, a list, one, none."""
    if isinstance(steps, Compose):
        return steps.flatten()
    if steps is None:
        return Compose([])
    return Compose([s for s in steps if s is not None] if isinstance(steps, Sequence) else [steps]).flatten()


def _until_caught(compose: Compose, image_key: str) -> tuple[Compose, str]:
    """Return the steps before the result would have been saved, and the key it has there."""
    for index, step in enumerate(compose.transforms):
        if isinstance(step, Catch) and step.keys != (image_key,):
            return Compose(compose.transforms[:index], lazy=compose.lazy, overrides=compose.overrides), (
                step.keys[0] if step.keys else "pred"
            )
    return compose, "pred"


def _substitute(config: Any, card: Card) -> None:
    """Put the stand-ins where the configuration loads and saves images, in place."""
    children = config.values() if isinstance(config, dict) else config if isinstance(config, list) else ()
    for child in children:
        _substitute(child, card)
    if isinstance(config, dict):
        if config.get("_mode_") == "debug":
            raise CardError(f"{card.name}: the bundle's configuration asks for the debugger (_mode_)")
        stand_in = _STAND_INS.get(str(config.get("_target_", "")).rsplit(".", 1)[-1])
        if stand_in is not None:
            config["_target_"] = f"{stand_in.__module__}.{stand_in.__name__}"


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
