"""Launches on PanDA: what was sent, every try, what people asked of them, and sums by detector run."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")

#: So many launches are brought up to date at a time.
_AT_ONCE = 1000

_COUNTS = ("step_count", "steps_finished", "steps_failed")
_FILE_COUNTS = ("files", "files_finished", "files_failed")


def upgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":  # which does not ask how long a text is
        op.alter_column("launches", "engine", type_=sa.String(length=300), existing_nullable=False)
    op.add_column("launches", sa.Column("run", sa.BigInteger()))
    op.add_column("launches", sa.Column("submitted_at", MOMENT))
    op.add_column("launches", sa.Column("moved_at", MOMENT))
    for name in _COUNTS:
        op.add_column("launches", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    op.add_column("launches", sa.Column("steps_done", sa.Float(), nullable=False, server_default="0"))
    for name in _FILE_COUNTS:
        op.add_column("launches", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("launches", sa.Column("definition", sa.String(length=100)))
    op.create_index("ix_launches_run", "launches", ["run", "state"])
    _count_what_is_there()

    op.create_table(
        "blobs",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_blobs"),
    )

    op.create_table(
        "launch_files",
        sa.Column("launch_id", ID, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("executable", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["launch_id"], ["launches.id"], name="fk_launch_files_launch_id"),
        sa.ForeignKeyConstraint(["digest"], ["blobs.digest"], name="fk_launch_files_digest"),
        sa.PrimaryKeyConstraint("launch_id", "path", name="pk_launch_files"),
    )

    op.create_table(
        "submissions",
        sa.Column("launch_id", ID, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("step", sa.String(length=100)),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("client", sa.Text()),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT),
        sa.Column("exit_code", sa.Integer()),
        sa.Column("output", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text()),
        sa.Column("verdict", sa.Text()),
        sa.ForeignKeyConstraint(["launch_id"], ["launches.id"], name="fk_submissions_launch_id"),
        sa.PrimaryKeyConstraint("launch_id", "number", name="pk_submissions"),
    )

    op.create_table(
        "launch_commands",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("launch_id", ID, nullable=False),
        sa.Column("command", sa.String(length=16), nullable=False),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.Column("step", sa.String(length=100)),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text()),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("answer", sa.Text()),
        sa.Column("asked_at", MOMENT, nullable=False),
        sa.Column("settled_at", MOMENT),
        sa.Column("owner", sa.Text()),
        sa.Column("claimed_at", MOMENT),
        sa.ForeignKeyConstraint(["launch_id"], ["launches.id"], name="fk_launch_commands_launch_id"),
        sa.PrimaryKeyConstraint("id", name="pk_launch_commands"),
    )
    op.create_index("ix_launch_commands_launch", "launch_commands", ["launch_id"])
    _partial_index("ix_launch_commands_wanted", ["id"], where="state = 'wanted'")
    _partial_index("ix_launch_commands_retries", ["settled_at"], where="command = 'retry'")

    op.create_table(
        "job_reports",
        sa.Column("launch_id", ID, nullable=False),
        sa.Column("step", sa.String(length=100), nullable=False),
        sa.Column("job", sa.String(length=100), nullable=False),
        sa.Column("number", sa.BigInteger()),
        sa.Column("what", sa.String(length=16), nullable=False),
        sa.Column("done", sa.BigInteger()),
        sa.Column("total", sa.BigInteger()),
        sa.Column("exit_code", sa.Integer()),
        sa.Column("host", sa.String(length=100)),
        sa.Column("since", MOMENT, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["launch_id"], ["launches.id"], name="fk_job_reports_launch_id"),
        sa.PrimaryKeyConstraint("launch_id", "step", "job", name="pk_job_reports"),
    )


def _partial_index(name: str, columns: list[str], *, where: str) -> None:
    op.create_index(name, "launch_commands", columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def _count_what_is_there() -> None:
    """Launches of before get their counts and their run. Read in pieces, so that many fit into the memory."""
    connection = op.get_bind()
    page = sa.text("SELECT id, parameters, steps FROM launches WHERE id > :last ORDER BY id LIMIT :many")
    change = sa.text(
        "UPDATE launches SET run = :run, step_count = :count, steps_finished = :finished, steps_failed = :failed, "
        "steps_done = :finished WHERE id = :id"
    )
    last = 0
    while rows := connection.execute(page, {"last": last, "many": _AT_ONCE}).all():
        connection.execute(change, [_counted(*row) for row in rows])
        last = rows[-1][0]


def _counted(id_: int, parameters: str, steps: str) -> dict[str, object]:
    states = [step["state"] for step in json.loads(steps)]
    counts = {"count": len(states), "finished": states.count("finished"), "failed": states.count("failed")}
    return {"id": id_, "run": _run(json.loads(parameters).get("run")), **counts}


def _run(run: object) -> int | None:
    text = str(run)
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else None
