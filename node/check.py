"""``radnode check``: the doctor. Looks at everything the node will need and tells all it finds."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from node.accept import check_inbox, chosen_classes, decodable_syntaxes, listen_on
from node.assign import parse_rules
from node.compute import installed
from node.compute.local import resolve_devices
from node.compute.record import told_of_trial
from node.compute.sandbox.probe import probe, unconfined
from node.config import Config, DimseDestination, FolderDestination
from node.errors import ConfigError
from node.send.classes import told
from node.send.echo import echo, lacking
from pipelines.contract import Card

#: Without these a hospital's everyday images cannot be read (PS3.5 annex A).
EXPECTED_SYNTAXES = {
    "1.2.840.10008.1.2": "Implicit VR Little Endian",
    "1.2.840.10008.1.2.1": "Explicit VR Little Endian",
    "1.2.840.10008.1.2.4.50": "JPEG Baseline",
    "1.2.840.10008.1.2.4.57": "JPEG Lossless",
    "1.2.840.10008.1.2.4.70": "JPEG Lossless SV1",
    "1.2.840.10008.1.2.4.80": "JPEG-LS Lossless",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 Lossless",
    "1.2.840.10008.1.2.5": "RLE Lossless",
}

#: What the node makes in its data folder.
FOLDERS = ("spool", "instances", "quarantine", "staging", "results", "scratch")


def complaints(config: Config) -> Iterator[tuple[str, str]]:
    """Yield what was looked at, each with a complaint, or with "" when all is well."""
    yield f"data folder {config.node.data}", _data(config)
    door = config.accept.dimse
    if door.enabled:
        yield f"port {door.port}", _told(lambda: listen_on(door.host, door.port).close())
        yield "storage classes", _told(lambda: chosen_classes(door.sop_classes))
    if inbox := config.accept.folder.path:
        yield f"inbox {inbox}", _told(lambda: check_inbox(config)) or _writable(inbox)
    yield "devices", _told(lambda: resolve_devices(config.compute.devices))
    yield from _isolation(config)
    decodable = set(decodable_syntaxes())
    for uid, name in EXPECTED_SYNTAXES.items():
        yield (
            f"decoder {name}",
            "" if uid in decodable else "no decoder works; reinstall from constraints.txt",
        )
    cards: dict[str, Card] = {}
    complaint = _told(lambda: cards.update(installed(config.pipelines)))
    yield "pipelines" if complaint else f"pipelines {', '.join(sorted(cards))}", complaint
    for name, entry in config.pipelines.items():
        if name in cards:
            yield f"pipeline {name}: {told_of_trial(entry.folder)}", ""
    nothing = "" if config.rules else "there are none, so no series will be analysed"
    yield f"rules ({len(config.rules)})", _told(lambda: parse_rules(config.rules, cards)) or nothing
    for name, destination in config.destinations.items():
        if isinstance(destination, FolderDestination):
            yield f"destination {name}: folder {destination.path}", _writable(destination.path)
        elif isinstance(destination, DimseDestination):
            where = f"{destination.ae_title} at {destination.host}:{destination.port}"
            answer = echo(destination, config.node.ae_title)
            yield f"destination {name}: C-ECHO to {where}", answer.complaint
            if not answer.complaint:
                lacks = "; ".join(lacking(destination, answer.taken))
                yield f"destination {name} {told(answer.taken)}", lacks


def _isolation(config: Config) -> Iterator[tuple[str, str]]:
    """Say what is kept from code of a pipeline on this machine; complain where that matters."""
    found = probe(config.node.data)
    yield f"isolation: pipelines are {found}", unconfined(config.compute.isolation, config.pipelines, found)


def _data(config: Config) -> str:
    folder = config.node.data
    for place in (folder, *(folder / name for name in FOLDERS)):
        if complaint := _writable(place):
            return complaint
    free_gb = shutil.disk_usage(_existing(folder)).free / 1e9
    if free_gb < config.accept.reserve_gb:
        return f"{free_gb:.1f} GB free, less than [accept] reserve_gb = {config.accept.reserve_gb:g}"
    return ""


def _writable(folder: Path) -> str:
    place = _existing(folder)
    if not place.is_dir():
        return f"{place} is no folder"
    try:
        with tempfile.TemporaryFile(dir=place):
            return ""
    except OSError as error:
        return f"cannot be written: {os.strerror(error.errno or 0)}"


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next(place for place in (folder, *folder.parents) if place.exists())


def _told(look: Callable[[], object]) -> str:
    """Do what the node does at its start; return what it would complain about."""
    try:
        look()
    except ConfigError as error:
        return " ".join(str(error).split())
    return ""
