"""Closings that the broker lost are found in the catalog, and start what they should have started, once."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.core.by_hand import Hand, MessageVerb
from orchestrator.reconcile.reconciler import Reconciler
from orchestrator.rucio.port import Catalog, CatalogUnavailable, DatasetEntry
from orchestrator.store.intake import Arrival
from orchestrator.store.store import Store
from schemas.did import Did
from schemas.message import Message, MessageState
from schemas.reconciliation import MissedClosing
from schemas.replay import ReplayRequest
from tests.services.catalog import FakeCatalog, Faulty, When

SCOPE = "group.sphenix"
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


class Clock:
    """Time passes when somebody says so."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, span: timedelta) -> None:
        self.now += span


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Coarse(FakeCatalog):
    """Tells times to the second, as Rucio's answers do; the events have all of it."""

    def closed_since(self, moment: datetime, scope: str = "*") -> Iterator[DatasetEntry]:
        for entry in super().closed_since(moment, scope):
            assert entry.closed_at is not None
            yield replace(entry, closed_at=entry.closed_at.replace(microsecond=0))


@pytest.fixture
def catalog(clock: Clock) -> FakeCatalog:
    return Coarse(clock=clock)


def reconciler(store: Store, catalog: Catalog, clock: Clock, scopes: Sequence[str] = ("*",)) -> Reconciler:
    return Reconciler(
        catalog,
        store.messages,
        store.reconciliations,
        scopes=scopes,
        overlap=HOUR,
        patience=5 * MINUTE,
        clock=clock,
    )


@pytest.fixture
def looked(store: Store, catalog: FakeCatalog, clock: Clock) -> Reconciler:
    """A reconciler that has looked before anything happened."""
    reconciling = reconciler(store, catalog, clock)
    reconciling.reconcile()
    clock.pass_(6 * MINUTE)
    return reconciling


def closed(catalog: FakeCatalog, *names: str) -> None:
    for name in names:
        catalog.add_dataset(Did(SCOPE, name))
        catalog.close(Did(SCOPE, name))


def deliver(store: Store, catalog: FakeCatalog, *names: str, now: datetime) -> None:
    """Bring the events of these datasets, as a broker does."""
    frames = [event for event in catalog.events if event["payload"]["name"] in names]
    arrivals = [Arrival({"event_type": each["event_type"]}, json.dumps(each).encode()) for each in frames]
    store.messages.take_in(arrivals, origin="broker", now=now)


def everything(store: Store) -> list[Message]:
    return store.messages.list(limit=10_000, newest_first=False)


def closings(store: Store) -> list[tuple[str | None, str, MessageState]]:
    """Name, origin and state of every closing, in the order of their arrival."""
    return [(each.name, each.origin, each.state) for each in everything(store) if each.event_type == "close"]


def test_what_the_broker_lost_is_made_up_for(
    store: Store, catalog: FakeCatalog, looked: Reconciler, clock: Clock
) -> None:
    """The missing ones alone, with their origin, pending like any other; told with how late it was found."""
    closed(catalog, "A", "B", "C")
    deliver(store, catalog, "A", "C", now=clock())
    clock.pass_(6 * MINUTE)
    told: list[MissedClosing] = []

    done = looked.reconcile(tell=told.append)

    assert closings(store) == [
        ("A", "broker", MessageState.PENDING),
        ("C", "broker", MessageState.PENDING),
        ("B", "reconcile", MessageState.PENDING),
    ]
    assert (done.closings, done.missing, round(done.longest_lag or 0)) == (3, 1, 360)
    assert [(each.did, round(each.lag)) for each in told] == [(f"{SCOPE}:B", 360)]
    assert store.reconciliations.latest(1) == [done]


def test_an_event_that_comes_late_after_all_starts_nothing(
    store: Store, catalog: FakeCatalog, looked: Reconciler, clock: Clock
) -> None:
    """The closing is in hand already, whatever became of it; the event stands beside it, with the reason."""
    closed(catalog, "A")
    clock.pass_(6 * MINUTE)
    looked.reconcile()

    deliver(store, catalog, "A", now=clock())
    deliver(store, catalog, "A", now=clock())

    assert closings(store) == [("A", "reconcile", MessageState.PENDING), ("A", "broker", MessageState.SUPERSEDED)]


def test_looking_again_finds_nothing_new(store: Store, catalog: FakeCatalog, looked: Reconciler, clock: Clock) -> None:
    """Each look goes back before the last one; what was found is known then."""
    closed(catalog, "A")
    clock.pass_(6 * MINUTE)
    found = [looked.reconcile().missing]
    for _ in range(3):
        clock.pass_(MINUTE)
        done = looked.reconcile()
        found.append(done.missing)

    assert found == [1, 0, 0, 0]
    assert done.closings == 1
    assert len(closings(store)) == 1


