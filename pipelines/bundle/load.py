"""The parts of a bundle are built, once per process."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.error import URLError

import torch
from monai.bundle import ConfigParser
from monai.inferers import SimpleInferer
from monai.utils import CommonKeys

from pipelines.bundle.config import find_components, parse, role_of
from pipelines.bundle.device import pinned_to
from pipelines.bundle.files import Files
from pipelines.bundle.initialize import set_up
from pipelines.bundle.modules import BundleModules
from pipelines.bundle.needs import unmet_needs
from pipelines.bundle.run import CPU, Loaded
from pipelines.bundle.steps import compose_of, loaded_keys, stages_of
from pipelines.bundle.terms import Terms
from pipelines.bundle.weights import data_only, is_torchscript, read_torchscript, read_weights
from pipelines.contract import Card, CardError


def load(
    card: Card, terms: Terms, files: Files, device: torch.device, *, is_untrained: bool = False
) -> Loaded:
    """Return the bundle of a card, ready to run on ``device``.

    Parameters
    ----------
    is_untrained
        Read no weights: the network keeps its random ones. For dry runs only.

    Raises
    ------
    CardError
        The configuration cannot be followed, or the weights do not fit.
    """
    modules = BundleModules(files.root)
    parser = None
    try:
        with modules.visible(), pinned_to(device), data_only():
            parser = parse(card, terms, files, device)
            return _build(card, terms, files, device, parser, modules, is_untrained)
    except CardError:
        raise
    except Exception as error:  # expressions and scripts of a bundle may raise anything
        told = _told(error, parser, files)
        raise CardError(f"{card.name}: the bundle's configuration cannot be used: {told}") from error


def _build(
    card: Card,
    terms: Terms,
    files: Files,
    device: torch.device,
    parser: ConfigParser,
    modules: BundleModules,
    is_untrained: bool,
) -> Loaded:
    _refuse_generator(card, parser)
    if files.weights and not is_untrained and is_torchscript(files.weights):
        # In place of the definition, so that whatever refers to the network gets this one.
        parser[terms.roles.get("network_def", "network_def")] = read_torchscript(
            files.weights, device, card.name
        )
        network = _network(card, terms, parser)
    else:
        network = _network(card, terms, parser)
        if not is_untrained:
            holder, key = _weights_go_to(parser, network)
            read_weights(holder, files.weights, device, card.name, key)
    preprocessing = compose_of(role_of(parser, terms, "preprocessing"))
    postprocessing = compose_of(role_of(parser, terms, "postprocessing"), *_handlers_steps(parser, terms))
    prepare_batch = role_of(parser, terms, "prepare_batch")
    _refuse_call(card, prepare_batch, "evaluator's prepare_batch", "batch", "device", "non_blocking")
    inferer = role_of(parser, terms, "inferer") or SimpleInferer()
    if prepare_batch is None:
        _refuse_call(card, inferer, "inferer", "inputs", "network")
    set_up(parser, terms)
    keys = loaded_keys(preprocessing)
    image_key = keys[0] if keys else "image"
    extras = role_of(parser, terms, "item") or {}
    _refuse_ungiven(card, terms, keys, image_key, extras)
    return Loaded(
        device=device,
        amp=bool(_content(parser, "evaluator::amp")) and device.type == "cuda",
        preprocessing=preprocessing,
        image_key=image_key,
        network=network.to(device).eval(),
        inferer=inferer,
        stages=stages_of(postprocessing),
        modules=modules,
        extras=extras,
        prepare_batch=prepare_batch,
        collate=_content(parser, "dataloader::collate_fn") if prepare_batch is not None else None,
        decollates=_content(parser, "evaluator::decollate") is not False,
        spreads=_content(parser, "evaluator::postprocessing") is None,
        result=terms.result,
        is_picture=terms.output not in ("scores", "boxes", "points"),
        given_on=device if terms.transforms == "device" else CPU,
    )


def _refuse_generator(card: Card, parser: ConfigParser) -> None:
    """Refuse what makes images of noise: there is nothing to analyse."""
    inputs = parser.get(f"{parser.meta_key}::network_data_format::inputs")
    for name, said in inputs.items() if isinstance(inputs, dict) else ():
        kinds = (said.get("type"), said.get("format")) if isinstance(said, dict) else ()
        if name == "latent" or "noise" in kinds or "latent" in kinds:
            raise CardError(
                f"{card.name}: the bundle takes a latent or noise, no image: it generates; a node analyses"
            )


def _content(parser: ConfigParser, place: str) -> Any:
    return parser.get_parsed_content(place) if place in parser else None


def _network(card: Card, terms: Terms, parser: ConfigParser) -> torch.nn.Module:
    network = role_of(parser, terms, "network_def")
    if network is None:
        raise CardError(
            f"{card.name}: the bundle has no network: its configuration has no network_def, and its weights "
            "are no TorchScript archive"
        )
    if not isinstance(network, torch.nn.Module):
        raise CardError(f"{card.name}: the bundle's network_def is no torch module")
    return network


def _weights_go_to(parser: ConfigParser, network: torch.nn.Module) -> tuple[torch.nn.Module, str]:
    """Return the module into which the bundle itself would load its weights, and under which key.

    That is not always what is run: a detector holds its network.
    """
    loaders = find_components(parser.config, "CheckpointLoader")
    tables = [parser.get(f"{loader}::load_dict") for loader in loaders]
    if len(tables) == 1 and isinstance(tables[0], dict) and len(tables[0]) == 1:
        key = next(iter(tables[0]))
        holder = parser.get_parsed_content(f"{loaders[0]}::load_dict::{key}")
        if isinstance(holder, torch.nn.Module):
            return holder, str(key)
    return network, ""


def _refuse_ungiven(
    card: Card, terms: Terms, keys: Sequence[str], image_key: str, extras: Mapping[str, Any]
) -> None:
    """Refuse a bundle that loads an image which no role gives; only the truth may lack."""
    given = {terms.keys.get(role, image_key) for role in card.inputs} | extras.keys() | {CommonKeys.LABEL}
    if missing := [key for key in keys if key not in given]:
        raise CardError(
            f"{card.name}: the bundle loads {', '.join(map(repr, missing))}, which no input gives; describe "
            f"it as [inputs.<role>] and say <role> = {missing[0]!r} in [bundle.keys], or, if not needed, "
            "take it out of the bundle's transforms with [bundle.overrides]"
        )


def _handlers_steps(parser: ConfigParser, terms: Terms) -> Iterator[Any]:
    """Give the steps of handlers that post-process, which run after the evaluator's own."""
    if "postprocessing" in terms.roles:
        return
    for place in find_components(parser.config, "PostProcessing"):
        if f"{place}::transform" in parser:
            yield parser.get_parsed_content(f"{place}::transform")


