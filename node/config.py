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
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from node.complaint import complaint
from node.environment import apply_environment, source
from node.errors import ConfigError
from node.profile import (
    LABELMAP_CLASS,
    Coordinates,
    Extra,
    Presentation,
    Profile,
    Report,
    Segmentation,
    decide,
)

#: VR AE, PS3.5 6.2: 1 to 16 characters without backslash and control characters.
AETitle = Annotated[
    str, StringConstraints(pattern=r"^[\x20-\x5b\x5d-\x7e]{1,16}$", strip_whitespace=True, min_length=1)
]
Port = Annotated[int, Field(ge=0, le=65535)]  #: 0: any free port, printed when ready
#: Upper bounds keep what is computed from these within what dates and sizes can hold.
Seconds = Annotated[float, Field(gt=0, le=31_536_000)]  #: at most a year
Days = Annotated[float, Field(gt=0, le=36_500)]  #: at most a century
Gigabytes = Annotated[float, Field(gt=0, le=1e9)]
#: A name or address to connect to: labels of at most 63 characters (RFC 1035 2.3.4), or IPv6.
Host = Annotated[
    str, StringConstraints(pattern=r"^[!-\-/-~]{1,63}(\.[!-\-/-~]{1,63})*\.?$", strip_whitespace=True)
]
#: Appears in logs and reports: something, and nothing that steers a terminal.
Name = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", strip_whitespace=True)]


