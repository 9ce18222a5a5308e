"""What the store promises of messages, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from hashlib import sha256
from itertools import permutations
from typing import Any

import pytest

from orchestrator.core.matching import RuleSet
from orchestrator.store.intake import Arrival, Intake
from orchestrator.store.messages import Filter
from orchestrator.store.port import NotAllowed, NotFound
from orchestrator.store.store import Store
from schemas.message import Message, MessageDetail, MessageId, MessageState
from tests.unit.making import FRAMES, NAME, NOW, SCOPE, UNMATCHED, body, frame, later, rule

P, D, S = MessageState.PENDING, MessageState.DISPATCHED, MessageState.SUPERSEDED


def take_in(store: Store, *arrivals: Arrival) -> Intake:
    return store.messages.take_in(arrivals, origin="broker", now=NOW)


def oldest_first(store: Store) -> Sequence[Message]:
    return store.messages.list(newest_first=False, limit=1000)


def by_time(store: Store) -> Sequence[Message]:
    return sorted(oldest_first(store), key=lambda each: str(each.created_at))


def standing(store: Store) -> list[tuple[Any, ...]]:
    """Where every event stands, in order of time."""
    return [(each.event_type, each.state, each.incarnation, each.generation) for each in by_time(store)]


def dispatch_all(store: Store) -> None:
    """Judge everything pending by a rule that wants every close."""
    revision = store.rules.apply([rule()], prune=False, who="test", now=NOW).revision
    _, versions = store.rules.in_force()
    judging = RuleSet(revision, versions, UNMATCHED)
    store.dispatches.judge(judging, now=NOW, limit=1000, again_after=MessageId(0))


def test_every_real_frame_is_taken_in_as_it_came(store: Store) -> None:
    """Headers and body are kept to the byte, and the counts, which PostgreSQL's Rucio writes as floats, as whole."""
    arrivals = [Arrival(sample["headers"], sample["body"].encode()) for sample in FRAMES]

    taken = take_in(store, *arrivals)

    assert taken == Intake(stored=44)
    kept = list(store.messages.export())
    assert [Arrival(each.headers, each.body) for each in kept] == arrivals
    first = kept[0]
    assert (first.event_type, first.did and first.did.name, first.created_at) == ("close", "DST_C", NOW)
    assert (first.bytes, first.length, first.events) == (3900, 3, 123)
    assert (first.received_at, first.origin, first.duplicates, first.judged_revision) == (NOW, "broker", 0, -1)
    assert {each.state for each in kept if each.event_type != "close"} == {P}


def test_what_arrives_again_is_counted_on_the_row_that_is_there(store: Store) -> None:
    """hermes sends a batch again with new message-ids: within a batch and across batches it is the same message."""
    again = Arrival({"message-id": "another"}, body())

    first = take_in(store, frame(), again, frame())
    second = take_in(store, again, frame("open", at=later(-1)))

    assert (first, second) == (Intake(stored=1, duplicates=2), Intake(stored=1, duplicates=1))
    assert [each.duplicates for each in oldest_first(store)] == [3, 0]
    assert store.messages.get(MessageId(1)).headers == {"event_type": "close"}


def test_what_cannot_be_read_is_kept_in_quarantine(store: Store) -> None:
    """With the reason, as it came; a second time it is a duplicate; and it stands in nobody's way."""
    broken = Arrival({"event_type": "close"}, b'{"event_type": "close", "payload": {"sc\xff\0')

    taken = take_in(store, broken, frame(), broken)

    assert taken == Intake(stored=2, duplicates=1, quarantined=1)
    kept = store.messages.get(MessageId(1))
    assert (kept.state, kept.body, kept.event_type, kept.did) == (MessageState.QUARANTINED, broken.body, None, None)
    assert kept.reason == "the body is not UTF-8: byte 39 cannot be decoded"


