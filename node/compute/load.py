"""Inside a worker: make a pipeline ready, run it on a case.

The only place where code of a pipeline is called. Whatever it raises becomes an error of ours
that names the pipeline, the moment and the place.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from node.compute.catalogue import OURS
from node.compute.findings import validate
from node.errors import FindingsInvalid, NodeError, PipelineFailed
from node.log import describe
from node.text import clean
from pipelines.check import refuse_unfit
from pipelines.contract import Card, Case, Findings, InputRefused, Pipeline

_Voxel = TypeVar("_Voxel", bound=np.generic)


def load_pipeline(card: Card, device: str) -> Pipeline:
    """Return a pipeline that is ready to run on a device.

    Raises
    ------
    PipelineFailed
        Its code cannot be imported, is no `Pipeline`, or failed to load.
    """
    with _blaming(card, "being imported"):
        made = _class_of(card)(card)
    if not isinstance(made, Pipeline):
        raise PipelineFailed(f"{card.use} of {card.name} lacks one of load, check and analyze.")
    with _blaming(card, "loading"):
        made.load(device)
    return made


def run_pipeline(pipeline: Pipeline, card: Card, case: Case) -> Findings:
    """Check a case, analyze it, and hold the findings against the contract.

    Raises
    ------
    InputRefused
        The case does not fit the card, or the pipeline refused it.
    PipelineFailed
        The pipeline raised something else.
    FindingsInvalid
        It broke its contract.
    """
    refuse_unfit(card, case)
    # A pipeline that changes its image in place must not agree with itself afterwards.
    given = {
        role: replace(
            one,
            array=_locked(one.array),
            affine=one.affine.copy(),
            colour=None if one.colour is None else _locked(one.colour),
        )
        for role, one in case.items()
    }
    with _blaming(card, "checking"):
        pipeline.check(given)
    with _blaming(card, "analyzing"):
        findings = pipeline.analyze(given)
    if complaints := validate(findings, card, case):
        raise FindingsInvalid(f"{card.name} broke its contract: {'; '.join(complaints[:5])}.")
    return findings


def _locked(array: NDArray[_Voxel]) -> NDArray[_Voxel]:
    """Return a view of voxels that cannot be written; a copy would cost the memory of a volume."""
    view = array.view()
    view.flags.writeable = False
    return view


def _class_of(card: Card) -> type:
    module, _, name = card.use.partition(":")
    is_ours = (package := module.partition(".")[0]) == OURS.name
    if not is_ours:
        _introduce(package, card.folder)
    imported = importlib.import_module(module)
    if not is_ours and not Path(imported.__file__ or "").is_relative_to(card.folder):
        raise ImportError("another package has the name of its folder; rename the folder")
    found = getattr(imported, name)
    if not isinstance(found, type):
        raise TypeError(f"{card.use} is no class")
    return found


def _introduce(package: str, folder: Path) -> None:
    """Make an approved folder the package that its card names.

    It is told where it lies, and nobody looks for it: what lies beside it is none of our business, and
    out of a confined worker's sight.
    """
    if importlib.util.find_spec(package) is not None:
        return
    spec = ModuleSpec(package, None, is_package=True)  # a folder of modules
    if (init := folder / "__init__.py").is_file():
        spec = importlib.util.spec_from_file_location(package, init) or spec
    spec.submodule_search_locations = [str(folder)]
    sys.modules[package] = made = importlib.util.module_from_spec(spec)
    if spec.loader is not None:
        spec.loader.exec_module(made)


@contextmanager
def _blaming(card: Card, moment: str) -> Iterator[None]:
    """Turn whatever a pipeline raises, even SystemExit, into a sentence about it."""
    try:
        yield
    except (InputRefused, NodeError):
        raise
    except BaseException as error:
        # A pipeline is given no identity, so its own words may be told, and its traceback kept.
        traceback.print_exc(limit=-8)
        try:
            words = clean(str(error), 300)
        except Exception:  # noqa: BLE001  # an error that cannot even be printed
            words = ""
        raise PipelineFailed(
            f"{card.name} failed while {moment}: {describe(error)}{': ' if words else ''}{words}"
        ) from error
