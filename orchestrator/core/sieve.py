"""The intake filter: messages that nobody here wants are put away as they come, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.core.clauses import scope_test
from schemas.event import CatalogEvent


class Sieve:
    """What is put away at the intake. The globs are as in a rule's `scope`: `*`, `?`, `[...]`, and `!` before one."""

    def __init__(self, *, accounts: Sequence[str] = (), scopes: Sequence[str] = (), events: Sequence[str] = ()) -> None:
        self._accounts, self._scopes, self._events = _test(accounts), _test(scopes), _test(events)

    def catches(self, event: CatalogEvent) -> str | None:
        """Why this event is put away; None if it is not."""
        account = event.payload.get("account")
        if self._accounts is not None and isinstance(account, str) and self._accounts(account):
            return f"intake filter: account {account[:100]}"
        if self._scopes is not None and event.did is not None and self._scopes(event.did.scope):
            return f"intake filter: scope {event.did.scope[:100]}"
        if self._events is not None and self._events(event.event_type):
            return f"intake filter: event {event.event_type[:100]}"
        return None


def _test(globs: Sequence[str]) -> Callable[[str], bool] | None:
    return scope_test(globs) if globs else None
