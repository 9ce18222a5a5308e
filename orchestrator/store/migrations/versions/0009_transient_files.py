"""Transient datasets: policies, what must stay, what was released and left; and which datasets launches read."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")

_AT_ONCE = 1000


def upgrade() -> None:
    op.create_table(
        "readings",
        sa.Column("launch_id", ID, nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["launch_id"], ["launches.id"], name="fk_readings_launch_id"),
        sa.PrimaryKeyConstraint("launch_id", "scope", "name", name="pk_readings"),
    )
    op.create_index("ix_readings_did", "readings", ["scope", "name"])
    _tell_what_launches_read()

    op.create_table(
        "transient_policies",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT),
        sa.Column("confirmed", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_transient_policies"),
        sa.UniqueConstraint("name", "version", name="uq_transient_policies_name_version"),
    )
    _partial_index("uq_transient_policies_in_force", "transient_policies", "name", "ended_at IS NULL", unique=True)

    op.create_table(
        "transient_keeps",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("which", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("until", MOMENT),
        sa.Column("lifted_at", MOMENT),
        sa.Column("lifted_by", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_transient_keeps"),
    )

    op.create_table(
        "transients",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("born_at", MOMENT, nullable=False),
        sa.Column("policy", sa.String(length=100), nullable=False),
        sa.Column("policy_version", sa.Integer(), nullable=False),
        sa.Column("run", sa.BigInteger()),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("refusals", sa.Text(), nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("successor", sa.Text()),
        sa.Column("due_at", MOMENT),
        sa.Column("extended_until", MOMENT),
        sa.Column("release", sa.Text()),
        sa.Column("frees", sa.Text()),
        sa.Column("released_at", MOMENT),
        sa.Column("released_by", sa.Text()),
        sa.Column("leaves_at", MOMENT),
        sa.Column("leaving_at", MOMENT),
        sa.Column("gone_at", MOMENT),
        sa.Column("freed_bytes", sa.BigInteger(), nullable=False),
        sa.Column("freed_files", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("owner", sa.Text()),
        sa.Column("lease_until", MOMENT),
        sa.Column("not_before", MOMENT),
        sa.PrimaryKeyConstraint("id", name="pk_transients"),
        sa.UniqueConstraint("scope", "name", "born_at", name="uq_transients_scope_name_born_at"),
    )
    op.create_index("ix_transients_state", "transients", ["state", "id"])
    op.create_index("ix_transients_successor", "transients", ["successor"])
    _partial_index("ix_transients_released", "transients", "released_at", "released_at IS NOT NULL")
    _partial_index("ix_transients_gone", "transients", "gone_at", "gone_at IS NOT NULL")

    op.create_table(
        "transient_copies",
        sa.Column("transient_id", ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("rse", sa.Text(), nullable=False),
        sa.Column("pfn", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("fate", sa.Text()),
        sa.ForeignKeyConstraint(["transient_id"], ["transients.id"], name="fk_transient_copies_transient_id"),
        sa.PrimaryKeyConstraint("transient_id", "number", name="pk_transient_copies"),
    )
    op.create_index("ix_transient_copies_did", "transient_copies", ["scope", "name"])


def _partial_index(name: str, table: str, column: str, where: str, *, unique: bool = False) -> None:
    condition = sa.text(where)
    op.create_index(name, table, [column], unique=unique, sqlite_where=condition, postgresql_where=condition)


def _tell_what_launches_read() -> None:
    """Of those that were intended before this was written down."""
    connection = op.get_bind()
    page = sa.text("SELECT id, inputs FROM launches WHERE id > :last ORDER BY id LIMIT :many")
    add = sa.text("INSERT INTO readings (launch_id, scope, name) VALUES (:launch_id, :scope, :name)")
    last = 0
    while rows := connection.execute(page, {"last": last, "many": _AT_ONCE}).all():
        pairs = {(id_, *text.partition(":")[::2]) for id_, inputs in rows for text in json.loads(inputs).values()}
        read = [dict(zip(("launch_id", "scope", "name"), pair, strict=True)) for pair in sorted(pairs) if all(pair)]
        if read:
            connection.execute(add, read)
        last = rows[-1][0]
