"""What the store promises of waiting rooms, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from orchestrator.core.by_hand import Hand, MessageVerb
from orchestrator.core.matching import RuleSet
from orchestrator.dispatch.dispatcher import Dispatcher
from orchestrator.store.dispatches import Judged
from orchestrator.store.journal import move
from orchestrator.store.launches import Intent
from orchestrator.store.messages import Filter
from orchestrator.store.port import NotAllowed, NotFound
from orchestrator.store.restraints import write_products
from orchestrator.store.rooms import RoomFilter
from orchestrator.store.store import Store
from orchestrator.store.tables import launches, messages
from schemas.did import Did
from schemas.dispatch import DispatchId
from schemas.message import Message, MessageId, MessageState
from schemas.room import RoomDetail, RoomId, RoomState
from schemas.rule import Rule
from tests.contract.test_store_dispatches import at_once
from tests.unit.making import NOW, SCOPE, UNMATCHED, frame, later, rule

WORDS = "{key} {round} {members} {missing}"


def joining(name: str = "both", slots: str = "abc", *, fields: Mapping[str, Any] | None = None, **join: Any) -> Rule:
    """A rule that joins datasets `a-7`, `b-7`, `c-7` and says with what it starts."""
    members = {slot: rf"{slot}(?P<copy>\d?)-(?P<run>\d+)" for slot in slots}
    document = rule(name, ".*", {"run": {"command": ["do", WORDS]}}).document() | dict(fields or {})
    return Rule.model_validate(document | {"join": {"key": "{run}", "members": members, **join}})


def arrive(store: Store, *names: str, at: float = 0, event: str = "close") -> None:
    store.messages.take_in([frame(event, name, at=later(at)) for name in names], origin="broker", now=NOW)


def apply(store: Store, *rules: Rule) -> None:
    store.rules.apply([*rules, rule("nobody", "nothing")], prune=True, who="test", now=NOW)


def judge(store: Store, *, now: datetime = NOW, limit: int = 100) -> Judged:
    revision, versions = store.rules.in_force()
    judging = RuleSet(revision, versions, UNMATCHED)
    return store.dispatches.judge(judging, now=now, limit=limit)


def started(store: Store, of: str = "both") -> Sequence[str]:
    """What the rule was started with, oldest first."""
    return [each.options["command"][1] for each in reversed(store.dispatches.list(rule=of, limit=10_000))]


def one(store: Store, name: str) -> Message:
    """The last message about this dataset."""
    return next(each for each in store.messages.list(limit=1000) if each.name == name)


def room(store: Store, id_: int = 1) -> RoomDetail:
    return store.rooms.get(RoomId(id_))


def test_members_wait_pending_until_all_are_there_and_start_the_actions_once(store: Store) -> None:
    """In whatever order and batches they come; the dispatch points at the first slot's message and knows its room."""
    apply(store, joining())
    arrive(store, "c-7", "a-7", "b-8")

    assert judge(store).dispatches == ()
    waiting = one(store, "a-7")
    arrive(store, "b-7")
    done = judge(store)

    assert (waiting.state, waiting.reason) == ("pending", "waits in room 1 of rule both for 7; missing when it came: b")
    assert started(store) == ["7 1 a-7,b-7,c-7 "]
    found = store.dispatches.get(done.dispatches[0])
    assert found.message_id == one(store, "a-7").id == room(store).message_id
    assert (found.captured["room"], found.captured["b"], found.captured["run"]) == ("1", "b-7", "7")
    for name in ("a-7", "b-7", "c-7"):
        assert (one(store, name).state, one(store, name).reason) == (
            "dispatched",
            "dispatched with room 1 of rule both for 7",
        )
    assert one(store, "b-8").state == "pending"
    assert [(each.to_state, each.why) for each in store.journal.of("room", 1)] == [
        ("open", "rule both"),
        ("dispatched", "it is complete"),
    ]


