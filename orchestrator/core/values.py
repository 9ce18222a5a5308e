"""The values that a rule's templates may use: what is known of the message, what was captured, what the rule adds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from string import Formatter
from typing import Final

from orchestrator.core.clauses import METADATA_PREFIX, Facts, run_of
from orchestrator.core.message import storable
from orchestrator.core.patterns import Pattern
from orchestrator.core.runs import overlapping
from orchestrator.core.templates import TemplateError, fields, fill
from schemas.message import Message
from schemas.rule import Rule, RunValue

#: The store keeps no longer keys.
_LONGEST_KEY: Final = 400

#: What is known of a message, by its name in a template. What is not known is an empty text.
_OF_MESSAGE: Final[Mapping[str, Callable[[Message], str]]] = {
    "event": lambda message: message.event_type or "",
    "scope": lambda message: message.scope or "",
    "name": lambda message: message.name or "",
    "did": lambda message: str(message.did) if message.did else "",
    "created_at": lambda message: at.isoformat() if (at := message.created_at) else "",
    "message_id": lambda message: str(message.id),
    "generation": lambda message: str(message.generation or ""),
    "account": lambda message: message.account or "",
    "bytes": lambda message: _number(message.bytes),
    "length": lambda message: _number(message.length),
    "events": lambda message: _number(message.events),
}

#: The names that every template of a rule may use, beside the groups of its pattern and its own values.
MESSAGE_VARIABLES: Final = frozenset(_OF_MESSAGE)

_FORMATTER: Final = Formatter()


def variables(
    message: Message, captured: Mapping[str, str], wanted: Iterable[str] = MESSAGE_VARIABLES
) -> dict[str, str]:
    """What is known of the message, as far as it is wanted, and the captured groups over it."""
    values = {name: _OF_MESSAGE[name](message) for name in wanted}
    values.update(captured)
    return values


def values_of(
    rule: Rule, facts: Facts, captured: Mapping[str, str], wanted: Iterable[str] = MESSAGE_VARIABLES
) -> dict[str, str]:
    """All values for the templates of a rule that matched; its own ones in the order in which they are written.

    `wanted` says which variables of the message any of them asks for, if not all are to be made.

    Raises:
        TemplateError: a value cannot be filled in, or no range of it holds this run.
    """
    values = variables(facts.message, captured, wanted)
    run = run_of(facts, captured)
    if isinstance(run, int):
        values.setdefault("run", str(run))
    for key, item in (facts.metadata or {}).items():
        values.setdefault(METADATA_PREFIX + key, "" if item is None else str(item))
    for name, value in rule.values.items():
        if isinstance(value, str):
            values[name] = fill(value, values)
        else:
            values[name] = fill(_at_run(name, value, run if isinstance(run, int) else None), values)
    return values


def usable_key(template: str, key: str) -> str:
    """The unique key that a template gave, if it is one. Raises TemplateError, also for what no store can keep."""
    if not key.strip():
        raise TemplateError(f"{template!r}: the unique key is empty for this message")
    if len(key) > _LONGEST_KEY:
        raise TemplateError(f"{template!r}: the unique key has {len(key)} characters; {_LONGEST_KEY} are allowed")
    if not storable(key):
        raise TemplateError(f"{template!r}: the unique key holds a NUL or half a character")
    return key


def _at_run(name: str, ranges: Sequence[RunValue], run: int | None) -> str:
    if run is None:
        raise TemplateError(f"values.{name} depends on the run, and the run is not known: name a group (?P<run>...)")
    for each in ranges:
        if each.first <= run and (each.last is None or run <= each.last):
            return each.value
    raise TemplateError(f"values.{name} has no value for run {run}")


def values_always_fill(rule: Rule, pattern: Pattern) -> bool:
    """Whether the rule's own values can be filled in, whatever it matches: no format, no range of runs."""
    known = MESSAGE_VARIABLES | set(pattern.groups)
    for name, value in rule.values.items():
        if not isinstance(value, str) or not always_fills(value, known):
            return False
        known |= {name}
    return True


def always_fills(template: str, known: Set[str]) -> bool:
    """Whether all names are known, and none has a format."""
    return all(name is None or (name in known and not spec) for _, name, spec, _ in _FORMATTER.parse(template))


def mistakes_in_values(rule: Rule, known: frozenset[str]) -> Iterator[tuple[tuple[int | str, ...], str]]:
    """What is wrong with a rule's own values, which may use the `known` names: the field, and the mistake in words."""
    for name, value in rule.values.items():
        place = ("values", name)
        if not name.isidentifier():
            yield place, f"{name!r} cannot be used in a template: letters, digits and _ alone"
        templates = {place: value} if isinstance(value, str) else _templates(place, value)
        for at, template in templates.items():
            try:
                unknown = unknown_in(fields(template), known)
            except TemplateError as error:
                yield at, str(error)
                continue
            if unknown:
                yield at, unknown_names(unknown, known)
        if not isinstance(value, str):
            both = overlapping([(each.first, each.last) for each in value])
            if both is not None:
                one, other = (_written(value[position]) for position in both)
                yield (*place, both[1]), f"the runs {one} and {other} overlap: each run may have one value"
        known |= {name}


def known_names(pattern: Pattern) -> frozenset[str]:
    """The names that a template may use before the rule's own values."""
    return MESSAGE_VARIABLES | {"run"} | set(pattern.groups)


def unknown_in(names: Iterable[str], known: frozenset[str]) -> Sequence[str]:
    """Those of the names that no message can give."""
    return sorted(name for name in names if name not in known and not name.startswith(METADATA_PREFIX))


def unknown_names(unknown: Sequence[str], known: frozenset[str]) -> str:
    """In words, that a template asks for names that there are not."""
    names = ", ".join(f"{{{name}}}" for name in unknown)
    return f"{names} is neither a group of the pattern nor one of: {', '.join(sorted(known))}"


def _templates(place: tuple[str, str], ranges: Sequence[RunValue]) -> Mapping[tuple[int | str, ...], str]:
    return {(*place, position, "value"): each.value for position, each in enumerate(ranges)}


def _written(each: RunValue) -> str:
    return f"{each.first}..{'' if each.last is None else each.last}"


def _number(value: int | None) -> str:
    return "" if value is None else str(value)
