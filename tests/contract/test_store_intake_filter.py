"""What the intake filter catches is recorded, and not invisible; on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.core.matching import RuleSet
from orchestrator.core.sieve import Sieve
from orchestrator.store.intake import Arrival, Intake
from orchestrator.store.journal import move
from orchestrator.store.store import Store
from orchestrator.store.tables import messages
from schemas.message import MessageId, MessageState
from tests.unit.making import NAME, NOW, UNMATCHED, body, frame, later, rule

ONE = MessageId(1)


@pytest.fixture
def filtered(store: Store, store_url: str) -> Iterator[Store]:
    """The same store, opened with a filter."""
    opened = Store.open(store_url, Sieve(accounts=["idds*"], scopes=["user.*"]))
    yield opened
    opened.close()


def judge(store: Store) -> int:
    store.rules.apply([rule(on="create_dts")], prune=True, who="test", now=NOW)
    judging = RuleSet(1, store.rules.in_force()[1], UNMATCHED)
    return store.dispatches.judge(judging, now=NOW, limit=10).judged


def test_what_the_filter_catches_is_stored_and_dropped_with_the_reason(filtered: Store) -> None:
    """Whole, counted as stored and again when it comes again, in the journal; and it is never judged."""
    caught, passed = frame("create_dts", account="idds"), frame("create_dts", "M", account="root")

    taken = filtered.messages.take_in([caught, passed, caught], origin="broker", now=NOW)

    assert taken == Intake(stored=2, duplicates=1)
    message = filtered.messages.get(ONE)
    assert (message.state, message.reason) == (MessageState.DROPPED, "intake filter: account idds")
    assert (message.account, message.name, message.duplicates, message.body) == ("idds", NAME, 1, caught.body)
    (entry,) = filtered.journal.of("message", 1)
    assert (entry.from_state, entry.to_state, entry.who) == (None, "dropped", "broker")
    assert entry.why == "intake filter: account idds"
    assert judge(filtered) == 1
    assert [each.message_id for each in filtered.dispatches.list()] == [2]


def test_a_person_can_have_it_judged_after_all(filtered: Store) -> None:
    """Dropped by the filter is dropped as by anyone else: put back, it is judged."""
    filtered.messages.take_in([frame("create_dts", account="idds")], origin="broker", now=NOW)
    with filtered.database.write() as connection:
        pending = MessageState.PENDING
        move(connection, messages, [1], MessageState.DROPPED, pending, who="cli:me", why="wanted", at=NOW, reason=None)

    assert judge(filtered) == 1
    assert [each.message_id for each in filtered.dispatches.list()] == [1]


def test_the_filter_does_not_hide_what_happens_to_datasets(filtered: Store) -> None:
    """An opening that is put away still overtakes the close before it, and a close that is overtaken says by what."""
    frames = [frame(scope="user.me", at=later(second)) for second in (1, 3)]
    opening = frame("open", scope="user.me", at=later(2))

    filtered.messages.take_in([frames[0], opening, frames[1]], origin="broker", now=NOW)

    found = filtered.messages.list(newest_first=False)
    assert [(each.state, each.generation) for each in found] == [("superseded", 1), ("dropped", 2), ("dropped", 2)]


def test_what_cannot_be_read_is_quarantined_and_what_is_mended_is_filtered(filtered: Store) -> None:
    """The filter goes by what an event says, so it has no say before the event can be read, and its say then."""
    filtered.messages.take_in([Arrival({}, b"{")], origin="broker", now=NOW)

    filtered.messages.reinject(ONE, body("create_dts", account="idds"), who="cli:me", now=NOW)

    assert [each.state for each in filtered.messages.list()] == ["dropped", "superseded"]


def test_what_is_brought_in_from_elsewhere_stands_where_it_stood(filtered: Store) -> None:
    """The filter is for what comes: an imported message that was dispatched stays so, one that stood nowhere came."""
    stood = [MessageState.DISPATCHED, MessageState.PENDING, None]
    carried = [(frame("create_dts", f"DS-{state}", account="idds"), state) for state in stood]

    filtered.messages.restore(carried, origin="import", who="cli:me", now=NOW)

    found = filtered.messages.list(newest_first=False)
    assert [each.state for each in found] == ["dispatched", "pending", "dropped"]
