"""The one place that asks the operating system what time it is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

#: Gives the present moment, UTC and timezone-aware. Passed in wherever time matters.
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The present moment, UTC."""
    return datetime.now(UTC)
