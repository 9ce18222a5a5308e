"""The rules: read, applied, switched on and off, taken back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field

from orchestrator.monitor.asking import Asked, Because, Change, Person, Refused, Window, authenticated
from schemas.rule import Rule, RuleVersion

router = APIRouter(prefix="/api/v1/rules", tags=["rules"], dependencies=[authenticated])


class Wanted(Change):
    """Rules to be put in force, all or nothing."""

    rules: tuple[Rule, ...]
    prune: bool = Field(default=False, description="take out rules in force that are not given")


class Back(Change):
    """Which revision of the set to go back to."""

    revision: int = Field(ge=0)


@router.get("")
def in_force(window: Asked) -> dict[str, Any]:
    """The rules in force, and the revision of the set."""
    revision, versions = window.store.rules.in_force()
    return {"revision": revision, "rules": [_shown(version) for version in versions]}


@router.post("")
def apply(window: Asked, person: Person, wanted: Wanted) -> dict[str, Any]:
    """Put rules in force, all or nothing. A running dispatcher uses them at once."""
    _check(window, wanted.rules, wanted, prune=wanted.prune)
    change = window.store.rules.apply(
        wanted.rules, prune=wanted.prune, who=person, reason=wanted.reason, now=window.clock()
    )
    return _said(change)


@router.get("/history")
def history(
    window: Asked, name: str | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 50
) -> list[dict[str, Any]]:
    """Every version, newest first, of all rules or of one."""
    return [_shown(version) for version in window.store.rules.history(name, limit=limit)]


@router.post("/rollback")
def rollback(window: Asked, person: Person, back: Back) -> dict[str, Any]:
    """Put the whole set in force as it was at a revision, as a new revision."""
    now = {version.rule.name: version.rule for version in window.store.rules.in_force()[1]}
    then = [version.rule for version in window.store.rules.set_at(back.revision)]
    _check(window, [rule for rule in then if now.get(rule.name) != rule], back)
    _heed_cycles(window, then, back, prune=True)
    change = window.store.rules.rollback(back.revision, who=person, reason=back.reason, now=window.clock())
    return _said(change)


@router.get("/{name}")
def shown(window: Asked, name: str) -> dict[str, Any]:
    """One rule in force, and what of it is in flight."""
    version = window.store.rules.version(name)
    return {**_shown(version), "in_flight": window.store.rules.in_flight(name)}


@router.post("/{name}/enable")
def enable(window: Asked, person: Person, name: str, because: Change) -> dict[str, Any]:
    """Switch a rule on, if it can still work: what it asks for may be gone."""
    rule = window.store.rules.version(name).rule.model_copy(update={"enabled": True})
    _check(window, [rule], because)
    return _switch(window, person, name, True, because)


@router.post("/{name}/disable")
def disable(window: Asked, person: Person, name: str, because: Because) -> dict[str, Any]:
    """Switch a rule off. What is in flight goes on, and is named in the answer."""
    return _switch(window, person, name, False, because)


@router.delete("/{name}")
def remove(window: Asked, person: Person, name: str, because: Because) -> dict[str, Any]:
    """Take a rule out. Its versions stay, and what is in flight goes on and is named in the answer."""
    change = window.store.rules.remove([name], who=person, reason=because.reason, now=window.clock())
    return {**_said(change), "in_flight": window.store.rules.in_flight(name)}


def _switch(window: Window, person: str, name: str, enabled: bool, because: Because) -> dict[str, Any]:
    change = window.store.rules.set_enabled([name], enabled, who=person, reason=because.reason, now=window.clock())
    return {**_said(change), "in_flight": window.store.rules.in_flight(name)}


def _check(window: Window, rules: Sequence[Rule], change: Change, *, prune: bool = False) -> None:
    """Refuse what could not work, with every mistake, and what would go round for ever. Raises Refused."""
    mistakes = [
        {"field": ".".join(map(str, ("rules", position, *place))), "mistake": what}
        for position, rule in enumerate(rules)
        for place, what in (*_files(rule), *window.mistakes(rule))
    ]
    names = [rule.name for rule in rules]
    mistakes += [
        {"field": f"rules.{position}.name", "mistake": f"the rule {name!r} is given twice: give each its own name"}
        for position, name in enumerate(names)
        if name in names[:position]
    ]
    if mistakes:
        raise Refused(f"{len(mistakes)} mistakes in the rules", mistakes)
    _heed_cycles(window, rules, change, prune=prune)


def _heed_cycles(window: Window, coming: Sequence[Rule], change: Change, *, prune: bool) -> None:
    """Raises Refused."""
    sure = [cycle.words for cycle in window.cycles(coming, prune) if cycle.certain]
    if sure and not change.allow_cycles:
        said = "rules would start each other; narrow a pattern or a scope, or send allow_cycles"
        raise Refused(said, [{"field": "rules", "mistake": words} for words in sure])


def _files(rule: Rule) -> Sequence[tuple[tuple[str, ...], str]]:
    """Files lie on the machine of whoever asks; the service reads none by request."""
    given = [name for name in ("include_file", "exclude_file") if getattr(rule.runs, name) is not None]
    return [(("runs", name), "only `muleteer rules apply` reads files: give the runs themselves") for name in given]


def _shown(version: RuleVersion) -> dict[str, Any]:
    return version.model_dump(mode="json", by_alias=True)


def _said(change: Any) -> dict[str, Any]:
    names = ("revision", "added", "changed", "removed", "unchanged")
    return {name: getattr(change, name) for name in names}
