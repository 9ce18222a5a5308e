"""What the store promises of datasets on their way out: claims, the copies that leave, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial

import pytest

from orchestrator.core.gates import EVERYTHING, Subject
from orchestrator.store.port import NotAllowed, NotFound
from orchestrator.store.store import Store
from schemas.did import Did
from schemas.gate import Kind
from schemas.launch import LaunchState
from schemas.transient import Copy, Refusal, Transient, TransientId, TransientState
from tests.contract.store_transients import (
    ENGINE,
    HITS,
    ME,
    begin,
    claim,
    copy,
    history,
    hits,
    launch,
    leaving,
    policy,
    put_down,
    refusal,
    release,
    see,
    standing,
)
from tests.unit.making import NOW, later

HELD, RELEASED, LEAVING, GONE = (
    TransientState.HELD,
    TransientState.RELEASED,
    TransientState.LEAVING,
    TransientState.GONE,
)
MINUTE = timedelta(minutes=1)


# Claimed.


def test_what_is_due_is_claimed_longest_due_first(store: Store) -> None:
    """Released, and its time is over; nothing that is held, or can be taken back still."""
    put_down(store, release(hits(1)), undo=timedelta(hours=3))
    put_down(store, release(hits(2)), undo=timedelta(hours=2))
    put_down(store, release(hits(3)), undo=timedelta(hours=4))
    see(store, refusal(hits(4)), release(hits(5)))

    assert claim(store, now=later(7199)) == []
    assert [each.did for each in claim(store, now=later(3 * 3600))] == [hits(2), hits(1)]


def test_so_many_are_claimed_at_a_time(store: Store) -> None:
    """The rest is left for others."""
    put_down(store, *(release(hits(number)) for number in range(5)))

    assert len(claim(store, "one", limit=3)) == 3
    assert [each.did for each in claim(store, "two", limit=3)] == [hits(3), hits(4)]


def test_nobody_gets_what_a_living_owner_has(store: Store) -> None:
    """When the owner has died, its lease runs out, and another goes on; the dead one's steps count no more."""
    put_down(store, release())
    assert claim(store, "one", lease=60)
    assert claim(store, "two", now=later(3659)) == claim(store, "one", now=later(3659)) == []
    (again,) = claim(store, "two", now=later(3660))

    assert not begin(store, again, owner="one", now=later(3661))
    assert not store.transients.refuse(again.id, [Refusal("x", "y")], owner="one", who="leaver", now=NOW)
    assert not store.transients.look_again(again.id, later(1), "why", owner="one", now=NOW)
    assert standing(store).state is RELEASED
    assert begin(store, again, owner="two", now=later(3661))


@pytest.mark.parametrize("stopped", [Subject(Kind.TRANSIENT), EVERYTHING])
def test_a_stop_holds_what_is_released(store: Store, stopped: Subject) -> None:
    """It stands still until a person lets it go on. What leaves is looked at: it has to be held."""
    put_down(store, release())
    store.suspensions.suspend(stopped, who="anna", why="wait", now=NOW)
    assert claim(store, "other", now=later(9999)) == []

    store.suspensions.resume(stopped, who="anna", why="go on", now=NOW)

    assert len(claim(store, "other", now=later(9999))) == 1


def test_a_stop_does_not_keep_what_leaves_from_being_held(store: Store) -> None:
    """Whoever claims it asks what stops it, and keeps the catalog from erasing it."""
    transient = leaving(store)
    put_down(store, release(hits(2)))
    _stop(store)

    assert [each.id for each in claim(store, "other", now=later(9999))] == [transient.id]


# Begun.


def test_what_leaves_is_written_down_with_its_copies(store: Store) -> None:
    """When it returns everything is there, and the claim goes on."""
    put_down(store, release())
    (claimed,) = claim(store)

    assert begin(store, claimed, [copy(0), copy(1, "TAPE")])

    found = standing(store)
    assert (found.state, found.leaving_at, found.release) == (LEAVING, later(3600), release())
    assert store.transients.copies(found.id) == [(0, copy(0)), (1, copy(1, "TAPE"))]
    assert history(store, found)[-1] == ("released", "leaving", "proved once more")
    assert claim(store, "other", now=later(3601)) == []


