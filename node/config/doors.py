"""Who we are and who may come in: [node], [tls], [accept], [show]."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from node.config.fields import (
    AETitle,
    Days,
    Digest,
    DoorTls,
    Gigabytes,
    Name,
    Network,
    Origin,
    Port,
    Seconds,
    Table,
)


class NodeTable(Table):
    """[node]"""

    ae_title: AETitle = "RADNODE"
    data: Path = Path("data")  #: instances, results, journal; relative to the config file
    drain_s: Seconds = 30.0  #: after SIGTERM what is under way may take this long


class TlsTable(Table):
    """[tls]: who we are to those we speak with in TLS, and whom we believe; `node.peer.tls`."""

    certificate: Path | None = None  #: PEM, ours first, then those that lead to the root
    key: Path | None = None  #: PEM, without a password
    authorities: Path | None = None  #: PEM; None: those that the system believes, for peers that we call
    warn_days: Days = 30.0  #: a certificate that ends sooner is complained about


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
    tls: DoorTls = "off"


class FolderDoor(Table):
    """[accept.folder]: a folder that is watched; files are taken once they stop growing."""

    path: Path | None = None  #: None: no such door
    poll_s: Seconds = 2.0


class Policy(Table):
    """[accept.policies.<name>]: who may send, and what comes of it. The first that fits counts.

    Where there are policies, who fits none is rejected. An empty list of what is asked is no demand.
    """

    calling: tuple[AETitle, ...] = ()
    called: tuple[AETitle, ...] = ()
    hosts: tuple[Network, ...] = ()
    certificates: tuple[Digest, ...] = ()  #: SHA-256 of the client's certificate
    #: Names of the rules that may use what comes; None: all of them; empty: it is kept and starts nothing.
    rules: tuple[Name, ...] | None = None
    max_associations: Annotated[int, Field(ge=1, le=1000)] | None = None
    instances_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] | None = None  #: more are slowed down


class AcceptTable(Table):
    """[accept]"""

    reserve_gb: Annotated[float, Field(ge=0, le=1e9)] = 2.0  #: below this much free disk: A700
    max_object_gb: Gigabytes = 4.0
    sync: Literal["instance", "file"] = "instance"  #: what a power cut must not take once Success was said
    callers: tuple[AETitle, ...] = ()  #: allowed calling AE titles; empty: any, on loopback only
    called: tuple[AETitle, ...] = ()  #: AE titles that we answer to, beside that of [node]
    policies: dict[Name, Policy] = {}  #: in the order of the file
    dimse: DimseDoor = DimseDoor()
    folder: FolderDoor = FolderDoor()


class ShowTable(Table):
    """[show]: DICOMweb under /dicom-web, and /healthz."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: Port = 8042
    tls: DoorTls = "off"
    tokens: tuple[Digest, ...] = ()  #: SHA-256 of bearer tokens, one of which must be shown; empty: none
    origins: tuple[Origin, ...] = ()  #: pages from there may read: "https://viewer.example"
    max_connections: Annotated[int, Field(ge=1, le=10_000)] = 100
    max_connections_per_peer: Annotated[int, Field(ge=1, le=10_000)] = 50  #: from one address
    idle_timeout_s: Seconds = 30.0  #: a request that stands still for so long is given up
