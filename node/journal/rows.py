"""The records that the journal gives out, and how its rows become records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from node.job import Job, JobInput, JobSpec, JobState
from node.model import Count, Instance, Lack, Outcome, ResultObject, Settling, StandIn


class Recorded(StrEnum):
    """What came of recording an instance."""

    NEW = "new"
    SAME = "same"  #: the same bytes again
    CONFLICT = "conflict"  #: a known identity with other content; the caller quarantines the file


@dataclass(frozen=True, slots=True, kw_only=True)
class Arriving:
    """A series with instances that no revision of it has yet."""

    series_uid: str
    study_uid: str
    count: int  #: instances held, those of earlier revisions included
    last_arrival_at: datetime  #: aware, UTC
    counts: tuple[Count, ...] = ()  #: what archives said last
    is_ordered: bool = False  #: an operator said of just these instances that they will do


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One move of one job."""

    job_id: int
    at: datetime  #: aware, UTC
    from_state: JobState | None  #: None: the job was made
    to_state: JobState
    fence: int
    code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What one destination still lacks of the results of one job."""

    job_id: int
    destination: str
    objects: tuple[ResultObject, ...]
    tries: int  #: failed so far
    #: SOP Instance UID of a result that was taken before -> the stand-in that went in its place.
    earlier: Mapping[str, ResultObject] = field(default_factory=dict)

    def fits(self, taken: Mapping[str, bool]) -> bool:
        """Return whether all can go as it is, where the destination takes these SOP Classes or not."""
        return not self.earlier and all(taken.get(thing.sop_class_uid, True) for thing in self.objects)

    def going(self, taken: Mapping[str, bool], made: Mapping[str, StandIn]) -> dict[str, str]:
        """Return SOP Instance UID of a result -> that of what goes; what cannot go is not in it."""
        going = {}
        for thing in self.objects:
            uid = thing.sop_instance_uid
            sent = made[uid].thing if uid in made else thing
            if sent is not None and taken.get(sent.sop_class_uid, True):
                going[uid] = sent.sop_instance_uid
        return going


def instance_of(row: Row[Any], data: Path) -> Instance:
    """Return an instance from its row."""
    return Instance(
        sop_instance_uid=row.sop_instance_uid,
        sop_class_uid=row.sop_class_uid,
        series_uid=row.series_uid,
        study_uid=row.study_uid,
        transfer_syntax_uid=row.transfer_syntax_uid,
        path=data / row.path,
        sha256=row.sha256,
        size_bytes=row.size_bytes,
        arrived_at=row.arrived_at,
        sender=row.sender,
        policy=row.policy,
        prior=row.prior,
    )


def settling_of(row: Any) -> Settling:
    """Return how a series settled, from its row."""
    return Settling(by=row.decided_by, held=row.held, **row.evidence)


def job_of(row: Row[Any]) -> Job:
    """Return a job from its row."""
    inputs = {
        role: JobInput(
            series_uid=entry["series_uid"],
            revision=entry["revision"],
            sop_instance_uids=tuple(entry["sop_instance_uids"]),
            caution=entry.get("caution", ""),
        )
        for role, entry in row.inputs.items()
    }
    return Job(
        id=row.id,
        spec=JobSpec(
            pipeline=row.pipeline,
            pipeline_version=row.pipeline_version,
            pipeline_digest=row.pipeline_digest,
            study_uid=row.study_uid,
            inputs=inputs,
            input_digest=row.input_digest,
            rule=row.rule,
            send_to=tuple(row.send_to),
            case=tuple(row.case_of),
            needs=row.needs,
            lack=Lack(**{**row.lack, "roles": tuple(row.lack["roles"])}) if row.lack else None,
        ),
        state=JobState(row.state),
        fence=row.fence,
        tries=row.tries,
        not_before=row.not_before,
        created_at=row.created_at,
        reason_code=row.reason_code,
        reason=row.reason,
    )


def values_of(spec: JobSpec) -> Mapping[str, Any]:
    """Return the columns of a job that say what is to be done."""
    return {
        "key": spec.key,
        "pipeline": spec.pipeline,
        "pipeline_version": spec.pipeline_version,
        "pipeline_digest": spec.pipeline_digest,
        "study_uid": spec.study_uid,
        "inputs": {role: asdict(entry) for role, entry in spec.inputs.items()},
        "input_digest": spec.input_digest,
        "rule": spec.rule,
        "send_to": list(spec.send_to),
        "case_of": list(spec.case),
        "lack": asdict(spec.lack) if spec.lack else None,
        "needs": dict(spec.needs),
    }


def result_of(row: Row[Any], data: Path) -> ResultObject:
    """Return a result object, or one that stands in for it, from its row."""
    return ResultObject(
        kind=row.kind,
        sop_instance_uid=row.sop_instance_uid,
        sop_class_uid=row.sop_class_uid,
        series_uid=row.series_uid,
        transfer_syntax_uid=row.transfer_syntax_uid,
        path=data / row.path,
        sha256=row.sha256,
        refers_to=tuple(row.refers_to),
    )


def outcome_of(told: Mapping[str, Any], objects: tuple[ResultObject, ...]) -> Outcome:
    """Return what a worker reported, from the column that keeps it; earlier versions kept less."""
    return Outcome(
        objects=objects,
        profiles={key: tuple(uids) for key, uids in told.get("profiles", {}).items()},
        summary=tuple(told["summary"]),
        **{name: tuple(told.get(name, ())) for name in ("evaluations", "detections", "segments")},
        notes=tuple(told["notes"]),
        outlines=told.get("outlines", ""),
        seconds=told["seconds"],
    )


def event_of(row: Row[Any]) -> Event:
    """Return an event from its row."""
    return Event(
        job_id=row.job_id,
        at=row.at,
        from_state=JobState(row.from_state) if row.from_state else None,
        to_state=JobState(row.to_state),
        fence=row.fence,
        code=row.code,
        reason=row.reason,
    )
