"""The first schema. A migration is frozen: it never imports the schema of today."""

from __future__ import annotations

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
)

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_UID = String(64)
_HASH = String(64)
_TIME = String(27)
_STATE = String(16)
_STATES = "'queued', 'computing', 'sending', 'done', 'refused', 'failed', 'cancelled'"


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "series",
        Column("series_uid", _UID, primary_key=True),
        Column("study_uid", _UID, nullable=False),
        Column("last_arrival_at", _TIME, nullable=False),
        Column("revision", Integer, nullable=False),
        Column("unsettled", Boolean, nullable=False),
        Column("settled_at", _TIME),
        Column("routing", Text, nullable=False),
        Index("ix_series_unsettled", "unsettled"),
    )
    op.create_table(
        "instance",
        Column("sop_instance_uid", _UID, primary_key=True),
        Column("sop_class_uid", _UID, nullable=False),
        Column(
            "series_uid",
            _UID,
            ForeignKey("series.series_uid", name="fk_instance_series_uid_series"),
            nullable=False,
        ),
        Column("study_uid", _UID, nullable=False),
        Column("transfer_syntax_uid", _UID, nullable=False),
        Column("path", Text, nullable=False),
        Column("sha256", _HASH, nullable=False),
        Column("size_bytes", BigInteger, nullable=False),
        Column("arrived_at", _TIME, nullable=False),
        Column("sender", Text, nullable=False),
        Column("seen", Integer, nullable=False),
        Index("ix_instance_series_uid", "series_uid"),
    )
    op.create_table(
        "quarantine",
        Column("id", Integer, primary_key=True),
        Column("sop_instance_uid", _UID, nullable=False),
        Column("series_uid", _UID, nullable=False),
        Column("study_uid", _UID, nullable=False),
        Column("sha256", _HASH, nullable=False),
        Column("sender", Text, nullable=False),
        Column("at", _TIME, nullable=False),
        Column("reason", Text, nullable=False),
    )
    op.create_table(
        "job",
        Column("id", Integer, primary_key=True),
        Column("key", _HASH, nullable=False),
        Column("pipeline", Text, nullable=False),
        Column("pipeline_version", Text, nullable=False),
        Column("pipeline_digest", Text, nullable=False),
        Column("study_uid", _UID, nullable=False),
        Column("inputs", Text, nullable=False),
        Column("input_digest", _HASH, nullable=False),
        Column("rule", Text, nullable=False),
        Column("send_to", Text, nullable=False),
        Column("state", _STATE, nullable=False),
        Column("fence", Integer, nullable=False),
        Column("tries", Integer, nullable=False),
        Column("losses", Integer, nullable=False),
        Column("not_before", _TIME, nullable=False),
        Column("created_at", _TIME, nullable=False),
        Column("changed_at", _TIME, nullable=False),
        Column("reason_code", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Column("outcome", Text),
        UniqueConstraint("key", name="uq_job_key"),
        CheckConstraint(f"state IN ({_STATES})", name="ck_job_state"),
        Index("ix_job_state_not_before", "state", "not_before"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "job_input",
        Column("job_id", Integer, ForeignKey("job.id", name="fk_job_input_job_id_job"), primary_key=True),
        Column("role", Text, primary_key=True),
        Column("series_uid", _UID, nullable=False),
        Column("revision", Integer, nullable=False),
        Index("ix_job_input_series_uid", "series_uid"),
    )
    op.create_table(
        "event",
        Column("id", Integer, primary_key=True),
        Column("job_id", Integer, ForeignKey("job.id", name="fk_event_job_id_job"), nullable=False),
        Column("at", _TIME, nullable=False),
        Column("from_state", _STATE),
        Column("to_state", _STATE, nullable=False),
        Column("fence", Integer, nullable=False),
        Column("code", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Index("ix_event_job_id", "job_id"),
    )
    op.create_table(
        "result",
        Column("job_id", Integer, ForeignKey("job.id", name="fk_result_job_id_job"), primary_key=True),
        Column("sop_instance_uid", _UID, primary_key=True),
        Column("number", Integer, nullable=False),
        Column("kind", Text, nullable=False),
        Column("sop_class_uid", _UID, nullable=False),
        Column("series_uid", _UID, nullable=False),
        Column("transfer_syntax_uid", _UID, nullable=False),
        Column("path", Text, nullable=False),
        Column("sha256", _HASH, nullable=False),
        Column("refers_to", Text, nullable=False),
        Column("aged_out", Boolean, nullable=False),
        Index("ix_result_series_uid", "series_uid"),
    )
    op.create_table(
        "delivery",
        Column("job_id", Integer, ForeignKey("job.id", name="fk_delivery_job_id_job"), primary_key=True),
        Column("destination", Text, primary_key=True),
        Column("tries", Integer, nullable=False),
        Column("not_before", _TIME, nullable=False),
        Column("parked", Boolean, nullable=False),
        Column("code", Text, nullable=False),
        Column("reason", Text, nullable=False),
    )
    op.create_table(
        "parcel",
        Column("job_id", Integer, primary_key=True),
        Column("destination", Text, primary_key=True),
        Column("sop_instance_uid", _UID, primary_key=True),
        Column("delivered_at", _TIME),
        Column("status", Integer),
        Column("sentence", Text, nullable=False),
        ForeignKeyConstraint(
            ["job_id", "destination"],
            ["delivery.job_id", "delivery.destination"],
            name="fk_parcel_job_id_destination_delivery",
        ),
        ForeignKeyConstraint(
            ["job_id", "sop_instance_uid"],
            ["result.job_id", "result.sop_instance_uid"],
            name="fk_parcel_job_id_sop_instance_uid_result",
        ),
    )
