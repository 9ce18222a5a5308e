"""Reality is looked at before anything is started on the strength of a message."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from orchestrator.core.actor import Done, GiveUp, NotYet, Order, Outcome, Retry, Wait
from orchestrator.core.settlement import SAME_CLOSING
from orchestrator.reconcile.checker import Checker, first_of
from orchestrator.rucio.port import Catalog, CatalogError, CatalogUnavailable, DatasetState, DidNotFound
from schemas.checks import Checks
from schemas.did import Did

#: Findings that are spelled out in a reason.
_TOLD: Final = 5

#: While the catalog is away it is asked again so often.
AWAY: Final = timedelta(seconds=30)


class Gate:
    """Says what is not as it should be, in a line."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._checker = Checker(catalog)

    def confirm(self, order: Order) -> Outcome | None:
        """None if the dataset's closing is still the last thing that happened to it, or it is about no closing."""
        try:
            overtaken = self._overtaken(order)
        except CatalogUnavailable as error:
            return NotYet(f"the catalog cannot be asked: {error}", AWAY)
        except CatalogError as error:
            return NotYet(f"the catalog refuses the question: {error}", AWAY)
        return None if overtaken is None else GiveUp(overtaken)

    def check(self, did: Did, checks: Checks) -> Outcome:
        """Done if all is as it should be; Retry with what is not; Wait while the catalog is away."""
        try:
            wrong = self.wrong(did, checks)
        except CatalogError as error:
            return not_asked(error)
        return Done(f"{did} is as it should be") if wrong is None else Retry(wrong)

    def wrong(self, did: Did, checks: Checks) -> str | None:
        """What does not hold, in a line; None if all does. Raises CatalogError."""
        found, count = first_of(self._checker.any(did, checks), _TOLD)
        if not count:
            return None
        more = f"; and {count - len(found):,} more" if count > len(found) else ""
        return "; ".join(f"{each.file or each.did}: {each.text}" for each in found) + more

    def _overtaken(self, order: Order) -> str | None:
        message = order.message
        if message.event_type != "close" or message.did is None or message.created_at is None:
            return None
        try:
            entry = self._catalog.dataset(message.did)
        except DidNotFound:
            return f"{message.did} is not in the catalog any more"
        if entry.state is DatasetState.OPEN:
            return f"{message.did} is open again: its next closing starts this anew"
        if entry.closed_at is not None and entry.closed_at - message.created_at > SAME_CLOSING:
            return f"{message.did} was closed again at {_shown(entry.closed_at)}: that closing counts"
        return None


def not_asked(error: CatalogError) -> Outcome:
    """What follows for an actor if the catalog gave no answer."""
    if isinstance(error, CatalogUnavailable):
        return Wait(f"the catalog cannot be asked: {error}", AWAY)
    return Retry(f"the catalog refuses the question: {error}")


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