def test_it_does_not_leave_before_its_time(store: Store) -> None:
    """Whoever claims it when."""
    put_down(store, release())
    (claimed,) = claim(store, lease=9999)

    assert not begin(store, claimed, now=later(3599))
    assert standing(store).state is RELEASED


def _stop(store: Store) -> None:
    store.suspensions.suspend(Subject(Kind.TRANSIENT), who="anna", why="wait", now=NOW)


def _extend(store: Store) -> None:
    store.transients.extend(HITS, later(99_999), who=ME, why="plots", now=NOW)


def _keep(store: Store) -> None:
    store.transient_keeps.keep("sphenix:DST_HITS-*", who="anna", why="a paper", now=NOW)


def _read(store: Store) -> None:
    launch(store, "reader", LaunchState.RUNNING, reads=[HITS])


def _take_out(store: Store) -> None:
    store.transient_policies.remove(["hits"], who="anna", now=NOW, reason="wrong pattern")


def _disable(store: Store) -> None:
    """It is a new version, too: but that is not what a person wants to read."""
    store.transient_policies.set_enabled(["hits"], False, who="anna", now=NOW, reason="wrong pattern")


def _replace(store: Store) -> None:
    store.transient_policies.apply([policy(lifetime="90d")], prune=False, who="anna", now=NOW)


@pytest.mark.parametrize(
    ("meanwhile", "said"),
    [
        (_stop, "anna stopped transient: wait"),
        (_extend, "it is to stay until 2026-11-23 05:00 UTC"),
        (_keep, "anna keeps sphenix:DST_HITS-*: a paper"),
        (_read, "launch 1, which is running, reads it"),
        (_take_out, "policy hits is not in force any more"),
        (_disable, "policy hits is disabled"),
        (_replace, "version 1 of policy hits is not in force any more: version 2 is"),
    ],
)
def test_what_came_up_after_it_was_proved_holds_it(store: Store, meanwhile: Callable[[Store], None], said: str) -> None:
    """It stays released with the reason, no copy is listed, and soon it is proved anew."""
    put_down(store, release())
    (claimed,) = claim(store)
    meanwhile(store)

    assert not begin(store, claimed)

    found = standing(store)
    assert (found.state, found.reason) == (RELEASED, said)
    assert store.transients.copies(found.id) == []
    if meanwhile is not _stop:
        assert claim(store, "other", now=later(3659)) == []
        assert len(claim(store, "other", now=later(3660))) == 1


def test_a_claim_that_is_renewed_lasts(store: Store) -> None:
    """From then on, so long; but not if another has it by now, or nobody."""
    transient = leaving(store)
    renew = partial(store.transients.renew, transient.id, now=later(3650), lease=2 * MINUTE)
    assert renew(owner=ENGINE)
    assert claim(store, "other", now=later(3769)) == []

    assert len(claim(store, "other", now=later(3770))) == 1

    assert not renew(owner=ENGINE)
    store.transients.recalled(transient.id, who=ME, why="needed", now=later(3771))
    assert not renew(owner="other")


def test_that_it_is_called_back_is_kept(store: Store) -> None:
    """Whoever has claimed it, and it is due at once; the next time that it leaves nothing of it is left."""
    transient = leaving(store)
    note = partial(store.transients.note_recall, transient.id, who=ME, now=later(3700))
    assert store.transients.recall_noted(transient.id) is None
    store.transients.look_again(transient.id, later(9000), "the catalog is away", owner=ENGINE, now=later(3700))
    note(why="a look")
    noted = note(why="plots (or so)")

    (refusal_,) = noted.refusals
    assert refusal_.check == "recalled"
    assert f"muleteer transient recall {transient.id}" in refusal_.text
    assert store.transients.recall_noted(transient.id) == (ME, "plots (or so)")
    (claimed,) = claim(store, now=later(3701))
    store.transients.look_again(claimed.id, later(3800), "the catalog is away", owner=ENGINE, now=later(3701))
    assert standing(store).refusals == (refusal_,)
    store.transients.recalled(transient.id, who=ME, why="plots", now=later(4000))
    assert (standing(store).refusals, store.transients.recall_noted(transient.id)) == ((), None)
    with pytest.raises(NotAllowed, match="only what is leaving can be recalled"):
        note(why="again")
    put_down(store, release(), now=later(5000))
    (again,) = claim(store, now=later(9999))
    assert begin(store, again, now=later(9999))
    assert standing(store).refusals == ()


