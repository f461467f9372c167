"""Alembic's entry: migrates over the connection that `tristrata.storage.migrations.history` gives."""

from alembic import context

from tristrata.storage.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
