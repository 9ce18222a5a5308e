"""What a comparison of the store with the catalog found."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict


class MissedClosing(BaseModel):
    """A dataset that was closed, and nobody told us."""

    model_config = ConfigDict(frozen=True)

    #: `scope:name`.
    did: str
    closed_at: datetime
    #: How long it was closed when it was found, in seconds.
    lag: float


class Reconciliation(BaseModel):
    """One comparison of the closings in the catalog with those that are stored."""

    model_config = ConfigDict(frozen=True)

    #: Counted from 1; None of one that was only tried.
    id: int | None = None
    #: The catalog's address.
    catalog: str
    #: Closings from this moment on.
    since: datetime
    #: Up to this one.
    until: datetime
    #: The next comparison begins there, with an overlap; None if this one left out something that it must look at.
    mark: datetime | None
    started_at: datetime
    ended_at: datetime
    #: Closings in the catalog.
    closings: int
    #: Those of them that were not stored; now they are.
    missing: int
    #: How long the one that was closed first of these had been closed, in seconds; None if none was missing.
    longest_lag: float | None
    who: str
