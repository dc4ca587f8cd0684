"""What workers hand each other: files in one folder, so that no process needs to trust another.

    case/          what a model may know: arrays, affines, units, facts; nobody's name
    source.json    where that came from: slices, UIDs, notes; never shown to a model
    findings/      what a model said; hostile until read and judged by `findings.read_findings`
    outlines.zip   what stays beside the results, for pipelines that take it as an input (`chain`)

Arrays are ``.npy``, everything else is JSON (`typed`). Nothing is pickled.
"""

from __future__ import annotations

from node.compute.exchange.case import CASE, read_case, read_volumes, write_case
from node.compute.exchange.chain import keep, with_results
from node.compute.exchange.findings import FINDINGS, read_findings, write_findings

__all__ = [
    "CASE",
    "FINDINGS",
    "keep",
    "read_case",
    "read_findings",
    "read_volumes",
    "with_results",
    "write_case",
    "write_findings",
]