def test_a_member_that_is_opened_again_leaves_and_comes_back_when_it_is_closed(store: Store) -> None:
    """The room waits for it again; its superseded message stays listed with the room."""
    apply(store, joining(slots="ab"))
    arrive(store, "a-7")
    judge(store)
    arrive(store, "a-7", at=5, event="open")
    arrive(store, "b-7", at=6)
    judge(store)

    assert (room(store).arrived, room(store).missing) == (("b",), ("a",))
    assert started(store) == []
    arrive(store, "a-7", at=9)
    judge(store)
    assert started(store) == ["7 1 a-7,b-7 "]
    assert [(each.slot, each.state, each.left_at) for each in room(store).members] == [
        ("a", "superseded", NOW),
        ("b", "dispatched", None),
        ("a", "dispatched", None),
    ]


def test_of_several_datasets_in_a_slot_the_newest_is_taken(store: Store) -> None:
    """The older one is dropped with the reason, and not before the room is settled."""
    apply(store, joining(slots="ab"))
    arrive(store, "a2-7", at=9)
    arrive(store, "a1-7", at=3)
    judge(store)
    before = one(store, "a1-7").state
    arrive(store, "b-7")
    judge(store)

    assert before == "pending"
    assert started(store) == ["7 1 a2-7,b-7 "]
    assert one(store, "a1-7").state == "dropped"
    assert "room 1 of rule both for 7 went without it: it took message 1 for a" in str(one(store, "a1-7").reason)
    left = {each.message_id: each.left_at is not None for each in room(store).members}
    assert left == {one(store, "a2-7").id: False, one(store, "a1-7").id: True, one(store, "b-7").id: False}


def test_another_rule_fires_meanwhile_and_another_room_keeps_a_member_pending(store: Store) -> None:
    """A message in two rooms is dispatched when both are settled; what each started is started once."""
    apply(store, joining("ab", "ab"), joining("ac", "ac"), rule("alone", "a.*"))
    arrive(store, "a-7", "b-7")
    judge(store)
    between = one(store, "a-7")
    b = one(store, "b-7").state
    arrive(store, "c-7")
    judge(store)

    assert (between.state, b) == ("pending", "dispatched")
    assert str(between.reason).startswith("matched by alone; dispatched with room 1 of rule ab for 7; waits in room 2")
    assert one(store, "a-7").state == "dispatched"
    assert (started(store, "ab"), started(store, "ac")) == (["7 1 a-7,b-7 "], ["7 1 a-7,c-7 "])
    assert len(store.dispatches.list(rule="alone")) == 1


def intent(dispatch: DispatchId, outputs: Mapping[str, str]) -> Intent:
    """A launch that is meant to be made for a dispatch of the rule `both`, about `a-7`."""
    return Intent(
        key="made",
        name="made",
        dispatch_id=dispatch,
        workflow="w",
        parameters={},
        inputs={},
        outputs=outputs,
        engine="local",
        steps=(),
        rule="both",
        source=Did(SCOPE, "a-7"),
    )


# Deadlines and late arrivals.


@pytest.mark.parametrize(
    ("policy", "state", "message", "with_"),
    [
        ("dispatch", "dispatched", "dispatched", ["7 1 a-7 b,c"]),
        ("drop", "dropped", "dropped", []),
        ("alert", "overdue", "pending", []),
    ],
)
def test_a_deadline_is_settled_by_its_policy(
    store: Store, policy: str, state: str, message: str, with_: Sequence[str]
) -> None:
    """From the moment the room was opened, not a microsecond earlier; whoever looks then."""
    apply(store, joining(deadline="24h", at_deadline=policy))
    arrive(store, "a-7")
    judge(store)
    day = NOW + timedelta(days=1)

    judge(store, now=day - timedelta(microseconds=1))
    assert (room(store).state, room(store).deadline) == ("open", day)
    assert store.rooms.next_look(NOW) == day
    alerts = judge(store, now=day).alerts

    assert (room(store).state, one(store, "a-7").state, started(store)) == (state, message, with_)
    assert bool(alerts) is (policy == "alert")
    assert store.rooms.next_look(day) is None
    assert judge(store, now=day + timedelta(days=9)) == Judged()


