"""What can go wrong in the store, in our words."""

from __future__ import annotations


class StoreError(Exception):
    """The store cannot do it. The text says what was asked, what stood in the way, and what to do next."""


class StoreUnavailable(StoreError):
    """The database is locked, down, full or out of reach. Nothing was changed; trying again later is safe."""


class StoreOutdated(StoreError):
    """The database's schema is older or newer than this program."""


class NotFound(StoreError):
    """There is no such row."""


class NotAllowed(StoreError):
    """The row's state does not allow it, or somebody else was first."""


class Overtaken(NotAllowed):
    """Things are not any more as they were looked at, or somebody else works on it."""


class Stopped(NotAllowed):
    """A person, or a circuit breaker, has stopped it."""
