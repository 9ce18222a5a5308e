"""Policies about transient datasets: every version ever applied, and which of them are in force."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Final

from sqlalchemy import Connection, func, insert, select, text, update

from orchestrator.store.engine import Database
from orchestrator.store.journal import record, without_nul
from orchestrator.store.port import NotAllowed, NotFound, Overtaken
from orchestrator.store.tables import Row, transient_policies
from orchestrator.store.transient_versions import InForce, Unreadable, demand_read, read, standing
from schemas.transient import PolicyVersion, TransientPolicy

#: Whoever changes the policies on PostgreSQL holds this lock for the length of one transaction.
_POLICIES_LOCK: Final = 0x706F6C69


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """What a change of the policies did, by policy name."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    #: The versions that are, or were, disabled, and of which enabled ones take the place.
    switched_on: tuple[PolicyVersion, ...] = ()

    @property
    def nothing(self) -> bool:
        return not (self.added or self.changed or self.removed)


@dataclass(frozen=True, slots=True)
class _Step:
    """The policies that are to be in force from now on, and the names of those that are not."""

    policies: Sequence[TransientPolicy]
    removed: Sequence[str] = ()


#: The policies in force, by name.
_Current = Mapping[str, PolicyVersion | Unreadable]


class TransientPolicies:
    """The policies in force, and those that were. Changes are all or nothing, one person at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def apply(
        self,
        policies: Sequence[TransientPolicy],
        *,
        prune: bool,
        who: str,
        now: datetime,
        reason: str | None = None,
    ) -> PolicyChange:
        """Put policies in force. One that is in force already, word for word, is left alone, with its confirmation.

        With `prune`, those in force that are not given are taken out. Their versions stay, for ever.

        Raises:
            NotAllowed: two of them have the same name; nothing was changed.
        """
        _demand_names(policies)
        return self._change(lambda current: _given(policies, current, prune), who, now, reason)

    def would_change(self, policies: Sequence[TransientPolicy], *, prune: bool) -> PolicyChange:
        """What `apply` would do now. Raises NotAllowed, as it does."""
        _demand_names(policies)
        with self._database.read() as connection:
            current = standing(connection)
        return _compared(_given(policies, current, prune), current)

    def set_enabled(
        self, names: Sequence[str], enabled: bool, *, who: str, now: datetime, reason: str | None = None
    ) -> PolicyChange:
        """Switch policies on or off, as a new version each.

        Raises NotFound; NotAllowed: one cannot be read. Nothing was changed.
        """

        def plan(current: _Current) -> _Step:
            _demand(names, current)
            found = [_readable(name, current) for name in dict.fromkeys(names)]
            return _Step([each.policy.model_copy(update={"enabled": enabled}) for each in found])

        return self._change(plan, who, now, reason)

    def remove(self, names: Sequence[str], *, who: str, now: datetime, reason: str | None = None) -> PolicyChange:
        """Take policies out; their versions stay. Raises NotFound: nothing was changed."""

        def plan(current: _Current) -> _Step:
            _demand(names, current)
            return _Step([], list(dict.fromkeys(names)))

        return self._change(plan, who, now, reason)

    def confirm(
        self, name: str, number: int | None, matches: int, *, who: str, now: datetime, reason: str | None = None
    ) -> PolicyVersion:
        """This version of a policy may match so many datasets. Another version must be confirmed again.

        Args:
            number: the version that was counted; None if none was in force then.

        Raises:
            NotFound: no policy of that name is in force.
            Overtaken: another version of it is.
            NotAllowed: it cannot be read.
        """
        with self._database.write() as connection:
            self._take_turns(connection)
            current = standing(connection)
            found = _readable(name, current)
            if found.version != number:
                raise Overtaken(
                    f"nothing was confirmed: version {found.version} of {name} came into force meanwhile; "
                    f"`muleteer transient plan` shows what that one comes to"
                )
            id_ = found.id
            this = update(transient_policies).where(transient_policies.c.id == id_).values(confirmed=matches)
            row = connection.execute(this.returning(*transient_policies.c)).mappings().one()
            why = _because(f"it may match {matches:,} datasets", reason)
            record(connection, "policy", [id_], "in_force", "confirmed", who=who, why=why, at=now)
            return demand_read(read(dict(row)))

    # What there is, and was.

    def in_force(self) -> list[PolicyVersion]:
        """By name; what cannot be read is left out."""
        return list(self.all_in_force().versions)

    def all_in_force(self) -> InForce:
        """By name, with those that cannot be read."""
        with self._database.read() as connection:
            found = list(standing(connection).values())
        unreadable = [each for each in found if isinstance(each, Unreadable)]
        return InForce([each for each in found if isinstance(each, PolicyVersion)], unreadable)

    def version(self, name: str, number: int | None = None) -> PolicyVersion:
        """A version of a policy; without a number the one in force, else the newest.

        Raises NotFound; NotAllowed: it cannot be read.
        """
        query = select(transient_policies).where(transient_policies.c.name == name)
        if number is not None:
            query = query.where(transient_policies.c.version == number)
        with self._database.read() as connection:
            row = connection.execute(query.order_by(transient_policies.c.version.desc()).limit(1)).mappings().first()
            if row is None:
                newest = _newest(connection, name)
                raise NotFound(f"policy {name} has no version {number}; its newest is {newest}")
            return demand_read(read(dict(row)))

    def history(self, name: str | None = None, *, limit: int = 50) -> list[PolicyVersion]:
        """Every version of one policy or of all that can be read, newest first.

        Raises NotFound for a name that never was.
        """
        query = select(transient_policies).order_by(transient_policies.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            if name is not None:
                _newest(connection, name)
                query = query.where(transient_policies.c.name == name)
            found = [read(dict(row)) for row in connection.execute(query).mappings()]
        return [each for each in found if isinstance(each, PolicyVersion)]

    # How a change is made.

    def _change(self, plan: Callable[[_Current], _Step], who: str, now: datetime, reason: str | None) -> PolicyChange:
        with self._database.write() as connection:
            self._take_turns(connection)
            current = standing(connection)
            step = plan(current)
            change = _compared(step, current)
            ended = {name: current[name] for name in (*change.changed, *change.removed)}
            _end(connection, ended, who, now, reason)
            for policy in step.policies:
                if policy.name not in change.unchanged:
                    _begin(connection, policy, policy.name in change.added, who, now, reason)
        return change

    def _take_turns(self, connection: Connection) -> None:
        if not self._database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _POLICIES_LOCK})


def _readable(name: str, current: _Current) -> PolicyVersion:
    """Raises NotFound, NotAllowed."""
    _demand([name], current)
    return demand_read(current[name])


def _given(policies: Sequence[TransientPolicy], current: _Current, prune: bool) -> _Step:
    names = {policy.name for policy in policies}
    return _Step(policies, [name for name in current if name not in names] if prune else ())


def _compared(step: _Step, current: _Current) -> PolicyChange:
    """What a step would do. Policies are compared, not texts: an older version of the program wrote fewer fields."""
    added = tuple(policy.name for policy in step.policies if policy.name not in current)
    there = [(policy, current[policy.name]) for policy in step.policies if policy.name in current]
    # of what cannot be read nothing is known but its name
    known = [(policy, before) for policy, before in there if isinstance(before, PolicyVersion)]
    same = tuple(policy.name for policy, before in known if before.policy == policy)
    changed = tuple(policy.name for policy, _ in there if policy.name not in same)
    on = tuple(before for policy, before in known if policy.enabled and not before.policy.enabled)
    return PolicyChange(added, changed, tuple(step.removed), same, on)


def _end(connection: Connection, versions: _Current, who: str, now: datetime, reason: str | None) -> None:
    for name, version in versions.items():
        this = transient_policies.c.id == version.id
        connection.execute(update(transient_policies).where(this).values(ended_at=now))
        why = _because(f"version {version.version} of {name}", reason)
        record(connection, "policy", [version.id], "in_force", "ended", who=who, why=why, at=now)


def _begin(
    connection: Connection, policy: TransientPolicy, new: bool, who: str, now: datetime, reason: str | None
) -> None:
    newest = select(func.max(transient_policies.c.version)).where(transient_policies.c.name == policy.name)
    row: Row = {
        "name": policy.name,
        "version": (connection.scalars(newest).one() or 0) + 1,
        "document": json.dumps(policy.document()),
        "author": who,
        "reason": without_nul(reason),
        "at": now,
    }
    id_ = connection.scalars(insert(transient_policies).values(row).returning(transient_policies.c.id)).one()
    why = _because(f"{'added' if new else 'changed'} {policy.name}", reason)
    record(connection, "policy", [id_], None, "in_force", who=who, why=why, at=now)


def _because(what: str, reason: str | None) -> str:
    return f"{what}: {reason}" if reason else what


def _demand_names(policies: Sequence[TransientPolicy]) -> None:
    """Raises NotAllowed."""
    twice = sorted(name for name, count in Counter(policy.name for policy in policies).items() if count > 1)
    if twice:
        raise NotAllowed(f"more than one policy is called {', '.join(twice)}: give each a name of its own")


def _demand(names: Sequence[str], current: _Current) -> None:
    """Raises NotFound, with what was perhaps meant."""
    said = []
    for name in names:
        if name not in current:
            near = get_close_matches(name, current, 3)
            hint = f"did you mean {' or '.join(near)}?" if near else "`muleteer transient policies list` shows them"
            said.append(f"no policy {name!r} is in force: {hint}")
    if said:
        raise NotFound("\n".join(said))


def _newest(connection: Connection, name: str) -> int:
    """The number of the newest version. Raises NotFound for a name that never was."""
    newest = select(func.max(transient_policies.c.version)).where(transient_policies.c.name == name)
    number: int | None = connection.scalars(newest).one()
    if number is None:
        raise NotFound(f"there never was a policy {name!r}; `muleteer transient policies list` shows which there are")
    return number
