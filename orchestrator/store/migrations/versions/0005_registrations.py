"""Registrations: files on their way into the catalog, and how far each has come."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "registrations",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("dataset", sa.Text()),
        sa.Column("rse", sa.Text(), nullable=False),
        sa.Column("closes", sa.Boolean(), nullable=False),
        sa.Column("containers", sa.Text(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("lifetime", sa.Float()),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text()),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.Column("listed", sa.Boolean(), nullable=False),
        sa.Column("counts", sa.Text()),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_registrations"),
    )
    op.create_index("ix_registrations_dataset", "registrations", ["dataset", "id"])
    op.create_index("ix_registrations_state", "registrations", ["state", "id"])
    is_open = sa.text("state = 'open'")
    op.create_index(
        "uq_registrations_open",
        "registrations",
        ["dataset", "rse"],
        unique=True,
        sqlite_where=is_open,
        postgresql_where=is_open,
    )

    op.create_table(
        "registration_files",
        sa.Column("registration_id", ID, nullable=False),
        sa.Column("did", sa.Text(), nullable=False),
        sa.Column("path", sa.Text()),
        sa.Column("pfn", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("bytes", sa.BigInteger()),
        sa.Column("adler32", sa.String(length=8)),
        sa.Column("md5", sa.String(length=32)),
        sa.Column("guid", sa.String(length=36)),
        sa.Column("events", sa.BigInteger()),
        sa.Column("modified_ns", sa.BigInteger()),
        sa.Column("reason", sa.Text()),
        sa.Column("call", sa.Integer(), nullable=False),
        sa.Column("barred", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["registration_id"], ["registrations.id"], name="fk_registration_files_registration_id"
        ),
        sa.PrimaryKeyConstraint("registration_id", "did", name="pk_registration_files"),
    )
    op.create_index("ix_registration_files_state", "registration_files", ["state", "registration_id", "did"])
