"""Run by Alembic. The connection, inside its transaction, comes from `node.journal.database`."""

from __future__ import annotations

from alembic import context

from node.journal.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite can alter little: tables are rebuilt
)
context.run_migrations()
