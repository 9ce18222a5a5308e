"""Rules: every version ever applied, and which of them are in force at a revision of the whole set."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, insert, select, text, update

from orchestrator.store.engine import Database
from orchestrator.store.journal import record, without_nul
from orchestrator.store.port import NotAllowed
from orchestrator.store.rule_history import History, in_force_at, read_version, still_in_force, unknown_rules
from orchestrator.store.signals import RULES
from orchestrator.store.tables import Row, revisions, rule_versions
from schemas.revision import InFlight, Revision
from schemas.rule import Rule, RuleVersion

#: Whoever changes the rules on PostgreSQL holds this lock for the length of one transaction.
_RULES_LOCK = 0x72756C65


@dataclass(frozen=True, slots=True)
class Change:
    """What a change of the rules did, by rule name."""

    revision: int
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()

    @property
    def nothing(self) -> bool:
        return not (self.added or self.changed or self.removed)


@dataclass(frozen=True, slots=True)
class _Step:
    """The rules that are to be in force from now on, and the names of those that are not."""

    rules: Sequence[Rule]
    removed: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class _Said:
    """Who changes the rules, when, by which command and why."""

    who: str
    what: str
    reason: str | None
    at: datetime


#: Says what is to become of the rules in force, by name.
_Plan = Callable[[Connection, Mapping[str, RuleVersion]], _Step]


class Rules:
    """The rules in force, and those that were."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._history = History(database)

    def revision(self) -> int:
        """The revision in force; 0 before any rule was applied."""
        with self._database.read() as connection:
            return current_revision(connection)

    def in_force(self) -> tuple[int, list[RuleVersion]]:
        """The revision, and its rules by name."""
        with self._database.read() as connection:
            return current_revision(connection), list(_current(connection).values())

    def at(self, revision: int) -> list[RuleVersion]:
        """The rules that were in force at a revision, by name."""
        with self._database.read() as connection:
            return in_force_at(connection, revision)

    # Changes: all or nothing, one person at a time.

    def apply(
        self, rules: Sequence[Rule], *, prune: bool, who: str, now: datetime, reason: str | None = None
    ) -> Change:
        """Put rules in force, all or nothing. A rule that is in force already, word for word, is left alone.

        With `prune`, rules in force that are not given are taken out. Their versions stay, for ever.
        """
        said = _Said(who, "apply --prune" if prune else "apply", reason, now)
        return self._change(lambda _, current: _given(rules, current, prune), said)

    def would_change(self, rules: Sequence[Rule], *, prune: bool) -> Change:
        """What `apply` would do now. Its revision is the one that it would make."""
        with self._database.read() as connection:
            current = _current(connection)
            return _compared(_given(rules, current, prune), current, current_revision(connection))

    def replace(self, old: RuleVersion, new: Rule, *, who: str, now: datetime, reason: str | None = None) -> Change:
        """Put a rule in the place of the version that a person had in hand.

        Raises:
            NotAllowed: that version is no longer in force; somebody else was first.
        """

        def plan(_: Connection, current: Mapping[str, RuleVersion]) -> _Step:
            found = current.get(old.rule.name)
            if found is None or found.id != old.id:
                now_ = "was taken out" if found is None else f"is at version {found.version} now"
                raise NotAllowed(f"rule {old.rule.name} {now_}: this was made of version {old.version}")
            return _Step([new])

        return self._change(plan, _Said(who, "edit", reason, now))

    def set_enabled(
        self, names: Sequence[str], enabled: bool, *, who: str, now: datetime, reason: str | None = None
    ) -> Change:
        """Switch rules on or off; what they have begun goes on. Raises NotFound: nothing was changed."""

        def plan(_: Connection, current: Mapping[str, RuleVersion]) -> _Step:
            unknown_rules(names, current)
            return _Step([current[name].rule.model_copy(update={"enabled": enabled}) for name in dict.fromkeys(names)])

        return self._change(plan, _Said(who, "enable" if enabled else "disable", reason, now))

    def remove(self, names: Sequence[str], *, who: str, now: datetime, reason: str | None = None) -> Change:
        """Take rules out; what they have begun goes on, their versions stay. Raises NotFound: nothing was changed."""

        def plan(_: Connection, current: Mapping[str, RuleVersion]) -> _Step:
            unknown_rules(names, current)
            return _Step([], list(dict.fromkeys(names)))

        return self._change(plan, _Said(who, "remove", reason, now))

    def rollback(self, revision: int, *, who: str, now: datetime, reason: str | None = None) -> Change:
        """Put the whole set in force as it was at a revision, as a new revision. Raises NotFound."""

        def plan(connection: Connection, current: Mapping[str, RuleVersion]) -> _Step:
            then = [version.rule for version in self._history.set_at(connection, revision)]
            return _given(then, current, prune=True)

        return self._change(plan, _Said(who, f"rollback to {revision}", reason, now))

    def keep_for_reference(self, rule: Rule, *, who: str, now: datetime, reason: str | None = None) -> RuleVersion:
        """Keep a rule that was used once by hand, never in force, so that its dispatches can point at it."""
        said = _Said(who, "by hand", reason, now)
        with self._database.write() as connection:
            self._take_turns(connection)
            revision = current_revision(connection)
            id_ = _begin(connection, rule, revision, said, until=revision)
            record(connection, "rule", [id_], None, "by_hand", who=who, why=f"used once: {rule.name}", at=now)
            row = connection.execute(select(rule_versions).where(rule_versions.c.id == id_)).mappings().one()
            return read_version(dict(row))

    # What was.

    def version(self, name: str, number: int | None = None) -> RuleVersion:
        """A version of a rule; without a number the one in force, else the newest. Raises NotFound."""
        return self._history.version(name, number)

    def history(self, name: str | None = None, *, limit: int = 50) -> list[RuleVersion]:
        """Every version of one rule or of all, newest first. Raises NotFound for a name that never was."""
        return self._history.versions(name, limit)

    def revisions(self, name: str | None = None, *, limit: int = 50, before: int | None = None) -> list[Revision]:
        """Every change of the set, or those that touched one rule, newest first; `before` a revision.

        Raises NotFound for a name that never was.
        """
        return self._history.revisions(name, limit, before)

    def set_at(self, revision: int) -> list[RuleVersion]:
        """As `at`, for a revision that a person named. Raises NotFound for one that never was."""
        with self._database.read() as connection:
            return self._history.set_at(connection, revision)

    def in_flight(self, name: str) -> InFlight:
        """What a rule has begun and not ended, whether or not it is still in force."""
        return self._history.in_flight(name)

    # How a change is made.

    def _change(self, plan: _Plan, said: _Said) -> Change:
        with self._database.write(RULES) as connection:
            self._take_turns(connection)
            current = _current(connection)
            step = plan(connection, current)
            change = _compared(step, current, current_revision(connection))
            if not change.nothing:
                _put_in_force(connection, step, change, current, said)
        return change

    def _take_turns(self, connection: Connection) -> None:
        if not self._database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _RULES_LOCK})


