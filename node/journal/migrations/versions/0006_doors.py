"""Who let an instance in, what settled a series, what is asked of archives, and proof of arrival."""

from __future__ import annotations

import json

from alembic import op
from sqlalchemy import (
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Text,
    false,
    text,
)

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables; what is held came under no policy, and what was taken needs no proof.

    What may have arrived was known without the place: it was the destination.
    """
    op.add_column("instance", Column("policy", Text, nullable=False, server_default=""))
    op.add_column("instance", Column("prior", Boolean, nullable=False, server_default=false()))
    op.add_column("parcel", Column("via", Text, nullable=False, server_default=""))
    op.add_column("parcel", Column("proved_at", String(27)))
    op.add_column("parcel", Column("proof", Text, nullable=False, server_default=""))
    op.add_column("parcel", Column("prove_at", String(27)))
    op.add_column("parcel", Column("asks", Integer, nullable=False, server_default="0"))
    op.create_index("ix_parcel_prove_at", "parcel", ["prove_at"])
    _name_places()
    op.create_table(
        "settling",
        Column(
            "series_uid",
            String(64),
            ForeignKey("series.series_uid", name="fk_settling_series_uid_series"),
            primary_key=True,
        ),
        Column("revision", Integer, primary_key=True),
        Column("at", String(27), nullable=False),
        Column("held", Integer, nullable=False),
        Column("decided_by", String(16), nullable=False),
        Column("evidence", Text, nullable=False),
    )
    op.create_table(
        "count",
        Column("series_uid", String(64), primary_key=True),
        Column("source", Text, primary_key=True),
        Column("instances", Integer),
        Column("since", String(27), nullable=False),
        Column("asked_at", String(27), nullable=False),
    )
    op.create_table(
        "pull",
        Column("id", Integer, primary_key=True),
        Column("source", Text, nullable=False),
        Column("study_uid", String(64), nullable=False),
        Column("series_uid", String(64), nullable=False),
        Column("prior", Boolean, nullable=False),
        Column("state", String(16), nullable=False),
        Column("tries", Integer, nullable=False),
        Column("not_before", String(27), nullable=False),
        Column("asked_at", String(27), nullable=False),
        Column("changed_at", String(27), nullable=False),
        Column("expected", Integer),
        Column("received", Integer, nullable=False),
        Column("reason", Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_pull_state_not_before", "pull", ["state", "not_before"])
    op.create_table(
        "watched",
        Column("source", Text, primary_key=True),
        Column("study_uid", String(64), primary_key=True),
        Column("instances", Integer),
        Column("seen_at", String(27), nullable=False),
    )
    op.create_table(
        "sought",
        Column("job_id", Integer, ForeignKey("job.id", name="fk_sought_job_id_job"), primary_key=True),
        Column("source", Text, primary_key=True),
        Column("at", String(27), nullable=False),
        Column("found", Integer, nullable=False),
    )
    op.create_table(
        "commitment",
        Column("transaction_uid", String(64), primary_key=True),
        Column("destination", Text, nullable=False),
        Column("asked_at", String(27), nullable=False),
        Column("due_at", String(27), nullable=False),
        Column("answered_at", String(27)),
    )
    op.create_table(
        "commitment_item",
        Column(
            "transaction_uid",
            String(64),
            ForeignKey("commitment.transaction_uid", name="fk_commitment_item_transaction_uid_commitment"),
            primary_key=True,
        ),
        Column("job_id", Integer, primary_key=True),
        Column("sop_instance_uid", String(64), primary_key=True),
        ForeignKeyConstraint(
            ["job_id", "sop_instance_uid"],
            ["result.job_id", "result.sop_instance_uid"],
            name="fk_commitment_item_job_id_sop_instance_uid_result",
        ),
        Index("ix_commitment_item_job_id", "job_id"),
    )
    op.create_table(
        "pause",
        Column("destination", Text, primary_key=True),
        Column("since", String(27), nullable=False),
        Column("reason", Text, nullable=False),
    )


def _name_places() -> None:
    connection = op.get_bind()
    query = text("SELECT job_id, destination, sop_instance_uid, tried FROM parcel WHERE tried != '[]'")
    change = text(
        "UPDATE parcel SET tried = :tried WHERE job_id = :job_id AND destination = :destination "
        "AND sop_instance_uid = :sop_instance_uid"
    )
    for row in connection.execute(query).all():
        tried = [[row.destination, uid] for uid in json.loads(row.tried)]
        connection.execute(change, {**row._mapping, "tried": json.dumps(tried)})