def random_word(size: int) -> str:
    """Letters that no index can compress, of four bytes each."""
    chance = random.Random(size)
    return "".join(chr(0x10000 + chance.randrange(0xFFFF)) for _ in range(size))


@pytest.mark.parametrize(
    "poison",
    [
        b"",
        b"\0" * 100,
        b"x" * (10 * 1024 * 1024),
        body(name="N", note="x" * 1_000_000),
        body(scope="s" * 1000, name="n" * 1000),
        body(scope=sha256(b"1").hexdigest() * 15, name=sha256(b"2").hexdigest() * 15),
        body(scope=random_word(250), name=random_word(250)),
        body(scope=random_word(1000), name=random_word(1000)),
        body("rule_ok", nest="HERE").replace(b'"HERE"', b"[" * 700 + b"]" * 700),
        body(name="\ud800"),
        body(name="a\0"),
        body(account="a\0"),
        body(name="N", account=random_word(10_000)),
        body(name="N", bytes=2**63, length=-(2**63), events=1e308),
        body("x" * 1000),
        body().replace(b"2026", b"0001"),
        body().replace(b"2026", b"9999"),
        body().replace(b"2026-11-22 01:13:40.292656", b"9999-12-31 23:59:59.999999"),
    ],
    ids=lambda raw: f"{raw[:40]!r}-{len(raw)}",
)
def test_no_frame_can_stop_the_intake(store: Store, poison: bytes) -> None:
    """Whatever is in a frame, it is stored or quarantined, byte for byte, together with those around it."""
    taken = take_in(store, frame(), Arrival({}, poison), frame("open", at=later(1)))

    assert taken.stored == 3
    assert store.messages.get(MessageId(2)).body == poison
    assert len(store.messages.list(Filter(scope="*", name="*"))) + taken.quarantined == 3


# A dataset's life.

LIFE = [
    frame("create_dts", at=later(0)),
    frame("close", at=later(1)),
    frame("open", at=later(2)),
    frame("close", at=later(3)),
    frame("erase", at=later(4)),
]
SETTLED = [
    ("create_dts", P, 1, 1),
    ("close", S, 1, 1),
    ("open", P, 1, 2),
    ("close", S, 1, 2),
    ("erase", P, 1, 2),
]


def test_a_close_that_was_overtaken_is_superseded_and_says_by_what(store: Store) -> None:
    """A pending close of a dataset that was opened again no longer describes it; the journal says when and why."""
    take_in(store, *LIFE[:2])
    take_in(store, LIFE[2])

    assert [each.state for each in oldest_first(store)] == [P, S, P]
    why = f"opened again at {later(2):%Y-%m-%d %H:%M:%S.%f} UTC"
    assert store.messages.get(MessageId(2)).reason == why
    last = store.journal.of("message", 2)[-1]
    assert (last.who, last.from_state, last.to_state, last.why) == ("listener", P, S, why)


def test_every_order_of_arrival_ends_the_same(store: Store) -> None:
    """All 120 orders of five events, cut into batches anywhere, settle the dataset in the same way."""
    chance = random.Random(5)
    orders = list(permutations(range(5)))
    for number, order in enumerate(orders):
        name = f"DS-{number:03d}"
        cuts = sorted(chance.sample(range(1, 5), chance.randrange(5)))
        for start, end in zip([0, *cuts], [*cuts, 5], strict=True):
            events = [("create_dts", "close", "open", "close", "erase")[at] for at in order[start:end]]
            take_in(
                store, *(frame(each, name, at=later(at)) for each, at in zip(events, order[start:end], strict=True))
            )

    lives: dict[str | None, list[tuple[Any, ...]]] = {}
    for each in by_time(store):
        lives.setdefault(each.name, []).append((each.event_type, each.state, each.incarnation, each.generation))
    assert len(lives) == 120
    assert [name for name, life in lives.items() if life != SETTLED] == []


