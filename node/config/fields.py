"""Kinds of values that several tables have, each with its bounds."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, StringConstraints
from pydantic_core import PydanticCustomError

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


#: SHA-256 of something, hexadecimal; colons as openssl prints them are left out.
Digest = Annotated[
    str,
    BeforeValidator(lambda value: value.replace(":", "").lower() if isinstance(value, str) else value),
    StringConstraints(pattern=r"^[0-9a-f]{64}$"),
]


def _network(value: Any) -> IPv4Network | IPv6Network:
    try:
        if isinstance(value, str):  # a number would be taken for an address
            return ip_network(value.strip())
    except ValueError:
        pass
    raise PydanticCustomError("ip_network", "neither an address nor a network")


#: An address of a network, or a whole one: "10.0.0.5", "10.0.0.0/24". One validator, so one complaint.
Network = Annotated[IPv4Network | IPv6Network, PlainValidator(_network)]
#: "off"; "on": we show our certificate; "mutual": and callers must show one that [tls] authorities signed.
DoorTls = Literal["off", "on", "mutual"]
#: http or https, a host and a path; no name, password, query or fragment.
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$", strip_whitespace=True)]
#: Where a web page comes from (RFC 6454): scheme, host and port, and nothing behind them.
Origin = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/@?#*]+$", strip_whitespace=True)]
