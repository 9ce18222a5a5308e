"""Which sums of a file its manifest told."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("registration_files", sa.Column("told", sa.String(24)))
