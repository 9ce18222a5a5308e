"""Fill values into an operator's words: `rn{run}-CALOR`, `{run:08d}`.

A template reaches no attribute and no index of a value, and what is filled in is never read as a template again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from string import Formatter
from typing import Any

_FORMATTER = Formatter()

_NUMBER = re.compile(r"\d+")

#: The widest that a value may be made: names are shorter, and memory is not endless.
_WIDEST = 1000


class TemplateError(ValueError):
    """The template cannot be filled in. The text shows the template and what was wrong."""


def fields(template: str) -> frozenset[str]:
    """The names that a template asks for.

    Raises:
        TemplateError: for a lone brace, an empty name, or a name that is not a plain word.
    """
    return frozenset(name for _, name, _ in _parts(template) if name is not None)


def fields_within(value: Any) -> frozenset[str]:
    """The names that every template within a nested value asks for."""
    return frozenset().union(*(fields(text) for text in texts_within(value)))


def fill(template: str, values: Mapping[str, str]) -> str:
    """Fill the values into a template.

    Raises:
        TemplateError: if a value is missing, or a format such as `08d` asks for a number and there is none.
    """
    return "".join(
        [
            literal if name is None else literal + _format(template, name, spec, values)
            for literal, name, spec in _parts(template)
        ]
    )


def fill_within(value: Any, values: Mapping[str, str]) -> Any:
    """Fill the values into every text of a nested value; keys, numbers and booleans stay as they are."""
    if isinstance(value, str):
        return fill(value, values)
    if isinstance(value, Mapping):
        return {key: fill_within(item, values) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [fill_within(item, values) for item in value]
    return value


# there are few templates, and each is filled in for every message that matches
@lru_cache(maxsize=4096)
def _parts(template: str) -> Sequence[tuple[str, str | None, str]]:
    parts: list[tuple[str, str | None, str]] = []
    try:
        for literal, name, spec, conversion in _FORMATTER.parse(template):
            if name is not None and (not name.isidentifier() or conversion):
                raise TemplateError(f"{template!r}: {{{name}}} is not a plain name; write {{{{ for a real brace")
            if spec and "{" in spec:
                raise TemplateError(f"{template!r}: a format may not hold another template")
            if any(int(width) > _WIDEST for width in _NUMBER.findall(spec or "")):
                raise TemplateError(f"{template!r}: a format may ask for {_WIDEST} characters at most")
            parts.append((literal, name, spec or ""))
    except TemplateError:
        raise
    except ValueError as error:
        raise TemplateError(f"{template!r}: {str(error).lower()}; write {{{{ and }}}} for real braces") from None
    return parts


def _format(template: str, name: str, spec: str, values: Mapping[str, str]) -> str:
    if name not in values:
        raise TemplateError(f"{template!r}: there is no value {name!r}; there are: {', '.join(sorted(values))}")
    value: str | int = values[name]
    if not spec:
        return str(value)
    if spec.endswith("d"):
        try:
            value = int(value)
        except ValueError:
            raise TemplateError(f"{template!r}: {name} is {value!r}, not the number that :{spec} needs") from None
    try:
        return format(value, spec)
    except ValueError as error:
        raise TemplateError(f"{template!r}: {name} cannot be written as :{spec} ({error})") from None


def texts_within(value: Any) -> Iterator[str]:
    """Every text of a nested value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from texts_within(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts_within(item)
