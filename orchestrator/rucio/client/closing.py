"""Datasets that were closed in some span of time, however many there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Final

from orchestrator.clock import Clock
from orchestrator.rucio.client.ahead import asked_ahead, pool_of
from orchestrator.rucio.client.calls import Calls
from orchestrator.rucio.client.reading import Reading
from orchestrator.rucio.client.rows import chunks, dataset_entry, readable
from orchestrator.rucio.client.session import Client
from orchestrator.rucio.port import DatasetEntry, DatasetState
from schemas.did import Did

#: Names that are held at once; where more were closed, a shorter span is asked about.
_MOST: Final = 20_000
_SHORTEST: Final = timedelta(seconds=1)
#: Datasets whose metadata is asked for with one request.
_BATCH: Final = 500


class Closing:
    """Lists what was closed. The server has no pages, no order and no limit, so time is cut into spans."""

    def __init__(self, calls: Calls, reading: Reading, clock: Clock, most: int = _MOST) -> None:
        self._most = most
        self._calls = calls
        self._reading = reading
        self._clock = clock

    def since(self, moment: datetime, scope: str) -> Iterator[DatasetEntry]:
        """One that is closed anew while this goes on may come twice."""
        with pool_of("closed-since") as pool:
            for each in self._reading.scopes_to_ask(scope):
                for names in self._spans(each, moment.astimezone(UTC)):
                    batches = chunks((Did(each, name) for name in names), _BATCH)
                    yield from asked_ahead(pool, self._closed, batches)

    def _spans(self, scope: str, since: datetime) -> Iterator[Sequence[str]]:
        """The names in the scope, of one span after another; the last span has no end."""
        now = self._clock().astimezone(UTC)
        width = max(now - since, _SHORTEST)
        while True:
            until = since + width if since + width < now else None
            names = self._names(scope, since, until, None if width <= _SHORTEST else self._most)
            if names is None:
                width = max(min(width, now - since) / 4, _SHORTEST)
                continue
            yield names
            if until is None:
                return
            since = until
            if len(names) < self._most // 4:
                width = max(min(width * 2, now - since), _SHORTEST)

    def _names(self, scope: str, since: datetime, until: datetime | None, most: int | None) -> Sequence[str] | None:
        """None if there are more than that."""
        span = {"closed_at.gte": _text(since), **({"closed_at.lt": _text(until)} if until else {})}
        return self._calls.ask(f"closed datasets of {scope}", partial(_list, scope=scope, span=span, most=most))

    def _closed(self, dids: Sequence[Did]) -> list[DatasetEntry]:
        """Those that are closed now: one that was opened again keeps the time of its last closing."""
        rows = self._reading.rows(dids).values()
        entries = readable(lambda: [dataset_entry(row) for row in rows])
        return [entry for entry in entries if entry.state is DatasetState.CLOSED]


def _list(client: Client, scope: str, span: dict[str, str], most: int | None) -> Sequence[str] | None:
    # the filter for open ones is applied to another table than that for times, and the two cannot be put together
    rows = client.list_dids(scope, [span], did_type="dataset")
    names = list(islice(rows, most))
    if most is None or len(names) < most or next(iter(rows), None) is None:
        return names
    client.close()  # what is left of the answer is not read
    return None


def _text(moment: datetime) -> str:
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
