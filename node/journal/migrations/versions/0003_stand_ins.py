"""What destinations take is remembered; results can be sent as another kind, and be withdrawn."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Boolean, Column, String, Text

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
    op.add_column("parcel", Column("sent_as", Text, nullable=False, server_default=""))
    op.add_column("job", Column("withdrawn_at", String(27)))
    op.add_column("job", Column("withdrawal", Text))
