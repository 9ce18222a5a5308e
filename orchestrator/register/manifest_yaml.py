"""A manifest in YAML, read entry by entry: whole documents of 50,000 entries would not fit anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceStartEvent,
)

from orchestrator.register.manifests import REST, NotAnEntry, Row

#: It looks ahead.
_REST: Final = "; the entry before it may be missing, and nothing after it was read"

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})


def read_yaml(lines: Iterable[str]) -> Iterator[Row]:
    """The entries of a list. Every value is a text, as it is written: a sum may look like a number."""
    stream = _Stream(lines)
    events = YAML(typ="safe", pure=True).parse(stream)
    try:
        for event in events:
            if isinstance(event, SequenceStartEvent):
                yield from _entries(events)
            elif isinstance(event, MappingStartEvent | ScalarEvent | AliasEvent) and not _is_nothing(event):
                yield event.start_mark.line + 1, NotAnEntry(f"expected a list: - pfn: ...{REST}")
                return
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else stream.read_lines
        yield line, NotAnEntry(f"it is not YAML: {error.problem}{_REST}")
    except (YAMLError, ValueError, RecursionError) as error:
        yield stream.read_lines, NotAnEntry(f"it is not YAML: {str(error).splitlines()[0]}{_REST}")


class _Stream:
    """Lines, as the parser wants to read them."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self.read_lines = 0

    def read(self, size: int | None = None) -> str:
        self.read_lines += 1
        return next(self._lines, "")


def _entries(events: Iterator[Any]) -> Iterator[Row]:
    for event in events:
        if isinstance(event, CollectionEndEvent):
            return
        line = event.start_mark.line + 1
        if isinstance(event, MappingStartEvent):
            yield line, _fields(events)
        elif isinstance(event, ScalarEvent):
            yield line, NotAnEntry("it is empty") if _is_nothing(event) else event.value
        else:
            _pass_over(event, events)
            yield line, NotAnEntry("expected the fields of a file, or its PFN")


def _fields(events: Iterator[Any]) -> dict[str, str | None] | NotAnEntry:
    """Read up to the end of the entry, whatever is in it."""
    fields: dict[str, str | None] = {}
    mistake = None
    for key in events:
        if isinstance(key, CollectionEndEvent):
            break
        _pass_over(key, events)
        value = next(events)
        _pass_over(value, events)
        if not (isinstance(key, ScalarEvent) and isinstance(value, ScalarEvent)):
            mistake = f"{getattr(key, 'value', 'a field')}: expected a single value"
        elif key.value in fields:
            mistake = f"{key.value}: it stands there twice"
        else:
            fields[key.value] = None if _is_nothing(value) else value.value
    return fields if mistake is None else NotAnEntry(mistake)


def _pass_over(event: Any, events: Iterator[Any]) -> None:
    """Read a list or an object to its end."""
    depth = int(isinstance(event, CollectionStartEvent))
    while depth:
        event = next(events)
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)


def _is_nothing(event: Any) -> bool:
    # implicit[0]: written without quotes
    return isinstance(event, ScalarEvent) and event.value in _NULLS and bool(event.implicit[0])
