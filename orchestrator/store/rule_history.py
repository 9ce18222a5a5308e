"""What rules were: versions, revisions of the set, and what of a rule is still in flight."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, exists, func, or_, select

from orchestrator.core.states import LAUNCH, LAUNCH_ENDED
from orchestrator.store.engine import Database
from orchestrator.store.intake import chunks
from orchestrator.store.port import NotFound
from orchestrator.store.tables import Row, dispatches, launches, revisions, rule_versions
from schemas.dispatch import DispatchState
from schemas.revision import GoingOn, InFlight, Revision, Touched
from schemas.rule import Rule, RuleVersion, RuleVersionId

#: What a dispatch in one of these may still do by itself, or once a person lets it.
_IN_FLIGHT = (
    DispatchState.READY,
    DispatchState.RUNNING,
    DispatchState.WAITING,
    DispatchState.IN_DOUBT,
    DispatchState.HELD,
)

_LAUNCHES_GOING_ON = sorted(LAUNCH.keys() - LAUNCH_ENDED)

#: So many ids are named.
_FEW = 5


class History:
    """Reads what was, and what is left of it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def version(self, name: str, number: int | None) -> RuleVersion:
        """A version of a rule; without a number the one in force, else the newest. Raises NotFound."""
        this = select(rule_versions).where(rule_versions.c.name == name)
        if number is not None:
            this = this.where(rule_versions.c.version == number)
        # the one in force first: one that was used by hand may be newer
        order = (rule_versions.c.until_revision.is_not(None), rule_versions.c.version.desc())
        with self._database.read() as connection:
            row = connection.execute(this.order_by(*order).limit(1)).mappings().one_or_none()
            if row is None:
                newest = self._demand(connection, name)
                raise NotFound(f"rule {name} has no version {number}; its newest is {newest}")
            return read_version(dict(row))

    def versions(self, name: str | None, limit: int) -> list[RuleVersion]:
        """Newest first. Raises NotFound."""
        query = select(rule_versions).order_by(rule_versions.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            if name is not None:
                self._demand(connection, name)
                query = query.where(rule_versions.c.name == name)
            return [read_version(dict(row)) for row in connection.execute(query).mappings()]

    def revisions(self, name: str | None, limit: int, before: int | None) -> list[Revision]:
        """Newest first. Raises NotFound."""
        with self._database.read() as connection:
            if name is not None:
                self._demand(connection, name)
            numbers = sorted(connection.scalars(_numbers(name, limit, before)), reverse=True)
            touched = _touched(connection, numbers, name)
            said = _said(connection, numbers)
        blank: Row = {"at": None, "who": None, "what": None, "reason": None}
        return [
            Revision.model_validate({**blank, **said.get(number, {}), "number": number, "touched": touched[number]})
            for number in numbers
        ]

    def set_at(self, connection: Connection, revision: int) -> list[RuleVersion]:
        """The rules in force at a revision, by name. Raises NotFound for one that never was."""
        newest = connection.scalars(_numbers(None, 1, None)).one_or_none() or 0
        if not 0 <= revision <= newest:
            raise NotFound(f"there is no revision {revision}; the newest is {newest}")
        return in_force_at(connection, revision)

    def in_flight(self, name: str) -> InFlight:
        """What a rule has begun and not ended."""
        mine = dispatches.c.rule == name
        # for each launch that goes on, not for each dispatch that ever was
        launched = exists().where(dispatches.c.id == launches.c.dispatch_id, mine)
        with self._database.read() as connection:
            return InFlight(
                dispatches=tuple(_going_on(connection, dispatches, _IN_FLIGHT, mine)),
                launches=tuple(_going_on(connection, launches, _LAUNCHES_GOING_ON, launched)),
            )

    def _demand(self, connection: Connection, name: str) -> int:
        """The number of the newest version of a rule. Raises NotFound."""
        newest = select(func.max(rule_versions.c.version)).where(rule_versions.c.name == name)
        number: int | None = connection.scalars(newest).one()
        if number is None:
            unknown_rules([name], list(connection.scalars(select(rule_versions.c.name).distinct())))
        return number or 0


def unknown_rules(names: Iterable[str], known: Collection[str]) -> None:
    """Raises NotFound, with what was perhaps meant, if one of the names is not known."""
    said = []
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, 3)
            hint = f"did you mean {' or '.join(near)}?" if near else "`muleteer rules list` shows those in force"
            said.append(f"there is no rule {name!r}: {hint}")
    if said:
        raise NotFound("\n".join(said))


