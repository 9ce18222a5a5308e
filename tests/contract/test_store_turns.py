"""What the store promises of work that only one process is to do at a time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial

import pytest

from orchestrator.store.store import Store
from orchestrator.store.turns import Turns
from tests.contract.test_store_dispatches import at_once
from tests.unit.making import later

EVERY, LEASE = timedelta(hours=1), timedelta(minutes=15)


@pytest.fixture
def turns(store: Store) -> Turns:
    return store.turns


@pytest.fixture
def other(store: Store, store_url: str) -> Iterator[Store]:
    """The same store, as another process has it open."""
    opened = Store.open(store_url)
    yield opened
    opened.close()


def begin(turns: Turns, owner: str = "a", at: float = 0, name: str = "survey") -> bool:
    return turns.begin(name, owner=owner, every=EVERY, lease=LEASE, now=later(at))


def test_one_at_a_time(turns: Turns) -> None:
    """Whoever comes meanwhile goes away again; other work has turns of its own."""
    assert begin(turns)
    assert not begin(turns, "b", at=60)
    assert begin(turns, "b", at=60, name="other")


def test_the_next_one_is_due_so_long_after_the_last_began(turns: Turns) -> None:
    """Whoever does it, and however long it took."""
    begin(turns)
    turns.end("survey", owner="a", now=later(600))

    assert not begin(turns, "b", at=3599)
    assert begin(turns, "b", at=3600)
    assert not begin(turns, "a", at=3600)


def test_one_that_was_cut_off_is_made_up_for_when_its_lease_is_over(turns: Turns) -> None:
    """Nobody waits for the whole hour."""
    begin(turns)

    assert not begin(turns, "b", at=899)
    assert begin(turns, "b", at=900)
    assert not turns.renew("survey", owner="a", lease=LEASE, now=later(901))


def test_one_that_is_renewed_goes_on(turns: Turns) -> None:
    """As long as it takes."""
    begin(turns)

    assert turns.renew("survey", owner="a", lease=LEASE, now=later(800))
    assert not begin(turns, "b", at=1699)
    assert begin(turns, "b", at=1700)


def test_one_that_was_given_up_is_anybodys(turns: Turns) -> None:
    """At once."""
    begin(turns)
    turns.give_up("survey", owner="a", now=later(10))

    assert begin(turns, "b", at=10)


def test_whoever_lost_it_ends_nothing(turns: Turns) -> None:
    """The turn is another's by now, and goes on."""
    begin(turns)
    begin(turns, "b", at=900)

    turns.end("survey", owner="a", now=later(901))
    turns.give_up("survey", owner="a", now=later(901))

    assert not begin(turns, "c", at=902)


def attempt(had: list[str], turns: Turns, owner: str, at: float) -> None:
    """Note who has the turn."""
    if begin(turns, owner, at=at):
        had.append(owner)


@pytest.mark.parametrize("round_", range(3))
def test_of_many_at_once_one_has_the_turn(store: Store, other: Store, round_: int) -> None:
    """The first one ever, and one that takes the place of one that was cut off."""
    for at in (0, 900):
        had: list[str] = []
        stores = (store, other)
        at_once(*(partial(attempt, had, stores[n % 2].turns, f"{at}-{n}", at) for n in range(8)))
        assert len(had) == 1