def test_what_cannot_be_called_back_goes_on_leaving(store: Store) -> None:
    """It is written down; and it can be called back once more."""
    transient = leaving(store)
    store.transients.note_recall(transient.id, who=ME, why="plots", now=later(3700))

    store.transients.drop_recall(transient.id, who="leaver", why="it is gone", now=later(3701))

    found = standing(store)
    assert (found.state, found.refusals, found.reason) == ("leaving", (), "it is gone")
    assert store.transients.recall_noted(transient.id) is None
    last = store.journal.of("transient", transient.id)[-1]
    assert (last.who, last.why, last.to_state) == ("leaver", "it is gone", "leaving")
    with pytest.raises(NotFound):
        store.transients.note_recall(TransientId(99), who=ME, why="plots", now=later(3700))


def test_what_it_was_taken_out_of_is_kept(store: Store) -> None:
    """Each once, in order; of an earlier time that it was to leave nothing."""
    transient = leaving(store)
    boxes = [Did("sphenix", "ALL_%"), Did("sphenix", "A")]
    for box in (*boxes, boxes[0]):
        store.transients.note_container(transient.id, box, who="leaver", now=later(3700))
    assert store.transients.containers_noted(transient.id) == boxes

    store.transients.recalled(transient.id, who=ME, why="plots", now=later(4000))
    put_down(store, release(), now=later(5000))
    (again,) = claim(store, now=later(9999))
    begin(store, again, now=later(9999))

    assert store.transients.containers_noted(transient.id) == []


def test_many_copies_come_from_afar_without_a_transaction_being_open(store: Store) -> None:
    """The store can be written to while they are fetched; more than fit into one statement."""
    put_down(store, release())
    (claimed,) = claim(store)

    def fetched() -> Iterator[Copy]:
        for number in range(12_000):
            if number % 4_000 == 0:
                see(store, refusal(hits(number)))
            yield copy(number)

    assert store.transients.begin_leaving(claimed.id, fetched(), owner=ENGINE, who="leaver", now=later(3600))

    numbers = [number for number, _ in store.transients.copies(claimed.id, limit=20_000)]
    assert numbers == list(range(12_000))
    assert store.transients.fates(claimed.id) == (0, 0, 0, 12_000)


def test_a_worker_that_died_while_it_listed_copies_leaves_nothing_behind(store: Store) -> None:
    """The next one begins its list anew: no copy of the first list is among them."""
    put_down(store, release())
    (claimed,) = claim(store)

    def dying() -> Iterator[Copy]:
        yield from (copy(number) for number in range(7_000))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.transients.begin_leaving(claimed.id, dying(), owner=ENGINE, who="leaver", now=later(3600))
    assert standing(store).state is RELEASED
    (again,) = claim(store, "two", now=later(9999))
    assert begin(store, again, [copy(3)], owner="two", now=later(9999))

    assert store.transients.copies(again.id) == [(0, copy(3))]


def test_what_is_no_longer_proved_is_held(store: Store) -> None:
    """With what speaks against it now, and as if it had not been released."""
    put_down(store, release())
    (claimed,) = claim(store)
    new = Refusal("successor", "sphenix:S is open again")

    assert store.transients.refuse(claimed.id, [new], owner=ENGINE, who="leaver", now=later(3601))

    found = standing(store)
    assert (found.state, found.refusals, found.released_at, found.release) == (HELD, (new,), None, None)
    assert found.reason == "no longer proved: sphenix:S is open again"
    assert store.transients.released_since(later(-1)).datasets == 0


# On its way.


def test_what_became_of_copies_is_kept(store: Store) -> None:
    """Page by page, and only those that are open if that is asked."""
    transient = leaving(store, copies=[copy(number) for number in range(5)])

    store.transients.settle_copies(transient.id, {0: "gone", 2: "gone", 3: "stays: locked\0"})

    assert [number for number, _ in store.transients.copies(transient.id, after=1, limit=2)] == [2, 3]
    assert [number for number, _ in store.transients.copies(transient.id, unsettled=True)] == [1, 4]
    assert [each.fate for _, each in store.transients.copies(transient.id)] == [
        "gone",
        None,
        "gone",
        "stays: locked\\0",
        None,
    ]
    assert store.transients.fates(transient.id)._asdict() == {"gone": 2, "gone_bytes": 1000, "staying": 1, "open": 2}
    store.transients.settle_copies(transient.id, {})