def still_in_force() -> ColumnElement[bool]:
    return rule_versions.c.until_revision.is_(None)


def in_force_at(connection: Connection, revision: int) -> list[RuleVersion]:
    """The rules that were in force at a revision, by name."""
    until = or_(still_in_force(), rule_versions.c.until_revision > revision)
    query = (
        select(rule_versions).where(rule_versions.c.since_revision <= revision, until).order_by(rule_versions.c.name)
    )
    return [read_version(dict(row)) for row in connection.execute(query).mappings()]


def read_version(row: Row) -> RuleVersion:
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


def _was_in_force() -> ColumnElement[bool]:
    """Not of a version that was used by hand only: it ends at the revision at which it began."""
    return or_(still_in_force(), rule_versions.c.until_revision > rule_versions.c.since_revision)


def _numbers(name: str | None, limit: int, before: int | None) -> Select[Any]:
    """The newest revisions, each of which began or ended a version."""
    this = [_was_in_force(), *([] if name is None else [rule_versions.c.name == name])]
    began = select(rule_versions.c.since_revision.label("number")).where(*this)
    ended = select(rule_versions.c.until_revision.label("number")).where(*this, ~still_in_force())
    both = began.union(ended).subquery()
    query = select(both.c.number).order_by(both.c.number.desc()).limit(limit)
    return query if before is None else query.where(both.c.number < before)


def _touched(connection: Connection, numbers: Sequence[int], name: str | None) -> dict[int, list[Touched]]:
    touched: dict[int, list[Touched]] = {number: [] for number in numbers}
    columns = (rule_versions.c.name, rule_versions.c.version, rule_versions.c.since_revision.label("since"))
    for chunk in chunks(numbers):
        this = or_(rule_versions.c.since_revision.in_(chunk), rule_versions.c.until_revision.in_(chunk))
        query = select(*columns, rule_versions.c.until_revision.label("until")).where(this, _was_in_force())
        if name is not None:
            query = query.where(rule_versions.c.name == name)
        rows = connection.execute(query.order_by(rule_versions.c.name)).all()
        ended = {(row.until, row.name): row.version for row in rows if row.until is not None}
        began = {(row.since, row.name): row.version for row in rows}
        for number, rule in sorted({*ended, *began}):
            if number in touched and number in chunk:
                touched[number].append(_touch(rule, began.get((number, rule)), ended.get((number, rule))))
    return touched


def _touch(name: str, began: int | None, ended: int | None) -> Touched:
    if began is None:
        return Touched(name=name, did="removed", version=ended or 0)
    return Touched(name=name, did="added" if ended is None else "changed", version=began)


def _said(connection: Connection, numbers: Sequence[int]) -> dict[int, Row]:
    said: dict[int, Row] = {}
    for chunk in chunks(numbers):
        query = select(revisions).where(revisions.c.number.in_(chunk))
        said.update({row["number"]: dict(row) for row in connection.execute(query).mappings()})
    return said


def _going_on(
    connection: Connection, table: Table, states: Sequence[str], mine: ColumnElement[bool]
) -> Iterable[GoingOn]:
    counted = select(table.c.state, func.count()).where(mine, table.c.state.in_(states)).group_by(table.c.state)
    counts = {state: count for state, count in connection.execute(counted)}
    for state in states:
        if state in counts:
            first = select(table.c.id).where(mine, table.c.state == state).order_by(table.c.id).limit(_FEW)
            yield GoingOn(state=state, count=counts[state], ids=tuple(connection.scalars(first)))
