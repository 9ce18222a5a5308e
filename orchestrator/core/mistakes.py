"""What pydantic finds wrong with a document, in words for whoever wrote it: what was found, and what is allowed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError

#: The field, from the top of the document, and what is wrong with it in words.
Mistake = tuple[tuple[int | str, ...], str]

#: What was expected, by the type of pydantic's finding.
_EXPECTED: Final[Mapping[str, str]] = {
    "string_type": "a text",
    "dict_type": "fields with values (name: value)",
    "model_type": "fields with values (name: value)",
    "tuple_type": "a list: [one, two]",
    "list_type": "a list: [one, two]",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "greater_than_equal": "{ge} or more",
    "less_than_equal": "{le} or less",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "string_pattern_mismatch": "a text that matches {pattern}",
}

_WORDS: Final[Mapping[str, str]] = {
    "extra_forbidden": "there is no such field",
    "missing": "it is missing",
    "too_short": "expected at least {min_length}",
    "string_too_short": "expected a text that is not empty",
}

#: What is shown of a value that is wrong.
_SHOWN: Final = 60


def mistakes_in(error: ValidationError, model: type[BaseModel], document: Any) -> Iterator[Mistake]:
    """Every mistake once, at a place that the document spells out; `document` is what the model was to read.

    Where several kinds of value would do, each of them is named.
    """
    wanted: dict[tuple[int | str, ...], list[str]] = {}
    found: dict[tuple[int | str, ...], Any] = {}
    others: list[Mistake] = []
    for problem in error.errors(include_url=False):
        if _is_long_enough(problem):
            continue
        kind, place = problem["type"], spelled_out(document, problem["loc"])
        if kind in _EXPECTED:
            if _wanted(problem) not in wanted.setdefault(place, []):
                wanted[place].append(_wanted(problem))
            found[place] = problem["input"]
        else:
            if kind == "missing":
                place = (*spelled_out(document, problem["loc"][:-1]), problem["loc"][-1])
            others.append((place, _said_at(place, problem, model)))
    places = [*wanted, *(place for place, _ in others)]
    for place, words in wanted.items():
        # a value that is of one kind but for a detail deeper down: what other kinds would have wanted is of no use
        if not any(len(other) > len(place) and other[: len(place)] == place for other in places):
            yield place, _expected(words, found[place])
    yield from others


def _is_long_enough(problem: Mapping[str, Any]) -> bool:
    """pydantic counts only what is right in a list: of the rest it says each mistake, and that it is too short."""
    return problem["type"] == "too_short" and bool(len(problem["input"]) >= problem["ctx"]["min_length"])


def spelled_out(document: Any, place: Sequence[int | str]) -> tuple[int | str, ...]:
    """Those parts of a place that the document has: a model may have wrapped a value, or tried several kinds."""
    node: Any = document
    parts: list[int | str] = []
    for part in place:
        if isinstance(node, Mapping):
            there = part in node
        else:
            there = isinstance(node, list | tuple) and isinstance(part, int) and part < len(node)
        if there:
            parts.append(part)
            node = node[part]
    return tuple(parts)


def said(problem: Mapping[str, Any]) -> str:
    """One of pydantic's findings by itself, in words."""
    kind = problem["type"]
    if kind in _EXPECTED:
        return _expected([_wanted(problem)], problem["input"])
    if kind in _WORDS:
        return _WORDS[kind].format(**problem.get("ctx", {}))
    return str(problem["msg"]).removeprefix("Value error, ")


def _said_at(place: Sequence[int | str], problem: Mapping[str, Any], model: type[BaseModel]) -> str:
    """The same, by what the model has at that place."""
    if problem["type"] == "extra_forbidden":
        return _no_such_field(str(place[-1]), _fields_at(model, place[:-1]))
    return said(problem)


def _no_such_field(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, 1)
    if near:
        return f"there is no such field; did you mean {near[0]}?"
    return "there is no such field" + (f"; there are: {', '.join(known)}" if known else "")


def _fields_at(model: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    """The fields that may stand at a place, as they are written."""
    models = [model]
    for part in place:
        kinds = [fields[part] for fields in map(_fields, models) if part in fields]
        # numbers, keys and the names of kinds lead to no other model
        models = list(_models_within(kinds[0])) if kinds else models
    return sorted(name for each in models for name in _fields(each))


def _fields(model: type[BaseModel]) -> dict[Any, Any]:
    """The kinds of a model's fields, by their names as they are written."""
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _models_within(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_within(part)


def _wanted(problem: Mapping[str, Any]) -> str:
    return _EXPECTED[problem["type"]].format(**problem.get("ctx", {}))


def _expected(words: Sequence[str], found: Any) -> str:
    one_of = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
    return f"expected {one_of}; found {_shown(found)}"


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except ValueError:
        text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
