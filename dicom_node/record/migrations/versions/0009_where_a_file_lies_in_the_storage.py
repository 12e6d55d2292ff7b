"""make the paths of files in the storage folder relative to it."""

import sqlalchemy as sa
from alembic import context, op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Apply."""
    prefix = f"{context.config.attributes['storage']}/"
    for name in ("instances", "results"):
        table = sa.table(name, sa.column("path", sa.Text()))
        # Not LIKE: in SQLite, it takes /Data for /data.
        in_storage = sa.func.substr(table.c.path, 1, len(prefix)) == prefix
        op.execute(sa.update(table).where(in_storage).values(path=sa.func.substr(table.c.path, len(prefix) + 1)))
