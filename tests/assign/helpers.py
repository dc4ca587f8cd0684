"""Series, headers and cards made of a few attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydicom import Dataset

from node.config import RuleTable
from node.model import Instance, Series
from pipelines.contract import Card, InputSpec


def card(name: str = "lung-density", roles: Sequence[str] = ("ct",)) -> Card:
    """Return a card with nothing but a name and its roles."""
    return Card(
        name=name,
        version="1.0.0",
        title=f"The pipeline {name}",
        maker="test",
        intended_use="test",
        use="tests.none:None",
        inputs={role: InputSpec(modality=("CT",), unit="[hnsf'U]") for role in roles},
    )


CARDS = {"lung-density": card(), "spleen": card("spleen"), "tumour": card("tumour", ("t1", "t2"))}


def table(
    match: Mapping[str, Any], name: str = "a rule", pipeline: str = "lung-density", **more: Any
) -> RuleTable:
    """Return one ``[[rules]]`` entry."""
    return RuleTable(name=name, pipeline=pipeline, match=dict(match), **more)


def dataset(**attributes: Any) -> Dataset:
    """Return a data set with these attributes, unconverted and unvalidated."""
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def series(headers: Sequence[Dataset | None]) -> tuple[Series, dict[str, Dataset]]:
    """Return a series with one instance per entry; None stands for a header that cannot be read."""
    instances = tuple(
        Instance(
            sop_instance_uid=f"1.2.3.{number}",
            sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
            series_uid="1.2.3",
            study_uid="1.2",
            transfer_syntax_uid="1.2.840.10008.1.2",
            path=Path(f"{number}.dcm"),
            sha256="0" * 64,
            size_bytes=1,
            arrived_at=datetime(2026, 1, 1, tzinfo=UTC),
            sender="TEST",
        )
        for number in range(1, len(headers) + 1)
    )
    readable = {
        instance.sop_instance_uid: header
        for instance, header in zip(instances, headers, strict=True)
        if header is not None
    }
    return Series(uid="1.2.3", study_uid="1.2", revision=1, instances=instances), readable
