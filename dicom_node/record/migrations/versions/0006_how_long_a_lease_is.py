"""add to jobs the length of the lease."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Apply."""
    op.add_column("jobs", sa.Column("lease_seconds", sa.Float(), nullable=True))
