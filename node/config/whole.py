"""The configuration: one TOML file, read once into frozen records.

Unknown keys are errors that name table and key and suggest the nearest one. Complaints come all
at once: first about every key by itself, and once those are right, about what does not go
together. ``RADNODE_<TABLE>__<KEY>`` environment variables override the file, e.g.
``RADNODE_ACCEPT__DIMSE__PORT=11113``; a complaint about one says so.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError, model_validator

from node.config.complaint import complaint
from node.config.doors import AcceptTable, NodeTable, Policy, ShowTable, TlsTable
from node.config.environment import apply_environment, source
from node.config.fields import Name, Table
from node.config.peers import (
    Destination,
    DimseDestination,
    DimseSource,
    FolderDestination,
    Source,
    StowDestination,
    WebSource,
)
from node.config.work import (
    AssembleTable,
    ComputeTable,
    ExternalPipeline,
    KeepTable,
    ResultsTable,
    RuleTable,
    SendTable,
)
from node.errors import ConfigError


class Config(Table):
    """The whole file."""

    node: NodeTable = NodeTable()
    tls: TlsTable = TlsTable()
    accept: AcceptTable = AcceptTable()
    show: ShowTable = ShowTable()
    assemble: AssembleTable = AssembleTable()
    compute: ComputeTable = ComputeTable()
    results: ResultsTable = ResultsTable()
    send: SendTable = SendTable()
    keep: KeepTable = KeepTable()
    pipelines: dict[Name, ExternalPipeline] = {}
    sources: dict[Name, Source] = {}
    destinations: dict[Name, Destination] = {}
    rules: tuple[RuleTable, ...] = ()

    def proof(self, name: str) -> str:
        """Return how a destination proves that it has what it took; "none": its receipt is believed."""
        return getattr(self.destinations.get(name), "proof", "none")

    @model_validator(mode="after")
    def _agree(self) -> Config:
        complaints = [*self._names(), *self._open_doors(), *self._tls()]
        if complaints:
            raise ValueError("\n".join(complaints))
        return self

    def _names(self) -> Iterator[str]:
        """Yield what names something that is not there, or twice."""
        for rule in self.rules:
            for name in rule.send_to:
                if name not in self.destinations:
                    yield (
                        f"[[rules]] {rule.name!r} sends to {name!r}, but the destinations are: "
                        f"{_among(name, self.destinations)}"
                    )
        names = [rule.name for rule in self.rules]
        for name in sorted({n for n in names if names.count(n) > 1}):
            yield f"[[rules]] several are named {name!r}"
        for policy, entry in self.accept.policies.items():
            for name in entry.rules or ():
                if name not in names:
                    yield (
                        f"[accept.policies.{policy}] rules names {name!r}, but the rules are: "
                        f"{_among(name, names)}"
                    )
        for place, destination in self.destinations.items():
            for name in destination.alternates:
                if name == place:
                    yield f"[destinations.{place}] alternates names {name!r} itself; name other destinations"
                elif name not in self.destinations:
                    others = [other for other in self.destinations if other != place]
                    yield (
                        f"[destinations.{place}] alternates names {name!r}, but the other destinations are: "
                        f"{_among(name, others)}"
                    )

    def _open_doors(self) -> Iterator[str]:
        """Yield the doors that let anybody in from outside."""
        dimse, show = self.accept.dimse, self.show
        who_may = self.accept.callers or self.accept.policies or dimse.tls == "mutual"
        if dimse.enabled and not who_may and not _is_loopback(dimse.host):
            yield (
                f"[accept.dimse] host = {dimse.host!r} can be reached from outside, so "
                '[accept] callers or policies must say who may send, or tls must be "mutual"'
            )
        if not _is_loopback(show.host) and not (show.tls == "mutual" or (show.tls == "on" and show.tokens)):
            yield (
                f"[show] host = {show.host!r} can be reached from outside, but nobody has to say who he is; "
                'use 127.0.0.1, or tls = "mutual", or tls = "on" with tokens'
            )

    def _tls(self) -> Iterator[str]:
        """Yield what is asked to speak TLS without what that takes."""
        for table, door in (("accept.dimse", self.accept.dimse), ("show", self.show)):
            if door.tls != "off" and not (self.tls.certificate and self.tls.key):
                yield f"[{table}] tls = {door.tls!r} needs a certificate and a key; name them in [tls]"
            if door.tls == "mutual" and not self.tls.authorities:
                yield f'[{table}] tls = "mutual" needs authorities that sign for callers; name them in [tls]'
        for kind, entries in (("sources", self.sources), ("destinations", self.destinations)):
            for name, entry in entries.items():
                if not isinstance(entry, StowDestination | WebSource) or not entry.token_file:
                    continue
                url = urlsplit(entry.url)
                if url.scheme == "http" and not _is_loopback(url.hostname or ""):
                    yield f"[{kind}.{name}] token_file would go to {entry.url!r} in clear text; use https"
        for name, policy in self.accept.policies.items():
            if policy.certificates and "mutual" not in (self.accept.dimse.tls, self.show.tls):
                yield (
                    f"[accept.policies.{name}] certificates are only seen where a door has "
                    'tls = "mutual": [accept.dimse] or [show]'
                )
        if bool(self.tls.certificate) != bool(self.tls.key):
            yield "[tls] certificate and key go together; name both"


def _among(name: str, known: Iterable[str]) -> str:
    """Return what there is, and the nearest to a name that is not."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    return (", ".join(known) or "there is none") + (f"; did you mean {near[0]!r}?" if near else "")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_config(path: Path | None, environ: Mapping[str, str] = os.environ) -> Config:
    """Read ``node.toml``, apply the environment, check everything.

    Parameters
    ----------
    path
        None: all defaults, with the data folder below the working directory.

    Raises
    ------
    ConfigError
        Lists every complaint, each with its table and key, one per line.
    """
    raw: dict[str, Any] = {}
    where = "the environment"
    base = Path.cwd()
    if path is not None:
        where = str(path)
        base = path.resolve().parent
        try:
            raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors begin with a BOM
        except FileNotFoundError as error:
            raise ConfigError(f"There is no configuration file {path}.") from error
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path} cannot be read: byte {error.start + 1} is not UTF-8") from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path} cannot be read: {error}") from error
    overridden = apply_environment(raw, environ, Config)
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        lines = [
            f"  {line}{source(detail['loc'], overridden)}"
            for detail in error.errors()
            for line in complaint(detail, raw, _known_keys).splitlines()
        ]
        raise ConfigError("\n".join([f"{where} cannot be used:", *lines])) from error
    return _anchored(config, base)


