"""add storage commitment to deliveries, and the time of removal to studies."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("studies", schema=None) as batch_op:
        batch_op.add_column(sa.Column("removed_at", sa.Float(), nullable=True))
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.add_column(sa.Column("transaction_uid", sa.String(length=64), nullable=True))
        batch_op.add_column(sa.Column("commitment_due_at", sa.Float(), nullable=True))
        batch_op.add_column(sa.Column("committed_at", sa.Float(), nullable=True))
        batch_op.create_index(batch_op.f("ix_deliveries_transaction_uid"), ["transaction_uid"], unique=False)