def test_an_overdue_room_goes_on_waiting(store: Store) -> None:
    """What it missed completes it, however late."""
    apply(store, joining(slots="ab", deadline=5))
    arrive(store, "a-7")
    judge(store)
    judge(store, now=later(5))
    arrive(store, "b-7")
    judge(store, now=later(99))

    assert (room(store).state, started(store)) == ("dispatched", ["7 1 a-7,b-7 "])


def test_a_dispatcher_that_was_away_counts_what_came_meanwhile(store: Store) -> None:
    """Messages are judged before deadlines are looked at."""
    apply(store, joining(slots="ab", deadline=5, at_deadline="drop"))
    arrive(store, "a-7")
    judge(store)
    arrive(store, "b-7")

    judge(store, now=later(1000))

    assert started(store) == ["7 1 a-7,b-7 "]


def test_the_dispatcher_settles_rooms_by_its_own_clock(store: Store) -> None:
    """It looks without having been called, and says what people should hear of."""
    moment = [NOW]
    dispatcher = Dispatcher(store, UNMATCHED, clock=lambda: moment[0])
    apply(store, joining(deadline="2s", at_deadline="dispatch"))
    arrive(store, "a-7")
    dispatcher.judge_batch()

    dispatcher.judge_batch()
    assert started(store) == []
    moment[0] = later(2)
    dispatcher.judge_batch()
    assert started(store) == ["7 1 a-7 b,c"]


def test_what_comes_late_begins_another_round_with_all_that_is_known(store: Store) -> None:
    """Each round is dispatched once, points at what was new in it, and has the next number."""
    apply(store, joining(need=1, late="dispatch"))
    arrive(store, "b-7", "a-7", "c-7")
    judge(store)

    assert started(store) == ["7 1 b-7 a,c", "7 2 a-7,b-7 c", "7 3 a-7,b-7,c-7 "]
    assert [one(store, name).id for name in ("b-7", "a-7", "c-7")] == [
        each.message_id for each in reversed(store.dispatches.list())
    ]


def test_what_comes_late_may_be_ignored(store: Store) -> None:
    """It is dropped, with the reason."""
    apply(store, joining(need=2, late="ignore"))
    arrive(store, "a-7", "b-7", "c-7")
    judge(store)

    assert started(store) == ["7 1 a-7,b-7 c"]
    assert one(store, "c-7").state == "dropped"
    assert one(store, "c-7").reason == "came after room 1 of rule both for 7 was dispatched, and is ignored"


def test_what_comes_late_may_be_held_for_a_person_who_releases_it(store: Store) -> None:
    """The alert says so; released, it begins another round."""
    apply(store, joining(need=2, late="alert"))
    arrive(store, "a-7", "b-7", "c-7")
    alerts = judge(store).alerts
    held = one(store, "c-7")
    with store.database.write() as connection:
        states = (MessageState.HELD, MessageState.PENDING)
        move(connection, messages, [held.id], *states, who="me", why="go", at=NOW, judged_revision=0)
    judge(store)

    assert held.state == "held"
    assert len(alerts) == 1
    assert f"message {held.id} ({SCOPE}:c-7) came after room 1" in alerts[0]
    assert started(store) == ["7 1 a-7,b-7 c", "7 2 a-7,b-7,c-7 "]
    assert one(store, "c-7").state == "dispatched"


# What holds for any dispatch.


def test_a_dataset_that_the_rule_had_a_part_in_making_never_comes_in(store: Store) -> None:
    """Dropped with the reason; the room waits for another."""
    apply(store, joining(slots="ab"))
    with store.database.write() as connection:
        blank = dict.fromkeys(("parameters", "inputs", "outputs", "steps"), "{}")
        row = {"key": "k", "name": "n", "workflow": "w", "engine": "e", "state": "finished", **blank}
        connection.execute(launches.insert().values(**row, id=1000, created_at=NOW, updated_at=NOW))
        write_products(connection, 1000, [Did(SCOPE, "a-7")], "both", None)
    arrive(store, "a-7", "b-7")
    judge(store)

    assert one(store, "a-7").state == "dropped"
    assert "never starts on that" in str(one(store, "a-7").reason)
    assert (room(store).arrived, started(store)) == (("b",), [])