def _refuse_call(card: Card, called: Callable[..., Any] | None, what: str, *given: str) -> None:
    """Refuse what cannot be called with as many arguments as it will be given."""
    if called is None:
        return
    try:
        inspect.signature(called).bind(*given)
    except ValueError:  # a callable without a signature
        return
    except TypeError as error:
        raise CardError(
            f"{card.name}: the bundle's {what} cannot be called with {', '.join(given)}: {error}; give it "
            "what it needs with the role prepare_batch (PLACES in pipelines/bundle/terms.py)"
        ) from error


def _told(error: Exception, parser: ConfigParser | None, files: Files) -> str:
    """Return what went wrong, why, and what a card can do about it."""
    causes: list[BaseException] = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    root = causes[-1]
    told = _short(error) if root is error else f"{_short(error)}: {_short(root)}"
    unknown = re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(root))
    if unknown and parser is not None:
        places = [f"'{p}::{unknown[2]}'" for p in find_components(parser.config, unknown[1])]
        told += (
            f". This version of MONAI does not know {unknown[2]} any more; if the network does not need it, "
            f"say in the card: [bundle] remove = [{', '.join(places)}]"
        )
    if any(isinstance(cause, URLError) for cause in causes):
        pretrained = find_components(parser.config, r"\w+") if parser is not None else []
        places = [
            f"'{p}::pretrained' = false" for p in pretrained if parser and parser.get(f"{p}::pretrained")
        ]
        told += (
            ". The network wants to load something over the internet, which a node does not; if that is what "
            f"its own weights replace, say in the card: [bundle.overrides] {', '.join(places)}"
        )
    if "No module named" in str(root) or isinstance(root, ImportError):
        told = " ".join([f"{told.rstrip('.')}.", *unmet_needs(files.metadata)])
    return told


def _short(error: BaseException) -> str:
    """Return the first line of a message: MONAI's go on with the whole configuration."""
    first = str(error).strip().split("\n", 1)[0]
    return first if len(first) <= 200 else f"{first[:200]}..."
