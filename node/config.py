"""The configuration: one TOML file, read once into frozen records.

Unknown keys are errors that name table and key and suggest the nearest one; every complaint
is given at once. ``RADNODE_<TABLE>__<KEY>`` environment variables override the file, e.g.
``RADNODE_ACCEPT__DIMSE__PORT=11113``.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from node.errors import ConfigError

#: VR AE, PS3.5 6.2: 1 to 16 characters without backslash and control characters.
AETitle = Annotated[
    str, StringConstraints(pattern=r"^[\x20-\x5b\x5d-\x7e]{1,16}$", strip_whitespace=True, min_length=1)
]
Port = Annotated[int, Field(ge=0, le=65535)]  #: 0: any free port, printed when ready
Positive = Annotated[float, Field(gt=0)]


class Table(BaseModel):
    """One table of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NodeTable(Table):
    """[node]"""

    ae_title: AETitle = "RADNODE"
    data: Path = Path("data")  #: instances, results, journal; relative to the config file


class DimseDoor(Table):
    """[accept.dimse]"""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: Port = 11112
    max_associations: Annotated[int, Field(ge=1, le=1000)] = 20
    max_connections_per_peer: Annotated[int, Field(ge=1, le=1000)] = 40
    check_called_ae: bool = False  #: reject callers that use another called AE title than ours
    max_pdu_bytes: Annotated[int, Field(ge=4096, le=1 << 20)] = 131072
    pdu_timeout_s: Positive = 15.0  #: a PDU once begun must be whole within this time
    idle_timeout_s: Positive = 60.0  #: an association without any traffic is aborted
    request_timeout_s: Positive = 5.0  #: a connection must send its A-ASSOCIATE-RQ within this time
    #: SOP Class UIDs or keywords to accept; empty: every standard storage class.
    sop_classes: tuple[str, ...] = ()


class FolderDoor(Table):
    """[accept.folder]: a folder that is watched; files are taken once they stop growing."""

    path: Path | None = None  #: None: no such door
    poll_s: Positive = 2.0


class AcceptTable(Table):
    """[accept]"""

    reserve_gb: Annotated[float, Field(ge=0)] = 2.0  #: below this much free disk: A700
    max_object_gb: Positive = 4.0
    callers: tuple[AETitle, ...] = ()  #: allowed calling AE titles; empty: any, on loopback only
    dimse: DimseDoor = DimseDoor()
    folder: FolderDoor = FolderDoor()


class ShowTable(Table):
    """[show]"""

    host: str = "127.0.0.1"
    port: Port = 8042


class AssembleTable(Table):
    """[assemble]"""

    quiet_s: Annotated[float, Field(ge=0)] = 10.0  #: settled: nothing new for this long


class ComputeTable(Table):
    """[compute]"""

    engine: Literal["local"] = "local"
    devices: tuple[str, ...] = ("auto",)  #: one worker slot per entry: "auto", "cpu", "cuda:0"
    timeout_s: Positive = 900.0
    tries: Annotated[int, Field(ge=1, le=10)] = 2
    memory_gb: Positive = 16.0  #: a worker above this resident size is killed


class SendTable(Table):
    """[send]"""

    tries: Annotated[int, Field(ge=1, le=1000)] = 20
    first_retry_s: Positive = 5.0  #: doubles with each try
    longest_retry_s: Positive = 900.0


class KeepTable(Table):
    """[keep]: retention. A series ages out after its newest instance; nothing with open work does."""

    unrouted_days: Positive = 7.0
    done_days: Positive = 30.0
    failed_days: Positive = 90.0


class ExternalPipeline(Table):
    """[pipelines.<name>]: a pipeline outside this distribution, approved by its digest."""

    folder: Path  #: holds card.toml; relative to the config file
    sha256: str  #: digest of the folder as `radnode pipelines` prints it


class DimseDestination(Table):
    """[destinations.<name>] with transport = "dimse"."""

    transport: Literal["dimse"]
    ae_title: AETitle
    host: str
    port: Annotated[int, Field(ge=1, le=65535)]
    timeout_s: Positive = 30.0


class FolderDestination(Table):
    """[destinations.<name>] with transport = "folder"."""

    transport: Literal["folder"]
    path: Path


Destination = Annotated[DimseDestination | FolderDestination, Field(discriminator="transport")]


class RuleTable(Table):
    """[[rules]]: which series go to which pipeline. The match language is `node.assign.rule`."""

    name: str
    pipeline: str
    send_to: tuple[str, ...] = ()
    match: dict[str, Any] = {}


