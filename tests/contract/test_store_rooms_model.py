"""Waiting rooms against a model that knows nothing of databases, batches and restarts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from orchestrator.core.matching import RuleSet
from orchestrator.store.port import NotAllowed
from orchestrator.store.rooms import RoomFilter
from orchestrator.store.store import Store
from orchestrator.store.tables import messages
from schemas.message import MessageState
from schemas.room import RoomId, RoomState
from schemas.rule import Rule
from tests.unit.making import NOW, UNMATCHED, frame, later, rule

SLOTS = ("a", "b", "c")
WAITS = (RoomState.OPEN, RoomState.OVERDUE)
LIVE = ("pending", "dispatched")


@dataclass
class Mail:
    """A message, as the model sees it."""

    event: str
    name: str
    at: datetime
    slot: str
    key: str
    state: str = "pending"
    judged: int = -1


@dataclass
class Place:
    """A room, as the model sees it."""

    key: str
    round: int
    opened: datetime
    deadline: datetime | None
    look: datetime | None
    state: RoomState = RoomState.OPEN
    mail: list[Mail] = field(default_factory=list)
    waived: set[str] = field(default_factory=set)
    started_with: str | None = None


class Model:
    """One rule that joins, and all that ever arrived; each message is looked at by itself."""

    def __init__(self, join: dict[str, Any], now: datetime) -> None:
        self.join, self.now, self.revision, self.enabled = join, now, 1, True
        self.mail: list[Mail] = []
        self.rooms: dict[str, list[Place]] = {}

    def arrives(self, event: str, name: str, at: datetime) -> None:
        if any((each.event, each.name, each.at) == (event, name, at) for each in self.mail):
            return
        self.mail.append(Mail(event, name, at, name.split("-")[1][0], name.split("-")[2]))
        for each in self.mail:
            later_ones = [one for one in self.mail if one.name == each.name and one.at > each.at]
            if each.event == "close" and each.state in ("pending", "held") and later_ones:
                each.state = "superseded"

    def judge(self, limit: int) -> None:
        waiting = [each for each in self.mail if each.state == "pending" and each.judged < self.revision]
        # those that were judged longest ago come first, and within a batch the oldest
        batch = sorted(waiting, key=lambda each: (each.judged, self.mail.index(each)))[:limit]
        for each in sorted(batch, key=self.mail.index):
            if each.state == "pending":
                each.judged = self.revision
                self._take(each)
        if len(batch) < limit and self.enabled:
            for room in [room for rooms in self.rooms.values() for room in rooms]:
                if room.state in WAITS and room.look is not None and room.look <= self.now:
                    self._look_at(room)

    def _take(self, mail: Mail) -> None:
        if mail.event != "close":
            mail.state = "dropped"
        elif self.enabled:
            rooms = self.rooms.setdefault(mail.key, [])
            if not rooms:
                rooms.append(self._room(mail.key, 1))
            if rooms[-1].state in WAITS:
                self._enter(rooms[-1], mail)
            elif any(one.slot == mail.slot and one.at > mail.at for one in self.known(mail.key)):
                mail.state = "dropped"
            elif self.join["late"] == "dispatch":
                known = self.known(mail.key)
                rooms.append(self._room(mail.key, len(rooms) + 1))
                rooms[-1].mail += known
                self._enter(rooms[-1], mail)
            else:
                mail.state = "dropped" if self.join["late"] == "ignore" else "held"

    def _room(self, key: str, round_: int) -> Place:
        deadline = self._deadline(self.now)
        return Place(key, round_, self.now, deadline, deadline)

    def _deadline(self, opened: datetime) -> datetime | None:
        return None if self.join["deadline"] is None else opened + timedelta(seconds=self.join["deadline"])

    def _enter(self, room: Place, mail: Mail) -> None:
        if mail not in room.mail:
            room.mail.append(mail)
        if room.state is RoomState.OPEN:
            room.deadline = room.look = self._deadline(room.opened)
        if self.complete(room):
            self._dispatch(room)

    def known(self, key: str) -> list[Mail]:
        """What was dispatched with for this key."""
        done = [room for room in self.rooms.get(key, []) if room.state is RoomState.DISPATCHED]
        found = [each for room in done for each in room.mail if each.state == "dispatched"]
        return [each for at, each in enumerate(found) if each not in found[:at]]

    def present(self, room: Place) -> dict[str, Mail]:
        newest: dict[str, Mail] = {}
        for each in sorted(room.mail, key=lambda each: each.at):
            if each.state in LIVE:
                newest[each.slot] = each
        return newest

    def new(self, room: Place) -> bool:
        return any(each not in self.known(room.key) for each in self.present(room).values())

    def complete(self, room: Place) -> bool:
        there = self.present(room)
        hoped = [slot for slot in SLOTS if slot in there or slot not in {*self.join["masked"], *room.waived}]
        enough = len(there) >= min(self.join["need"] or len(SLOTS), len(hoped))
        return self.new(room) and (enough or bool(self.known(room.key)))

    def _dispatch(self, room: Place, *, at_once: bool = False) -> None:
        waiting = [each for each in room.mail if each.state == "pending"]
        if not at_once and any(each.judged != self.revision for each in waiting):
            room.look = self.now + timedelta(seconds=1)
            return
        there = self.present(room)
        for each in waiting:
            each.state = "dispatched" if each in there.values() else "dropped"
        room.state, room.started_with = (
            RoomState.DISPATCHED,
            ",".join(there[slot].name for slot in SLOTS if slot in there),
        )

    def drop(self, room: Place) -> None:
        for each in room.mail:
            if each.state == "pending":
                each.state = "dropped"
        room.state = RoomState.DROPPED

    def _look_at(self, room: Place) -> None:
        over = room.state is RoomState.OPEN and room.deadline is not None and room.deadline <= self.now
        if self.complete(room):
            self._dispatch(room)
        elif not over:
            room.look = room.deadline if room.state is RoomState.OPEN else None
        elif any(each.state == "pending" and each.judged != self.revision for each in room.mail):
            room.look = self.now + timedelta(seconds=1)
        elif self.join["at_deadline"] == "alert":
            room.state, room.look = RoomState.OVERDUE, None
        elif self.join["at_deadline"] == "dispatch" and self.new(room):
            self._dispatch(room)
        else:
            self.drop(room)

    def waive(self, room: Place, slot: str) -> bool:
        """Whether it may be waived; then it is."""
        if room.state not in WAITS or slot in self.present(room) or slot in room.waived:
            return False
        room.waived.add(slot)
        if self.enabled and self.complete(room):
            self._dispatch(room)
        return True

    def dispatch(self, room: Place) -> bool:
        if room.state not in WAITS or not self.new(room):
            return False
        self._dispatch(room, at_once=True)
        return True


class Play:
    """The same things done to the model and to the store, and the two compared."""

    def __init__(self, url: str, seed: int) -> None:
        self.chance = random.Random(seed)
        self.url, self.name = url, f"play{seed}"
        self.store = Store.open(url)
        self.model = Model(self._some_join(), NOW)
        self.clock = NOW
        self.sent: list[tuple[str, str, datetime]] = []
        self._put_in_force()

    def _some_join(self) -> dict[str, Any]:
        pick = self.chance.choice
        return {
            "need": pick([None, None, None, 1, 2, 3]),
            "masked": pick([[], [], [], ["a"], ["c"], ["b", "c"], list(SLOTS)]),
            "deadline": pick([None, 0, 5, 20]),
            "at_deadline": pick(["dispatch", "drop", "alert"]),
            "late": pick(["dispatch", "ignore", "alert"]),
        }

    def _rule(self) -> Rule:
        members = {slot: rf"{self.name}-{slot}\d-(?P<run>\d+)" for slot in SLOTS}
        written = {"key": "{run}", "members": members, **self.model.join}
        done = {"run": {"command": ["do", "{key} {round} {members}"]}}
        document = rule(self.name, ".*", done, enabled=self.model.enabled).document()
        return Rule.model_validate(document | {"join": written})

    def _put_in_force(self) -> None:
        rules = [self._rule(), rule("nobody", "nothing")]
        self.model.revision = self.store.rules.apply(rules, prune=True, who="test", now=self.clock).revision

    def step(self) -> None:
        things = {self.send: 8, self.judge: 8, self.wait: 3, self.restart: 1, self.change: 1, self.person: 1}
        self.chance.choices(list(things), list(things.values()))[0]()

    def send(self) -> None:
        frames = [self._frame() for _ in range(self.chance.randint(1, 4))]
        if self.sent and self.chance.random() < 0.4:
            frames += self.chance.choices(self.sent, k=2)  # again
        self.chance.shuffle(frames)
        self.sent += frames
        self.store.messages.take_in([frame(event, name, at=at) for event, name, at in frames], origin="x", now=NOW)
        for each in frames:
            self.model.arrives(*each)

    def _frame(self) -> tuple[str, str, datetime]:
        pick, number = self.chance.choice, len(self.sent) + self.chance.random()
        name = f"{self.name}-{pick(SLOTS)}{pick('011')}-{pick('123456')}"
        # some happened before others that have arrived
        at = later(round(number if self.chance.random() < 0.9 else -number, 6))
        return pick(["close"] * 8 + ["open", "erase"]), name, at

    def judge(self) -> None:
        revision, versions = self.store.rules.in_force()
        limit = self.chance.choice([1, 2, 3, 100])
        self.store.dispatches.judge(RuleSet(revision, versions, UNMATCHED), now=self.clock, limit=limit)
        self.model.judge(limit)
        self.compare()

    def wait(self) -> None:
        self.clock = self.model.now = self.clock + timedelta(seconds=self.chance.choice([1, 5, 15]))

    def restart(self) -> None:
        self.store.close()
        self.store = Store.open(self.url)

    def change(self) -> None:
        if self.chance.random() < 0.3:
            self.model.enabled = not self.model.enabled
        else:
            self.model.join = self._some_join()
        self._put_in_force()

    def person(self) -> None:
        rooms = self.store.rooms.list(RoomFilter(rule=self.name), limit=1000)
        if not rooms:
            return
        one = self.chance.choice(rooms)
        room = self.model.rooms[one.key][one.round - 1]
        slot = self.chance.choice(SLOTS)
        deed = self.chance.choice(["waive", "waive", "close", "dispatch"])
        if deed == "waive":
            expected = self.model.waive(room, slot)
        elif deed == "dispatch":
            expected = self.model.dispatch(room)
        else:
            expected = room.state in WAITS
            if expected:
                self.model.drop(room)
        assert self._done(one.id, deed, slot) is expected, (deed, one)

    def _done(self, id_: RoomId, deed: str, slot: str) -> bool:
        try:
            if deed == "waive":
                self.store.rooms.waive(id_, slot, who="me", why="off", now=self.clock)
            elif deed == "close":
                self.store.rooms.close(id_, who="me", why="enough", now=self.clock)
            else:
                self.store.rooms.dispatch(id_, who="me", why="enough", now=self.clock)
        except NotAllowed:
            return False
        return True

    def compare(self) -> None:
        found = self.store.messages.list(limit=10_000, newest_first=False)
        mine = [each for each in found if str(each.name).startswith(f"{self.name}-")]
        assert {(each.event_type, each.name, each.created_at): each.state for each in mine} == {
            (each.event, each.name, each.at): each.state for each in self.model.mail
        }
        rooms = self.store.rooms.list(RoomFilter(rule=self.name), limit=10_000)
        assert {(each.key, each.round): (each.state, each.deadline) for each in rooms} == {
            (each.key, each.round): (each.state, each.deadline) for all_ in self.model.rooms.values() for each in all_
        }
        for each in rooms:
            if each.state in WAITS:
                assert set(each.arrived) == set(self.model.present(self.model.rooms[each.key][each.round - 1]))
        started = sorted(
            f"{each.key} {each.round} {each.started_with}"
            for all_ in self.model.rooms.values()
            for each in all_
            if each.started_with is not None
        )
        assert sorted(self.started()) == started

    def started(self) -> Sequence[str]:
        return [each.options["command"][1] for each in self.store.dispatches.list(rule=self.name, limit=10_000)]

    def end(self) -> None:
        self.compare()
        with self.store.database.write() as connection:
            pending = update(messages).where(messages.c.state == MessageState.PENDING)
            connection.execute(pending.values(state=MessageState.DROPPED))
        self.store.close()


@pytest.mark.parametrize("seed", range(3))
def test_what_is_dispatched_is_what_the_model_says(store_url: str, store: Store, seed: int) -> None:
    """Random joins, orders, duplicates, re-opens, batches, restarts, deadlines, changes of the rule and people's deeds.

    After every judgement: messages stand where the model says, rooms are as the model says, and each round that was
    dispatched was dispatched once, with the members that the model says.
    """
    for number in range(seed * 1000, seed * 1000 + 5):
        play = Play(store_url, number)
        try:
            for _ in range(40):
                play.step()
            play.judge()
            play.end()
        except AssertionError as error:
            raise AssertionError(f"play {number}: {error}") from error
