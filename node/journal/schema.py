"""The tables of the journal.

No patient data: UIDs, hashes, counts, times, and reasons in our own words. That two studies are of
one patient is known by a digest that nobody can check without a key beside the journal. A file is
named relative to the data folder, so that the folder can be moved or restored elsewhere.

series 1--n instance      what we hold (settling: why it was taken to be whole; count: what archives say)
series 1--n job_input n--1 job 1--n event      what is done with it, and every move of a job
job n--n job              whose results it needs as inputs (need)
job 1--n result           what was made of it
result 1--n stand_in      the same as another kind of object, for destinations that do not take it
job 1--n delivery 1--n parcel      which destination still lacks which of the results
commitment 1--n commitment_item    what it was asked to commit itself to keep
pull, watched, sought      what is fetched from archives
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    false,
    true,
)
from sqlalchemy.types import BigInteger, TypeDecorator

from node.job import JobState

#: The newest migration; `radnode` of this version can use no other schema.
HEAD = "0006"


class Utc(TypeDecorator[datetime]):
    """An aware time as text of fixed width in UTC, so that text order is order in time."""

    impl = String(27)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"the journal keeps aware times only, not {value!r}")
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:
        return None if value is None else datetime.fromisoformat(value)


class Json(TypeDecorator[Any]):
    """A small structure as JSON text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


Uid = String(64)  # PS3.5 9.1
Hash = String(64)  # SHA-256, hexadecimal

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

series = Table(
    "series",
    metadata,
    Column("series_uid", Uid, primary_key=True),
    Column("study_uid", Uid, nullable=False),
    Column("last_arrival_at", Utc, nullable=False),  # of the newest instance
    Column("revision", Integer, nullable=False),  # 0: never settled
    Column("unsettled", Boolean, nullable=False),  # has instances newer than its revision
    Column("settled_at", Utc),
    Column("routing", Text, nullable=False),  # why jobs were made of it, or why none
    Column("number", Text, nullable=False, server_default=""),  # Series Number, once it has settled
    Column("patient_key", Hash, nullable=False, server_default=""),  # `node.journal.patients`
)
Index("ix_series_unsettled", series.c.unsettled)
Index("ix_series_study_uid", series.c.study_uid)
Index("ix_series_patient_key", series.c.patient_key)