def test_a_look_is_put_off_and_its_reason_told_once(store: Store) -> None:
    """Nobody gets it before; the journal hears of it when it says something else than figures."""
    transient = leaving(store)
    for at, left in ((60, "12,000"), (120, "2")):
        assert store.transients.look_again(transient.id, later(7200 + at), f"{left} copies left", owner=ENGINE, now=NOW)
        assert claim(store, now=later(7199 + at)) == []
        assert len(claim(store, now=later(7200 + at), lease=1)) == 1

    store.transients.look_again(transient.id, later(9999), "1 copy left", owner=ENGINE, now=later(8000))

    told = [why for _, _, why in history(store, transient)]
    assert told[-3:] == ["proved once more", "12,000 copies left", "1 copy left"]
    assert (standing(store).state, standing(store).reason) == (LEAVING, "1 copy left")


def test_one_that_is_released_can_be_put_off_too(store: Store) -> None:
    """The catalog is away, say: nothing speaks against it, and nothing can be proved."""
    put_down(store, release())
    (claimed,) = claim(store)

    assert store.transients.look_again(claimed.id, later(7200), "the catalog is away", owner=ENGINE, now=later(3600))

    assert claim(store, now=later(7199)) == []
    assert [each.reason for each in claim(store, now=later(7200))] == ["the catalog is away"]


def test_what_has_gone_is_gone(store: Store) -> None:
    """With what was freed; once, and only if it was leaving."""
    transient = leaving(store)

    def gone(which: Transient, now: datetime) -> bool:
        freed = {"freed_files": 3, "freed_bytes": 1 << 40}
        return store.transients.gone(which.id, who="leaver", why="verified", now=now, **freed)

    assert gone(transient, later(8000))
    assert not gone(transient, later(9000))

    found = standing(store)
    assert (found.state, found.gone_at, found.freed_files, found.freed_bytes) == (GONE, later(8000), 3, 1 << 40)
    assert claim(store, now=later(99_999)) == []
    (other,) = put_down(store, release(hits(2)))
    assert not gone(other, NOW)
    assert not store.transients.recalled(other.id, who=ME, why="x", now=NOW)


def test_what_is_recalled_is_held_and_can_be_released_again(store: Store) -> None:
    """The reason says what has gone; the list of copies is the next time's own."""
    transient = leaving(store, copies=[copy(0), copy(1)])
    store.transients.settle_copies(transient.id, {0: "gone"})

    assert store.transients.recalled(transient.id, who=ME, why="1 of 2 files has gone", now=later(4000))

    found = standing(store)
    assert (found.state, found.reason) == (HELD, "1 of 2 files has gone")
    assert len(store.transients.copies(found.id)) == 2
    put_down(store, release(), now=later(5000))
    (again,) = claim(store, now=later(9999))
    assert begin(store, again, [copy(1)], now=later(9999))
    assert store.transients.copies(found.id) == [(0, copy(1))]


def test_whoever_recalls_takes_it_from_nobody(store: Store) -> None:
    """Even during a stop; but not while a living owner is at work on it, nor if it is not leaving."""
    transient = leaving(store)
    _stop(store)
    with pytest.raises(NotAllowed, match=f"{ENGINE} works on {HITS} just now"):
        store.transients.claim(transient.id, owner="recall", now=later(3601), lease=MINUTE)

    assert store.transients.claim(transient.id, owner="recall", now=later(3660), lease=MINUTE).id == transient.id

    assert not store.transients.look_again(transient.id, later(9999), "still there", owner=ENGINE, now=later(3661))
    store.transients.recalled(transient.id, who=ME, why="1 has gone", now=later(3662))
    with pytest.raises(NotAllowed, match="is held: only what is leaving can be recalled"):
        store.transients.claim(transient.id, owner="recall", now=later(9999), lease=MINUTE)
    with pytest.raises(NotFound):
        store.transients.claim(TransientId(99), owner="recall", now=NOW, lease=MINUTE)
