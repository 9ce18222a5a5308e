"""Catalogs for tests: one in memory, and one that fails when it is told to."""

from tests.services.catalog.fake import FakeCatalog
from tests.services.catalog.faulty import Faulty, When

__all__ = ["FakeCatalog", "Faulty", "When"]
