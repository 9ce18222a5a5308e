"""The first schema: messages, rules, dispatches, attempts, launches, journal."""

from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "journal",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("subject", sa.String(length=16), nullable=False),
        sa.Column("subject_id", ID, nullable=False),
        sa.Column("from_state", sa.String(length=16)),
        sa.Column("to_state", sa.String(length=16), nullable=False),
        sa.Column("why", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_journal"),
    )
    op.create_index("ix_journal_subject", "journal", ["subject", "subject_id", "id"])

    op.create_table(
        "messages",
        sa.Column("id", ID, autoincrement=False, nullable=False),
        sa.Column("identity", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("event_type", sa.Text()),
        sa.Column("scope", sa.Text()),
        sa.Column("name", sa.Text()),
        sa.Column("created_at", MOMENT),
        sa.Column("received_at", MOMENT, nullable=False),
        sa.Column("origin", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("duplicates", sa.Integer(), nullable=False),
        sa.Column("incarnation", sa.Integer()),
        sa.Column("generation", sa.Integer()),
        sa.Column("account", sa.Text()),
        sa.Column("bytes", sa.BigInteger()),
        sa.Column("length", sa.BigInteger()),
        sa.Column("events", sa.BigInteger()),
        sa.Column("judged_revision", sa.Integer(), nullable=False),
        sa.Column("headers", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_messages"),
        sa.UniqueConstraint("identity", name="uq_messages_identity"),
    )
    op.create_index("ix_messages_did", "messages", ["scope", "name"])
    op.create_index("ix_messages_state", "messages", ["state", "id"])
    partial_index("ix_messages_unjudged", "messages", ["state", "judged_revision", "id"], where="state = 'pending'")

    op.create_table(
        "rule_versions",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("since_revision", sa.Integer(), nullable=False),
        sa.Column("until_revision", sa.Integer()),
        sa.PrimaryKeyConstraint("id", name="pk_rule_versions"),
        sa.UniqueConstraint("name", "version", name="uq_rule_versions_name_version"),
    )
    partial_index("uq_rule_versions_in_force", "rule_versions", ["name"], where="until_revision IS NULL", unique=True)

    op.create_table(
        "dispatches",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("message_id", ID, nullable=False),
        sa.Column("rule", sa.String(length=100), nullable=False),
        sa.Column("rule_version_id", ID, nullable=False),
        sa.Column("action", sa.Integer(), nullable=False),
        sa.Column("actor", sa.String(length=100), nullable=False),
        sa.Column("captured", sa.Text(), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("retry", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("spent", sa.Integer(), nullable=False),
        sa.Column("not_before", MOMENT),
        sa.Column("owner", sa.Text()),
        sa.Column("lease_until", MOMENT),
        sa.Column("reason", sa.Text()),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name="fk_dispatches_message_id"),
        sa.ForeignKeyConstraint(["rule_version_id"], ["rule_versions.id"], name="fk_dispatches_rule_version_id"),
        sa.PrimaryKeyConstraint("id", name="pk_dispatches"),
        sa.UniqueConstraint("message_id", "rule", "action", name="uq_dispatches_message_id_rule_action"),
    )
    op.create_index("ix_dispatches_state", "dispatches", ["state", "id"])

    op.create_table(
        "attempts",
        sa.Column("dispatch_id", ID, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("exit_code", sa.Integer()),
        sa.Column("stdout", sa.Text()),
        sa.Column("stderr", sa.Text()),
        sa.ForeignKeyConstraint(["dispatch_id"], ["dispatches.id"], name="fk_attempts_dispatch_id"),
        sa.PrimaryKeyConstraint("dispatch_id", "number", name="pk_attempts"),
    )
    op.create_table(
        "launches",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("dispatch_id", ID),
        sa.Column("key", sa.String(length=400), nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column("workflow", sa.String(length=100), nullable=False),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.Column("inputs", sa.Text(), nullable=False),
        sa.Column("outputs", sa.Text(), nullable=False),
        sa.Column("engine", sa.String(length=32), nullable=False),
        sa.Column("reference", sa.Text()),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("steps", sa.Text(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["dispatch_id"], ["dispatches.id"], name="fk_launches_dispatch_id"),
        sa.PrimaryKeyConstraint("id", name="pk_launches"),
        sa.UniqueConstraint("key", name="uq_launches_key"),
        sa.UniqueConstraint("name", name="uq_launches_name"),
    )
    op.create_index("ix_launches_dispatch", "launches", ["dispatch_id"])
    op.create_index("ix_launches_state", "launches", ["state", "id"])
    identity = op.create_table(
        "identity",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_identity"),
    )
    op.bulk_insert(identity, [{"id": uuid4().hex}])
    make_append_only("journal")


def partial_index(name: str, table: str, columns: list[str], *, where: str, unique: bool = False) -> None:
    op.create_index(name, table, columns, unique=unique, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def make_append_only(table: str) -> None:
    """The database itself refuses to change or delete a row."""
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, 'the {table} is append-only'); END"
            )
        return
    op.execute(
        f"CREATE FUNCTION {table}_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION 'the {table} is append-only'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION {table}_is_append_only()"
    )


def downgrade() -> None:
    raise NotImplementedError("there is nothing before the first schema: restore a backup")
