"""What the store promises of transient datasets: what was seen of them, what is told of them, what they come to."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestrator.store.port import NotAllowed, NotFound
from orchestrator.store.store import Store
from schemas.did import Did
from schemas.transient import Refusal, TransientId, TransientState
from tests.contract.store_transients import (
    BORN,
    ENGINE,
    HITS,
    ME,
    SEED,
    begin,
    claim,
    copy,
    history,
    hits,
    leaving,
    put_down,
    refusal,
    release,
    see,
    seed,
    standing,
    states,
)
from tests.unit.making import NOW, frame, later

HELD, RELEASABLE, GONE = TransientState.HELD, TransientState.RELEASABLE, TransientState.GONE


# Seen.


def test_what_a_look_found_is_written_down(store: Store) -> None:
    """Why a dataset is held, with every reason; and that one may leave."""
    open_, young = Refusal("open", "it is open"), Refusal("age", "it is 3 days old")
    see(store, refusal(hits(1), open_, young, run=1, successor="sphenix:S"), release(hits(2)))

    held, free = standing(store, hits(1)), standing(store, hits(2))
    assert (held.state, held.reason, held.refusals) == (HELD, "it is open (and 1 more)", (open_, young))
    assert (held.policy, held.policy_version, held.run, held.files, held.bytes) == ("hits", 1, 1, 10, 5000)
    assert (held.born_at, held.successor, held.due_at, held.seen_at) == (BORN, "sphenix:S", None, NOW)
    assert (free.state, free.refusals, free.due_at) == (RELEASABLE, (), NOW - timedelta(days=16))
    assert history(store, held) == [(None, "held", "it is open (and 1 more)")]
    assert history(store, free) == [(None, "releasable", "all was proved")]


def test_the_next_look_moves_it_both_ways_and_says_why(store: Store) -> None:
    """Held becomes releasable, and releasable held; the row and the journal have the reason."""
    see(store, refusal())
    see(store, release(), now=later(60))
    assert (standing(store).state, standing(store).reason, standing(store).refusals) == (
        RELEASABLE,
        "all was proved",
        (),
    )

    see(store, refusal(HITS, Refusal("read", "launch 7 reads it")), now=later(120))

    found = standing(store)
    assert (found.state, found.reason, found.seen_at) == (HELD, "launch 7 reads it", later(120))
    assert history(store, found)[1:] == [
        ("held", "releasable", "all was proved"),
        ("releasable", "held", "launch 7 reads it"),
    ]


def test_a_look_that_finds_nothing_new_costs_nothing_in_the_journal(store: Store) -> None:
    """Only when it was seen last is noted; a new reason without a new state is on the row alone."""
    see(store, refusal())
    see(store, refusal(), now=later(60))
    assert (standing(store).seen_at, standing(store).updated_at) == (later(60), NOW)

    see(store, refusal(HITS, Refusal("age", "it is 4 days old"), policy="other", version=2), now=later(120))

    found = standing(store)
    assert (found.reason, found.policy, found.policy_version, found.updated_at) == (
        "it is 4 days old",
        "other",
        2,
        later(120),
    )
    assert len(history(store, found)) == 1


@pytest.mark.parametrize("state", ["released", "leaving", "gone"])
def test_a_look_leaves_alone_what_was_released(store: Store, state: str) -> None:
    """What was decided of it is decided elsewhere."""
    if state == "released":
        put_down(store, release())
    else:
        transient = leaving(store)
    if state == "gone":
        store.transients.gone(transient.id, who="leaver", why="gone", now=NOW, freed_files=1, freed_bytes=1)
    before = standing(store)

    see(store, refusal(policy="other"), now=later(9999))

    assert standing(store) == before
    assert before.state == state


def test_a_name_that_is_used_again_is_another_dataset(store: Store) -> None:
    """Each life has a row of its own, the newest first."""
    see(store, refusal())
    store.transients.vanished([(HITS, BORN)], who="notice", why="erased by others", now=later(5))
    see(store, release(born_at=NOW))

    newer, older = store.transients.find(HITS)
    assert (newer.state, newer.born_at, older.state, older.born_at) == (RELEASABLE, NOW, GONE, BORN)
    assert store.transients.lives([HITS, SEED]) == {HITS: [newer, older]}


def test_many_are_seen_at_once(store: Store) -> None:
    """More than go into one transaction, or into one statement."""
    looks = [refusal(hits(number)) for number in range(2_300)]

    see(store, *looks)
    see(store, *(release(hits(number)) for number in range(1_150)), *looks[1_150:])

    counted = {(each.state, each.datasets, each.bytes) for each in store.transients.counts()}
    assert counted == {(RELEASABLE, 1_150, 5_750_000), (HELD, 1_150, 5_750_000)}


def test_a_text_that_no_database_keeps_does_not_stop_a_look(store: Store) -> None:
    """What servers say may hold a NUL."""
    see(store, refusal(HITS, Refusal("unknown", "bad\0answer")))

    assert standing(store).reason == "bad\\0answer"
    assert standing(store).refusals == (Refusal("unknown", "bad\\0answer"),)


# Vanished.


def test_what_others_took_away_is_gone(store: Store) -> None:
    """Held, releasable and released alike, and only in that life; what leaves is not settled by it."""
    leaving(store, of=release(hits(4)))
    put_down(store, release(hits(3)))
    see(store, refusal(hits(1)), release(hits(2)), refusal(hits(5)))
    lives = [*((hits(number), BORN) for number in range(1, 5)), (hits(5), NOW), (SEED, BORN)]

    gone = store.transients.vanished(lives, who="notice", why="erased by others", now=later(5))

    assert sorted(each.did for each in gone) == [hits(number) for number in (1, 2, 3)]
    assert {each.state for each in gone} == {GONE}
    assert {(each.gone_at, each.freed_bytes, each.reason) for each in gone} == {(later(5), 0, "erased by others")}
    assert states(store)[hits(4).name] is TransientState.LEAVING
    assert states(store)[hits(5).name] is HELD


# Extended.


def test_an_extension_never_ends_a_longer_one_unless_that_is_meant(store: Store) -> None:
    """A rule that extends by a week leaves the year alone that a person has asked for."""
    see(store, refusal())
    store.transients.extend(HITS, later(1000), who=ME, why="analysis", now=NOW)
    store.transients.extend(HITS, later(10), who="rule", why="again", now=NOW)
    assert standing(store).extended_until == later(1000)

    found = store.transients.extend(HITS, later(20), who=ME, why="a slip", now=NOW, shorten=True)

    assert found.extended_until == later(20)
    assert [why for _, _, why in history(store, found)[1:]] == [
        "stays until 2026-11-22 01:30 UTC: analysis",
        "stays until 2026-11-22 01:14 UTC: a slip",
    ]


def test_what_is_not_known_or_leaves_cannot_be_extended(store: Store) -> None:
    """The error says what to do instead."""
    with pytest.raises(NotFound, match=r"no policy has matched sphenix:DST_HITS.*transient keep"):
        store.transients.extend(HITS, later(10), who=ME, why="analysis", now=NOW)
    leaving(store)

    with pytest.raises(NotAllowed, match=r"is leaving: `muleteer transient recall 1`"):
        store.transients.extend(HITS, later(10), who=ME, why="analysis", now=NOW)


# Reports.


def test_lists_go_page_by_page_and_by_filter(store: Store) -> None:
    """By state, policy, run, and when the age is reached."""
    see(store, refusal(hits(1), due_at=later(10)), refusal(hits(2), policy="other", due_at=later(30)))
    see(store, release(hits(3), run=7), release(hits(4)))

    def names(**filters: object) -> list[str]:
        return [each.did.name[-1] for each in store.transients.list(**filters)]  # type: ignore[arg-type]  # by name

    assert names() == ["1", "2", "3", "4"]
    assert names(states=[HELD], due_before=later(20)) == ["1"]
    assert names(policy="other") == ["2"]
    assert names(run=7) == ["3"]
    assert names(limit=2) == ["1", "2"]
    assert names(after=store.transients.find(hits(2))[0].id, limit=1) == ["3"]
    store.transients.vanished([(hits(2), BORN)], who="notice", why="erased", now=NOW)
    assert [each.did for each in store.transients.not_gone(0, 2)] == [hits(1), hits(3)]
    with pytest.raises(NotFound, match="there is no transient dataset 99"):
        store.transients.get(TransientId(99))


def test_what_was_freed_is_summed_up(store: Store) -> None:
    """By day, policy and whoever released it; what others took away is not ours."""
    day = 24 * 3600
    see(store, refusal(hits(9)))
    store.transients.vanished([(hits(9), BORN)], who="notice", why="erased", now=later(day))
    for number, at in ((1, 0), (2, day), (3, day)):
        transient = leaving(store, of=release(hits(number), seed(number)))
        done = {"freed_files": 10 * number, "freed_bytes": 100 * number}
        assert store.transients.gone(transient.id, who="leaver", why="gone", now=later(at), **done)

    freed = store.transients.freed

    assert freed(NOW, "day") == [("2026-11-22", 1, 10, 100), ("2026-11-23", 2, 50, 500)]
    assert freed(later(1), "policy") == [("hits", 2, 50, 500)]
    assert freed(NOW, "who") == [(ME, 3, 60, 600)]
    assert freed(later(2 * day), "who") == []


def test_what_had_gone_before_a_recall_was_freed(store: Store) -> None:
    """It counts from then on, and once more is added what goes when it leaves after all."""
    transient = leaving(store, copies=[copy(number) for number in range(5)])
    store.transients.settle_copies(transient.id, {0: "gone", 1: "gone", 2: "stays: shared"})
    assert store.transients.recalled(transient.id, who=ME, why="needed", now=later(5000))
    assert store.transients.freed(NOW, "who") == [(ME, 1, 2, 1000)]

    put_down(store, release(), now=later(6000))
    assert store.transients.freed(NOW, "who") == [(ME, 1, 2, 1000)]
    (again,) = claim(store, now=later(9999))
    assert begin(store, again, now=later(9999))
    assert store.transients.gone(again.id, who=ENGINE, why="gone", now=later(9999), freed_files=3, freed_bytes=1500)

    assert store.transients.freed(NOW, "who") == [(ME, 1, 5, 2500)]
    assert (standing(store).freed_files, standing(store).freed_bytes) == (5, 2500)


def test_what_others_took_after_a_recall_was_not_freed(store: Store) -> None:
    """Nothing of it had left when it was called back."""
    transient = leaving(store)
    assert store.transients.recalled(transient.id, who=ME, why="needed", now=later(5000))
    store.transients.vanished([(HITS, BORN)], who="notice", why="erased", now=later(6000))

    assert standing(store).state is TransientState.GONE
    assert store.transients.freed(NOW, "who") == []


# Told.


def take_in(store: Store, event: str, name: str, at: float = 0, **payload: object) -> None:
    store.messages.take_in([frame(event, name, scope="sphenix", at=later(at), **payload)], origin="broker", now=NOW)


def test_events_about_transient_datasets_are_found(store: Store) -> None:
    """Of the dataset, and of files that leave with one; of nothing else, and of none that is gone."""
    transient = leaving(store, copies=[copy(0), copy(1)])
    see(store, refusal(hits(2)), refusal(hits(3)))
    store.transients.vanished([(hits(3), BORN)], who="notice", why="erased", now=NOW)
    take_in(store, "erase", HITS.name)
    take_in(store, "close", HITS.name)
    take_in(store, "deletion-failed", "file-1")
    take_in(store, "deletion-done", "file-99")
    take_in(store, "lost", "elsewhere", dataset_scope="sphenix", dataset_name=hits(2).name)
    take_in(store, "detach", hits(3).name)

    heard = store.transients.told(0)

    assert [(each.message_id, each.event_type, each.did) for each in heard.told] == [
        (1, "erase", HITS),
        (3, "deletion-failed", HITS),
        (5, "lost", hits(2)),
    ]
    assert heard.told[0].transient_id == transient.id
    assert heard.until == store.transients.newest_message() == 6
    assert store.transients.told(6) == ([], 6)
    assert [(len(told), until) for told, until in [store.transients.told(1, limit=2)]] == [(1, 3)]


def test_the_events_of_one_dataset_are_shown_newest_first(store: Store) -> None:
    """Its own, and those of files that were to leave with it."""
    leaving(store, copies=[copy(0)])
    for event, name in (("detach", HITS.name), ("deletion-done", "file-0"), ("erase", "OTHER"), ("erase", HITS.name)):
        take_in(store, event, name)

    assert [each.event_type for each in store.transients.told_of(HITS)] == ["erase", "deletion-done", "detach"]
    assert [each.event_type for each in store.transients.told_of(HITS, limit=1)] == ["erase"]
    assert store.transients.told_of(Did("sphenix", "NOTHING")) == []


# What others rest on.


def test_it_is_known_what_rests_on_a_dataset(store: Store) -> None:
    """What is released and what leaves needs its successor; what is held, taken back or gone does not."""
    see(store, release(hits(1), SEED))
    put_down(store, release(hits(2), SEED))
    (three,) = put_down(store, release(hits(3), SEED))
    (four,) = put_down(store, release(hits(4), SEED))
    claim(store)
    assert begin(store, four)

    store.transients.take_back([three.id], who=ME, why="a slip", now=NOW)

    assert store.transients.resting_on([SEED, HITS]) == {SEED: [str(hits(2)), str(hits(4))]}