instance = Table(
    "instance",
    metadata,
    Column("sop_instance_uid", Uid, primary_key=True),
    Column("sop_class_uid", Uid, nullable=False),
    Column("series_uid", Uid, ForeignKey("series.series_uid"), nullable=False, index=True),
    Column("study_uid", Uid, nullable=False),
    Column("transfer_syntax_uid", Uid, nullable=False),
    Column("path", Text, nullable=False),
    Column("sha256", Hash, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("arrived_at", Utc, nullable=False),
    Column("sender", Text, nullable=False),
    Column("seen", Integer, nullable=False),  # how often the same bytes came
    Column("policy", Text, nullable=False, server_default=""),  # which of [accept.policies] let it in
    # Fetched as a prior of something else: it starts nothing, until somebody sends it.
    Column("prior", Boolean, nullable=False, server_default=false()),
)

#: What a series was settled by, revision for revision.
settling = Table(
    "settling",
    metadata,
    Column("series_uid", Uid, ForeignKey("series.series_uid"), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("at", Utc, nullable=False),
    Column("held", Integer, nullable=False),  # instances
    Column("decided_by", String(16), nullable=False),  # "quiet", "count", "patience", "operator"
    Column("evidence", Json, nullable=False),  # what else is in `node.model.Settling`
)

#: How many instances an archive says that a series has. No foreign key: asked before the first comes.
count = Table(
    "count",
    metadata,
    Column("series_uid", Uid, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("instances", Integer),  # 0: it has no such series, or not yet; NULL: it cannot say
    Column("since", Utc, nullable=False),  # when it was first asked and said this
    Column("asked_at", Utc, nullable=False),  # when it was last asked; it said so some time after that
)

#: What is to be fetched from an archive.
pull = Table(
    "pull",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("source", Text, nullable=False),
    Column("study_uid", Uid, nullable=False),
    Column("series_uid", Uid, nullable=False),  # "": the whole study
    Column("prior", Boolean, nullable=False),
    Column("state", String(16), nullable=False),  # "waiting", "done", "failed"
    Column("tries", Integer, nullable=False),
    Column("not_before", Utc, nullable=False),
    Column("asked_at", Utc, nullable=False),
    Column("changed_at", Utc, nullable=False),
    Column("expected", Integer),  # instances, as the archive counts them; NULL: not known yet
    Column("received", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    sqlite_autoincrement=True,
)
Index("ix_pull_state_not_before", pull.c.state, pull.c.not_before)

#: Studies that were seen in an archive that is watched, and how large they were.
watched = Table(
    "watched",
    metadata,
    Column("source", Text, primary_key=True),
    Column("study_uid", Uid, primary_key=True),
    Column("instances", Integer),
    Column("seen_at", Utc, nullable=False),
)

#: Instances that claim a known identity with other content. The files lie in quarantine.
quarantine = Table(
    "quarantine",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("sop_instance_uid", Uid, nullable=False),
    Column("series_uid", Uid, nullable=False),
    Column("study_uid", Uid, nullable=False),
    Column("sha256", Hash, nullable=False),
    Column("sender", Text, nullable=False),
    Column("at", Utc, nullable=False),
    Column("reason", Text, nullable=False),
)

#: What the node of the last start was told, to be compared with what this one is.
setting = Table(
    "setting",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

_states = ", ".join(f"'{state}'" for state in JobState)

job = Table(
    "job",
    metadata,
    Column("id", Integer, primary_key=True),
    # The same work cannot be queued twice. A job that no longer stands for it gave its key back.
    Column("key", Hash, nullable=False, unique=True),
    Column("pipeline", Text, nullable=False),
    Column("pipeline_version", Text, nullable=False),
    Column("pipeline_digest", Text, nullable=False),
    Column("study_uid", Uid, nullable=False),
    Column("inputs", Json, nullable=False),  # role -> series_uid, revision, sop_instance_uids
    Column("input_digest", Hash, nullable=False),
    Column("rule", Text, nullable=False),
    Column("send_to", Json, nullable=False),
    Column("case_of", Json, nullable=False, server_default="[]"),  # rules that bind several series
    Column("lack", Json),  # why a role is bound to nothing: code, sentence, wait_s, then
    Column("needs", Json, nullable=False, server_default="{}"),  # role -> key of the work whose result it is
    Column("state", String(16), CheckConstraint(f"state IN ({_states})", name="state"), nullable=False),
    Column("fence", Integer, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("losses", Integer, nullable=False),  # claims that were lost because the node itself died
    Column("not_before", Utc, nullable=False),
    Column("created_at", Utc, nullable=False),
    Column("changed_at", Utc, nullable=False),
    Column("reason_code", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("outcome", Json),  # summary, notes, seconds, ...: what is in `node.model.Outcome` beside objects
    # Whether rules on results were asked what comes of it, once it had ended.
    Column("followed", Boolean, nullable=False, server_default=true()),
    Column("withdrawn_at", Utc),  # an operator took the results back
    Column("withdrawal", Text),  # why
    sqlite_autoincrement=True,  # the number of a job is never given again
)
Index("ix_job_state_not_before", job.c.state, job.c.not_before)
Index("ix_job_study_uid", job.c.study_uid)
Index("ix_job_followed", job.c.followed)

#: No foreign key to series: the history of a job outlives the series.
job_input = Table(
    "job_input",
    metadata,
    Column("job_id", Integer, ForeignKey("job.id"), primary_key=True),
    Column("role", Text, primary_key=True),
    Column("series_uid", Uid, nullable=False, index=True),
    Column("revision", Integer, nullable=False),
)

#: Which job makes the result that another one takes in a role.
need = Table(
    "need",
    metadata,
    Column("job_id", Integer, ForeignKey("job.id"), primary_key=True),
    Column("role", Text, primary_key=True),
    Column("needed_id", Integer, ForeignKey("job.id"), nullable=False, index=True),
)

#: In which archives the prior of a job was looked for.
sought = Table(
    "sought",
    metadata,
    Column("job_id", Integer, ForeignKey("job.id"), primary_key=True),
    Column("source", Text, primary_key=True),
    Column("at", Utc, nullable=False),
    Column("found", Integer, nullable=False),  # studies that are fetched
)

event = Table(
    "event",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", Integer, ForeignKey("job.id"), nullable=False, index=True),
    Column("at", Utc, nullable=False),
    Column("from_state", String(16)),  # NULL: the job was made
    Column("to_state", String(16), nullable=False),
    Column("fence", Integer, nullable=False),
    Column("code", Text, nullable=False),
    Column("reason", Text, nullable=False),
)

result = Table(
    "result",
    metadata,
    Column("job_id", Integer, ForeignKey("job.id"), primary_key=True),
    Column("sop_instance_uid", Uid, primary_key=True),
    Column("number", Integer, nullable=False),  # order in which the pipeline gave them
    Column("kind", Text, nullable=False),
    Column("sop_class_uid", Uid, nullable=False),
    Column("series_uid", Uid, nullable=False, index=True),  # how our own results are known again
    Column("transfer_syntax_uid", Uid, nullable=False),
    Column("path", Text, nullable=False),
    Column("sha256", Hash, nullable=False),
    Column("refers_to", Json, nullable=False),
    Column("aged_out", Boolean, nullable=False),  # the file is gone, by retention
)

delivery = Table(
    "delivery",
    metadata,
    Column("job_id", Integer, ForeignKey("job.id"), primary_key=True),
    Column("destination", Text, primary_key=True),
    Column("tries", Integer, nullable=False),
    Column("not_before", Utc, nullable=False),
    Column("parked", Boolean, nullable=False),  # waits for a person
    Column("code", Text, nullable=False),
    Column("reason", Text, nullable=False),
)

parcel = Table(
    "parcel",
    metadata,
    Column("job_id", Integer, primary_key=True),
    Column("destination", Text, primary_key=True),
    Column("sop_instance_uid", Uid, primary_key=True),
    Column("delivered_at", Utc),  # NULL: still owed
    Column("status", Integer),  # what the destination answered
    Column("sentence", Text, nullable=False),
    Column("sent_as", Text, nullable=False, server_default=""),  # the SOP Instance UID of its stand-in
    # Pairs of a place and a SOP Instance UID: the destination, or an alternate of it, may have these.
    Column("tried", Json, nullable=False, server_default="[]"),
    Column("via", Text, nullable=False, server_default=""),  # the alternate that took it in its place
    Column("proved_at", Utc),  # when it was seen to be there, where [destinations] asks for proof
    Column("proof", Text, nullable=False, server_default=""),  # how that is known, or why not yet
    # When it is next asked whether it is there. NULL: not taken yet, or nothing is left to be asked.
    Column("prove_at", Utc, index=True),
    Column("asks", Integer, nullable=False, server_default="0"),  # how often that was, since it was taken
    ForeignKeyConstraint(["job_id", "destination"], ["delivery.job_id", "delivery.destination"]),
    ForeignKeyConstraint(["job_id", "sop_instance_uid"], ["result.job_id", "result.sop_instance_uid"]),
)

#: Objects made of results for destinations that do not take these; whatever its destination, each is one.
stand_in = Table(
    "stand_in",
    metadata,
    Column("job_id", Integer, primary_key=True),
    Column("sop_instance_uid", Uid, primary_key=True),
    Column("stands_for", Uid, nullable=False),  # the SOP Instance UID of the result
    Column("kind", Text, nullable=False),
    Column("sop_class_uid", Uid, nullable=False),
    Column("series_uid", Uid, nullable=False, index=True),
    Column("transfer_syntax_uid", Uid, nullable=False),
    Column("path", Text, nullable=False),
    Column("sha256", Hash, nullable=False),
    Column("refers_to", Json, nullable=False),
    ForeignKeyConstraint(["job_id", "stands_for"], ["result.job_id", "result.sop_instance_uid"]),
)

#: What a destination was last seen to take or not.
capability = Table(
    "capability",
    metadata,
    Column("destination", Text, primary_key=True),
    Column("sop_class_uid", Uid, primary_key=True),
    Column("taken", Boolean, nullable=False),
    Column("seen_at", Utc, nullable=False),
)

#: Storage commitments that were asked for (PS3.4 J); one may ask several times for the same object.
commitment = Table(
    "commitment",
    metadata,
    Column("transaction_uid", Uid, primary_key=True),
    Column("destination", Text, nullable=False),
    Column("asked_at", Utc, nullable=False),
    Column("due_at", Utc, nullable=False),  # without an answer it is asked anew
    Column("answered_at", Utc),
)
commitment_item = Table(
    "commitment_item",
    metadata,
    Column("transaction_uid", Uid, ForeignKey("commitment.transaction_uid"), primary_key=True),
    Column("job_id", Integer, primary_key=True),
    Column("sop_instance_uid", Uid, primary_key=True),
    ForeignKeyConstraint(["job_id", "sop_instance_uid"], ["result.job_id", "result.sop_instance_uid"]),
)
Index("ix_commitment_item_job_id", commitment_item.c.job_id)

#: Destinations that an operator holds back.
pause = Table(
    "pause",
    metadata,
    Column("destination", Text, primary_key=True),
    Column("since", Utc, nullable=False),
    Column("reason", Text, nullable=False),
)