def test_what_a_room_makes_descends_from_all_its_members(store: Store) -> None:
    """The loop guard knows the rules that made any of them, not only the one that the dispatch points at."""
    apply(store, joining(slots="ab"), rule("first", "b.*x"), rule("other", "made"))
    with store.database.write() as connection:
        blank = dict.fromkeys(("parameters", "inputs", "outputs", "steps"), "{}")
        row = {"key": "k", "name": "n", "workflow": "w", "engine": "e", "state": "finished", **blank}
        connection.execute(launches.insert().values(**row, id=1000, created_at=NOW, updated_at=NOW))
        write_products(connection, 1000, [Did(SCOPE, "b-7")], "first", None)
    arrive(store, "a-7", "b-7")
    (dispatch,) = judge(store).dispatches
    store.launches.intend(intent(dispatch, {f"{SCOPE}:made": "out"}), who="test", now=NOW)
    apply(store, rule("first", "made"), rule("both", "made"), rule("other", "made"))
    arrive(store, "made")
    judge(store)

    assert [each.rule for each in store.dispatches.list(message_id=one(store, "made").id)] == ["other"]


def test_a_prescale_counts_rooms(store: Store) -> None:
    """The first of every so many is carried out; of the others the members are dropped, with the number."""
    apply(store, joining(slots="ab", fields={"prescale": 2}))
    arrive(store, "a-1", "b-1", "a-2", "b-2", "a-3", "b-3")
    judge(store)

    assert started(store) == ["1 1 a-1,b-1 ", "3 1 a-3,b-3 "]
    assert room(store, 2).state == "dropped"
    assert "1 of 2 matches, and this was its number 2" in str(one(store, "a-2").reason)


def test_a_unique_key_holds_for_rooms(store: Store) -> None:
    """A later round with the key of an earlier one is refused; with the round in the key it is not."""
    apply(store, joining(need=1, late="dispatch", fields={"unique": "x-{key}"}))
    arrive(store, "a-7", "b-7")
    judge(store)

    assert [each.state for each in store.dispatches.list()] == ["refused", "ready"]


def test_a_room_that_cannot_be_filled_in_waits_for_the_rule_to_be_mended(store: Store) -> None:
    """Its members stay, with the reason; once the rule is mended it is dispatched."""
    broken = {"actions": [{"run": {"command": ["do", "{a:03d}"]}}]}
    apply(store, joining(slots="ab", fields=broken))
    arrive(store, "a-7", "b-7")
    judge(store)
    stuck = one(store, "b-7")
    apply(store, joining(slots="ab"))
    judge(store)

    assert stuck.state == "pending"
    assert "to be mended: '{a:03d}': a is 'a-7', not the number" in str(stuck.reason)
    assert started(store) == ["7 1 a-7,b-7 "]


# Changes of the rule.


def test_rooms_go_by_the_version_in_force(store: Store) -> None:
    """A changed need or mask completes rooms that wait; a changed key sends members to other rooms."""
    apply(store, joining())
    arrive(store, "a-7", "b-7", "a-8")
    judge(store)
    apply(store, joining(masked=["c"]))
    judge(store)
    first = started(store)
    apply(store, joining(masked=["c"], key="x{run}"))
    judge(store)

    assert first == ["7 1 a-7,b-7 c"]
    assert [(each.key, each.arrived) for each in store.rooms.list(RoomFilter(states=[RoomState.OPEN]))] == [
        ("x8", ("a",)),
        ("8", ()),
    ]


