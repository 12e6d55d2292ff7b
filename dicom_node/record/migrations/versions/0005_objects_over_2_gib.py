"""allow objects over 2 GiB."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Apply; SQLite's integers have 64 bits anyway."""
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("instances", "size_bytes", type_=sa.BigInteger())
