"""A job may need the result of another, and what ended is followed by what rules on results ask for."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, Text, true

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of needs; nothing follows any more of what ended before."""
    op.create_table(
        "need",
        Column("job_id", Integer, ForeignKey("job.id", name="fk_need_job_id_job"), primary_key=True),
        Column("role", Text, primary_key=True),
        Column("needed_id", Integer, ForeignKey("job.id", name="fk_need_needed_id_job"), nullable=False),
        Index("ix_need_needed_id", "needed_id"),
    )
    op.add_column("job", Column("needs", Text, nullable=False, server_default="{}"))
    op.add_column("job", Column("followed", Boolean, nullable=False, server_default=true()))
    op.create_index("ix_job_followed", "job", ["followed"])
