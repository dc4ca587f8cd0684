"""An instance arrives and becomes ours.

A door (`DimseDoor`, `FolderDoor`, `StowDoor`) receives an object into a `Spool` and hands it to the flow,
which calls `accept` and writes the journal. Until both are done nothing is promised to the
sender; from then on the instance is in our custody.
"""

from __future__ import annotations

from node.accept.classes import chosen_classes
from node.accept.custody import accept
from node.accept.dimse import DimseDoor
from node.accept.folder import FolderDoor, check_inbox, find_files, spool_file
from node.accept.spool import Request, Spool
from node.accept.store import Store
from node.accept.stow import StowDoor
from node.accept.syntaxes import decodable_syntaxes
from node.port import listen_on

__all__ = [
    "DimseDoor",
    "FolderDoor",
    "Request",
    "Spool",
    "Store",
    "StowDoor",
    "accept",
    "check_inbox",
    "chosen_classes",
    "decodable_syntaxes",
    "find_files",
    "listen_on",
    "spool_file",
]
