"""add to results the number of the answer that they belong to."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Apply."""
    op.add_column("results", sa.Column("answer", sa.Integer(), nullable=False, server_default="1"))
    op.execute("UPDATE results SET answer = (SELECT revision FROM jobs WHERE jobs.job_id = results.job_id)")
