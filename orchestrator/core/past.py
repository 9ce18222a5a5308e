"""What history is read as: as much of a message as some rules ask for, and cheap to make a million times."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple

from orchestrator.core.clauses import MESSAGE_FIELDS, CompiledRule, Facts
from orchestrator.core.message import count_of
from schemas.did import Did
from schemas.event import CatalogEvent
from schemas.message import Message, MessageId, MessageState

#: The attributes of a message that a clause or a template may ask for.
PAST_FIELDS: Final = (
    "id",
    "event_type",
    "scope",
    "name",
    "created_at",
    "generation",
    *sorted(MESSAGE_FIELDS - {"created_at"}),
)

#: Of these, what every look at history needs.
_ALWAYS: Final = frozenset({"id", "event_type", "scope", "name", "created_at"})

#: Kept as they come from the database, and read when somebody asks.
_MOMENTS: Final = {"created_at": "created", "received_at": "received"}


class _Past:
    """A message of the past. What was not read of it cannot be asked for: that is an AttributeError, never None."""

    __slots__ = ()

    created: datetime | str | None
    received: datetime | str
    scope: str | None
    name: str | None

    @property
    def created_at(self) -> datetime | None:
        return datetime.fromisoformat(self.created) if isinstance(self.created, str) else self.created

    @property
    def received_at(self) -> datetime:
        return datetime.fromisoformat(self.received) if isinstance(self.received, str) else self.received

    @property
    def did(self) -> Did | None:
        return Did(self.scope, self.name) if self.scope is not None and self.name is not None else None


def past_maker(fields: Sequence[str]) -> Callable[[Sequence[Any]], Any]:
    """Makes a message of the past from the values of these fields; has their names of `schemas.message.Message`."""
    names = [_MOMENTS.get(field, field) for field in fields]
    row: Any = namedtuple("row", names)  # type: ignore[misc]  # its fields are data
    made = type("Past", (_Past, row), {"__slots__": ()})
    return partial(tuple.__new__, made)


class Later(Mapping[str, Any]):
    """A mapping that is read when somebody first asks: few of a million payloads are ever looked at."""

    __slots__ = ("_load", "_loaded")

    def __init__(self, load: Callable[[], Mapping[str, Any]]) -> None:
        self._load = load
        self._loaded: Mapping[str, Any] | None = None

    def _read(self) -> Mapping[str, Any]:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def __getitem__(self, key: str) -> Any:
        return self._read()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())


class Page(NamedTuple):
    """Some messages of the past: as rows, since most are looked at but once, and as facts when a rule asks."""

    #: Each begins with id, event, scope, name, and the moment of the event as the database gave it.
    rows: Sequence[tuple[Any, ...]]
    #: What is known of one of the rows.
    facts: Callable[[tuple[Any, ...]], Facts]


class Interest(NamedTuple):
    """Which part of history some rules could want at all; they may be given more, never less."""

    #: For each rule, or some of them together: events, and the bounds of names; no bounds for any name.
    parts: Sequence[tuple[Sequence[str], tuple[str, str] | None]]
    #: What they ask of a message.
    fields: Sequence[str] = PAST_FIELDS
    #: Whether the payloads of the events are asked for.
    payloads: bool = True


#: With more rules than this, a database takes longer to tell which messages they could want than to give all.
_MOST_PARTS: Final = 40


def interest_of(rules: Sequence[CompiledRule], templates: Set[str]) -> Interest:
    """What these rules could want. `templates` are fields that are asked for beside those of their clauses."""
    parts = {(rule.version.rule.on, rule.pattern.bounds()) for rule in rules if rule.version.rule.enabled}
    if len(parts) > _MOST_PARTS:
        parts = {(tuple(sorted({event for events, _ in parts for event in events})), None)}
    asked = {*_ALWAYS, *templates, *(key for rule in rules for key in rule.version.rule.where)}
    return Interest(
        sorted(parts, key=repr),
        [field for field in PAST_FIELDS if field in asked],
        any(rule.needs_payload for rule in rules),
    )


def made_up(event: CatalogEvent, *, now: datetime, id_: int = 0) -> Message:
    """A message as the intake would make it of an event, though it is stored nowhere."""
    account = event.payload.get("account")
    return Message(
        id=MessageId(id_),
        state=MessageState.PENDING,
        event_type=event.event_type,
        scope=event.did.scope if event.did else None,
        name=event.did.name if event.did else None,
        created_at=event.created_at,
        received_at=now,
        origin="test",
        reason=None,
        duplicates=0,
        incarnation=None,
        generation=None,
        account=account if isinstance(account, str) else None,
        bytes=count_of(event.payload.get("bytes")),
        length=count_of(event.payload.get("length")),
        events=count_of(event.payload.get("events")),
        judged_revision=-1,
    )
