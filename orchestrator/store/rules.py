"""Rules: every version ever applied, and which of them are in force at a revision of the whole set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, func, insert, or_, select, text, update

from orchestrator.store.engine import Database
from orchestrator.store.journal import record
from orchestrator.store.signals import RULES
from orchestrator.store.tables import Row, rule_versions
from schemas.rule import Rule, RuleVersion, RuleVersionId

#: Whoever changes the rules on PostgreSQL holds this lock for the length of one transaction.
_RULES_LOCK = 0x72756C65


@dataclass(frozen=True, slots=True)
class Change:
    """What applying rules did, by rule name."""

    revision: int
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()

    @property
    def nothing(self) -> bool:
        return not (self.added or self.changed or self.removed)


class Rules:
    """The rules in force, and those that were."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def revision(self) -> int:
        """The revision in force; 0 before any rule was applied."""
        with self._database.read() as connection:
            return current_revision(connection)

    def in_force(self) -> tuple[int, list[RuleVersion]]:
        """The revision, and its rules by name."""
        query = select(rule_versions).where(rule_versions.c.until_revision.is_(None)).order_by(rule_versions.c.name)
        with self._database.read() as connection:
            revision = current_revision(connection)
            return revision, [_version(dict(row)) for row in connection.execute(query).mappings()]

    def at(self, revision: int) -> list[RuleVersion]:
        """The rules that were in force at a revision, by name."""
        then = (rule_versions.c.since_revision <= revision, rule_versions.c.until_revision > revision)
        still = (rule_versions.c.since_revision <= revision, rule_versions.c.until_revision.is_(None))
        query = select(rule_versions).where(or_(and_(*then), and_(*still))).order_by(rule_versions.c.name)
        with self._database.read() as connection:
            return [_version(dict(row)) for row in connection.execute(query).mappings()]

    def apply(self, rules: Sequence[Rule], *, prune: bool, who: str, now: datetime) -> Change:
        """Put rules in force, all or nothing. A rule that is in force already, word for word, is left alone.

        With `prune`, rules in force that are not given are taken out. Their versions stay, for ever.
        """
        with self._database.write(RULES) as connection:
            self._take_turns(connection)
            current = {row["name"]: row for row in _current(connection)}
            wanted = {rule.name: json.dumps(rule.document(), sort_keys=True) for rule in rules}
            added = [name for name in wanted if name not in current]
            # as rules, not as text: an older version of the program wrote fewer fields
            stood = {name: Rule.model_validate_json(row["document"]) for name, row in current.items() if name in wanted}
            changed = [rule.name for rule in rules if rule.name in stood and stood[rule.name] != rule]
            removed = [name for name in current if name not in wanted] if prune else []
            unchanged = [name for name in wanted if name not in added and name not in changed]
            revision = current_revision(connection) + (1 if added or changed or removed else 0)
            _end(connection, [*changed, *removed], revision)
            for name in (*added, *changed):
                id_ = _begin(connection, name, wanted[name], revision, until=None)
                what = "added" if name in added else "changed"
                record(connection, "rule", [id_], None, "in_force", who=who, why=f"{what} {name}", at=now)
            ended = [current[name]["id"] for name in (*changed, *removed)]
            record(connection, "rule", ended, "in_force", "ended", who=who, why=f"revision {revision}", at=now)
        return Change(revision, tuple(added), tuple(changed), tuple(removed), tuple(unchanged))

    def keep_for_reference(self, rule: Rule, *, who: str, now: datetime) -> RuleVersion:
        """Keep a rule that was used once by hand, never in force, so that its dispatches can point at it."""
        with self._database.write() as connection:
            self._take_turns(connection)
            revision = current_revision(connection)
            document = json.dumps(rule.document(), sort_keys=True)
            id_ = _begin(connection, rule.name, document, revision, until=revision)
            record(connection, "rule", [id_], None, "by_hand", who=who, why=f"used once: {rule.name}", at=now)
            row = connection.execute(select(rule_versions).where(rule_versions.c.id == id_)).mappings().one()
            return _version(dict(row))

    def _take_turns(self, connection: Connection) -> None:
        if not self._database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _RULES_LOCK})


def current_revision(connection: Connection) -> int:
    """The revision in force; 0 before any rule was applied. It began with a new version, or with the end of one."""
    newest = select(func.max(rule_versions.c.since_revision), func.max(rule_versions.c.until_revision))
    since, until = connection.execute(newest).one()
    return max(since or 0, until or 0)


def _current(connection: Connection) -> list[Row]:
    query = select(rule_versions).where(rule_versions.c.until_revision.is_(None))
    return [dict(row) for row in connection.execute(query).mappings()]


def _end(connection: Connection, names: Sequence[str], revision: int) -> None:
    in_force = (rule_versions.c.name.in_(names), rule_versions.c.until_revision.is_(None))
    connection.execute(update(rule_versions).where(*in_force).values(until_revision=revision))


def _begin(connection: Connection, name: str, document: str, revision: int, *, until: int | None) -> int:
    newest = select(func.max(rule_versions.c.version)).where(rule_versions.c.name == name)
    row = {
        "name": name,
        "version": (connection.scalars(newest).one() or 0) + 1,
        "document": document,
        "since_revision": revision,
        "until_revision": until,
    }
    id_: int = connection.scalars(insert(rule_versions).values(row).returning(rule_versions.c.id)).one()
    return id_


def _version(row: Row) -> RuleVersion:
    return RuleVersion(
        id=RuleVersionId(row["id"]),
        version=row["version"],
        since_revision=row["since_revision"],
        until_revision=row["until_revision"],
        author=row["author"],
        reason=row["reason"],
        at=row["at"],
        rule=Rule.model_validate_json(row["document"]),
    )
