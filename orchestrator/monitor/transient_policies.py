"""Policies of transient datasets, and what people keep: read, applied, switched, confirmed, lifted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field

from orchestrator.core.transient.policies import mistakes_in, remarks_on, remarks_on_switching
from orchestrator.monitor.asking import Asked, Because, Id, Limit, Number, Person, Refused, Time, Word, authenticated
from orchestrator.monitor.transients import deciding
from orchestrator.store.transient_policies import PolicyChange
from schemas.transient import Keep, PolicyVersion, TransientPolicy

router = APIRouter(prefix="/api/v1/transient-policies", tags=["transients"], dependencies=[authenticated])
keeping = APIRouter(prefix="/api/v1/transient-keeps", tags=["transients"], dependencies=[authenticated])


class Wanted(Because):
    """Policies to be put in force, all or nothing."""

    policies: tuple[TransientPolicy, ...]
    prune: bool = Field(default=False, description="take out policies in force that are not given")
    dry_run: bool = Field(default=False, description="change nothing: only say what would change")


class Confirmed(Because):
    """How many datasets a policy may match."""

    matches: Number


class Kept(Because):
    """What is to stay."""

    which: Word = Field(description="scope:name, both globs")
    until: Time | None = Field(default=None, description="for ever unless it is said")


@router.get("")
def in_force(window: Asked) -> list[PolicyVersion]:
    """The policies in force, by name."""
    return window.store.transient_policies.in_force()


@router.post("")
def apply(window: Asked, person: Person, wanted: Wanted) -> dict[str, Any]:
    """Put policies in force, all or nothing. Nothing is released by it, unless a policy is automatic."""
    _check(wanted.policies)
    store = window.store.transient_policies
    if wanted.dry_run:
        change = store.would_change(wanted.policies, prune=wanted.prune)
    else:
        change = store.apply(wanted.policies, prune=wanted.prune, who=person, now=window.clock(), reason=wanted.reason)
    given = {policy.name for policy in wanted.policies}
    rest = [each.policy for each in store.in_force() if each.policy.name not in {*given, *change.removed}]
    remarks = [*remarks_on_switching(change.switched_on), *remarks_on([*wanted.policies, *rest])]
    return {**_said(change), "dry_run": wanted.dry_run, "remarks": remarks}


@router.get("/history")
def history(
    window: Asked, name: str | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 50
) -> list[PolicyVersion]:
    """Every version, newest first, of all policies or of one."""
    return window.store.transient_policies.history(name, limit=limit)


@router.get("/{name}")
def shown(window: Asked, name: str) -> PolicyVersion:
    """The version of a policy that is in force, else its newest."""
    return window.store.transient_policies.version(name)


@router.post("/{name}/enable")
def enable(window: Asked, person: Person, name: str, because: Because) -> dict[str, Any]:
    """Switch a policy on."""
    now = window.clock()
    return _said(window.store.transient_policies.set_enabled([name], True, who=person, now=now, reason=because.reason))


@router.post("/{name}/disable")
def disable(window: Asked, person: Person, name: str, because: Because) -> dict[str, Any]:
    """Switch a policy off. What it has released does not leave."""
    now = window.clock()
    return _said(window.store.transient_policies.set_enabled([name], False, who=person, now=now, reason=because.reason))


@router.post("/{name}/confirm")
def confirm(window: Asked, person: Person, name: str, confirmed: Confirmed) -> PolicyVersion:
    """The version in force may match so many datasets, as it does now, though that is a large part of its scopes."""
    with deciding():
        return window.desk().confirm(name, confirmed.matches, who=person, why=confirmed.reason)


@router.delete("/{name}")
def remove(window: Asked, person: Person, name: str, because: Because) -> dict[str, Any]:
    """Take a policy out. Its versions stay, and what it has released does not leave."""
    return _said(window.store.transient_policies.remove([name], who=person, now=window.clock(), reason=because.reason))


def _check(policies: Sequence[TransientPolicy]) -> None:
    """Raises Refused, with every mistake."""
    mistakes = [
        {"field": ".".join(map(str, ("policies", position, *place))), "mistake": what}
        for position, policy in enumerate(policies)
        for place, what in mistakes_in(policy)
    ]
    if mistakes:
        raise Refused(f"{len(mistakes)} mistakes in the policies", mistakes)


def _said(change: PolicyChange) -> dict[str, Any]:
    return {name: getattr(change, name) for name in ("added", "changed", "removed", "unchanged")}


@keeping.get("")
def keeps(
    window: Asked,
    all: Annotated[bool, Query(description="those that were lifted or are over, too")] = False,
    limit: Limit = 50,
) -> list[Keep]:
    """What stays because a person or a rule said so."""
    store = window.store.transient_keeps
    return store.all(limit) if all else store.newest(limit, window.clock())


@keeping.post("")
def keep(window: Asked, person: Person, kept: Kept) -> Keep:
    """Let nothing leave that fits, whatever policies say."""
    return window.store.transient_keeps.keep(
        kept.which, who=person, why=kept.reason, now=window.clock(), until=kept.until
    )


@keeping.delete("/{id_}")
def lift(window: Asked, person: Person, id_: Id, because: Because) -> Keep:
    """End a keep: policies count again for what it kept."""
    return window.store.transient_keeps.lift(id_, who=person, why=because.reason, now=window.clock())
