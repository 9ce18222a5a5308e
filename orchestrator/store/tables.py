"""The tables. `migrations/` builds them; a test proves that the two agree."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.types import TypeEngine

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Moment(TypeDecorator[datetime]):
    """A moment, UTC, to the microsecond. SQLite has no such type: there it is text of one width, which sorts."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).isoformat(" ", "microseconds")

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return datetime.fromisoformat(value) if isinstance(value, str) else value.astimezone(UTC)


#: SQLite counts its rows by INTEGER PRIMARY KEY only.
_Id = BigInteger().with_variant(Integer, "sqlite")


def _partial(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    return Index(name, *columns, unique=unique, sqlite_where=text(where), postgresql_where=text(where))


messages = Table(
    "messages",
    metadata,
    # given by the intake, which is serialised: see messages.py
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("identity", String(32), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("event_type", Text),
    Column("scope", Text),
    Column("name", Text),
    Column("created_at", Moment),
    Column("received_at", Moment, nullable=False),
    Column("origin", String(32), nullable=False),
    Column("reason", Text),
    Column("duplicates", Integer, nullable=False),
    Column("incarnation", Integer),
    Column("generation", Integer),
    Column("account", Text),
    Column("bytes", BigInteger),
    Column("length", BigInteger),
    Column("events", BigInteger),
    Column("judged_revision", Integer, nullable=False),
    Column("headers", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("ix_messages_did", "scope", "name"),
    Index("ix_messages_state", "state", "id"),
    _partial("ix_messages_unjudged", "state", "judged_revision", "id", where="state = 'pending'"),
)

#: One row, made with the schema: what tells this store from any other.
identity = Table(
    "identity",
    metadata,
    Column("id", String(32), primary_key=True),
)

rule_versions = Table(
    "rule_versions",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("name", String(100), nullable=False),
    Column("version", Integer, nullable=False),
    Column("document", Text, nullable=False),
    Column("since_revision", Integer, nullable=False),
    Column("until_revision", Integer),
    Column("author", Text),
    Column("reason", Text),
    Column("at", Moment),
    UniqueConstraint("name", "version"),
    Index("ix_rule_versions_since", "since_revision"),
    Index("ix_rule_versions_until", "until_revision"),
    _partial("uq_rule_versions_in_force", "name", where="until_revision IS NULL", unique=True),
)

#: One row for each change of the whole set: who changed it, by which command and why.
revisions = Table(
    "revisions",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", Moment, nullable=False),
    Column("who", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("reason", Text),
)

dispatches = Table(
    "dispatches",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("message_id", _Id, ForeignKey("messages.id"), nullable=False),
    Column("rule", String(100), nullable=False),
    Column("rule_version_id", _Id, ForeignKey("rule_versions.id"), nullable=False),
    Column("action", Integer, nullable=False),
    Column("actor", String(100), nullable=False),
    Column("captured", Text, nullable=False),
    Column("options", Text, nullable=False),
    Column("retry", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    # attempts that count against the retry policy; waiting and orderly interruptions do not
    Column("spent", Integer, nullable=False),
    Column("not_before", Moment),
    Column("owner", Text),
    Column("lease_until", Moment),
    Column("reason", Text),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    # as the rule said when it matched: what is claimed first, and whose caps count
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("rule_group", Text),
    # what no other match may carry out; see `guards`
    Column("unique_key", String(400)),
    # how often a person has asked for another launch after one that had ended
    Column("round", Integer, nullable=False, server_default="0"),
    # what must hold before the action is started, every template filled in
    Column("required", Text),
    # when it was found to hold; when it is looked at next; since when that is waited for
    Column("let_through_at", Moment),
    Column("look_at", Moment),
    Column("required_since", Moment),
    UniqueConstraint("message_id", "rule", "action"),
    Index("ix_dispatches_state", "state", "id"),
    Index("ix_dispatches_rule", "rule", "state", "id"),
    _partial(
        "ix_dispatches_held_back",
        "look_at",
        "id",
        where="state = 'ready' AND required IS NOT NULL AND let_through_at IS NULL",
    ),
    _partial("ix_dispatches_ready", "rule", "priority", "id", where="state = 'ready'"),
    _partial("ix_dispatches_not_before", "not_before", where="not_before IS NOT NULL"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("dispatch_id", _Id, ForeignKey("dispatches.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("owner", Text, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("ended_at", Moment),
    Column("outcome", String(16), nullable=False),
    Column("reason", Text),
    Column("exit_code", Integer),
    Column("stdout", Text),
    Column("stderr", Text),
    Index("ix_attempts_started", "started_at"),
)

#: Which of a rule's matches were let through by its prescale, counted from 1.
prescales = Table(
    "prescales",
    metadata,
    Column("message_id", _Id, ForeignKey("messages.id"), primary_key=True),
    Column("rule", String(100), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("taken", Boolean, nullable=False),
    UniqueConstraint("rule", "number"),
)

#: What people said of runs: that they are full, special, good for quality assurance.
run_flags = Table(
    "run_flags",
    metadata,
    Column("run", BigInteger, primary_key=True, autoincrement=False),
    Column("flag", String(100), primary_key=True),
    Column("who", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Moment, nullable=False),
)

#: Near misses: a rule's pattern wanted the message, and one other clause did not.
near_misses = Table(
    "near_misses",
    metadata,
    Column("message_id", _Id, ForeignKey("messages.id"), primary_key=True),
    Column("rule", String(100), primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("clause", String(100), nullable=False),
    Index("ix_near_misses_clause", "clause", "message_id"),
)

#: One row for each unique key that a match has taken.
guards = Table(
    "guards",
    metadata,
    Column("key", String(400), primary_key=True),
    Column("message_id", _Id, ForeignKey("messages.id"), nullable=False),
    Column("rule", String(100), nullable=False),
    Column("dispatch_id", _Id, ForeignKey("dispatches.id"), nullable=False),
    Column("at", Moment, nullable=False),
)

#: What stands still because a person or a circuit breaker said so: everything, a group, a rule.
suspensions = Table(
    "suspensions",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("name", String(100), primary_key=True),
    Column("who", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Moment, nullable=False),
)

#: How many dispatches of a rule have failed in a row; and how many it has started, if it starts the newest first.
streaks = Table(
    "streaks",
    metadata,
    Column("rule", String(100), primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("starts", Integer, nullable=False, server_default="0"),
)

#: What the catalog said about a message's dataset, for rules that ask for it.
facts = Table(
    "facts",
    metadata,
    Column("message_id", _Id, ForeignKey("messages.id"), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("tries", Integer, nullable=False),
    Column("not_before", Moment),
    Column("document", Text),
    Column("reason", Text),
    Column("wanted_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Index("ix_facts_state", "state", "not_before"),
)

launches = Table(
    "launches",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("dispatch_id", _Id, ForeignKey("dispatches.id")),
    Column("key", String(400), nullable=False, unique=True),
    Column("name", String(250), nullable=False, unique=True),
    Column("workflow", String(100), nullable=False),
    Column("parameters", Text, nullable=False),
    Column("inputs", Text, nullable=False),
    Column("outputs", Text, nullable=False),
    # SQLite cannot change a column's type, and does not ask how long a text is
    Column("engine", String(300).with_variant(String(32), "sqlite"), nullable=False),
    Column("reference", Text),
    Column("state", String(16), nullable=False),
    Column("reason", Text),
    Column("steps", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    # the detector's run
    Column("run", BigInteger),
    Column("submitted_at", Moment),
    # when the engine last reported anything new
    Column("moved_at", Moment),
    # the steps and their input files, counted, so that many launches are summed up without reading their steps
    Column("step_count", Integer, nullable=False, server_default="0"),
    Column("steps_finished", Integer, nullable=False, server_default="0"),
    Column("steps_failed", Integer, nullable=False, server_default="0"),
    # a step that is half through its files counts half
    Column("steps_done", Float, nullable=False, server_default="0"),
    Column("files", BigInteger, nullable=False, server_default="0"),
    Column("files_finished", BigInteger, nullable=False, server_default="0"),
    Column("files_failed", BigInteger, nullable=False, server_default="0"),
    # the git commit of the workflow's folder
    Column("definition", String(100)),
    # how what failed is retried by itself, as JSON; and of one that has ended, when that is next decided
    Column("retry", Text),
    Column("retry_at", Moment),
    Index("ix_launches_state", "state", "id"),
    Index("ix_launches_dispatch", "dispatch_id"),
    Index("ix_launches_run", "run", "state"),
    _partial("ix_launches_retry", "retry_at", where="retry_at IS NOT NULL"),
)

#: Contents of files by their SHA-256: what many launches share is kept once.
blobs = Table(
    "blobs",
    metadata,
    Column("digest", String(64), primary_key=True),
    # bytes, before they were compressed
    Column("size", Integer, nullable=False),
    # as zlib makes it
    Column("content", LargeBinary, nullable=False),
)

#: What was sent for each launch, file by file.
launch_files = Table(
    "launch_files",
    metadata,
    Column("launch_id", _Id, ForeignKey("launches.id"), primary_key=True),
    Column("path", Text, primary_key=True),
    Column("digest", String(64), ForeignKey("blobs.digest"), nullable=False),
    Column("executable", Boolean, nullable=False),
)

#: Every try at handing a launch over.
submissions = Table(
    "submissions",
    metadata,
    Column("launch_id", _Id, ForeignKey("launches.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("step", String(100)),
    Column("command", Text, nullable=False),
    Column("client", Text),
    Column("started_at", Moment, nullable=False),
    Column("ended_at", Moment),
    Column("exit_code", Integer),
    Column("output", Text, nullable=False),
    Column("answer", Text),
    Column("verdict", Text),
)

#: What people asked of launches that were submitted.
launch_commands = Table(
    "launch_commands",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("launch_id", _Id, ForeignKey("launches.id"), nullable=False),
    Column("command", String(16), nullable=False),
    Column("parameters", Text, nullable=False),
    Column("step", String(100)),
    Column("who", Text, nullable=False),
    Column("why", Text),
    Column("state", String(16), nullable=False),
    Column("answer", Text),
    Column("asked_at", Moment, nullable=False),
    Column("settled_at", Moment),
    # who carries it out, and since when
    Column("owner", Text),
    Column("claimed_at", Moment),
    # of a policy's retry of a whole launch: the steps of which it is an attempt, as JSON
    Column("attempt_of", Text),
    Index("ix_launch_commands_launch", "launch_id"),
    _partial("ix_launch_commands_wanted", "id", where="state = 'wanted'"),
    _partial("ix_launch_commands_retries", "settled_at", where="command = 'retry'"),
)

#: What was heard last of each job that tells about itself.
job_reports = Table(
    "job_reports",
    metadata,
    Column("launch_id", _Id, ForeignKey("launches.id"), primary_key=True),
    Column("step", String(100), primary_key=True),
    Column("job", String(100), primary_key=True),
    # the job's number among those of its step
    Column("number", BigInteger),
    Column("what", String(16), nullable=False),
    Column("done", BigInteger),
    Column("total", BigInteger),
    Column("exit_code", Integer),
    Column("host", String(100)),
    Column("since", Moment, nullable=False),
    Column("at", Moment, nullable=False),
)

#: The datasets that launches make, with every rule that had a part in it.
products = Table(
    "products",
    metadata,
    Column("launch_id", _Id, ForeignKey("launches.id"), primary_key=True),
    Column("scope", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("rules", Text, nullable=False),
    Index("ix_products_did", "scope", "name"),
)

#: The datasets that launches read.
readings = Table(
    "readings",
    metadata,
    Column("launch_id", _Id, ForeignKey("launches.id"), primary_key=True),
    Column("scope", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Index("ix_readings_did", "scope", "name"),
)

#: Waiting rooms: one for each key of a rule that joins datasets.
rooms = Table(
    "rooms",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("rule", String(100), nullable=False),
    Column("key", String(400), nullable=False),
    # a new one for what comes late, if the rule wants that
    Column("round", Integer, nullable=False),
    Column("rule_version_id", _Id, ForeignKey("rule_versions.id"), nullable=False),
    Column("state", String(16), nullable=False),
    Column("opened_at", Moment, nullable=False),
    Column("deadline", Moment),
    Column("closed_at", Moment),
    Column("reason", Text),
    # the member that its dispatches point at
    Column("message_id", _Id, ForeignKey("messages.id")),
    # when to look at it without having been called: at its deadline, or because a member was in other hands
    Column("look_at", Moment),
    UniqueConstraint("rule", "key", "round"),
    Index("ix_rooms_state", "state", "look_at"),
)

room_members = Table(
    "room_members",
    metadata,
    Column("room_id", _Id, ForeignKey("rooms.id"), primary_key=True),
    Column("slot", String(100), primary_key=True),
    Column("message_id", _Id, ForeignKey("messages.id"), primary_key=True),
    Column("at", Moment, nullable=False),
    # when it no longer counted: its dataset was opened again, say; why stands with its message
    Column("left_at", Moment),
    # it came after the room was closed
    Column("late", Boolean, nullable=False),
    Index("ix_room_members_message", "message_id"),
)

#: Members that a person has declared unnecessary.
waivers = Table(
    "waivers",
    metadata,
    Column("room_id", _Id, ForeignKey("rooms.id"), primary_key=True),
    Column("slot", String(100), primary_key=True),
    Column("who", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Moment, nullable=False),
)

#: Histories sent through the rules again.
replays = Table(
    "replays",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("document", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("who", Text, nullable=False),
    Column("reason", Text, nullable=False),
    # the last message looked at, and the last to be looked at
    Column("position", _Id, nullable=False),
    Column("until", _Id, nullable=False),
    Column("total", Integer, nullable=False),
    Column("looked_at", Integer, nullable=False),
    Column("matched", Integer, nullable=False),
    Column("written", Integer, nullable=False),
    # dispatches that were there before
    Column("there", Integer, nullable=False),
    Column("refused", Integer, nullable=False),
    # how many were written since there was last a pause as long as the pace's span, and when the last of them was
    Column("paced", Integer, nullable=False),
    Column("paced_at", Moment),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
)

#: Files on their way into the catalog: one operation each.
registrations = Table(
    "registrations",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    # NULL: its files go into no dataset
    Column("dataset", Text),
    # empty: where the catalog registers unless it is told
    Column("rse", Text, nullable=False),
    Column("closes", Boolean, nullable=False),
    # how the dataset is made, and what is above it, as JSON; the lifetime in seconds
    Column("containers", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("lifetime", Float),
    Column("state", String(16), nullable=False),
    Column("reason", Text),
    # who began or resumed it last, and why
    Column("who", Text, nullable=False),
    Column("why", Text),
    Column("calls", Integer, nullable=False),
    Column("listed", Boolean, nullable=False),
    # its files by state and their bytes, as JSON, once it has ended: those of one that goes on are counted
    Column("counts", Text),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Index("ix_registrations_dataset", "dataset", "id"),
    Index("ix_registrations_state", "state", "id"),
    _partial("uq_registrations_open", "dataset", "rse", where="state = 'open'", unique=True),
)

registration_files = Table(
    "registration_files",
    metadata,
    Column("registration_id", _Id, ForeignKey("registrations.id"), primary_key=True),
    Column("did", Text, primary_key=True),
    Column("path", Text),
    Column("pfn", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("bytes", BigInteger),
    Column("adler32", String(8)),
    Column("md5", String(32)),
    Column("guid", String(36)),
    Column("events", BigInteger),
    # of bytes, adler32 and md5 those that its manifest told
    Column("told", String(24)),
    Column("modified_ns", BigInteger),
    Column("reason", Text),
    # the call of the registration that asked for it last
    Column("call", Integer, nullable=False),
    # refused for what its list says of it: only another list can mend that
    Column("barred", Boolean, nullable=False),
    # the state first, so that no planner takes this one to find a file by its name
    Index("ix_registration_files_state", "state", "registration_id", "did"),
)

#: Policies about transient datasets: every version ever applied.
transient_policies = Table(
    "transient_policies",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("name", String(100), nullable=False),
    Column("version", Integer, nullable=False),
    Column("document", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("reason", Text),
    Column("at", Moment, nullable=False),
    Column("ended_at", Moment),
    # it may match so many datasets
    Column("confirmed", BigInteger),
    UniqueConstraint("name", "version"),
    _partial("uq_transient_policies_in_force", "name", where="ended_at IS NULL", unique=True),
)

#: What must stay because a person or a rule said so.
transient_keeps = Table(
    "transient_keeps",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    # scope:name, both globs
    Column("which", Text, nullable=False),
    # the one dataset that fits it; NULL: others may fit as well, or its name is too long for an index
    Column("did", Text),
    Column("who", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("at", Moment, nullable=False),
    Column("until", Moment),
    Column("lifted_at", Moment),
    Column("lifted_by", Text),
    _partial("ix_transient_keeps_did", "did", "until", where="lifted_at IS NULL"),
)

#: Transient datasets: one row for each life of a dataset that a policy has matched.
transients = Table(
    "transients",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("scope", Text, nullable=False),
    Column("name", Text, nullable=False),
    # when the catalog made it: names are used again
    Column("born_at", Moment, nullable=False),
    Column("policy", String(100), nullable=False),
    Column("policy_version", Integer, nullable=False),
    # the detector's run
    Column("run", BigInteger),
    Column("state", String(16), nullable=False),
    Column("reason", Text),
    # as JSON: pairs of check and text
    Column("refusals", Text, nullable=False),
    Column("files", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    # its DID
    Column("successor", Text),
    Column("due_at", Moment),
    Column("extended_until", Moment),
    # what was proved when it was released, as JSON
    Column("release", Text),
    # NULL again if the release is taken back before anything was done
    Column("released_at", Moment),
    Column("released_by", Text),
    Column("leaves_at", Moment),
    Column("leaving_at", Moment),
    # how many calls were about to be made that let it leave
    Column("went_on", Integer, nullable=False, server_default="0"),
    Column("gone_at", Moment),
    Column("freed_bytes", BigInteger, nullable=False),
    Column("freed_files", BigInteger, nullable=False),
    Column("seen_at", Moment, nullable=False),
    # the identity of the catalog in which it was seen; NULL: that was not looked at
    Column("catalog", Text),
    # when a close look last failed; NULL again once all is proved
    Column("failed_at", Moment),
    Column("updated_at", Moment, nullable=False),
    # who works on it, and when it is looked at next
    Column("owner", Text),
    Column("lease_until", Moment),
    Column("not_before", Moment),
    UniqueConstraint("scope", "name", "born_at"),
    Index("ix_transients_state", "state", "id"),
    Index("ix_transients_successor", "successor"),
)

#: Each release of a transient dataset by itself: what counts for the caps, and what was freed by it. One that came to
#: nothing before anything was done leaves no row.
transient_releases = Table(
    "transient_releases",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("transient_id", _Id, ForeignKey("transients.id"), nullable=False),
    Column("policy", String(100), nullable=False),
    Column("released_at", Moment, nullable=False),
    Column("released_by", Text, nullable=False),
    # the bytes that were to leave, by RSE, as JSON
    Column("frees", Text, nullable=False),
    # when the dataset had left, or was called back
    Column("ended_at", Moment),
    # the same, if anything had left
    Column("gone_at", Moment),
    Column("freed_bytes", BigInteger, nullable=False),
    Column("freed_files", BigInteger, nullable=False),
    Index("ix_transient_releases_released", "released_at"),
    _partial("ix_transient_releases_gone", "gone_at", where="gone_at IS NOT NULL"),
    _partial("uq_transient_releases_open", "transient_id", where="ended_at IS NULL", unique=True),
)

#: The copies that leave with a dataset, written down before the catalog is asked for the first of them.
transient_copies = Table(
    "transient_copies",
    metadata,
    Column("transient_id", _Id, ForeignKey("transients.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    # the file's
    Column("scope", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("rse", Text, nullable=False),
    Column("pfn", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    # `gone`, or why it stays; NULL while that is open
    Column("fate", Text),
    Index("ix_transient_copies_did", "scope", "name"),
)

journal = Table(
    "journal",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("at", Moment, nullable=False),
    Column("who", Text, nullable=False),
    Column("subject", String(16), nullable=False),
    Column("subject_id", _Id, nullable=False),
    Column("from_state", String(16)),
    Column("to_state", String(16), nullable=False),
    Column("why", Text),
    Index("ix_journal_subject", "subject", "subject_id", "id"),
)

Row = dict[str, Any]

reconciliations = Table(
    "reconciliations",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    # its address: each catalog has a mark of its own
    Column("catalog", Text, nullable=False),
    Column("since", Moment, nullable=False),
    Column("until", Moment, nullable=False),
    # up to when everything was compared then, if this look left nothing out
    Column("mark", Moment),
    Column("started_at", Moment, nullable=False),
    Column("ended_at", Moment, nullable=False),
    Column("closings", Integer, nullable=False),
    Column("missing", Integer, nullable=False),
    # seconds
    Column("longest_lag", Float),
    Column("who", Text, nullable=False),
    Index("ix_reconciliations_catalog", "catalog", "id"),
)

#: Work that only one process is to do at a time.
turns = Table(
    "turns",
    metadata,
    Column("name", String(100), primary_key=True),
    # whoever has the turn, or had the last one
    Column("owner", Text, nullable=False),
    Column("begun_at", Moment, nullable=False),
    # if it has not ended by then it was cut off
    Column("until", Moment, nullable=False),
    Column("ended_at", Moment),
)
