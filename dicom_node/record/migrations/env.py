"""Alembic's entry point: run the migrations on the connection that ``database.migrate`` passes."""

from alembic import context

from dicom_node.record.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
