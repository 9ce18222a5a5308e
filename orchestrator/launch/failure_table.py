"""The table of what errors mean: what comes with the product, and before it what the home says."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from orchestrator.core.documents import DocumentError
from orchestrator.core.failures import Table, read_entries
from orchestrator.settings import ConfigurationError
from schemas.failure import Entry

#: In the home; and beside this module, what comes with the product.
FILE: Final = "failures.yaml"


def read_table(home: Path) -> Table:
    """Raises ConfigurationError: the home's file does not fit, each mistake with its file and line."""
    theirs = home / FILE
    entries = _read(theirs) if theirs.exists() else ()
    return Table([*entries, *_read(Path(__file__).with_name(FILE))])


def _read(path: Path) -> tuple[Entry, ...]:
    try:
        return read_entries(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None
    except DocumentError as error:
        raise ConfigurationError(str(error)) from None
