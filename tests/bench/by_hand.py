"""How long it takes a person to change 10,000 messages with one command, journal and all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from statistics import median

from orchestrator.clock import utc_now
from orchestrator.core.by_hand import Hand, MessageVerb, Tally
from orchestrator.core.clauses import CompiledRule
from orchestrator.core.matching import RuleSet
from orchestrator.store.messages import Filter
from orchestrator.store.store import Store
from schemas.message import MessageState
from schemas.rule import Action, Rule
from tests.bench.bench import Bench
from tests.bench.figures import Figure, Skipped
from tests.bench.frames import arrivals

#: Frames in one transaction while the store is filled.
BULK = 5_000
ROUNDS = 3


def measure(bench: Bench) -> Iterator[Figure]:
    size = 1_000 if bench.quick else 10_000
    for kind, make in (("SQLite", bench.new_sqlite), ("PostgreSQL", bench.new_postgresql)):
        try:
            store = Store.open(make())
        except Skipped as reason:
            yield Figure("by_hand", kind, f"skipped: {reason}")
            continue
        for start in range(0, size, BULK):
            store.messages.take_in(arrivals(start, min(BULK, size - start)), origin="broker", now=utc_now())
        for what, seconds in _costs(store, size):
            target = "" if bench.quick else "seconds"
            yield Figure("by_hand", f"{what} {size:,} messages, {kind}", f"{seconds:.2f} s", target)
        store.close()


def _costs(store: Store, size: int) -> Iterator[tuple[str, float]]:
    hand = Hand("bench", "measured", utc_now())

    def change(verb: MessageVerb) -> Callable[[], Tally]:
        return lambda: store.by_hand.messages(verb, Filter(), hand)

    rounds: dict[str, list[float]] = {
        verb.value: [] for verb in (MessageVerb.HOLD, MessageVerb.DROP, MessageVerb.REPEND)
    }
    for _ in range(ROUNDS):
        for verb in rounds:
            rounds[verb].append(_time(change(MessageVerb(verb)), size))
    yield from ((verb, median(taken)) for verb, taken in rounds.items())
    action = Action(actor="run", options={"command": ["true", "{name}"]})
    rule = Rule(name="mine", pattern="nothing", unique="{name}", actions=(action,))
    store.rules.apply([rule], prune=False, who="bench", now=utc_now())
    revision, versions = store.rules.in_force()
    compiled, rules = CompiledRule(versions[0]), RuleSet(revision, versions, {"*": MessageState.PENDING})
    yield (
        "dispatch to a rule with a unique key",
        _time(lambda: store.by_hand.give(compiled, rules, Filter(), hand), size),
    )


def _time(change: Callable[[], Tally], size: int) -> float:
    """Seconds, for all of them."""
    begun = time.perf_counter()
    tally = change()
    taken = time.perf_counter() - begun
    if len(tally.changed) != size:
        raise RuntimeError(f"{len(tally.changed)} of {size} messages were changed")
    return taken
