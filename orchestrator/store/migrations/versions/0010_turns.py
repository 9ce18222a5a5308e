"""Turns at work; of transient datasets what each release came to, in which catalog they are, and what names them."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "turns",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("begun_at", MOMENT, nullable=False),
        sa.Column("until", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT),
        sa.PrimaryKeyConstraint("name", name="pk_turns"),
    )
    op.add_column("transients", sa.Column("catalog", sa.Text()))
    op.add_column("transients", sa.Column("failed_at", MOMENT))
    op.add_column("transients", sa.Column("went_on", sa.Integer(), nullable=False, server_default="0"))
    _releases_by_themselves()
    _keeps_by_name()


def _releases_by_themselves() -> None:
    op.create_table(
        "transient_releases",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("transient_id", ID, nullable=False),
        sa.Column("policy", sa.String(length=100), nullable=False),
        sa.Column("released_at", MOMENT, nullable=False),
        sa.Column("released_by", sa.Text(), nullable=False),
        sa.Column("frees", sa.Text(), nullable=False),
        sa.Column("ended_at", MOMENT),
        sa.Column("gone_at", MOMENT),
        sa.Column("freed_bytes", sa.BigInteger(), nullable=False),
        sa.Column("freed_files", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["transient_id"], ["transients.id"], name="fk_transient_releases_transient_id"),
        sa.PrimaryKeyConstraint("id", name="pk_transient_releases"),
    )
    under_way, left = "state IN ('released', 'leaving')", "leaving_at IS NOT NULL OR freed_files > 0"
    _tell_releases(f"{under_way} AND freed_files > 0", ended="gone_at")  # it was called back, and released again
    _tell_releases(under_way, ended="NULL", freed=False)
    _tell_releases(f"NOT ({under_way}) AND ({left} OR state != 'gone')", ended="coalesce(gone_at, updated_at)")
    op.create_index("ix_transient_releases_released", "transient_releases", ["released_at"])
    _partial_index("ix_transient_releases_gone", "transient_releases", ["gone_at"], "gone_at IS NOT NULL")
    open_ = "ended_at IS NULL"
    _partial_index("uq_transient_releases_open", "transient_releases", ["transient_id"], open_, unique=True)
    op.drop_index("ix_transients_released", "transients")
    op.drop_index("ix_transients_gone", "transients")
    op.drop_column("transients", "frees")


def _tell_releases(which: str, *, ended: str, freed: bool = True) -> None:
    """What the rows say of releases; one that others have taken away before it left came to nothing."""
    came_to = "gone_at, freed_bytes, freed_files" if freed else "NULL, 0, 0"
    op.execute(f"""
        INSERT INTO transient_releases (transient_id, policy, released_at, released_by, frees, ended_at, gone_at,
            freed_bytes, freed_files)
        SELECT id, policy, released_at, released_by, frees, {ended}, {came_to}
        FROM transients WHERE released_at IS NOT NULL AND {which} ORDER BY id
    """)


def _keeps_by_name() -> None:
    op.add_column("transient_keeps", sa.Column("did", sa.Text()))
    plain = "replace(replace(replace(which, '*', ''), '?', ''), '[', '') = which AND length(which) <= 500"
    op.execute(f"UPDATE transient_keeps SET did = which WHERE {plain}")
    _partial_index("ix_transient_keeps_did", "transient_keeps", ["did", "until"], "lifted_at IS NULL")


def _partial_index(name: str, table: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, unique=unique, sqlite_where=condition, postgresql_where=condition)