def test_an_event_may_still_be_under_way(store: Store, catalog: FakeCatalog, looked: Reconciler, clock: Clock) -> None:
    """hermes sleeps, and brokers queue: for some minutes nothing is missing."""
    closed(catalog, "A")
    clock.pass_(4 * MINUTE)
    early = looked.reconcile()
    clock.pass_(2 * MINUTE)

    assert (early.missing, looked.reconcile().missing) == (0, 1)


def test_the_first_look_starts_nothing(store: Store, catalog: FakeCatalog, clock: Clock) -> None:
    """Who begins with a full catalog must not start years of production; who wants it says since when."""
    closed(catalog, "OLD")
    clock.pass_(HOUR)
    reconciling = reconciler(store, catalog, clock)

    first = reconciling.reconcile()
    assert (first.closings, first.missing, closings(store)) == (0, 0, [])

    asked = reconciling.reconcile(since=clock() - 2 * HOUR)
    assert (asked.closings, asked.missing) == (1, 1)


def test_a_dry_run_says_it_and_changes_nothing(
    store: Store, catalog: FakeCatalog, looked: Reconciler, clock: Clock
) -> None:
    closed(catalog, "A")
    clock.pass_(6 * MINUTE)
    before = store.reconciliations.latest(100)

    tried = looked.reconcile(dry_run=True)

    assert (tried.missing, tried.id) == (1, None)
    assert (closings(store), store.reconciliations.latest(100)) == ([], before)
    assert looked.reconcile().missing == 1


def test_what_is_open_again_or_erased_is_not_missing(
    store: Store, catalog: FakeCatalog, looked: Reconciler, clock: Clock
) -> None:
    """Only what is closed now starts anything."""
    closed(catalog, "OPEN", "GONE", "A")
    catalog.reopen(Did(SCOPE, "OPEN"))
    catalog.erase(Did(SCOPE, "GONE"))
    clock.pass_(6 * MINUTE)

    looked.reconcile()

    assert [name for name, _, _ in closings(store)] == ["A"]


def test_a_second_closing_is_missed_by_itself(
    store: Store, catalog: FakeCatalog, looked: Reconciler, clock: Clock
) -> None:
    """The first closing came; opened and closed again, and both events were lost: the first no longer counts."""
    closed(catalog, "A")
    deliver(store, catalog, "A", now=clock())
    clock.pass_(10 * MINUTE)
    catalog.reopen(Did(SCOPE, "A"))
    catalog.close(Did(SCOPE, "A"))
    clock.pass_(6 * MINUTE)

    looked.reconcile()

    assert closings(store) == [("A", "broker", MessageState.SUPERSEDED), ("A", "reconcile", MessageState.PENDING)]


def test_only_the_scopes_that_are_asked_for(store: Store, catalog: FakeCatalog, clock: Clock) -> None:
    reconciling = reconciler(store, catalog, clock, scopes=["group.*"])
    reconciling.reconcile()
    clock.pass_(6 * MINUTE)
    closed(catalog, "A")
    other = Did("user.me", "MINE")
    catalog.add_dataset(other)
    catalog.close(other)
    clock.pass_(6 * MINUTE)

    assert reconciling.reconcile().missing == 1


def test_a_quick_reclosing_is_another_closing(
    store: Store, catalog: FakeCatalog, looked: Reconciler, clock: Clock
) -> None:
    """Closed, opened, closed within a minute, and the last event was lost: the opening in between is known."""
    closed(catalog, "A")
    clock.pass_(timedelta(seconds=10))
    catalog.reopen(Did(SCOPE, "A"))
    deliver(store, catalog, "A", now=clock())
    clock.pass_(timedelta(seconds=10))
    catalog.close(Did(SCOPE, "A"))
    clock.pass_(6 * MINUTE)

    assert looked.reconcile().missing == 1
    assert [state for _, _, state in closings(store)] == [MessageState.SUPERSEDED, MessageState.PENDING]


def test_a_look_that_leaves_something_out_does_not_move_the_mark(
    store: Store, catalog: FakeCatalog, looked: Reconciler, clock: Clock
) -> None:
    """One scope by hand, or from later than the last look on: what is left out is looked at by the next."""
    other = Did("user.me", "MINE")
    closed(catalog, "A")
    catalog.add_dataset(other)
    catalog.close(other)
    clock.pass_(6 * MINUTE)

    some = Reconciler(
        *(catalog, store.messages, store.reconciliations),
        scopes=["group.*"],
        whole=False,
        overlap=timedelta(),
        patience=5 * MINUTE,
        clock=clock,
    )
    assert [each.missing for each in (some.reconcile(), looked.reconcile(since=clock() - MINUTE))] == [1, 0]
    clock.pass_(2 * HOUR)

    assert looked.reconcile().missing == 1


