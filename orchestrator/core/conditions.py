"""Conditions on a value: `">= 10"`, `10..20`, `RAW*`, `!test`, and lists of them.

A list holds when one of its plain items does and none of its `!` items does. With `!` items alone, anything else will
do. A value that is not there fulfils no condition, not even a negated one: nobody can say that it is not so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from fnmatch import translate
from operator import ge, gt, le, lt
from typing import Any, Final

_COMPARISON: Final = re.compile(r"(>=|<=|!=|>|<|=)\s*(.+)")
_NUMBER: Final = re.compile(r"([+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*([A-Za-z]*)")
_UNITS: Final = {
    "": 1,
    **{unit: 1000**power for power, unit in enumerate(("kB", "MB", "GB", "TB", "PB"), start=1)},
    **{unit: 1024**power for power, unit in enumerate(("KiB", "MiB", "GiB", "TiB", "PiB"), start=1)},
}

#: Whole numbers of so many digits are kept digit by digit; longer ones are no counts of anything.
_EXACT: Final = 30

# made once: a union written where it is asked for is made anew each time
_NUMBERS: Final = (int, float)
_SEVERAL: Final = (list, tuple)

Item = bool | int | float | str
Test = Callable[[Any], bool]


class ConditionError(ValueError):
    """A condition that cannot be read. The text says what was found and what is allowed."""


class Condition:
    """What a value must be."""

    def __init__(self, items: Sequence[Item]) -> None:
        """Raises ConditionError."""
        self.text = ", ".join(_shown(item) for item in items)
        self._wanted: list[Test] = []
        self._unwanted: list[Test] = []
        for item in items:
            if isinstance(item, str) and item.startswith("!") and not item.startswith("!="):
                self._unwanted.append(_test(item[1:].strip()))
            else:
                self._wanted.append(_test(item))

    def holds(self, value: Any) -> bool:
        """Whether the value fulfils the condition; None never does. Of several values, one must fit and none may be
        unwanted.
        """
        if value is None:
            return False
        values = value if isinstance(value, _SEVERAL) else (value,)
        for test in self._unwanted:
            for each in values:
                if test(each):
                    return False
        for test in self._wanted:
            for each in values:
                if test(each):
                    return True
        return not self._wanted


def _test(item: Item) -> Test:
    if isinstance(item, bool):
        return lambda value: _truth(value) is item
    if isinstance(item, int | float):
        return lambda value: _number(value) == item
    if found := _COMPARISON.fullmatch(item):
        return _comparison(found[1], found[2].strip())
    if ".." in item:
        return _range(item)
    return _glob(item)


def _comparison(sign: str, operand: str) -> Test:
    if sign in ("=", "!="):
        same = _equals(operand)
        return same if sign == "=" else lambda value: not same(value)
    read, wanted = _operand(operand)
    compare = {">": gt, ">=": ge, "<": lt, "<=": le}[sign]
    return lambda value: (found := read(value)) is not None and compare(found, wanted)


def _range(item: str) -> Test:
    low, _, high = (part.strip() for part in item.partition(".."))
    if not (low or high):
        raise ConditionError(f"{item!r} has neither a beginning nor an end: write 10..20, 10.. or ..20")
    tests = [_comparison(sign, part) for sign, part in ((">=", low), ("<=", high)) if part]
    if low and high:
        (read, first), (_, last) = _operand(low), _operand(high)
        if read is not _operand(high)[0]:
            raise ConditionError(f"{item!r} begins with a number and ends with a time, or the other way round")
        if first > last:
            raise ConditionError(f"{item!r} ends before it begins")
    return lambda value: all(test(value) for test in tests)


def _glob(item: str) -> Test:
    if not any(sign in item for sign in "*?["):
        return _equals(item)
    matches = re.compile(translate(item)).match
    return lambda value: matches(str(value)) is not None


def _equals(operand: str) -> Test:
    number = read_number(operand)
    moment = _moment(operand)

    def same(value: Any) -> bool:
        if str(value) == operand:
            return True
        if number is not None:
            return _number(value) == number
        return moment is not None and _moment(value) == moment

    return same


def _operand(text: str) -> tuple[Callable[[Any], Any], Any]:
    """How to read a value beside this operand, and the operand itself."""
    number = read_number(text)
    if number is not None:
        return _number, number
    moment = _moment(text)
    if moment is not None:
        return _moment, moment
    raise ConditionError(
        f"{text!r} can be compared with nothing: expected a number (10), a size (4 GB, 4 GiB) or a time (2026-11-22)"
    )


def read_number(text: str) -> float | int | None:
    """A number, perhaps with a unit of size; None if it is none."""
    found = _NUMBER.fullmatch(text)
    if found is None or found[2] not in _UNITS:
        return None
    if found[1].isdecimal() and len(found[1]) <= _EXACT:
        whole: int = int(found[1]) * _UNITS[found[2]]
        return whole
    value = float(found[1]) * _UNITS[found[2]]
    return int(value) if value.is_integer() else value


def _number(value: Any) -> float | int | None:
    if isinstance(value, _NUMBERS):
        return None if isinstance(value, bool) else value
    return read_number(value.strip()) if isinstance(value, str) else None


def _moment(value: Any) -> datetime | None:
    """A time without a zone is UTC, as Rucio's are."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:  # at the ends of the calendar
        return None


def _truth(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False, "1": True, "0": False}.get(str(value).lower())


def _shown(item: Item) -> str:
    return str(item).lower() if isinstance(item, bool) else str(item)