class Config(Table):
    """The whole file."""

    node: NodeTable = NodeTable()
    accept: AcceptTable = AcceptTable()
    show: ShowTable = ShowTable()
    assemble: AssembleTable = AssembleTable()
    compute: ComputeTable = ComputeTable()
    send: SendTable = SendTable()
    keep: KeepTable = KeepTable()
    pipelines: dict[str, ExternalPipeline] = {}
    destinations: dict[str, Destination] = {}
    rules: tuple[RuleTable, ...] = ()

    @model_validator(mode="after")
    def _agree(self) -> Config:
        complaints = []
        for rule in self.rules:
            for name in rule.send_to:
                if name not in self.destinations:
                    known = ", ".join(sorted(self.destinations)) or "none is defined"
                    complaints.append(
                        f"rule {rule.name!r} sends to {name!r}, which is no destination ({known})"
                    )
        names = [rule.name for rule in self.rules]
        complaints += [
            f"two rules are named {name!r}" for name in sorted({n for n in names if names.count(n) > 1})
        ]
        if self.accept.dimse.enabled and not self.accept.callers and not _is_loopback(self.accept.dimse.host):
            complaints.append(
                f"[accept.dimse] host = {self.accept.dimse.host!r} can be reached from outside, so "
                "[accept] callers must list the calling AE titles that may send"
            )
        if not _is_loopback(self.show.host):
            complaints.append(f"[show] host = {self.show.host!r}: only loopback, as there are no users")
        if complaints:
            raise ValueError("; ".join(complaints))
        return self


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
            raw = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ConfigError(f"There is no configuration file {path}.") from error
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{path} cannot be read: {error}") from error
    _apply_environment(raw, environ)
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        lines = [f"  {_complaint(detail)}" for detail in error.errors()]
        raise ConfigError("\n".join([f"{where} cannot be used:", *lines])) from error
    return _anchored(config, base)


def _anchored(config: Config, base: Path) -> Config:
    """Make every relative path of the configuration relative to the file it stands in."""

    def at(path: Path) -> Path:
        return (base / path.expanduser()).resolve()

    door = config.accept.folder
    return config.model_copy(
        update={
            "node": config.node.model_copy(update={"data": at(config.node.data)}),
            "accept": config.accept.model_copy(
                update={"folder": door.model_copy(update={"path": at(door.path) if door.path else None})}
            ),
            "pipelines": {
                name: entry.model_copy(update={"folder": at(entry.folder)})
                for name, entry in config.pipelines.items()
            },
            "destinations": {
                name: entry.model_copy(update={"path": at(entry.path)})
                if isinstance(entry, FolderDestination)
                else entry
                for name, entry in config.destinations.items()
            },
        }
    )


def _apply_environment(raw: dict[str, Any], environ: Mapping[str, str]) -> None:
    for name, text in sorted(environ.items()):
        if not name.startswith("RADNODE_") or "__" not in name:
            continue
        *tables, key = name.removeprefix("RADNODE_").lower().split("__")
        target = raw
        for table in tables:
            target = target.setdefault(table, {})
        try:
            target[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            target[key] = text  # a bare word is a string


def _complaint(detail: Any) -> str:
    """Turn one pydantic error into a sentence that names table and key."""
    loc = [part for part in detail["loc"] if part not in ("dimse", "folder") or len(detail["loc"]) < 4]
    *tables, key = [str(part) for part in loc] or ["", ""]
    table = ".".join(tables)
    place = f"[{table}] {key}" if table else str(key)
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(
            str(key), _known_keys([str(part) for part in detail["loc"][:-1]]), n=1, cutoff=0.5
        )
        hint = f"; did you mean {near[0]!r}?" if near else ""
        kind = "table" if isinstance(detail["input"], dict) else "key"
        return f"{place}: unknown {kind}{hint}"
    if detail["type"] == "missing":
        return f"{place}: this key is required"
    message = str(detail["msg"]).removeprefix("Value error, ")
    return f"{place}: {message}" if key else message


def _known_keys(tables: list[str]) -> list[str]:
    model: type[BaseModel] = Config
    for name in tables:
        if name == "destinations":
            chosen = tables[-1]
            return list((FolderDestination if chosen == "folder" else DimseDestination).model_fields)
        if name in ("pipelines", "rules"):
            return list((ExternalPipeline if name == "pipelines" else RuleTable).model_fields)
        annotation = model.model_fields[name].annotation if name in model.model_fields else None
        candidates = [annotation, *get_args(annotation)]
        nested = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not nested:
            return []
        model = nested[0]
    return list(model.model_fields)
