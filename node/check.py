"""``radnode check``: the doctor. Looks at everything the node will need and tells all it finds."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from node.accept import decodable_syntaxes
from node.assign import parse_rules
from node.compute import installed
from node.config import Config, FolderDestination
from node.errors import ConfigError
from node.send.echo import echo
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


def complaints(config: Config) -> Iterator[tuple[str, str]]:
    """Yield what was looked at, each with a complaint, or with "" when all is well."""
    yield f"data folder {config.node.data}", _data(config)
    if config.accept.dimse.enabled:
        yield f"port {config.accept.dimse.port}", _port(config.accept.dimse.host, config.accept.dimse.port)
    decodable = set(decodable_syntaxes())
    for uid, name in EXPECTED_SYNTAXES.items():
        yield (
            f"decoder {name}",
            "" if uid in decodable else "no decoder works; reinstall from constraints.txt",
        )
    cards: dict[str, Card] = {}
    try:
        cards = installed(config.pipelines)
        yield f"pipelines {', '.join(sorted(cards))}", ""
    except ConfigError as error:
        yield "pipelines", " ".join(str(error).split())
    try:
        rules = parse_rules(config.rules, cards)
        yield f"rules ({len(rules)})", "" if rules else "there are none, so no series will be analysed"
    except ConfigError as error:
        yield "rules", " ".join(str(error).split())
    for name, destination in config.destinations.items():
        if isinstance(destination, FolderDestination):
            yield f"destination {name}: folder {destination.path}", _writable(destination.path)
        else:
            where = f"{destination.ae_title} at {destination.host}:{destination.port}"
            yield f"destination {name}: C-ECHO to {where}", echo(destination, config.node.ae_title)


def _data(config: Config) -> str:
    folder = config.node.data
    if complaint := _writable(folder):
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


def _port(host: str, port: int) -> str:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return f"{os.strerror(error.errno or 0)} (is this node running already?)"
    return ""
