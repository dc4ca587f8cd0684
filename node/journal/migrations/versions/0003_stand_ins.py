"""What destinations take is remembered; results can be sent as another kind, and be withdrawn."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Boolean, Column, ForeignKeyConstraint, Index, Integer, String, Text

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of capabilities and the columns for stand-ins and withdrawals."""
    op.create_table(
        "capability",
        Column("destination", Text, primary_key=True),
        Column("sop_class_uid", String(64), primary_key=True),
        Column("taken", Boolean, nullable=False),
        Column("seen_at", String(27), nullable=False),
    )
    op.create_table(
        "stand_in",
        Column("job_id", Integer, primary_key=True),
        Column("sop_instance_uid", String(64), primary_key=True),
        Column("stands_for", String(64), nullable=False),
        Column("kind", Text, nullable=False),
        Column("sop_class_uid", String(64), nullable=False),
        Column("series_uid", String(64), nullable=False),
        Column("transfer_syntax_uid", String(64), nullable=False),
        Column("path", Text, nullable=False),
        Column("sha256", String(64), nullable=False),
        Column("refers_to", Text, nullable=False),
        ForeignKeyConstraint(
            ["job_id", "stands_for"],
            ["result.job_id", "result.sop_instance_uid"],
            name="fk_stand_in_job_id_stands_for_result",
        ),
        Index("ix_stand_in_series_uid", "series_uid"),
    )
    op.add_column("parcel", Column("sent_as", Text, nullable=False, server_default=""))
    op.add_column("parcel", Column("tried", Text, nullable=False, server_default="[]"))
    op.add_column("job", Column("withdrawn_at", String(27)))
    op.add_column("job", Column("withdrawal", Text))
