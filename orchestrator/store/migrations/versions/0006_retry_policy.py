"""How what has failed of a launch is retried by itself, and when that is next decided."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    op.add_column("launches", sa.Column("retry", sa.Text()))
    op.add_column("launches", sa.Column("retry_at", MOMENT))
    where = sa.text("retry_at IS NOT NULL")
    op.create_index("ix_launches_retry", "launches", ["retry_at"], sqlite_where=where, postgresql_where=where)
