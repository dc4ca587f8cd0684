"""STOW-RS: what is brought over HTTP (PS3.18 10.5). The work is `node.accept.stow`'s, which is handed in."""

from __future__ import annotations

from typing import Protocol

from node.show.resource import Resource


class Bring(Protocol):
    """Begins to take in one object."""


RESOURCES: tuple[Resource, ...] = ()
