"""What rules require before an action is started, and what reconciling with the catalog found."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    op.add_column("dispatches", sa.Column("required", sa.Text()))
    op.add_column("dispatches", sa.Column("let_through_at", MOMENT))
    op.add_column("dispatches", sa.Column("look_at", MOMENT))
    op.add_column("dispatches", sa.Column("required_since", MOMENT))
    held_back = sa.text("state = 'ready' AND required IS NOT NULL AND let_through_at IS NULL")
    op.create_index(
        "ix_dispatches_held_back",
        "dispatches",
        ["look_at", "id"],
        sqlite_where=held_back,
        postgresql_where=held_back,
    )
    op.create_table(
        "reconciliations",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("catalog", sa.Text(), nullable=False),
        sa.Column("since", MOMENT, nullable=False),
        sa.Column("until", MOMENT, nullable=False),
        sa.Column("mark", MOMENT),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT, nullable=False),
        sa.Column("closings", sa.Integer(), nullable=False),
        sa.Column("missing", sa.Integer(), nullable=False),
        sa.Column("longest_lag", sa.Float()),
        sa.Column("who", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_reconciliations"),
    )
    op.create_index("ix_reconciliations_catalog", "reconciliations", ["catalog", "id"])
