"""add to studies the key of the patient."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("studies", schema=None) as batch_op:
        batch_op.add_column(sa.Column("patient_key", sa.String(length=64), nullable=True))
        batch_op.create_index(batch_op.f("ix_studies_patient_key"), ["patient_key"], unique=False)
