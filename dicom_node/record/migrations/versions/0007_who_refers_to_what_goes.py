"""add indexes to find the rows that refer to an instance or association that is deleted."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Apply."""
    op.create_index(op.f("ix_job_inputs_instance_id"), "job_inputs", ["instance_id"])
    op.create_index(op.f("ix_instances_association_id"), "instances", ["association_id"])