def test_a_dispatched_close_keeps_its_state_and_history_when_the_dataset_is_opened_again(store: Store) -> None:
    """What was started stays on record; only the next generation's close is pending."""
    take_in(store, *LIFE[:2])
    dispatch_all(store)
    history = store.journal.of("message", 2)

    take_in(store, *LIFE[2:4])

    assert standing(store)[1] == ("close", D, 1, 1)
    assert standing(store)[3] == ("close", P, 1, 2)
    assert store.journal.of("message", 2) == history
    assert [each.state for each in store.dispatches.list(message_id=MessageId(2))] == ["ready"]


def test_an_erase_marks_and_never_deletes(store: Store) -> None:
    """After an erase all events are there, and what was dispatched before is what was dispatched."""
    take_in(store, *LIFE[:2])
    dispatch_all(store)

    take_in(store, LIFE[4], frame("erase", at=later(5)))

    assert standing(store) == [
        ("create_dts", MessageState.DROPPED, 1, 1),
        ("close", D, 1, 1),
        ("erase", P, 1, 1),
        ("erase", P, 1, 1),
    ]


def test_a_name_that_is_created_again_is_another_dataset(store: Store) -> None:
    """Its close is pending whatever became of the first one of that name."""
    take_in(store, *LIFE[:2])
    dispatch_all(store)

    take_in(store, LIFE[4], frame("create_dts", at=later(5)), frame("close", at=later(6)))

    assert standing(store)[-1] == ("close", P, 2, 1)
    assert standing(store)[1] == ("close", D, 1, 1)


def test_datasets_of_other_scopes_and_names_do_not_touch_each_other(store: Store) -> None:
    """Opening one dataset supersedes the close of that dataset alone."""
    take_in(store, frame(), frame(name="OTHER"), frame(scope="user.x"))

    take_in(store, frame("open", at=later(1)))

    assert [each.state for each in oldest_first(store)] == [S, P, P, P]


def test_an_event_that_concerns_the_files_does_not_touch_the_life(store: Store) -> None:
    """A detach has no place in a life, and overtakes no close."""
    take_in(store, frame(), frame("detach", at=later(1), child_name="f"))

    assert standing(store) == [("close", P, 1, 1), ("detach", P, None, None)]


def test_intakes_that_overlap_settle_as_one(store: Store) -> None:
    """Eight threads take in parts of the same lives at once; every life ends as if they had come in turn."""
    names = [f"DS-{number}" for number in range(12)]
    arrivals = [
        frame(event, name, at=later(at))
        for name in names
        for at, event in enumerate(("create_dts", "close", "open", "close", "erase"))
    ]
    random.Random(8).shuffle(arrivals)
    failures: list[Exception] = []

    def take(part: Sequence[Arrival]) -> None:
        try:
            for at in range(0, len(part), 3):
                take_in(store, *part[at : at + 3])
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=take, args=(arrivals[start::4] * 2,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    lives: dict[str | None, list[tuple[Any, ...]]] = {name: [] for name in names}
    for each in by_time(store):
        lives[each.name].append((each.event_type, each.state, each.incarnation, each.generation))
    assert [name for name, life in lives.items() if life != SETTLED] == []
    assert {each.duplicates for each in oldest_first(store)} == {1}


# Brought from elsewhere.


def restore(store: Store, *carried: tuple[Arrival, MessageState | None]) -> Intake:
    return store.messages.restore(carried, origin="import", who="cli:me", now=NOW)


def test_what_is_restored_stands_where_it_stood(store: Store) -> None:
    """Dispatched stays dispatched, dropped stays dropped; what the file says nothing of begins anew."""
    states = [P, D, MessageState.DROPPED, MessageState.HELD, S, None]

    restore(store, *((frame(name=f"DS-{number}"), state) for number, state in enumerate(states)))

    assert [each.state for each in oldest_first(store)] == [*states[:5], P]
    assert store.messages.get(MessageId(2)).reason == "was dispatched where it came from"
    assert store.journal.of("message", 2)[-1].who == "cli:me"


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "one by one"])
def test_a_whole_life_is_restored_as_it_stood(store: Store, together: bool) -> None:
    """A close that was dispatched before its dataset was opened again is dispatched still, however it is brought in."""
    stood = [MessageState.DROPPED, D, MessageState.DROPPED, P]
    carried = list(zip(LIFE[:4], stood, strict=True))

    for part in [carried] if together else [[each] for each in carried]:
        restore(store, *part)

    assert [each.state for each in oldest_first(store)] == stood


