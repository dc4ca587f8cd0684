"""A job may be of several series of a study, may wait for one, and may have one of an earlier study."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, String, Text

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the columns that tell what belongs together; of what settled before they stay empty."""
    op.add_column("series", Column("number", Text, nullable=False, server_default=""))
    op.add_column("series", Column("patient_key", String(64), nullable=False, server_default=""))
    op.create_index("ix_series_study_uid", "series", ["study_uid"])
    op.create_index("ix_series_patient_key", "series", ["patient_key"])
    op.add_column("job", Column("case_of", Text, nullable=False, server_default="[]"))
    op.add_column("job", Column("lack", Text))
    op.create_index("ix_job_study_uid", "job", ["study_uid"])
