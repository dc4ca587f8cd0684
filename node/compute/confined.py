"""The step that belongs to the pipeline: ``case/`` in, ``findings/`` out, and no way to anything else.

Runs in a worker that `sandbox` has shut in. It knows no patient, and needs no DICOM: what is imported
here is within reach of a pipeline's code.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from node.compute.exchange import CASE, FINDINGS, read_case, write_findings
from node.compute.load import run_pipeline
from node.compute.port import Report
from node.compute.warm import Shelf, release, used_share
from node.errors import PipelineFailed
from node.failpoint import failpoint
from pipelines.contract import Card, CardError, read_card

#: As the supervisor lays them out, seen from the worker's own folder.
GIVEN = Path("..", "given")


def analyze(payload: Mapping[str, Any], device: str, report: Report) -> dict[str, Any]:
    """Run a pipeline on the case that was given; tell which pipelines are warm now."""
    report("model", 0.2)
    shelf = _shelf(device, payload["memory_bytes"])
    # One that is ready needs no look at its files: it is what was approved when it was made ready.
    card = shelf.known(payload["digest"]) or _card(Path(payload["card"]), payload["digest"])
    pipeline = shelf.take(card)
    report("compute", 0.3)
    case = read_case(GIVEN / CASE)
    findings = shelf.roomy(card, lambda: run_pipeline(pipeline, card, case))
    failpoint("compute.analyzed")
    write_findings(findings, Path(FINDINGS))
    shelf.trim()
    release(device)  # workers of other pipelines share the device
    return {"warm": shelf.names, "used": shelf.used_share()}


@cache
def _shelf(device: str, memory_bytes: int) -> Shelf:
    return Shelf(device, partial(used_share, device, memory_bytes))


def _card(path: Path, digest: str) -> Card:
    try:
        card = read_card(path)
    except CardError as error:
        raise PipelineFailed(str(error)) from error
    if card.digest != digest:
        raise PipelineFailed(
            f"The files of pipeline {card.name} have changed since the node started; "
            "approve the new digest and restart."
        )
    return card
