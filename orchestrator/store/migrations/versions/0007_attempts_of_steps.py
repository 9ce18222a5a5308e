"""Of which steps a policy's retry of a whole launch is an attempt."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("launch_commands", sa.Column("attempt_of", sa.Text()))