def test_what_is_there_already_stays_as_it_is(store: Store) -> None:
    """Bringing in an old file changes nothing of what happened since."""
    take_in(store, frame())

    taken = restore(store, (frame(), D))

    assert taken == Intake(duplicates=1)
    assert oldest_first(store)[0].state is P


def test_what_was_quarantined_is_read_again_when_it_is_restored(store: Store) -> None:
    """A body decides by itself whether it can be read; a state cannot make it readable."""
    restore(store, (Arrival({}, b"{"), D), (frame(), MessageState.QUARANTINED))

    assert [each.state for each in oldest_first(store)] == [MessageState.QUARANTINED, P]


def test_a_quarantined_message_is_mended_by_another_body(store: Store) -> None:
    """The mended copy is a new message; the broken one is kept as it came, superseded by it."""
    take_in(store, Arrival({"a": "b"}, b"{"))

    became = store.messages.reinject(MessageId(1), body(), who="cli:me", now=later(1))

    assert became == (MessageId(2), "stored")
    old, new = store.messages.get(MessageId(1)), store.messages.get(MessageId(2))
    assert (old.state, old.body, old.reason) == (S, b"{", "re-injected as message 2")
    assert (new.state, new.body, new.headers, new.origin) == (P, body(), {"a": "b"}, "inject")


def test_a_mended_body_that_arrived_before_is_that_message(store: Store) -> None:
    """No second copy is made; the broken one is superseded by the one that is there."""
    take_in(store, frame(), Arrival({}, b"{"))

    assert store.messages.reinject(MessageId(2), body(), who="cli:me", now=NOW) == (
        MessageId(1),
        "it had arrived before",
    )
    assert [each.state for each in oldest_first(store)] == [P, S]


def test_what_still_cannot_be_read_stays_in_quarantine(store: Store) -> None:
    """The answer says why, and nothing changes."""
    take_in(store, Arrival({}, b"{"))

    new, said = store.messages.reinject(MessageId(1), b"[]", who="cli:me", now=NOW)

    assert (new, said) == (None, "the body is a JSON array, not an object")
    assert store.messages.get(MessageId(1)).state is MessageState.QUARANTINED


def test_only_a_quarantined_message_can_be_injected_again(store: Store) -> None:
    """A readable message is refused with its state, an unknown one is not found."""
    take_in(store, frame())

    with pytest.raises(NotAllowed, match="message 1 is pending; only a quarantined one can be re-injected"):
        store.messages.reinject(MessageId(1), None, who="cli:me", now=NOW)
    with pytest.raises(NotFound, match="there is no message 9"):
        store.messages.reinject(MessageId(9), None, who="cli:me", now=NOW)


# Lists.


def test_a_message_is_found_whole_or_not_at_all(store: Store) -> None:
    """`get` gives everything; an unknown id is an error in words."""
    take_in(store, frame())

    assert isinstance(store.messages.get(MessageId(1)), MessageDetail)
    with pytest.raises(NotFound, match="there is no message 2"):
        store.messages.get(MessageId(2))


