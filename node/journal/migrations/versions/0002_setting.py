"""Changed rules are noticed; work that was cancelled or has aged out may be asked for again."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make a table for what the last start was told, and take back the keys of what is no more."""
    op.create_table(
        "setting",
        Column("name", Text, primary_key=True),
        Column("value", Text, nullable=False),
    )
    op.execute(
        "UPDATE job SET key = 'given back by ' || id WHERE state = 'cancelled' "
        "OR (state IN ('done', 'failed') AND id IN (SELECT job_id FROM result WHERE aged_out))"
    )
