"""The configuration: what the file may say, table by table, and how it is read.

fields.py    kinds of values
doors.py     who we are and who may come in
peers.py     whom we call (matching.py: what may be asked of them)
work.py      what is done with what came
whole.py     all of it: read, checked, told what is wrong (complaint.py, environment.py)
"""

from __future__ import annotations

from node.config.doors import AcceptTable, DimseDoor, FolderDoor, NodeTable, Policy, ShowTable, TlsTable
from node.config.fields import Table
from node.config.peers import (
    Destination,
    DimseDestination,
    DimseSource,
    FolderDestination,
    Source,
    StowDestination,
    Watch,
    WebSource,
    profiles_of,
)
from node.config.whole import Config, read_config
from node.config.work import (
    AssembleTable,
    ComputeTable,
    ExternalPipeline,
    KeepTable,
    ResultsTable,
    RuleTable,
    SendTable,
    WithoutPrior,
)

__all__ = [
    "AcceptTable",
    "AssembleTable",
    "ComputeTable",
    "Config",
    "Destination",
    "DimseDestination",
    "DimseDoor",
    "DimseSource",
    "ExternalPipeline",
    "FolderDestination",
    "FolderDoor",
    "KeepTable",
    "NodeTable",
    "Policy",
    "ResultsTable",
    "RuleTable",
    "SendTable",
    "ShowTable",
    "Source",
    "StowDestination",
    "Table",
    "TlsTable",
    "Watch",
    "WebSource",
    "WithoutPrior",
    "profiles_of",
    "read_config",
]