def _anchored(config: Config, base: Path) -> Config:
    """Make every relative path of the configuration relative to the file it stands in."""

    def at(path: Path) -> Path:
        return (base / path.expanduser()).resolve()

    def anchored(table: Any, *keys: str) -> Any:
        return table.model_copy(update={key: at(path) for key in keys if (path := getattr(table, key))})

    places = {FolderDestination: ("path",), StowDestination: ("token_file",), WebSource: ("token_file",)}
    return config.model_copy(
        update={
            "node": anchored(config.node, "data"),
            "tls": anchored(config.tls, "certificate", "key", "authorities"),
            "accept": config.accept.model_copy(update={"folder": anchored(config.accept.folder, "path")}),
            "pipelines": {name: anchored(entry, "folder") for name, entry in config.pipelines.items()},
            "sources": {
                name: anchored(entry, *places.get(type(entry), ())) for name, entry in config.sources.items()
            },
            "destinations": {
                name: anchored(entry, *places.get(type(entry), ()))
                for name, entry in config.destinations.items()
            },
        }
    )


#: Table of tables -> what each of them may be; by its transport, where there are several.
_KINDS: Mapping[str, Mapping[str, type[BaseModel]]] = {
    "destinations": {"dimse": DimseDestination, "stow": StowDestination, "folder": FolderDestination},
    "sources": {"dimse": DimseSource, "web": WebSource},
    "pipelines": {"": ExternalPipeline},
    "rules": {"": RuleTable},
}


def _known_keys(tables: list[Any], transport: str) -> list[str]:
    """Return the keys that a table may have."""
    if kinds := _KINDS.get(str(tables[0]) if tables else ""):
        model = kinds.get(transport) or next(iter(kinds.values()))
        tables = tables[2:]
    elif tables[:2] == ["accept", "policies"] and len(tables) > 2:
        model, tables = Policy, tables[3:]
    else:
        model = Config
    for name in tables:
        kind = model.model_fields[name].annotation
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return []
        model = kind
    return list(model.model_fields)
