"""Rules that can be followed: authors, prescales, guards, suspensions, near misses, facts, waiting rooms, replays."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    op.add_column("rule_versions", sa.Column("author", sa.Text()))
    op.add_column("rule_versions", sa.Column("reason", sa.Text()))
    op.add_column("rule_versions", sa.Column("at", MOMENT))
    op.create_index("ix_rule_versions_since", "rule_versions", ["since_revision"])
    op.create_index("ix_rule_versions_until", "rule_versions", ["until_revision"])
    op.add_column("dispatches", sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("dispatches", sa.Column("rule_group", sa.Text()))
    op.add_column("dispatches", sa.Column("unique_key", sa.String(length=400)))
    op.add_column("dispatches", sa.Column("round", sa.Integer(), nullable=False, server_default="0"))
    op.create_index("ix_dispatches_rule", "dispatches", ["rule", "state", "id"])
    op.create_index(
        "ix_dispatches_ready",
        "dispatches",
        ["rule", "priority", "id"],
        sqlite_where=sa.text("state = 'ready'"),
        postgresql_where=sa.text("state = 'ready'"),
    )
    op.create_index(
        "ix_dispatches_not_before",
        "dispatches",
        ["not_before"],
        sqlite_where=sa.text("not_before IS NOT NULL"),
        postgresql_where=sa.text("not_before IS NOT NULL"),
    )
    op.create_index("ix_attempts_started", "attempts", ["started_at"])

    op.create_table(
        "revisions",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.PrimaryKeyConstraint("number", name="pk_revisions"),
    )

    op.create_table(
        "prescales",
        sa.Column("message_id", ID, nullable=False),
        sa.Column("rule", sa.String(length=100), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("taken", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name="fk_prescales_message_id"),
        sa.PrimaryKeyConstraint("message_id", "rule", name="pk_prescales"),
        sa.UniqueConstraint("rule", "number", name="uq_prescales_rule_number"),
    )

    op.create_table(
        "near_misses",
        sa.Column("message_id", ID, nullable=False),
        sa.Column("rule", sa.String(length=100), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("clause", sa.String(length=100), nullable=False),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name="fk_near_misses_message_id"),
        sa.PrimaryKeyConstraint("message_id", "rule", name="pk_near_misses"),
    )
    op.create_index("ix_near_misses_clause", "near_misses", ["clause", "message_id"])

    op.create_table(
        "guards",
        sa.Column("key", sa.String(length=400), nullable=False),
        sa.Column("message_id", ID, nullable=False),
        sa.Column("rule", sa.String(length=100), nullable=False),
        sa.Column("dispatch_id", ID, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name="fk_guards_message_id"),
        sa.ForeignKeyConstraint(["dispatch_id"], ["dispatches.id"], name="fk_guards_dispatch_id"),
        sa.PrimaryKeyConstraint("key", name="pk_guards"),
    )

    op.create_table(
        "suspensions",
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", name="pk_suspensions"),
    )

    op.create_table(
        "streaks",
        sa.Column("rule", sa.String(length=100), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("starts", sa.Integer(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("rule", name="pk_streaks"),
    )

    op.create_table(
        "facts",
        sa.Column("message_id", ID, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("not_before", MOMENT),
        sa.Column("document", sa.Text()),
        sa.Column("reason", sa.Text()),
        sa.Column("wanted_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name="fk_facts_message_id"),
        sa.PrimaryKeyConstraint("message_id", name="pk_facts"),
    )
    op.create_index("ix_facts_state", "facts", ["state", "not_before"])

    op.create_table(
        "products",
        sa.Column("launch_id", ID, nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("rules", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["launch_id"], ["launches.id"], name="fk_products_launch_id"),
        sa.PrimaryKeyConstraint("launch_id", "scope", "name", name="pk_products"),
    )
    op.create_index("ix_products_did", "products", ["scope", "name"])

    op.create_table(
        "rooms",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("rule", sa.String(length=100), nullable=False),
        sa.Column("key", sa.String(length=400), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("rule_version_id", ID, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("opened_at", MOMENT, nullable=False),
        sa.Column("deadline", MOMENT),
        sa.Column("closed_at", MOMENT),
        sa.Column("reason", sa.Text()),
        sa.Column("message_id", ID),
        sa.Column("look_at", MOMENT),
        sa.ForeignKeyConstraint(["rule_version_id"], ["rule_versions.id"], name="fk_rooms_rule_version_id"),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name="fk_rooms_message_id"),
        sa.PrimaryKeyConstraint("id", name="pk_rooms"),
        sa.UniqueConstraint("rule", "key", "round", name="uq_rooms_rule_key_round"),
    )
    op.create_index("ix_rooms_state", "rooms", ["state", "look_at"])

    op.create_table(
        "room_members",
        sa.Column("room_id", ID, nullable=False),
        sa.Column("slot", sa.String(length=100), nullable=False),
        sa.Column("message_id", ID, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("left_at", MOMENT),
        sa.Column("late", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["room_id"], ["rooms.id"], name="fk_room_members_room_id"),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name="fk_room_members_message_id"),
        sa.PrimaryKeyConstraint("room_id", "slot", "message_id", name="pk_room_members"),
    )
    op.create_index("ix_room_members_message", "room_members", ["message_id"])

    op.create_table(
        "waivers",
        sa.Column("room_id", ID, nullable=False),
        sa.Column("slot", sa.String(length=100), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["room_id"], ["rooms.id"], name="fk_waivers_room_id"),
        sa.PrimaryKeyConstraint("room_id", "slot", name="pk_waivers"),
    )

    op.create_table(
        "replays",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("position", ID, nullable=False),
        sa.Column("until", ID, nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("looked_at", sa.Integer(), nullable=False),
        sa.Column("matched", sa.Integer(), nullable=False),
        sa.Column("written", sa.Integer(), nullable=False),
        sa.Column("there", sa.Integer(), nullable=False),
        sa.Column("refused", sa.Integer(), nullable=False),
        sa.Column("paced", sa.Integer(), nullable=False),
        sa.Column("paced_at", MOMENT),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_replays"),
    )

    op.create_table(
        "run_flags",
        sa.Column("run", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("flag", sa.String(length=100), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("run", "flag", name="pk_run_flags"),
    )


def downgrade() -> None:
    raise NotImplementedError("what people did since cannot be kept in the older schema: restore a backup")