@pytest.mark.parametrize("how", ["removed", "disabled"])
def test_a_room_whose_rule_is_gone_keeps_what_waits_until_it_is_back_or_a_person_decides(
    store: Store, how: str
) -> None:
    """It is orphaned: no deadline settles it, and its members wait, whatever the policy of their event."""
    given = {"on": ["rule_ok"]}
    off = [] if how == "removed" else [joining(slots="ab", deadline=5, fields={**given, "enabled": False})]
    apply(store, joining(slots="ab", deadline=5, fields=given))
    arrive(store, "a-7", "a-8", event="rule_ok")
    judge(store)
    apply(store, *off)
    judge(store, now=later(99))

    assert [each.orphaned for each in store.rooms.list()] == [True, True]
    assert one(store, "a-7").state == "pending"
    assert "which is not in force" in str(one(store, "a-7").reason)
    store.rooms.close(RoomId(2), who="me", why="no need", now=NOW)
    assert (one(store, "a-8").state, room(store, 2).state) == ("dropped", "dropped")
    apply(store, joining(slots="ab", fields=given))
    arrive(store, "b-7", event="rule_ok")
    judge(store)
    assert started(store) == ["7 1 a-7,b-7 "]


# A person.


def test_a_person_waives_a_member_with_a_reason_and_that_may_complete_the_room(store: Store) -> None:
    """Who and why stay with the room and in its journal; taken back, the member is waited for again."""
    apply(store, joining())
    arrive(store, "a-7")
    judge(store)
    rooms = store.rooms
    by: dict[str, Any] = {"who": "cli:me", "now": later(3)}

    assert rooms.waive(RoomId(1), "b", why="off", **by).missing == ("c",)
    assert rooms.unwaive(RoomId(1), "b", why="on again", **by).missing == ("b", "c")
    rooms.waive(RoomId(1), "b", why="off after all", **by)
    done = rooms.waive(RoomId(1), "c", why="broken", **by)

    assert (done.state, done.waived, started(store)) == ("dispatched", ("b", "c"), ["7 1 a-7 b,c"])
    assert one(store, "a-7").state == "dispatched"
    assert [(each.slot, each.who, each.reason, each.at) for each in done.waivers] == [
        ("b", "cli:me", "off after all", later(3)),
        ("c", "cli:me", "broken", later(3)),
    ]
    assert [(each.to_state, each.why) for each in store.journal.of("room", 1)[1:]] == [
        ("waived", "b: off"),
        ("unwaived", "b: on again"),
        ("waived", "b: off after all"),
        ("waived", "c: broken"),
        ("dispatched", "it is complete, without b, c"),
    ]


def test_a_person_dispatches_with_what_is_there_or_closes(store: Store) -> None:
    """What waited is dispatched or dropped, by name and with the reason."""
    apply(store, joining())
    arrive(store, "a-7", "b-8")
    judge(store)

    store.rooms.dispatch(RoomId(1), who="cli:me", why="b and c are lost", now=NOW)
    store.rooms.close(RoomId(2), who="cli:me", why="test run", now=NOW)

    assert started(store) == ["7 1 a-7 b,c"]
    assert (one(store, "a-7").state, one(store, "b-8").state) == ("dispatched", "dropped")
    assert one(store, "b-8").reason == "room 2 of rule both for 8 was dropped: closed by cli:me: test run"
    assert store.journal.of("message", one(store, "b-8").id)[-1].who == "cli:me"
    assert store.journal.of("room", 1)[-1].why == "dispatched by cli:me: b and c are lost"


def test_what_makes_no_sense_is_refused_and_changes_nothing(store: Store) -> None:
    """No such room, no such member, nothing to waive or to dispatch with, and no deed on a room that is settled."""
    apply(store, joining())
    arrive(store, "a-7")
    judge(store)
    rooms = store.rooms
    by: dict[str, Any] = {"who": "me", "why": "so", "now": NOW}
    before = store.journal.since(0)

    deeds: list[tuple[str, Callable[[], object]]] = [
        ("there is no room 9", lambda: rooms.close(RoomId(9), **by)),
        ("a has arrived in room 1", lambda: rooms.waive(RoomId(1), "a", **by)),
        ("has no member z; it has: a, b, c", lambda: rooms.waive(RoomId(1), "z", **by)),
        ("b is not waived", lambda: rooms.unwaive(RoomId(1), "b", **by)),
    ]
    for wrong, deed in deeds:
        with pytest.raises((NotAllowed, NotFound), match=wrong):
            deed()
    assert store.journal.since(0) == before
    arrive(store, "a-7", at=9, event="erase")
    judge(store)
    with pytest.raises(NotAllowed, match="nothing is there"):
        rooms.dispatch(RoomId(1), **by)
    rooms.close(RoomId(1), **by)
    with pytest.raises(NotAllowed, match="room 1 is dropped"):
        rooms.waive(RoomId(1), "b", **by)


