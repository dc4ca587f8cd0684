"""Where the doors of this step find how to listen."""

from __future__ import annotations

from node.port import listen_on

__all__ = ["listen_on"]