def test_a_look_that_is_told_to_stop_goes_on_the_next_time(
    store: Store, catalog: FakeCatalog, looked: Reconciler, clock: Clock
) -> None:
    closed(catalog, *(f"RUN-{number}" for number in range(1500)))
    clock.pass_(6 * MINUTE)

    stopped = looked.reconcile(stopping=lambda: True)

    assert (stopped.missing, stopped.mark) == (1000, None)
    assert looked.reconcile().missing == 500


def test_a_closing_that_is_stored_twice_is_one_also_by_hand(
    store: Store, catalog: FakeCatalog, looked: Reconciler, clock: Clock
) -> None:
    """What was found can be put back although its event came later; the event, which does not count, cannot."""
    closed(catalog, "A")
    clock.pass_(6 * MINUTE)
    looked.reconcile()
    deliver(store, catalog, "A", now=clock())
    found, event = (each.id for each in everything(store) if each.event_type == "close")
    hand = Hand("test", "again", clock())
    store.by_hand.messages(MessageVerb.DROP, [found], hand)

    tally = store.by_hand.messages(MessageVerb.REPEND, [found, event], hand)

    assert tally.changed == [found]
    request = ReplayRequest(superseded=True, as_of=store.rules.in_force()[0])
    assert [
        facts.message.id for facts in store.replays.read(request, 0, 10**6, 100) if facts.message.event_type == "close"
    ] == [found]


def test_a_catalog_that_goes_away_leaves_the_mark_where_it_was(
    store: Store, catalog: FakeCatalog, looked: Reconciler, clock: Clock
) -> None:
    """Nothing is noted; the next look finds what this one did not get to."""
    closed(catalog, "A")
    clock.pass_(6 * MINUTE)
    mark = store.reconciliations.mark(catalog.address)

    away = Faulty(catalog, {("closed_since", 1): When.MIDWAY})
    with pytest.raises(CatalogUnavailable):
        reconciler(store, away, clock).reconcile()

    assert store.reconciliations.mark(catalog.address) == mark
    assert looked.reconcile().missing == 1


@pytest.mark.parametrize("seed", range(5))
def test_with_a_tenth_of_all_events_lost_each_closing_counts_once(
    store: Store, catalog: FakeCatalog, looked: Reconciler, clock: Clock, seed: int
) -> None:
    """Random life: created, closed, opened again; a tenth is lost, some comes hours late, looks in between.

    In the end each dataset that is closed has one closing that counts, the last one. (Of one that is open, and whose
    opening was lost, an older closing may still count: that is what asking the catalog before starting is for.)
    """
    chance = random.Random(seed)
    late: list[str] = []
    names = [f"RUN-{number}" for number in range(20)]
    for _ in range(150):
        name = chance.choice(names)
        did, before = Did(SCOPE, name), len(catalog.events)
        if not catalog.datasets(SCOPE, name):
            catalog.add_dataset(did)
        elif catalog.dataset(did).state == "open":
            catalog.close(did)
        else:
            catalog.reopen(did)
        for event in catalog.events[before:]:
            fate = chance.random()
            if fate < 0.8:
                store.messages.take_in([Arrival({}, json.dumps(event).encode())], origin="broker", now=clock())
            elif fate < 0.9:
                late.append(json.dumps(event))
        clock.pass_(timedelta(seconds=chance.choice([0.01, 0.5, 70, 400])))
        if chance.random() < 0.1:
            looked.reconcile()
    clock.pass_(HOUR)
    chance.shuffle(late)
    store.messages.take_in([Arrival({}, each.encode()) for each in late], origin="broker", now=clock())
    looked.reconcile(since=clock() - 24 * HOUR)

    is_closed = {entry.did.name: entry.closed_at for entry in catalog.datasets() if entry.state == "closed"}
    counting = [each for each in everything(store) if each.event_type == "close" and each.state is MessageState.PENDING]
    found = [(each.name, each.created_at) for each in counting if each.name in is_closed]
    assert sorted(name or "" for name, _ in found) == sorted(is_closed)
    assert all(abs(at - (is_closed[name] or at)) < timedelta(seconds=1) for name, at in found if name and at)


def test_thousands_are_found_in_one_look(store: Store, catalog: FakeCatalog, looked: Reconciler, clock: Clock) -> None:
    """More than fit into one question to the store."""
    closed(catalog, *(f"RUN-{number}" for number in range(2500)))
    deliver(store, catalog, *(f"RUN-{number}" for number in range(0, 2500, 2)), now=clock())
    clock.pass_(6 * MINUTE)

    done = looked.reconcile()

    assert (done.closings, done.missing) == (2500, 1250)
    assert looked.reconcile().missing == 0
