"""What the tests of catalogs share: sums, and which catalogs a test is for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from orchestrator.rucio.port import FileEntry
from tests.contract.catalogs import AUDIBLE, STRICT

MD5 = "0123456789abcdef0123456789abcdef"
GUID = "5f0c1e2a-9d3b-4c4d-8e5f-60718293a4b5"

#: For what only some catalogs have.
audible = pytest.mark.parametrize("desk", AUDIBLE, indirect=True)
strict = pytest.mark.parametrize("desk", STRICT, indirect=True)


def known(files: Iterable[FileEntry]) -> list[FileEntry]:
    """Files without where they lie: not every catalog says that."""
    return [replace(file, pfn="") for file in files]
