"""What the store promises of releases: all or nothing, within the caps, and that they can be taken back."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import event

from orchestrator.core.gates import EVERYTHING, Subject
from orchestrator.core.transient.caps import Caps, Spent
from orchestrator.store.port import NotAllowed, NotFound, Stopped
from orchestrator.store.store import Store
from schemas.gate import Kind
from schemas.transient import CopiesAt, TransientId, TransientState
from tests.contract.store_transients import (
    BORN,
    HITS,
    ME,
    SEED,
    begin,
    claim,
    history,
    hits,
    leaving,
    policy,
    put_down,
    refusal,
    release,
    see,
    seed,
    standing,
    states,
)
from tests.unit.making import NOW, later, rule

HELD, RELEASED, LEAVING = TransientState.HELD, TransientState.RELEASED, TransientState.LEAVING
RELEASES = Subject(Kind.TRANSIENT)
DAY = 24 * 3600


@pytest.mark.parametrize("known", ["not at all", "held", "releasable"])
def test_a_release_is_written_down_with_all_that_was_proved(store: Store, known: str) -> None:
    """Whatever was known of the dataset before: it was proved in that moment."""
    if known != "not at all":
        see(store, refusal() if known == "held" else release())

    (released,) = put_down(store, release(files=11), undo=timedelta(hours=2))

    assert released == standing(store)
    assert (released.state, released.reason, released.refusals) == (RELEASED, "the disk is full", ())
    assert (released.released_at, released.released_by, released.leaves_at) == (NOW, ME, later(7200))
    assert (released.release, released.files) == (release(files=11), 11)
    assert history(store, released)[-1][1:] == ("released", "the disk is full")


def test_every_dataset_has_its_own_time_to_be_taken_back(store: Store) -> None:
    """As its policy says."""
    store.transient_policies.apply([policy()], prune=False, who=ME, now=NOW)
    wanted = [(release(hits(1)), timedelta(hours=1)), (release(hits(2)), timedelta(0))]

    released = store.transients.release(wanted, Caps(), who=ME, why="full", now=NOW)

    assert [(each.did, each.leaves_at) for each in released] == [(hits(1), later(3600)), (hits(2), NOW)]


@pytest.mark.parametrize("stopped", [RELEASES, EVERYTHING])
def test_nothing_is_released_while_releases_stand_still(store: Store, stopped: Subject) -> None:
    """Whether a person stopped these, or everything; the error says who and why."""
    store.suspensions.suspend(stopped, who="anna", why="we lost files", now=NOW)
    with pytest.raises(Stopped, match=r"anna stopped (transient|everything) at .*we lost files"):
        put_down(store, release())
    assert store.transients.find(HITS) == []

    store.suspensions.resume(stopped, who="anna", why="found them", now=NOW)

    assert put_down(store, release())


def test_a_rule_that_stands_still_stops_no_release(store: Store) -> None:
    """Only a stop of releases or of everything does."""
    store.rules.apply([rule("raw")], prune=True, who="test", now=NOW)
    store.suspensions.suspend(Subject(Kind.RULE, "raw"), who="anna", why="x", now=NOW)

    assert put_down(store, release())


@pytest.mark.parametrize(
    ("caps", "said"),
    [
        (Caps(datasets_per_day=2), "datasets_per_day"),
        (Caps(bytes_per_day=14_999), "bytes_per_day"),
        (Caps(rse_bytes_per_day={"BNL": 9_999}), "rse_bytes_per_day, BNL"),
    ],
)
def test_no_cap_is_passed(store: Store, caps: Caps, said: str) -> None:
    """Over what was released within 24 hours: then nothing is released, and nothing is entered."""
    put_down(store, release(hits(1)), now=later(60))

    with pytest.raises(NotAllowed, match=f"nothing was released: .*{said}"):
        put_down(store, release(hits(2)), release(hits(3), rse="TAPE"), release(hits(4)), caps=caps, now=later(DAY))
    assert states(store) == {hits(1).name: RELEASED}

    tomorrow = later(DAY + 61)
    room = Caps(3, 15_000, {"BNL": 10_000})
    put_down(store, release(hits(2)), release(hits(3), rse="TAPE"), release(hits(4)), caps=room, now=tomorrow)


def test_what_is_spent_counts_until_it_is_taken_back(store: Store) -> None:
    """What has gone counts, and what was recalled half-way; what was taken back in time does not."""
    frees = (CopiesAt(rse="BNL", files=1, bytes=100), CopiesAt(rse="TAPE", files=1, bytes=10))
    recalled = leaving(store, of=release(hits(1), frees=frees))
    store.transients.recalled(recalled.id, who=ME, why="half of it is gone", now=NOW)
    gone = leaving(store, of=release(hits(2), frees=frees))
    store.transients.gone(gone.id, who="leaver", why="gone", now=NOW, freed_files=2, freed_bytes=110)
    (back,) = put_down(store, release(hits(3)))
    store.transients.take_back([back.id], who=ME, why="a slip", now=NOW)

    assert store.transients.released_since(later(-1)) == Spent(2, 220, {"BNL": 200, "TAPE": 20})
    assert store.transients.released_since(NOW) == Spent(0, 0, {})


def test_one_that_cannot_be_released_holds_up_all(store: Store) -> None:
    """Released, leaving or gone already: nothing is changed, and the error names it."""
    put_down(store, release(hits(1)))
    with pytest.raises(NotAllowed, match=r"nothing was released: sphenix:DST_HITS-00000001 is released already"):
        put_down(store, release(hits(2)), release(hits(1)))
    see(store, refusal(hits(3)))
    store.transients.vanished([(hits(3), BORN)], who="notice", why="erased", now=NOW)
    with pytest.raises(NotAllowed, match="DST_HITS-00000003 is gone already"):
        put_down(store, release(hits(2)), release(hits(3)))
    with pytest.raises(NotAllowed, match="DST_HITS-00000002 is to be released 2 times"):
        put_down(store, release(hits(2)), release(hits(2), born_at=NOW))

    assert states(store) == {hits(1).name: RELEASED, hits(3).name: TransientState.GONE}


def test_what_is_left_of_another_is_not_released(store: Store) -> None:
    """Neither beside it, nor after it, nor before it: a successor stays as long as somebody leaves for it."""
    chain = [release(HITS, SEED), release(SEED, seed(7))]
    with pytest.raises(NotAllowed, match=r"DST_SEED-00012345 is what is left of sphenix:DST_HITS-00012345, and both"):
        put_down(store, *chain)
    put_down(store, chain[0])
    with pytest.raises(NotAllowed, match=r"DST_SEED-00012345 is what is left of sphenix:DST_HITS.*, which leaves"):
        put_down(store, chain[1])
    store.transients.take_back([standing(store).id], who=ME, why="other way round", now=NOW)
    put_down(store, chain[1])

    with pytest.raises(NotAllowed, match=r"DST_SEED-00012345, the successor of sphenix:DST_HITS.*, is released"):
        put_down(store, chain[0])


def test_a_successor_that_is_gone_counts_in_that_life_of_it(store: Store) -> None:
    """One that was made again under the same name is another dataset."""
    gone = leaving(store, of=release(SEED, seed(7)))
    store.transients.gone(gone.id, who="leaver", why="gone", now=NOW, freed_files=1, freed_bytes=1)
    with pytest.raises(NotAllowed, match=r"the successor of sphenix:DST_HITS.*, is gone"):
        put_down(store, release())

    assert put_down(store, release(successor_born_at=later(-60)))


def test_a_successor_that_leaves_counts_in_that_life_of_it(store: Store) -> None:
    """An earlier one of its name may leave for ever, since a file of it cannot be deleted."""
    leaving(store, of=release(SEED, seed(7)))
    with pytest.raises(NotAllowed, match=r"the successor of sphenix:DST_HITS.*, is leaving"):
        put_down(store, release())

    assert put_down(store, release(successor_born_at=later(-60)))


def test_a_failure_in_the_middle_changes_nothing(store: Store) -> None:
    """Killed after the rows were entered and before the last release was in the journal: nothing of it is there."""
    put_down(store)
    see(store, refusal(hits(1)))
    before = (store.transients.list(), store.journal.since(0))

    entries: list[str] = []

    def kill(_: object, __: object, statement: str, *___: object) -> None:
        entries.extend([statement] if statement.startswith("INSERT INTO journal") else [])
        if len(entries) == 3:
            raise KeyboardInterrupt

    event.listen(store.database.engine, "before_cursor_execute", kill)
    with pytest.raises(KeyboardInterrupt):
        put_down(store, release(hits(1)), release(hits(2)))
    event.remove(store.database.engine, "before_cursor_execute", kill)

    assert (store.transients.list(), store.journal.since(0)) == before
    assert store.transients.released_since(later(-1)) == Spent(0, 0, {})
    assert len(put_down(store, release(hits(1)), release(hits(2)))) == 2


# Taken back.


def test_what_is_taken_back_is_held_as_if_nothing_had_been(store: Store) -> None:
    """The journal keeps it; it can be released again once it is not kept any more."""
    (released,) = put_down(store, release())

    (held,) = store.transients.take_back([released.id], who="cli:ann", why="still plotting", now=later(60))

    assert (held.state, held.reason) == (HELD, "taken back: still plotting")
    assert (held.release, held.released_at, held.released_by, held.leaves_at) == (None, None, None, None)
    assert history(store, held)[-1] == ("released", "held", "taken back: still plotting")
    assert store.journal.of("transient", int(held.id))[-1].who == "cli:ann"
    (kept,) = store.transient_keeps.in_force(NOW)
    assert (kept.which, kept.who, kept.until) == (str(HITS), "cli:ann", later(60) + timedelta(days=7))
    store.transient_keeps.lift(kept.id, who="cli:ann", why="plotted", now=later(90))
    assert put_down(store, release())


def test_taking_back_is_all_or_nothing(store: Store) -> None:
    """One that leaves, or that there is not: the others stay released, and the error says what can be done."""
    away = leaving(store, of=release(hits(1)))
    (released,) = put_down(store, release(hits(2)))
    with pytest.raises(NotAllowed, match=r"1 \(sphenix:DST_HITS-00000001\) is leaving.*transient recall"):
        store.transients.take_back([released.id, away.id], who=ME, why="stop", now=NOW)
    with pytest.raises(NotFound, match="there is no transient dataset 99"):
        store.transients.take_back([released.id, TransientId(99)], who=ME, why="stop", now=NOW)

    assert states(store) == {hits(1).name: LEAVING, hits(2).name: RELEASED}
    assert store.transient_keeps.all(10) == []


def test_what_was_taken_back_does_not_leave(store: Store) -> None:
    """Even if a worker had it already, and had proved everything."""
    put_down(store, release())
    (claimed,) = claim(store)
    store.transients.take_back([claimed.id], who=ME, why="stop", now=later(3601))

    assert not begin(store, claimed, now=later(3602))
    assert standing(store).state is HELD
    assert store.transients.copies(claimed.id) == []
    assert claim(store, "leaver 2", now=later(99_999)) == []