def test_rooms_are_listed_by_rule_state_and_what_they_miss_page_by_page(store: Store) -> None:
    """Newest first; the last id of a page begins the next."""
    apply(store, joining(), joining("two", "xy"))
    arrive(store, "a-1", "b-2", "x-3", "a-4", "b-4", "c-4")
    judge(store)

    def ids(limit: int = 50, before: int | None = None, **given: Any) -> Sequence[int]:
        last = None if before is None else RoomId(before)
        return [each.id for each in store.rooms.list(RoomFilter(**given), limit=limit, before=last)]

    assert (ids(3), ids(3, before=2)) == ([4, 3, 2], [1])
    assert (ids(rule="two"), ids(states=[RoomState.DISPATCHED])) == ([4], [3])
    assert (ids(missing="b"), ids(missing="a"), ids(missing="y")) == ([1], [2], [4])
    assert ids(1, missing="c") == [2]


# Together.


def test_dispatchers_at_once_complete_each_room_once(store: Store, store_url: str) -> None:
    """Three dispatchers, each with its own connection to the store, judge members of the same rooms."""
    apply(store, joining(late="dispatch"))
    names = [f"{slot}-{run}" for slot in "abc" for run in range(30)]
    arrive(store, *names)
    others = [Store.open(store_url) for _ in range(2)]

    def work(mine: Store) -> None:
        while judge(mine, limit=4, now=later(60)).judged:
            pass

    at_once(*(lambda mine=mine: work(mine) for mine in [store, *others]))
    for other in others:
        other.close()
    judge(store, now=later(3600))

    assert sorted(started(store)) == sorted(f"{run} 1 a-{run},b-{run},c-{run} " for run in range(30))
    assert {each.state for each in store.messages.list(limit=1000)} == {"dispatched"}


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)  # SQLite has one writer: no other hands
def test_a_member_in_other_hands_puts_a_room_off_for_a_moment(store: Store) -> None:
    """Nobody waits for a lock on a message: the room is looked at again, and dispatched then."""
    apply(store, joining(slots="ab"))
    arrive(store, "a-7")
    judge(store)
    arrive(store, "b-7")

    with store.database.write() as other:
        other.execute(messages.select().where(messages.c.id == MessageId(1)).with_for_update())
        judge(store)
        assert (started(store), room(store).state) == ([], "open")
    assert store.rooms.next_look(NOW) == later(1)
    judge(store, now=later(1))

    assert started(store) == ["7 1 a-7,b-7 "]
    assert {each.state for each in store.messages.list()} == {"dispatched"}


def test_history_goes_into_the_rooms_of_a_new_rule_when_it_is_judged_again(store: Store) -> None:
    """A backfill: what was started before stays and is not started again, the join starts once for each key."""
    apply(store, rule("alone", "[ab]-.*"))
    arrive(store, "a-7", "b-7", "a-8")
    judge(store)
    apply(store, rule("alone", "[ab]-.*"), joining(slots="ab"))
    assert judge(store).dispatches == ()

    tally = store.by_hand.messages(MessageVerb.REPEND, Filter(), Hand("me", "backfill", NOW))
    judge(store)
    judge(store)

    assert tally.changed == [1, 2, 3]
    assert started(store) == ["7 1 a-7,b-7 "]
    assert len(store.dispatches.list(rule="alone")) == 3
    assert [(one(store, name).state, name) for name in ("a-7", "b-7", "a-8")] == [
        ("dispatched", "a-7"),
        ("dispatched", "b-7"),
        ("pending", "a-8"),
    ]
