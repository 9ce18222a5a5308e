"""Versions of policies about transient datasets, as the store keeps them; and those that cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, select

from orchestrator.store.port import NotAllowed
from orchestrator.store.tables import Row, transient_policies
from orchestrator.store.transient_rows import unreadable
from schemas.transient import PolicyVersion, PolicyVersionId, TransientPolicy


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A version in force that cannot be read: a newer muleteer, or another hand, may have written it."""

    id: PolicyVersionId
    name: str
    version: int
    #: In words.
    why: str

    def __str__(self) -> str:
        return f"version {self.version} of policy {self.name}: {self.why}"


class InForce(NamedTuple):
    """The policies in force at one moment, by name."""

    versions: Sequence[PolicyVersion]
    #: They release nothing.
    unreadable: Sequence[Unreadable]


def standing(connection: Connection) -> dict[str, PolicyVersion | Unreadable]:
    """The versions in force, by name."""
    in_force = transient_policies.c.ended_at.is_(None)
    query = select(transient_policies).where(in_force).order_by(transient_policies.c.name)
    return {row["name"]: read(dict(row)) for row in connection.execute(query).mappings()}


def read(row: Row) -> PolicyVersion | Unreadable:
    """One version."""
    values = {key: value for key, value in row.items() if key not in ("name", "document")}
    try:
        return PolicyVersion(**values, policy=TransientPolicy.model_validate_json(row["document"]))
    except ValueError as error:
        return Unreadable(row["id"], row["name"], row["version"], unreadable(error))


def demand_read(version: PolicyVersion | Unreadable) -> PolicyVersion:
    """Raises NotAllowed."""
    if isinstance(version, Unreadable):
        raise NotAllowed(f"{version}; apply the policy anew, or take it out: muleteer transient policies remove")
    return version


def against_version(connection: Connection, name: str, number: int) -> str | None:
    """Why nothing may leave by this version of a policy: within a transaction, to whose end it stays as it is."""
    query = select(transient_policies).where(transient_policies.c.name == name, transient_policies.c.ended_at.is_(None))
    row = connection.execute(query.with_for_update(read=True)).mappings().one_or_none()
    if row is None:
        return f"policy {name} is not in force any more"
    found = read(dict(row))
    if isinstance(found, Unreadable):
        return str(found)
    if not found.policy.enabled:
        return f"policy {name} is disabled"
    if row["version"] != number:
        return f"version {number} of policy {name} is not in force any more: version {row['version']} is"
    return None
