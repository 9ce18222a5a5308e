"""Two processes on one PostgreSQL, hammered with the same events: each match once, and no limit exceeded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import pytest

from orchestrator.store.store import Store
from tests.acceptance.home import Home, apply_rules, until
from tests.acceptance.sender import closes, send
from tests.services.activemq import ActiveMQ

#: Of each kind of dataset; every one of them is sent three times.
FRAMES = 60

RULES = r"""
rules:
  - name: capped
    pattern: 'DST-(?P<number>\d+)'
    limits: {running: 3}
    actions: [{run: {command: [./act, capped]}}]
  - name: unique
    pattern: 'DST-(?P<tens>\d+)\d'
    unique: '{tens}'
    group: shared
    actions: [{run: {command: [./act, unique]}}]
  - name: prescaled
    prescale: 4
    group: shared
    actions: [{run: {command: [./act, prescaled]}}]
  - name: paced
    limits: {pace: 5 per 2s, order: newest}
    prescale: 6
    actions: [{run: {command: [./act, paced]}}]
"""

#: Notes its beginning and its end, each in one write.
ACT = """
printf '%s\\n' "begin $1 $MULETEER_MESSAGE" >> notes
sleep 0.05
printf '%s\\n' "end $1 $MULETEER_MESSAGE" >> notes
"""

SHARED = {"LIMITS__GROUPS": '{"shared": {"running": 2}}', "LIMITS__RUNNING": "6", "WORKER__THREADS": "5"}


def notes(home: Home) -> Iterator[tuple[str, str, str]]:
    """What the actions wrote: `begin` or `end`, the rule, the message."""
    for line in (home.place / "notes").read_text().splitlines():
        what, rule, message = line.split()
        yield what, rule, message


def most_at_once(home: Home, *rules: str) -> int:
    """How many actions of these rules went on at the same time, at most."""
    going_on = most = 0
    for what, rule, _ in notes(home):
        if rule in rules:
            going_on += 1 if what == "begin" else -1
            most = max(most, going_on)
    return most


@pytest.mark.slow
@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
def test_two_dispatchers_and_workers_do_nothing_twice_and_keep_every_limit(
    home: Home, store: Store, activemq: ActiveMQ, destination: str
) -> None:
    """Unique keys, a prescale, caps of a rule, of a group and of everything, and a pace hold over both processes."""
    home.script("act", ACT)
    apply_rules(store, RULES)
    both = [home.run("dispatcher", "worker", **SHARED) for _ in range(2)]
    home.start("run", "--only", "listener")
    expected = {"capped": FRAMES, "unique": 7, "prescaled": FRAMES // 4, "paced": FRAMES // 6}

    for _ in range(3):
        send(activemq, destination, closes(FRAMES))
    until(lambda: store.counts().dispatches.get("done") == sum(expected.values()), 90, "every dispatch done")

    done = [each for each in store.dispatches.list(limit=1000) if each.state == "done"]
    assert Counter(each.rule for each in done) == expected
    assert store.counts().dispatches == {"done": len(done), "refused": FRAMES - expected["unique"]}
    assert len({each.unique_key for each in done if each.rule == "unique"}) == expected["unique"]
    begun = Counter((rule, message) for what, rule, message in notes(home) if what == "begin")
    assert begun == Counter((each.rule, str(each.message_id)) for each in done)
    assert most_at_once(home, "capped") <= 3
    assert most_at_once(home, "unique", "prescaled") <= 2
    assert most_at_once(home, *expected) <= 6
    starts = sorted(store.dispatches.attempts_of(each.id)[0].started_at for each in done if each.rule == "paced")
    assert all(later - earlier >= timedelta(seconds=2) for earlier, later in zip(starts, starts[5:], strict=False))
    owners = {store.dispatches.attempts_of(each.id)[0].owner for each in done}
    assert len(owners) == 2
    assert [process.stop() for process in both] == [0, 0]


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
def test_what_is_stopped_accumulates_until_it_is_started(
    home: Home, store: Store, activemq: ActiveMQ, destination: str
) -> None:
    """`dispatch stop` holds in every process at once; `start` wakes them."""
    home.script("act", ACT)
    apply_rules(store, RULES.partition("  - name: unique")[0])
    for _ in range(2):
        home.run("dispatcher", "worker")
    home.start("run", "--only", "listener")
    home.do("dispatch", "stop", "--rule", "capped", "--reason", "disk full")

    send(activemq, destination, closes(10))
    until(lambda: store.counts().dispatches == {"ready": 10}, 30, "ten that are ready")
    status = home.read("dispatch", "status")
    home.do("dispatch", "start", "--rule", "capped")

    until(lambda: store.counts().dispatches == {"done": 10}, 30, "all of them done")
    assert [each["why_not"] for each in status["standings"]] == [None, "rule capped is suspended"]
