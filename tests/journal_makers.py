"""Instances, jobs and results for tests of the journal: only their records, no DICOM."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

from node.job import Job, JobInput, JobSpec
from node.journal import Journal
from node.model import Instance, Outcome, Receipt, ResultObject

NOON = datetime(2026, 11, 20, 12, 0, 0, 123456, tzinfo=UTC)
CT = "1.2.840.10008.5.1.4.1.1.2"
SEG = "1.2.840.10008.5.1.4.1.1.66.4"
EXPLICIT = "1.2.840.10008.1.2.1"


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def an_instance(
    number: int, *, series: str = "1.2.3", study: str = "1.2", content: str = "", at: datetime = NOON
) -> Instance:
    uid = f"{series}.{number}"
    return Instance(
        sop_instance_uid=uid,
        sop_class_uid=CT,
        series_uid=series,
        study_uid=study,
        transfer_syntax_uid=EXPLICIT,
        path=Path("/elsewhere") / f"{uid}.dcm",
        sha256=sha(content or uid),
        size_bytes=1000,
        arrived_at=at,
        sender="MODALITY",
    )


def a_spec(
    *,
    series: str = "1.2.3",
    numbers: range = range(1, 4),
    pipeline: str = "lung-density",
    send_to: tuple[str, ...] = ("archive",),
    rule: str = "lungs",
    needs: Mapping[str, str] = MappingProxyType({}),
) -> JobSpec:
    uids = tuple(sorted(f"{series}.{number}" for number in numbers))
    return JobSpec(
        pipeline=pipeline,
        pipeline_version="1.0",
        pipeline_digest=sha(pipeline),
        study_uid="1.2",
        inputs={"ct": JobInput(series_uid=series, revision=1, sop_instance_uids=uids)},
        input_digest=sha(" ".join([*uids, *needs.values()])),
        rule=rule,
        send_to=send_to,
        needs=dict(needs),
    )


def a_job(
    journal: Journal, *, series: str = "1.2.3", send_to: tuple[str, ...] = ("archive",), at: datetime = NOON
) -> Job:
    """Record a series of three and queue one job on it."""
    for number in range(1, 4):
        journal.record(an_instance(number, series=series, at=at))
    specs = [a_spec(series=series, send_to=send_to)]
    (job,) = journal.plan(series, expected_count=3, specs=specs, reason="", now=at)
    return job


def an_outcome(
    job_id: int, *, count: int = 2, folder: Path = Path("/elsewhere"), outlines: str = ""
) -> Outcome:
    """Return ``count`` objects, of which each refers to the one before it."""
    uids = [f"2.25.{job_id}.{number}" for number in range(1, count + 1)]
    objects = tuple(
        ResultObject(
            kind="seg" if number == 0 else "sr-text",
            sop_instance_uid=uid,
            sop_class_uid=SEG,
            series_uid=f"2.25.{job_id}",
            transfer_syntax_uid=EXPLICIT,
            path=folder / f"{uid}.dcm",
            sha256=sha(uid),
            refers_to=tuple(uids[number - 1 : number]),
        )
        for number, uid in enumerate(uids)
    )
    summary = ({"name": "Volume", "value": 33.5, "unit": "mL", "segment": 1},)
    return Outcome(
        objects=objects, summary=summary, notes=("a note",), outlines=outlines, seconds={"load": 0.5}
    )


def a_receipt(uid: str, *, destination: str = "archive", sentence: str = "", at: datetime = NOON) -> Receipt:
    return Receipt(sop_instance_uid=uid, destination=destination, status=0, sentence=sentence, at=at)
