"""What an edited rule would have done with a long history: how long `rules preview` takes, and how much memory.

Each look is a process of its own, so that the peak is that of one look. It is what Linux calls VmHWM.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from orchestrator.clock import utc_now
from orchestrator.core.asking import AFTER
from orchestrator.core.preview import Preview, edited
from orchestrator.store.engine import Database, insert_many
from orchestrator.store.store import Store
from orchestrator.store.tables import messages
from schemas.message import MessageState
from schemas.rule import Rule
from tests.bench.bench import Bench, apart
from tests.bench.figures import Figure, Skipped

_LAUNCH = {"launch": {"workflow": "calorimeter", "parameters": {"run": "{run}"}}}

_RAW = r"RAW_EVENTS_run2auau-(?P<run>\d{8})"

#: Edits of the rule `raw`, which matches a tenth of the history: what it is after the edit.
_EDITS: Mapping[str, Mapping[str, Any]] = {
    "pattern for a fifth": {"pattern": r"RAW_(EVENTS|TPC)_run2auau-(?P<run>\d{8})"},
    "condition and unique key": {"pattern": _RAW, "where": {"bytes": "> 1 kB"}, "unique": "calor/{run}"},
    "pattern for all": {"pattern": r".*-(?P<run>\d{8})"},
    "pattern and condition for all": {"pattern": r".*-(?P<run>\d{8})", "where": {"bytes": "> 1 kB"}},
    "pattern and unique key for all": {"pattern": r".*-(?P<run>\d{8})", "unique": "{run}"},
}


def measure(bench: Bench) -> Iterator[Figure]:
    if not Path("/proc/self/status").exists():
        raise Skipped("there is no /proc/self/status here")
    sizes = (20_000,) if bench.quick else (100_000, 1_000_000)
    for size in sizes:
        url = bench.new_sqlite()
        store = Store.open(url)
        begun = time.perf_counter()
        fill_history(store.database, size)
        store.rules.apply(_rules(), prune=False, who="bench", now=utc_now())
        store.close()
        filled = time.perf_counter() - begun
        for what, fields in _EDITS.items():
            if size < max(sizes) and what != "pattern for all":
                continue
            taken, peak, started = apart(look, url, dict(fields))
            target = "< 10 s, flat" if size == 1_000_000 else ""
            said = f"{size:,} messages (filled in {filled:.0f} s), {what}: {started:,} starts, peak {peak:.0f} MB"
            yield Figure("preview", said, f"{taken:.2f} s", target, f"{1e6 * taken / size:.1f} us each")


def look(url: str, fields: Mapping[str, Any]) -> tuple[float, float, int]:
    """Preview an edit of `raw`: seconds, the peak in MB, and how much it would have started."""
    store = Store.open(url)
    live = store.rules.in_force()[1]
    begun = time.perf_counter()
    preview = Preview(live, edited(live, [_rule("raw", **fields)], prune=False))
    for page in store.history.pages(preview.interest):
        preview.look(page, store.history.holders)
    (change,) = preview.rules
    taken = time.perf_counter() - begun
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None, "Linux gives VmHWM for every process"
    store.close()
    return taken, int(found[1]) / 1024, change.started[AFTER]


def _rules() -> Sequence[Rule]:
    """A hundred rules of the shape that people write; `raw` is the one that is edited."""
    others = [_rule(f"rule-{number}", pattern=rf"DST_{number}_.*-(?P<run>\d{{8}})") for number in range(99)]
    return [*others, _rule("raw", pattern=_RAW)]


def _rule(name: str, **fields: Any) -> Rule:
    return Rule.model_validate({"name": name, "actions": [_LAUNCH], **fields})


_KINDS = ("RAW_EVENTS", "DST_CALO", "DST_TRKR", "HIST_QA", "DST_CALOFITTING", "LOG", "DST_JET", "RAW_TPC", "X", "Y")

_COLUMNS = (
    *("id", "identity", "state", "event_type", "scope", "name", "created_at", "received_at", "origin", "duplicates"),
    *("incarnation", "generation", "bytes", "length", "events", "judged_revision", "headers", "body"),
)

_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)

#: Rows in one transaction.
_BATCH = 20_000


def fill_history(database: Database, count: int) -> None:
    """So many closes of ten kinds of datasets, three seconds apart; bodies as long as real ones."""
    for start in range(1, count + 1, _BATCH):
        rows = [_row(id_) for id_ in range(start, min(count + 1, start + _BATCH))]
        with database.write() as connection:
            insert_many(connection, messages, _COLUMNS, rows)


def _row(id_: int) -> tuple[object, ...]:
    name = f"{_KINDS[id_ % 10]}_run2auau-{id_ // 10:08d}"
    at = _BEGIN + timedelta(seconds=3 * (id_ // 250 * 250))
    created = _BEGIN + timedelta(seconds=3 * id_)
    payload = {"scope": "group.sphenix", "name": name, "bytes": 3900.0, "length": 3, "events": 123.0}
    document = {"event_type": "close", "payload": payload, "created_at": f"{created:%Y-%m-%d %H:%M:%S.%f}"}
    body = json.dumps(document)
    return (
        *(id_, f"{id_:032x}", MessageState.DISPATCHED.value, "close", "group.sphenix", name, created, at, "broker", 0),
        *(1, 1, 3900, 3, 123, 1, '{"event_type": "close"}', body.encode()),
    )
