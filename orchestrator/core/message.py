"""Read a frame: either it is a catalog event, or there is a reason why it cannot be one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final

from pydantic_core import from_json

from schemas.did import Did
from schemas.event import LIFE_EVENTS, CatalogEvent, event_name

#: The largest body that is read. Real ones are below 5 kB; Rucio itself splits off payloads above 4,000 characters.
BODY_LIMIT: Final = 1024 * 1024

#: The deepest nesting that is read. Real bodies have two levels; what is walked later must not exhaust a stack.
_DEPTH_LIMIT: Final = 100

#: A name of more bytes than this cannot come from Rucio (250 characters). PostgreSQL's indexes refuse rows of 2,704
#: bytes, and scope and name share one.
_WORD_LIMIT: Final = 1000


@dataclass(frozen=True, slots=True)
class Rejection:
    """A body that is no catalog event."""

    reason: str


def read_body(body: bytes) -> CatalogEvent | Rejection:
    """Read the body of a frame.

    The event's type is taken from the body; headers are kept but never needed, since brokers and tools drop them.
    """
    if len(body) > BODY_LIMIT:
        return Rejection(f"the body has {len(body):,} bytes, more than the {BODY_LIMIT:,} that are read")
    try:
        document = from_json(body)
    except ValueError:
        return _read_slowly(body)
    return _read_parsed(document, body)


def _read_slowly(body: bytes) -> CatalogEvent | Rejection:
    """What the fast parser refuses: the standard one has the last word, and says more clearly what is wrong."""
    try:
        document = json.loads(body.decode())
    except UnicodeDecodeError as error:
        return Rejection(f"the body is not UTF-8: byte {error.start} cannot be decoded")
    except (ValueError, RecursionError) as error:
        return Rejection(f"the body is not JSON: {error}"[:300])
    return _read_parsed(document, body)


def _read_parsed(document: object, body: bytes) -> CatalogEvent | Rejection:
    if body.count(b"{") + body.count(b"[") > _DEPTH_LIMIT and _deeper_than(document, _DEPTH_LIMIT):
        return Rejection(f"the body is nested deeper than the {_DEPTH_LIMIT} levels that are read")
    # Only an escape can spell what no database keeps as text. Few bodies have any, so few are looked through.
    return _read_document(document, escaped=b"\\u" in body)


def _deeper_than(value: object, limit: int) -> bool:
    """Whether lists and objects are nested in more than `limit` levels. Level by level, so that no stack is needed."""
    level = [value]
    for _ in range(limit + 1):
        inner = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        if not inner:
            return False
        level = [item for items in inner for item in items]
    return True


def _read_document(document: object, *, escaped: bool) -> CatalogEvent | Rejection:
    if not isinstance(document, dict):
        return Rejection(f"the body is a JSON {_kind(document)}, not an object")
    event_type, payload, created = document.get("event_type"), document.get("payload"), document.get("created_at")
    if not isinstance(event_type, str) or not event_type.strip() or _size(event_type) > _WORD_LIMIT:
        return Rejection(f"event_type is {_show(event_type)}, not a word")
    if not isinstance(payload, dict):
        return Rejection(f"payload is a JSON {_kind(payload)}, not an object")
    created_at = _moment(created)
    if created_at is None:
        return Rejection(f"created_at is {_show(created)}, not a time such as '2026-11-22 01:13:40.292656'")
    name = event_name(event_type)
    did = _did(payload)
    if isinstance(did, Rejection):
        return did
    if did is None and name in LIFE_EVENTS:
        return Rejection(f"a {name} event needs scope and name in its payload")
    if escaped and not all(storable(word) for word in (event_type, *(did or ()), payload.get("account"))):
        return Rejection("a word in the body holds a NUL or half a character, which no database keeps as text")
    return CatalogEvent(event_type=name, did=did, created_at=created_at, payload=payload)


def _did(payload: Mapping[str, Any]) -> Did | Rejection | None:
    scope, name = payload.get("scope"), payload.get("name")
    if scope is None and name is None:
        return None
    for key, value in (("scope", scope), ("name", name)):
        if not isinstance(value, str) or not value or _size(value) > _WORD_LIMIT:
            return Rejection(f"payload.{key} is {_show(value)}, not a {key}")
    return Did(scope, name)  # type: ignore[arg-type]  # both were just found to be words


def _size(word: str) -> int:
    return len(word) if word.isascii() else len(word.encode("utf-8", "surrogatepass"))


def _moment(value: object) -> datetime | None:
    """hermes writes naive UTC; a time with a zone is taken at its word."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (OverflowError, ValueError):
        return None


def storable(word: object) -> bool:
    """Whether every database can keep it as text.

    PostgreSQL refuses NUL, and JSON can spell lone surrogates, which are no UTF-8.
    """
    if not isinstance(word, str) or word.isascii():
        return not isinstance(word, str) or "\0" not in word
    return "\0" not in word and not any("\ud800" <= letter <= "\udfff" for letter in word)


def _kind(value: object) -> str:
    return {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}.get(
        type(value), "number"
    )


def _show(value: object) -> str:
    text = repr(value)
    return "missing" if value is None else text if len(text) <= 60 else text[:57] + "..."


def identity(event: CatalogEvent) -> str:
    """The same for the same event, however often and by whatever way it arrives; 32 hexadecimal digits.

    A dataset can close only once at one microsecond, so its life's events are known by type, DID and time. Other
    events (two files detached in one transaction, say) may share all three: there the payload counts too.
    The message-id never counts: hermes sends a batch again with new ones.
    """
    scope, name = event.did or ("", "")
    text = f"{event.event_type}\0{scope}\0{name}\0{event.created_at.isoformat()}"
    if event.event_type not in LIFE_EVENTS:
        text += "\0" + json.dumps(_canonical(event.payload), sort_keys=True)
    return blake2b(text.encode(), digest_size=16).hexdigest()


def identity_of_rejected(body: bytes) -> str:
    """The same for the same unreadable body."""
    return blake2b(body, digest_size=16, person=b"quarantine").hexdigest()


def _canonical(value: Any) -> Any:
    """Numbers that are equal look equal: PostgreSQL's 57.0 is SQLite's 57."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return value


#: What a BIGINT holds.
_LARGEST: Final = 2**63 - 1


def count_of(value: object) -> int | None:
    """`bytes`, `length` and `events` arrive as int or float (57.0), and sometimes not at all."""
    # `type`, because a bool is an int too
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return int(value) if abs(value) <= _LARGEST else None
    return None