class Table(BaseModel):
    """One table of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class NodeTable(Table):
    """[node]"""

    ae_title: AETitle = "RADNODE"
    data: Path = Path("data")  #: instances, results, journal; relative to the config file
    drain_s: Seconds = 30.0  #: after SIGTERM what is under way may take this long


class DimseDoor(Table):
    """[accept.dimse]"""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: Port = 11112
    max_associations: Annotated[int, Field(ge=1, le=1000)] = 20
    max_connections_per_peer: Annotated[int, Field(ge=1, le=1000)] = 40
    check_called_ae: bool = False  #: reject callers that use another called AE title than ours
    max_pdu_bytes: Annotated[int, Field(ge=4096, le=1 << 20)] = 131072
    pdu_timeout_s: Seconds = 15.0  #: a PDU once begun must be whole within this time
    idle_timeout_s: Seconds = 60.0  #: an association without any traffic is aborted
    request_timeout_s: Seconds = 5.0  #: a connection must send its A-ASSOCIATE-RQ within this time
    #: SOP Class UIDs or keywords to accept; empty: every standard storage class.
    sop_classes: tuple[str, ...] = ()


class FolderDoor(Table):
    """[accept.folder]: a folder that is watched; files are taken once they stop growing."""

    path: Path | None = None  #: None: no such door
    poll_s: Seconds = 2.0


class AcceptTable(Table):
    """[accept]"""

    reserve_gb: Annotated[float, Field(ge=0, le=1e9)] = 2.0  #: below this much free disk: A700
    max_object_gb: Gigabytes = 4.0
    callers: tuple[AETitle, ...] = ()  #: allowed calling AE titles; empty: any, on loopback only
    dimse: DimseDoor = DimseDoor()
    folder: FolderDoor = FolderDoor()


class ShowTable(Table):
    """[show]"""

    host: str = "127.0.0.1"
    port: Port = 8042


class AssembleTable(Table):
    """[assemble]"""

    quiet_s: Annotated[float, Field(ge=0, le=31_536_000)] = 10.0  #: settled: nothing new for this long


class ComputeTable(Table):
    """[compute]"""

    engine: Literal["local"] = "local"
    devices: tuple[str, ...] = ("auto",)  #: one worker slot per entry: "auto", "cpu", "cuda:0"
    timeout_s: Seconds = 900.0
    tries: Annotated[int, Field(ge=1, le=10)] = 2
    memory_gb: Gigabytes = 16.0  #: a worker above this resident size is killed
    scratch_gb: Gigabytes = 16.0  #: a worker that wrote more than this into its folder is killed
    #: "required": pipelines from outside run only where the kernel shuts them in; "best": anyhow
    isolation: Literal["required", "best"] = "required"


class SendTable(Table):
    """[send]"""

    tries: Annotated[int, Field(ge=1, le=1000)] = 20
    first_retry_s: Seconds = 5.0  #: doubles with each try
    longest_retry_s: Seconds = 900.0


#: Fields of a Series Description as `string.Formatter` parses them: no format, no conversion.
_FILLED_IN = {(name, "", None) for name in ("pipeline", "version", "what")}


class ResultsTable(Table):
    """[results]: how results are numbered and named in a study."""

    series_number: Annotated[int, Field(ge=1, le=2**31 - 1000)] = 9001  #: of the first kind of object
    #: Series Description; must tell ``{pipeline}`` and ``{what}``, and say "research".
    series_description: Name = Presentation.series_description
    max_object_mb: Annotated[float, Field(ge=5, le=2000)] = 512.0  #: larger segmentations are split

    @field_validator("series_description")
    @classmethod
    def _tells(cls, template: str) -> str:
        told = "may hold {pipeline}, {version} and {what}, and no other braces or backslashes"
        try:
            parts = list(Formatter().parse(template))
        except ValueError as error:
            raise ValueError(told) from error
        if any(part[1:] not in _FILLED_IN for part in parts if part[1] is not None):
            raise ValueError(told)
        if "\\" in template:
            raise ValueError(told)
        filled = template.format(pipeline="", version="", what="")
        if not {"pipeline", "what"} <= {part[1] for part in parts} or "research" not in filled:
            raise ValueError("must hold {pipeline}, {what} and the word research")
        if len(filled) > 32:
            raise ValueError("leaves no room: at most 32 characters beside what is filled in")
        return template

    @property
    def presentation(self) -> Presentation:
        """The same as the encoder takes it."""
        return Presentation(**self.model_dump())


class KeepTable(Table):
    """[keep]: retention. A series ages out after its newest instance; nothing with open work does."""

    unrouted_days: Days = 7.0
    done_days: Days = 30.0
    failed_days: Days = 90.0


class ExternalPipeline(Table):
    """[pipelines.<name>]: a pipeline outside this distribution, approved by its digest."""

    folder: Path  #: holds card.toml; relative to the config file
    sha256: str  #: digest of the folder; what is said about a wrong one tells the right one


class _Destination(Table):
    """What any destination may say of the results that it wants; `node.profile` explains the words."""

    report: Report = "viewer"
    segmentation: Segmentation = "auto"
    coordinates: Coordinates = "image"
    also: tuple[Extra, ...] = ()

    def profile(self, takes_labelmap: bool | None = None) -> Profile:
        """Return what this destination is given; see `node.profile.decide`."""
        return decide(
            report=self.report,
            segmentation=self.segmentation,
            coordinates=self.coordinates,
            also=self.also,
            takes_labelmap=takes_labelmap,
        )


class DimseDestination(_Destination):
    """[destinations.<name>] with transport = "dimse"."""

    transport: Literal["dimse"]
    ae_title: AETitle
    host: Host
    port: Annotated[int, Field(ge=1, le=65535)]
    timeout_s: Seconds = 30.0


class FolderDestination(_Destination):
    """[destinations.<name>] with transport = "folder"."""

    transport: Literal["folder"]
    path: Path


Destination = Annotated[DimseDestination | FolderDestination, Field(discriminator="transport")]


def profiles_of(
    names: Iterable[str],
    destinations: Mapping[str, DimseDestination | FolderDestination],
    takes: Callable[[str, str], bool | None],
) -> dict[str, Profile]:
    """Return what each of these destinations is given; nowhere is given what a viewer needs.

    Parameters
    ----------
    takes
        (destination, SOP Class UID) -> whether it was seen to take the class; None: never asked.
    """
    known = {
        name: destinations[name].profile(takes(name, LABELMAP_CLASS)) if name in destinations else Profile()
        for name in names
    }
    return known or {"": Profile()}


#: "refuse": the lack is told as a refusal; "skip": the pipeline is not for such a study.
WithoutPrior = Literal["refuse", "skip"]


class RuleTable(Table):
    """[[rules]]: which series go to which pipeline. The match language is `node.assign.rule`."""

    name: Name
    pipeline: str
    send_to: tuple[str, ...] = ()
    match: dict[str, Any] = {}  #: of the series; of each one, where the pipeline takes several
    #: [rules.inputs.<role>]: the same for one role; where there is none, what the card says is used
    inputs: dict[str, dict[str, Any]] = {}
    #: [rules.results.<pipeline>]: what another pipeline must have found; see `node.assign.results`
    results: dict[str, dict[str, Any]] = {}
    #: How long several series of a study may lack one before that is a refusal.
    wait_s: Annotated[float, Field(ge=0, le=31_536_000)] = 600.0
    without_prior: WithoutPrior = "refuse"  #: where there is no earlier study after that time


class Config(Table):
    """The whole file."""

    node: NodeTable = NodeTable()
    accept: AcceptTable = AcceptTable()
    show: ShowTable = ShowTable()
    assemble: AssembleTable = AssembleTable()
    compute: ComputeTable = ComputeTable()
    results: ResultsTable = ResultsTable()
    send: SendTable = SendTable()
    keep: KeepTable = KeepTable()
    pipelines: dict[Name, ExternalPipeline] = {}
    destinations: dict[Name, Destination] = {}
    rules: tuple[RuleTable, ...] = ()

    @model_validator(mode="after")
    def _agree(self) -> Config:
        complaints = []
        for rule in self.rules:
            for name in rule.send_to:
                if name not in self.destinations:
                    known = ", ".join(sorted(self.destinations)) or "there is none"
                    near = difflib.get_close_matches(name, self.destinations, n=1)
                    hint = f"; did you mean {near[0]!r}?" if near else ""
                    complaints.append(
                        f"[[rules]] {rule.name!r} sends to {name!r}, but the destinations are: {known}{hint}"
                    )
        names = [rule.name for rule in self.rules]
        complaints += [
            f"[[rules]] several are named {name!r}"
            for name in sorted({n for n in names if names.count(n) > 1})
        ]
        if self.accept.dimse.enabled and not self.accept.callers and not _is_loopback(self.accept.dimse.host):
            complaints.append(
                f"[accept.dimse] host = {self.accept.dimse.host!r} can be reached from outside, so "
                "[accept] callers must list the calling AE titles that may send"
            )
        if not _is_loopback(self.show.host):
            complaints.append(
                f"[show] host = {self.show.host!r} can be reached from outside, but nobody has to log in; "
                "use 127.0.0.1"
            )
        if complaints:
            raise ValueError("\n".join(complaints))
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


def _known_keys(tables: list[Any], transport: str) -> list[str]:
    """Return the keys that a table may have."""
    if tables[:1] == ["destinations"]:
        return list((FolderDestination if transport == "folder" else DimseDestination).model_fields)
    if tables[:1] in (["pipelines"], ["rules"]):
        return list((ExternalPipeline if tables[0] == "pipelines" else RuleTable).model_fields)
    model: type[BaseModel] = Config
    for name in tables:
        kind = model.model_fields[name].annotation
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return []
        model = kind
    return list(model.model_fields)
