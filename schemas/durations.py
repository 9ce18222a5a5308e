"""Lengths of time as people write them: `90s`, `5m`, `1h30m`, `2d`, or a number of seconds."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

#: A hundred years. Added to a time of today, more may leave the calendar.
LONGEST = timedelta(days=36_525)

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")


def parse_duration(text: object) -> timedelta:
    """Read a length of time.

    Raises:
        ValueError: with the accepted forms, if the text is not one of them, is negative, or is too long to count.
    """
    try:
        span = _parse(text)
    except OverflowError:
        raise ValueError(f"{text!r} is too long to be counted") from None
    if span is None or span < timedelta(0):
        raise ValueError(f"{text!r} is not a length of time: write 90s, 5m, 1h30m, 2d or a number of seconds")
    if span > LONGEST:
        raise ValueError(f"{text!r} is longer than the {LONGEST.days}d that can be waited for")
    return span


def _parse(text: object) -> timedelta | None:
    if isinstance(text, timedelta):
        return text
    if isinstance(text, int | float) and not isinstance(text, bool):
        return None if text != text else timedelta(seconds=text)
    word = str(text).strip().replace(" ", "")
    if word.replace(".", "", 1).isdecimal():
        return timedelta(seconds=float(word))
    parts = _PART.findall(word)
    if not parts or "".join(number + unit for number, unit in parts) != word:
        return None
    return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))


def format_duration(span: timedelta) -> str:
    """The shortest of the forms that `parse_duration` reads."""
    seconds = span.total_seconds()
    if seconds != int(seconds):
        return f"{seconds:.6f}".rstrip("0") + "s"
    rest = int(seconds)
    words = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            words.append(f"{count}{unit}")
    return "".join(words) or "0s"


def _serialize(span: timedelta) -> Any:
    return format_duration(span)


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(_serialize, return_type=str),
    WithJsonSchema({"type": ["string", "number"], "examples": ["90s", "5m", "1h30m", 30]}),
]