FILTERS: Sequence[tuple[Filter, list[str | None]]] = [
    (Filter(), ["DST_A", "dst_b", "DSTXC", "RUN%1", None]),
    (Filter(name="DST_A"), ["DST_A"]),
    (Filter(name="DST_?"), ["DST_A"]),
    (Filter(name="DST*"), ["DST_A", "DSTXC"]),
    (Filter(name="dst*"), ["dst_b"]),
    (Filter(name="dst_a"), []),
    (Filter(name="*%*"), ["RUN%1"]),
    (Filter(name="RUN%"), []),
    (Filter(name="*"), ["DST_A", "dst_b", "DSTXC", "RUN%1"]),
    (Filter(scope="user.*"), ["RUN%1"]),
    (Filter(event="open"), ["dst_b"]),
    (Filter(event="nonsense"), []),
    (Filter(states=[MessageState.QUARANTINED]), [None]),
    (Filter(states=[P], event="close", name="DST*", scope=SCOPE), ["DST_A", "DSTXC"]),
    (Filter(since=later(1)), ["RUN%1", None]),
    (Filter(until=later(1)), ["DST_A", "dst_b", "DSTXC"]),
    (Filter(since=later(2)), []),
]


def test_a_list_shows_what_fits_everything_given(store: Store) -> None:
    """Names count letter by letter, as Rucio's do; only `*` and `?` stand for others; times are of the arrival."""
    early = [frame(name="DST_A"), frame("open", name="dst_b"), frame(name="DSTXC")]
    store.messages.take_in(early, origin="broker", now=NOW)
    late = [frame(name="RUN%1", scope="user.x"), Arrival({}, b"{")]
    store.messages.take_in(late, origin="broker", now=later(1))

    for filter_, names in FILTERS:
        assert [each.name for each in store.messages.list(filter_, newest_first=False)] == names, filter_
        assert [each.name for each in store.messages.export(filter_)] == names, filter_
        assert store.messages.count(filter_) == len(names), filter_


def test_a_list_is_read_page_by_page(store: Store) -> None:
    """The last id of a page begins the next one, newest first and oldest first, without gap or repetition."""
    take_in(store, *(frame(name=f"DS-{number}") for number in range(7)))

    def pages(newest_first: bool) -> list[list[int]]:
        found: list[list[int]] = []
        last = None
        while page := store.messages.list(limit=3, before=last, newest_first=newest_first):
            found.append([each.id for each in page])
            last = page[-1].id
        return found

    assert pages(True) == [[7, 6, 5], [4, 3, 2], [1]]
    assert pages(False) == [[1, 2, 3], [4, 5, 6], [7]]


def test_an_export_is_complete_however_long(store: Store) -> None:
    """More messages than one page holds come out once each, oldest first."""
    take_in(store, *(frame(name=f"DS-{number}") for number in range(450)))

    assert [each.id for each in store.messages.export()] == list(range(1, 451))


def test_counts_say_how_many_there_are_of_each(store: Store) -> None:
    """By state, with the rules in force and the last arrival; an empty store has none of anything."""
    empty = store.counts()
    take_in(store, *LIFE[:3], Arrival({}, b"{"))
    store.rules.apply([rule("a"), rule("b", enabled=False)], prune=False, who="test", now=NOW)

    counts = store.counts()

    assert (empty.messages, empty.revision, empty.rules, empty.last_received_at) == ({}, 0, 0, None)
    assert counts.messages == {"pending": 2, "superseded": 1, "quarantined": 1}
    assert (counts.revision, counts.rules, counts.last_received_at) == (1, 1, NOW)
    assert NAME in str(oldest_first(store)[0].did)


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.messages.get(MessageId(2**63)),
        lambda store: store.messages.list(limit=1, before=2**64),
        lambda store: store.transients.list(run=10**30),
        lambda store: store.run_flags.set([2**63], "QA", who="me", reason="test", now=NOW),
    ],
)
def test_a_number_that_no_database_keeps_is_not_found(store: Store, ask: Callable[[Store], object]) -> None:
    """In a question as in a change; the store goes on."""
    with pytest.raises(NotFound, match="9,223,372,036,854,775,807 is the largest"):
        ask(store)

    assert store.run_flags.set([2**63 - 1], "QA", who="me", reason="test", now=NOW) == [2**63 - 1]
