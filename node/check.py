"""``radnode check``: the doctor. Looks at everything the node will need and tells all it finds."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from node.accept import check_inbox, chosen_classes, decodable_syntaxes, listen_on
from node.accept.policy import unknown
from node.assign import parse_rules
from node.compute import installed
from node.compute.local import resolve_devices
from node.compute.record import told_of_trial
from node.compute.sandbox.probe import probe, unconfined
from node.config import (
    Config,
    Destination,
    DimseDestination,
    DimseSource,
    FolderDestination,
    Source,
    StowDestination,
    WebSource,
)
from node.errors import ConfigError
from node.peer.commitment import PUSH_MODEL
from node.peer.echo import Answer, echo, try_query, try_store
from node.peer.tls import client_context, expiring
from node.send.classes import RESULT_CLASSES, lacking, told
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

#: Study Root Query/Retrieve, PS3.4 C.6.2.
FIND, MOVE, GET = (f"1.2.840.10008.5.1.4.1.2.2.{n}" for n in (1, 2, 3))
ASKED = {FIND: "C-FIND", MOVE: "C-MOVE", GET: "C-GET"}

#: What `node.peer.tls.reason_of` says -> what can be done about it.
REMEDIES = {
    "leads to no authority that we believe": "Name its authority in [tls] authorities.",
    "its certificate has ended": "Have it renewed there.",
    "does not hold yet": "Is the clock right, here and there?",
    "names another host": "Call it by a name that stands in its certificate, or have it renewed.",
    "does not accept our certificate": "Have our authority made known to it, or see [tls] certificate.",
    "it broke off TLS": "Does it speak TLS on this port, and does it want a certificate of ours?",
    "it does not speak TLS": "Compare the port, and whether it is to be TLS.",
}

#: What the node makes in its data folder.
FOLDERS = ("instances", "quarantine", "staging", "results", "scratch")


def complaints(config: Config) -> Iterator[tuple[str, str]]:
    """Yield what was looked at, each with a complaint, or with "" when all is well."""
    yield f"data folder {config.node.data}", _data(config)
    door = config.accept.dimse
    if door.enabled:
        yield f"port {door.port}", _told(lambda: listen_on(door.host, door.port).close())
        yield "storage classes", _told(lambda: chosen_classes(door.sop_classes))
    if (show := config.show).enabled:
        yield f"port {show.port} for HTTP", _told(lambda: listen_on(show.host, show.port, "show").close())
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
    yield from _coming(config)
    yield from peers(config)


def peers(config: Config) -> Iterator[tuple[str, str]]:
    """Yield whom the node calls, each with a complaint or ""; nothing is stored there or fetched."""
    for what, complaint in _peers(config):
        remedy = next((remedy for words, remedy in REMEDIES.items() if words in complaint), "")
        yield what, f"{complaint} {remedy}".rstrip()


def _peers(config: Config) -> Iterator[tuple[str, str]]:
    if config.tls.certificate or config.tls.authorities:
        yield "[tls]", _told(lambda: client_context(config.tls)) or expiring(config.tls, datetime.now(UTC))
    for name, source in config.sources.items():
        yield from _source(name, source, config)
    for name, destination in config.destinations.items():
        yield from _destination(name, destination, config)
        yield from _unproved(name, config)


def _destination(name: str, destination: Destination, config: Config) -> Iterator[tuple[str, str]]:
    """Look at a destination; nothing is stored."""
    if isinstance(destination, FolderDestination):
        yield f"destination {name}: folder {destination.path}", _writable(destination.path)
        return
    tls = config.tls
    if isinstance(destination, StowDestination):
        yield f"destination {name}: STOW-RS at {destination.url}", _told(lambda: try_store(destination, tls))
        if destination.proof == "query":
            yield f"destination {name}: QIDO-RS, for proof", _told(lambda: try_query(destination, tls))
        return
    answer, complaint = _echo(destination, tuple(RESULT_CLASSES), config)
    yield f"destination {name}: C-ECHO to {_where(destination)}", complaint
    if not complaint:
        lacks = "; ".join(lacking(destination, answer))
        yield f"destination {name} {told(answer)}", lacks
        yield from _proof(name, destination, config)


def _proof(name: str, destination: DimseDestination, config: Config) -> Iterator[tuple[str, str]]:
    """Look whether a destination can be asked what it has."""
    services = {
        "commitment": (PUSH_MODEL, "storage commitment", '"query" or "none"'),
        "query": (FIND, "C-FIND", '"none"'),
    }
    if destination.proof in services:
        service, what, others = services[destination.proof]
        taken, complaint = _echo(destination, (service,), config)
        lack = "" if taken.get(service) else f"it does none; set proof = {others}"
        yield f"destination {name}: {what}, for proof", complaint or lack


def _unproved(name: str, config: Config) -> Iterator[tuple[str, str]]:
    """Remark which alternates of a destination that proves what it has do not do so themselves.

    That is no complaint: a folder cannot, and may be just what is wanted while an archive is away.
    """
    if config.proof(name) == "none":
        return
    for alternate in config.destinations[name].alternates:
        if config.proof(alternate) == "none":
            yield (
                f"destination {name}: its alternate {alternate} proves nothing; what that took counts as "
                f"delivered, and is not sent to {name} later",
                "",
            )


def _source(name: str, source: Source, config: Config) -> Iterator[tuple[str, str]]:
    """Look at a source; nothing is fetched."""
    if isinstance(source, WebSource):
        yield f"source {name}: QIDO-RS at {source.url}", _told(lambda: try_query(source, config.tls))
        return
    taken, complaint = _echo(source, tuple(ASKED), config)
    yield f"source {name}: C-ECHO to {_where(source)}", complaint
    if complaint:
        return
    wanted, other = (MOVE, GET) if source.retrieve == "move" else (GET, MOVE)
    lacks = "; ".join(f"it takes no {ASKED[uid]} of us" for uid in (FIND, wanted) if not taken.get(uid))
    if not taken.get(wanted) and taken.get(other):
        lacks += (
            f', but {ASKED[other]}: set retrieve = "{"get" if other == GET else "move"}" in [sources.{name}]'
        )
    takes = [word for uid, word in ASKED.items() if taken.get(uid)]
    yield f"source {name} takes {', '.join(takes) or 'no question'}", lacks


def _echo(
    entry: DimseDestination | DimseSource, classes: tuple[str, ...], config: Config
) -> tuple[Mapping[str, bool], str]:
    """Return what a peer takes, and the complaint."""
    found: list[Answer] = []
    complaint = _told(lambda: found.append(echo(entry, classes, config.node.ae_title, config.tls)))
    return (found[0].taken, found[0].complaint) if found else ({}, complaint)


def _coming(config: Config) -> Iterator[tuple[str, str]]:
    """Look whether those may come in who bring us what we asked for over an association of their own."""
    brings = {
        f"source {name}": ("C-MOVE", entry.ae_title)
        for name, entry in config.sources.items()
        if isinstance(entry, DimseSource) and entry.retrieve == "move"
    } | {
        f"destination {name}": ("a request for storage commitment", entry.ae_title)
        for name, entry in config.destinations.items()
        if isinstance(entry, DimseDestination) and entry.proof == "commitment"
    }
    for place, (asked, ae_title) in brings.items():
        why = unknown(config.accept, ae_title)
        yield (
            f"{place}: the way back",
            f"it answers {asked} by calling us, and would not be let in: {why}" if why else "",
        )


def _where(entry: DimseDestination | DimseSource) -> str:
    return f"{entry.ae_title} at {entry.host}:{entry.port}{' by TLS' if entry.tls else ''}"


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
    """Do what the node does, and return what it would complain about, or what it finds to complain of."""
    try:
        found = look()
        return found if isinstance(found, str) else ""
    except ConfigError as error:
        return " ".join(str(error).split())
