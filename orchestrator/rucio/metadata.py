"""Metadata that Rucio keeps as whole numbers: the same everywhere, also where a database would take a text for one."""

from __future__ import annotations

import re
from typing import Any, Final

from orchestrator.rucio.port import CatalogError
from schemas.did import Did

#: Columns of a Rucio server; every other key that people set is a text, or of any kind.
_WHOLE: Final = frozenset({"run_number", "task_id", "panda_id", "lumiblocknr"})

#: What the server's column holds.
_LARGEST: Final = 2**31 - 1


_DIGITS: Final = re.compile(r"[0-9]{1,20}")


def as_kept(did: Did, key: str, value: Any) -> Any:
    """The value as a catalog keeps it: `00021615` is the run 21615. None takes a key away.

    Raises CatalogError: it must be a whole number, and is none.
    """
    if key not in _WHOLE or value is None:
        return value
    number = int(value) if isinstance(value, str) and _DIGITS.fullmatch(value) else value
    if isinstance(number, bool) or not isinstance(number, int) or abs(number) > _LARGEST:
        raise CatalogError(f"{did}: {key} is a whole number up to {_LARGEST:,}, and {value!r:.60} is none")
    return number
