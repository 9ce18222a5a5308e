"""What the store promises of each release by itself: it counts for the caps and in reports, whatever comes after it."""

from __future__ import annotations

from datetime import timedelta

from orchestrator.core.transient.caps import Spent
from orchestrator.store.store import Store
from orchestrator.store.transient_spending import Freed
from schemas.transient import CopiesAt, Transient
from tests.contract.store_transients import (
    BORN,
    HITS,
    ME,
    NO_CAPS,
    begin,
    claim,
    copy,
    hits,
    leaving,
    put_down,
    release,
    standing,
)
from tests.unit.making import NOW, later

DAY = 24 * 3600


def called_back(store: Store, *, gone: int, at: float = 5000) -> Transient:
    """One that began to leave, and of which so many copies of 500 bytes had gone when it was called back."""
    transient = leaving(store, copies=[copy(number) for number in range(5)])
    store.transients.settle_copies(transient.id, dict.fromkeys(range(gone), "gone"))
    assert store.transients.recalled(transient.id, who=ME, why="needed", now=later(at))
    return store.transients.get(transient.id)


def again(store: Store, who: str = "cli:bob", at: float = 6000, size: int = 70) -> Transient:
    """Released once more, by another one, with less to leave."""
    frees = (CopiesAt(rse="TAPE", files=1, bytes=size),)
    wanted = [(release(policy="hits", frees=frees), timedelta(hours=1))]
    (released,) = store.transients.release(wanted, NO_CAPS, who=who, why="full", now=later(at))
    return released


def spent(store: Store, since: float = -1) -> Spent:
    return store.transients.released_since(later(since))


def freed(store: Store) -> list[list[Freed]]:
    return [
        store.transients.freed(NOW, "who"),
        store.transients.freed(NOW, "day"),
        store.transients.freed(NOW, "policy"),
    ]


FIRST = Spent(1, 5000, {"BNL": 5000})


def test_a_release_that_was_begun_counts_beside_the_next(store: Store) -> None:
    """Of the same dataset: copies have gone by the first, and go by the second."""
    called_back(store, gone=2)
    assert spent(store) == FIRST

    again(store)

    assert spent(store) == Spent(2, 5070, {"BNL": 5000, "TAPE": 70})
    assert spent(store, since=0) == Spent(1, 70, {"TAPE": 70})


def test_taking_the_second_back_gives_the_first_nothing_back(store: Store) -> None:
    """The first was begun, the second was not."""
    transient = called_back(store, gone=0)
    again(store)

    store.transients.take_back([transient.id], who=ME, why="a slip", now=later(6001))

    assert spent(store) == FIRST
    assert standing(store).released_at is None


def test_nor_does_it_if_the_second_is_no_longer_proved(store: Store) -> None:
    """It is held before anything was done."""
    called_back(store, gone=0)
    again(store)
    (claimed,) = claim(store, "other", now=later(9999))

    assert store.transients.refuse(claimed.id, [], owner="other", who=ME, now=later(9999))

    assert spent(store) == FIRST


def test_what_others_took_away_before_it_left_was_not_spent(store: Store) -> None:
    """Nothing was done to it. What had been begun before counts all the same."""
    put_down(store, release(hits(1)))
    store.transients.vanished([(hits(1), BORN)], who="notice", why="erased", now=later(1))
    assert spent(store) == Spent()

    called_back(store, gone=1)
    again(store)
    store.transients.vanished([(HITS, BORN)], who="notice", why="erased", now=later(7000))

    assert spent(store) == FIRST
    assert store.transients.freed(NOW, "who") == [(ME, 1, 1, 500)]


def test_a_third_round_counts_as_well(store: Store) -> None:
    """Called back twice, and left at last: three releases, each with its own day."""
    called_back(store, gone=1)
    for number, who in enumerate(("cli:bob", "cli:eve")):
        at = (number + 1) * DAY
        again(store, who, at=at)
        (claimed,) = claim(store, now=later(at + 4000))
        assert begin(store, claimed, [copy(0)], now=later(at + 4000))
        if number == 0:
            store.transients.recalled(claimed.id, who=ME, why="no", now=later(at + 5000))
    done = {"freed_files": 4, "freed_bytes": 2000}
    assert store.transients.gone(standing(store).id, who="leaver", why="gone", now=later(2 * DAY + 5000), **done)

    assert (spent(store), spent(store, 0)) == (
        Spent(3, 5140, {"BNL": 5000, "TAPE": 140}),
        Spent(2, 140, {"TAPE": 140}),
    )
    assert store.transients.freed(NOW, "who") == [("cli:eve", 1, 4, 2000), (ME, 1, 1, 500)]
    assert [each.key for each in store.transients.freed(NOW, "day")] == ["2026-11-22", "2026-11-24"]
    assert store.transients.freed(NOW, "policy") == [("hits", 1, 5, 2500)]
    assert (standing(store).freed_files, standing(store).freed_bytes) == (5, 2500)


def test_what_was_freed_is_told_of_whoever_released_it_then(store: Store) -> None:
    """Not of whoever released it again, nor of nobody when that is taken back."""
    transient = called_back(store, gone=2)
    before = freed(store)
    assert before[0] == [(ME, 1, 2, 1000)]

    again(store)
    assert freed(store) == before
    store.transients.take_back([transient.id], who=ME, why="a slip", now=later(6001))

    assert freed(store) == before


def test_a_recall_of_which_nothing_had_gone_frees_nothing(store: Store) -> None:
    """It is not in the report; nor is it with a round after it."""
    called_back(store, gone=0)
    again(store)

    assert store.transients.freed(NOW, "who") == []


def test_one_that_left_without_a_copy_is_in_the_report(store: Store) -> None:
    """The dataset itself has left."""
    transient = leaving(store, copies=[])
    store.transients.gone(transient.id, who="leaver", why="gone", now=NOW, freed_files=0, freed_bytes=0)

    assert store.transients.freed(NOW, "who") == [(ME, 1, 0, 0)]
