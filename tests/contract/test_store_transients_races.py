"""What the store promises of transient datasets when several processes are at them at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import event

from orchestrator.core.gates import Subject
from orchestrator.core.transient.caps import Caps
from orchestrator.store.port import NotAllowed, StoreError
from orchestrator.store.store import Store
from schemas.gate import Kind
from schemas.transient import Copy, Transient, TransientState
from tests.contract.store_transients import (
    BORN,
    ENGINE,
    HITS,
    ME,
    SEED,
    begin,
    claim,
    copy,
    hits,
    launch,
    leaving,
    put_down,
    refusal,
    release,
    see,
    seed,
    standing,
    states,
)
from tests.contract.test_store_dispatches import at_once
from tests.contract.test_store_races import after_statement
from tests.unit.making import NOW, later

HELD, RELEASED, LEAVING = TransientState.HELD, TransientState.RELEASED, TransientState.LEAVING

on_postgresql = pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)


@pytest.fixture
def other(store: Store, store_url: str) -> Iterator[Store]:
    """The same store, as another process has it open."""
    opened = Store.open(store_url)
    yield opened
    opened.close()


def tried(jobs: list[Callable[[], object]]) -> list[StoreError]:
    """Do all at once; what the store refused."""
    refused: list[StoreError] = []

    def attempt(job: Callable[[], object]) -> None:
        try:
            job()
        except NotAllowed as error:
            refused.append(error)

    at_once(*(lambda job=job: attempt(job) for job in jobs))
    return refused


@pytest.mark.parametrize("round_", range(5))
def test_processes_that_release_at_once_do_not_pass_the_caps(store: Store, other: Store, round_: int) -> None:
    """Each sees what the others have released: of eight, as many get through as there is room for."""
    caps = Caps(datasets_per_day=5)

    def released(number: int) -> Callable[[], object]:
        return lambda: put_down((store, other)[number % 2], release(hits(number), seed(number)), caps=caps)

    jobs = [released(number) for number in range(8)]
    refused = tried(jobs)

    assert len(refused) == 3
    assert len(states(store)) == store.transients.released_since(later(-1)).datasets == 5


@on_postgresql
def test_a_release_waits_for_another_one_in_the_midst_of_it(store: Store, other: Store) -> None:
    """And then counts it: the first may have read what is spent already."""
    caps = Caps(datasets_per_day=1)

    with (
        pytest.raises(NotAllowed, match="datasets_per_day"),
        after_statement(
            store, "SELECT transient_releases.frees", lambda: put_down(other, release(hits(2), seed(2)), caps=caps)
        ),
    ):
        put_down(store, release(hits(1), seed(1)), caps=caps)

    assert states(store) == {hits(1).name: RELEASED}


@on_postgresql
def test_a_dataset_and_what_is_left_of_it_are_not_released_beside_each_other(store: Store, other: Store) -> None:
    """Whoever comes second finds the first."""
    with (
        pytest.raises(NotAllowed, match="is what is left of"),
        after_statement(store, "SELECT transients.successor", lambda: put_down(other, release(SEED, seed(7)))),
    ):
        put_down(store, release(HITS, SEED))

    assert states(store) == {HITS.name: RELEASED}


@on_postgresql
def test_a_stop_waits_for_a_release_in_the_midst_of_it(store: Store, other: Store) -> None:
    """When the stop has returned, nothing is released and nothing is claimed any more."""
    stop = Subject(Kind.TRANSIENT)
    found: list[TransientState] = []

    def suspend() -> None:
        other.suspensions.suspend(stop, who="anna", why="wait", now=NOW)
        found.extend(each.state for each in other.transients.list())

    with after_statement(store, "SELECT transient_releases.frees", suspend):
        put_down(store, release())

    assert found == [RELEASED]
    assert claim(store) == []


def taken(store: Store) -> Transient:
    put_down(store, release())
    (claimed,) = claim(store)
    return claimed


@pytest.mark.parametrize("round_", range(5))
def test_it_is_taken_back_or_it_leaves(store: Store, other: Store, round_: int) -> None:
    """Never both: whoever is told that it was taken back can rely on it."""
    claimed = taken(store)
    begun: list[bool] = []

    refused = tried(
        [
            lambda: begun.append(begin(store, claimed)),
            lambda: other.transients.take_back([claimed.id], who=ME, why="stop", now=later(3600)),
        ]
    )

    assert (begun, standing(store).state) == ([True], LEAVING) if refused else ([False], HELD)
    assert bool(store.transients.copies(claimed.id)) == bool(refused)


@on_postgresql
def test_taking_back_waits_for_what_begins_to_leave(store: Store, other: Store) -> None:
    """And is told that it is too late."""
    claimed = taken(store)

    with (
        pytest.raises(NotAllowed, match="is leaving"),
        after_statement(
            store,
            "UPDATE transients SET state",
            lambda: other.transients.take_back([claimed.id], who=ME, why="stop", now=later(3600)),
        ),
    ):
        assert begin(store, claimed)

    assert standing(store).state is LEAVING


@on_postgresql
def test_taking_a_policy_out_waits_for_what_begins_to_leave(store: Store, other: Store) -> None:
    """It leaves by a policy that is in force to the end of that; or it does not leave."""
    claimed = taken(store)
    with after_statement(
        store,
        "UPDATE transients SET state",
        lambda: other.transient_policies.remove(["hits"], who=ME, now=later(3600), reason="wrong pattern"),
    ):
        assert begin(store, claimed)

    assert (standing(store).state, store.transient_policies.in_force()) == (LEAVING, [])
    entries = [(entry.subject, entry.to_state) for _, entry in store.journal.since(0)]
    assert entries.index(("transient", "leaving")) < entries.index(("policy", "ended"))


def test_what_is_taken_back_while_its_copies_are_fetched_does_not_leave(store: Store, other: Store) -> None:
    """After thousands of them were written: none is listed any more."""
    claimed = taken(store)

    def fetched() -> Iterator[Copy]:
        yield from (copy(number) for number in range(6_000))
        other.transients.take_back([claimed.id], who=ME, why="stop", now=later(3600))
        yield copy(6_000)

    assert not store.transients.begin_leaving(claimed.id, fetched(), owner=ENGINE, who="leaver", now=later(3600))
    assert standing(store).state is HELD
    assert store.transients.copies(claimed.id) == []


@pytest.mark.parametrize("round_", range(3))
def test_no_two_workers_get_the_same_dataset(store: Store, other: Store, round_: int) -> None:
    """However many claim at once, each dataset is claimed once."""
    put_down(store, *(release(hits(number), seed(number)) for number in range(20)))
    claimed: list[Transient] = []

    at_once(
        *(
            lambda worker=worker: claimed.extend(claim((store, other)[worker % 2], f"w{worker}", limit=4))
            for worker in range(6)
        )
    )

    dids = [each.did for each in claimed]
    assert len(dids) == len(set(dids))
    assert len(dids) == 20 or store.database.is_sqlite is False


@on_postgresql
def test_a_claim_does_not_wait_for_another_one(store: Store, other: Store) -> None:
    """It passes over what another has in hand, and takes the next."""
    put_down(store, release(hits(1)), release(hits(2)))
    first, second = list[Transient](), list[Transient]()
    before_the_end: list[int] = []
    event.listen(store.database.engine, "commit", lambda _: before_the_end.append(len(second)))

    with after_statement(store, "UPDATE transients SET owner", lambda: second.extend(claim(other, "two", limit=1))):
        first += claim(store, "one", limit=1)

    assert [each.did for each in first + second] == [hits(1), hits(2)]
    assert before_the_end[-1] == 1


@pytest.mark.parametrize("round_", range(3))
def test_looks_at_the_same_datasets_at_once_write_each_down_once(store: Store, other: Store, round_: int) -> None:
    """In whatever order they come: one row, one arrival in the journal, and nobody waits for ever."""
    looks = [refusal(hits(number)) for number in range(300)]
    proved = [release(hits(number)) for number in reversed(range(300))]

    at_once(
        lambda: see(store, *looks),
        lambda: see(other, *proved),
        lambda: see(store, *reversed(looks)),
        lambda: other.transients.vanished([(hits(7), BORN)], who="notice", why="erased", now=NOW),
    )

    assert len(states(store)) == 300
    arrivals = [entry for _, entry in store.journal.since(0, 10_000) if entry.from_state is None]
    assert len(arrivals) == 300


@on_postgresql
def test_a_look_that_comes_second_finds_what_the_first_has_entered(store: Store, other: Store) -> None:
    """In the midst of the first: the second waits, and changes the same row."""
    with after_statement(store, "INSERT INTO transients", lambda: see(other, release(), now=later(5))):
        see(store, refusal())

    found = standing(store)
    assert (found.state, found.seen_at) == (TransientState.RELEASABLE, later(5))


# Launches that would read it.


@pytest.mark.parametrize("round_", range(2))
@pytest.mark.parametrize("statement", ["INSERT INTO launches", "INSERT INTO readings"])
def test_a_launch_and_a_leaving_in_one_instant_see_each_other(
    store: Store, other: Store, statement: str, round_: int
) -> None:
    """Either it is not launched, or nothing leaves."""
    claimed, left = taken(store), list[bool]()

    with after_statement(store, statement, lambda: left.append(begin(other, claimed))):
        refused = tried([lambda: launch(store, "one", reads=[hits(7), HITS])])

    assert len(left) == 1
    assert (standing(store).state is LEAVING, len(refused)) in ((True, 1), (False, 0))


@pytest.mark.parametrize("statement", ["UPDATE transients", "INSERT INTO journal"])
def test_a_leaving_and_a_launch_in_one_instant_see_each_other(store: Store, other: Store, statement: str) -> None:
    """The other way round."""
    claimed, refused = taken(store), list[list[StoreError]]()

    def read() -> None:
        refused.append(tried([lambda: launch(other, "one", reads=[HITS])]))

    with after_statement(store, statement, read):
        left = begin(store, claimed)

    assert left is (standing(store).state is LEAVING)
    assert len(refused[0]) == left


def test_what_leaves_is_read_by_no_new_launch(store: Store) -> None:
    """It is said how to call it back; and nothing of the launch is kept."""
    found = leaving(store)

    (refused,) = tried([lambda: launch(store, "one", reads=[hits(7), HITS])])

    assert f"{HITS} is leaving" in str(refused)
    assert f"muleteer transient recall {found.id}" in str(refused)
    assert store.launches.active() == []
    store.transients.recalled(found.id, who=ME, why="needed", now=later(3700))
    assert launch(store, "one", reads=[HITS]).inputs == {"in0": str(HITS)}
