"""Hostile pipelines from outside, each a folder with a card and code that attacks at one moment."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np

from node.compute.exchange import CASE, FINDINGS, write_case
from node.compute.port import Task
from node.model import Volume
from pipelines.contract import Card, read_card
from tests.compute.findings_maker import image

CARD = """
name = "{name}"
version = "1.0.0"
title = "Hostile"
maker = "tests"
intended_use = "Tests."
use = "{package}.pipeline:Hostile"
measure = ["volume"]
[inputs.ct]
modality = ["CT"]
unit = "[hnsf'U]"
[[segments]]
number = 1
structure = "spleen"
"""

CODE = """
import ctypes, json, mmap, os, signal, socket, struct, subprocess, sys, threading, time
from pathlib import Path
import numpy as np
from pipelines.contract import Findings

{at_import}

class Hostile:
    def __init__(self, card):
        self.card = card

    def load(self, device):
        pass
{at_load}

    def check(self, case):
        pass

    def analyze(self, case):
        labels = np.zeros(case["ct"].array.shape, np.uint8)
        labels[1, 1, 1] = 1
{at_analyze}
        return Findings(labelmap=labels, affine=case["ct"].affine, segments=self.card.segments)

def pipes():
    '''Find the pipes to the node by looking.'''
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2 and os.readlink("/proc/self/fd/" + name).startswith("pipe:"):
                found.append(int(name))
        except OSError:
            pass
    return found

def say(**message):
    '''Say something to the node, as the worker would.'''
    content = json.dumps(message).encode()
    for number in pipes():
        try:
            os.write(number, struct.pack(">I", len(content)) + content)
        except OSError:
            pass
"""


def write_hostile(
    base: Path, package: str = "hostile", *, at_import: str = "", at_load: str = "", at_analyze: str = ""
) -> Card:
    """Write such a folder and return its card; the code is given without indentation."""
    folder = base / package
    folder.mkdir(parents=True)
    name = package.replace("_", "-")
    (folder / "card.toml").write_text(CARD.format(name=name, package=package))
    code = CODE.format(
        at_import=textwrap.dedent(at_import),
        at_load=textwrap.indent(textwrap.dedent(at_load), " " * 8),
        at_analyze=textwrap.indent(textwrap.dedent(at_analyze), " " * 8),
    )
    (folder / "pipeline.py").write_text(code)
    return read_card(folder / "card.toml")


def volumes() -> dict[str, Volume]:
    """Return a case of water."""
    bare = {"series_uid": "1.2.3", "study_uid": "1.2", "frame_of_reference_uid": "1.2.4"}
    return {"ct": Volume(image=image(array=np.zeros((4, 16, 16), np.float32)), slices=(), **bare)}


def task(card: Card, exchange: Path, job_id: int) -> Task:
    """Return the step of a job that runs on a device, and lay out what it is given."""
    exchange.mkdir(parents=True, exist_ok=True)
    write_case(volumes(), exchange)
    return Task(
        key=card.name,
        foreign=True,
        job_id=job_id,
        target="node.compute.confined:analyze",
        payload={"card": str(card.folder / "card.toml"), "digest": card.digest, "memory_bytes": 10**9},
        gives=exchange / CASE,
        takes=exchange / FINDINGS,
    )