def current_revision(connection: Connection) -> int:
    """The revision in force; 0 before any rule was applied. It began with a new version, or with the end of one."""
    # one by one: for the greatest of one column alone the databases take its index
    since, until = (
        connection.scalars(select(func.max(column))).one()
        for column in (rule_versions.c.since_revision, rule_versions.c.until_revision)
    )
    return max(since or 0, until or 0)


def _current(connection: Connection) -> dict[str, RuleVersion]:
    query = select(rule_versions).where(still_in_force()).order_by(rule_versions.c.name)
    return {row["name"]: read_version(dict(row)) for row in connection.execute(query).mappings()}


def _given(rules: Sequence[Rule], current: Mapping[str, RuleVersion], prune: bool) -> _Step:
    names = {rule.name for rule in rules}
    return _Step(rules, [name for name in current if name not in names] if prune else ())


def _compared(step: _Step, current: Mapping[str, RuleVersion], revision: int) -> Change:
    """What a step would do. Rules are compared, not texts: an older version of the program wrote fewer fields."""
    added = tuple(rule.name for rule in step.rules if rule.name not in current)
    same = [rule.name for rule in step.rules if rule.name in current and current[rule.name].rule.same_as(rule)]
    changed = tuple(rule.name for rule in step.rules if rule.name in current and rule.name not in same)
    new = revision + (1 if added or changed or step.removed else 0)
    return Change(new, added, changed, tuple(step.removed), tuple(same))


def _put_in_force(
    connection: Connection, step: _Step, change: Change, current: Mapping[str, RuleVersion], said: _Said
) -> None:
    row: Row = {"number": change.revision, "at": said.at, "who": said.who, "what": said.what}
    row["reason"] = without_nul(said.reason)
    connection.execute(insert(revisions).values(row))
    ended = [*change.changed, *change.removed]
    _end(connection, ended, change.revision)
    because = f": {said.reason}" if said.reason else ""
    for rule in step.rules:
        if rule.name not in change.unchanged:
            id_ = _begin(connection, rule, change.revision, said, until=None)
            why = f"{'added' if rule.name in change.added else 'changed'} {rule.name}{because}"
            record(connection, "rule", [id_], None, "in_force", who=said.who, why=why, at=said.at)
    ids = [current[name].id for name in ended]
    why = f"revision {change.revision}{because}"
    record(connection, "rule", ids, "in_force", "ended", who=said.who, why=why, at=said.at)


def _end(connection: Connection, names: Sequence[str], revision: int) -> None:
    for name in names:
        in_force = (rule_versions.c.name == name, still_in_force())
        connection.execute(update(rule_versions).where(*in_force).values(until_revision=revision))


def _begin(connection: Connection, rule: Rule, revision: int, said: _Said, *, until: int | None) -> int:
    newest = select(func.max(rule_versions.c.version)).where(rule_versions.c.name == rule.name)
    row: Row = {
        "name": rule.name,
        "version": (connection.scalars(newest).one() or 0) + 1,
        # not sorted: the order of a rule's values counts
        "document": json.dumps(rule.document()),
        "since_revision": revision,
        "until_revision": until,
        "author": said.who,
        "reason": without_nul(said.reason),
        "at": said.at,
    }
    id_: int = connection.scalars(insert(rule_versions).values(row).returning(rule_versions.c.id)).one()
    return id_
