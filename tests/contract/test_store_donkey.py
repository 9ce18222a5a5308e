"""Each defect of the original donkey, and that ours does not have it; on SQLite and on PostgreSQL alike.

Those of its command line and of its listener are in tests/unit/test_donkey_defects.py.
"""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from actors.run import Run
from orchestrator.core.by_hand import DispatchVerb, Hand
from orchestrator.dispatch.dispatcher import Dispatcher
from orchestrator.dispatch.worker import Worker
from orchestrator.loop import Outage
from orchestrator.store.messages import Filter
from orchestrator.store.store import Store
from schemas.message import MessageId, MessageState
from schemas.rule import Rule
from tests.unit.making import NOW, UNMATCHED, frame, later, rule, script, tools


def lists(store: Store) -> dict[str, list[str | None]]:
    """donkey's lists: which datasets are in which."""
    found: dict[str, list[str | None]] = {}
    for each in store.messages.list(newest_first=False, limit=1000):
        found.setdefault(each.state, []).append(each.name)
    return found


def put_in_force(store: Store, *rules: Rule) -> None:
    store.rules.apply(rules, prune=True, who="test", now=NOW)


def judge_all(store: Store) -> None:
    """What the dispatcher does until there is nothing left to judge."""
    dispatcher = Dispatcher(store, UNMATCHED, clock=lambda: NOW)
    while dispatcher.judge_batch().judged:
        pass


def work(store: Store, home: Path) -> None:
    """What a worker does until nothing more is due."""
    worker = Worker(
        store,
        {"run": Run()},
        tools(home),
        threads=2,
        lease=timedelta(seconds=15),
        store_outage=Outage("store"),
        clock=lambda: NOW,
    )
    while worker.claim_and_start():
        assert worker.idle(30)
    worker.close()


def test_defect_1_a_dataset_is_never_in_two_lists(store: Store) -> None:
    """Of two rules the second matches: donkey had the dataset dispatched and dropped; ours has it dispatched."""
    put_in_force(store, rule("first", "OTHER"), rule("second", "RAW"))
    store.messages.take_in([frame(name="RAW")], origin="broker", now=NOW)

    judge_all(store)

    assert lists(store) == {"dispatched": ["RAW"]}
    assert [each.rule for each in store.dispatches.list()] == ["second"]


def test_defect_2_a_failing_actor_leaves_the_others_alone(store: Store, tmp_path: Path) -> None:
    """The first of three actions fails: donkey called none of the others, and lost all; ours does the two others.

    What failed is on the list of the failed, where it can be put back.
    """
    script(tmp_path, "act.sh", '[ "$1" = DS-0 ] && exit 64\necho "$1" >>done.txt\n')
    put_in_force(store, rule("all", ".*", {"run": {"command": ["actors/act.sh", "{name}"]}}))
    store.messages.take_in([frame(name=f"DS-{number}") for number in range(3)], origin="broker", now=NOW)

    judge_all(store)
    work(store, tmp_path)

    assert sorted((tmp_path / "done.txt").read_text().split()) == ["DS-1", "DS-2"]
    assert {each.message_id: str(each.state) for each in store.dispatches.list()} == {1: "failed", 2: "done", 3: "done"}
    failed = [each.id for each in store.dispatches.list() if each.state == "failed"]
    assert store.by_hand.dispatches(DispatchVerb.RETRY, failed, Hand("me", "mended", NOW)).changed == failed


@pytest.mark.parametrize("rules", [(), (rule("off", enabled=False),)], ids=["none", "none enabled"])
def test_defect_3_without_rules_everything_waits(store: Store, rules: tuple[Rule, ...]) -> None:
    """No rule is loaded: with donkey every pending message vanished from all lists; with ours nothing moves."""
    put_in_force(store, *rules)
    store.messages.take_in([frame(), frame("rule_ok", name="X")], origin="broker", now=NOW)

    judge_all(store)

    assert lists(store) == {"pending": [frame_name(store, 1), "X"]}
    put_in_force(store, rule("late"))
    judge_all(store)
    assert lists(store) == {"dispatched": [frame_name(store, 1)], "dropped": ["X"]}


def frame_name(store: Store, id_: int) -> str | None:
    return store.messages.get(MessageId(id_)).name


def test_defect_4_an_argument_stays_one_argument(store: Store, tmp_path: Path) -> None:
    """donkey split arguments on blanks, so that a timestamp became two; ours hands over what was written."""
    script(tmp_path, "args.sh", 'for each; do echo "[$each]"; done\n')
    put_in_force(store, rule("r", ".*", {"run": {"command": ["actors/args.sh", "{created_at}", "{name} at 10 h", ""]}}))
    at = NOW.replace(microsecond=0)
    store.messages.take_in([frame(name="A B", at=at)], origin="broker", now=NOW)

    judge_all(store)
    work(store, tmp_path)

    (attempt,) = store.dispatches.attempts_of(store.dispatches.list()[0].id)
    assert attempt.stdout == f"[{at.isoformat()}]\n[A B at 10 h]\n[]\n"


def test_defect_6_a_pending_dataset_is_in_the_list_once(store: Store) -> None:
    """Two rules that do not match yet: donkey put the dataset back twice; ours has it once, always."""
    store.messages.take_in([frame(name="RAW")], origin="broker", now=NOW)

    for number in range(3):
        put_in_force(store, rule("a", f"A{number}"), rule("b", f"B{number}"))
        judge_all(store)

    assert lists(store) == {"pending": ["RAW"]}
    assert len(store.journal.of("message", 1)) == 1


def test_defect_8_listener_and_dispatcher_lose_no_updates(store: Store) -> None:
    """donkey's two programs rewrote one file over each other; ours work on the same store at once and lose nothing."""
    put_in_force(store, rule("even", r"DS-\d*[02468]"))
    over = threading.Event()
    failures: list[Exception] = []

    def listen() -> None:
        try:
            for number in range(0, 200, 5):
                arrivals = [frame(name=f"DS-{each}") for each in range(number, number + 5)]
                store.messages.take_in(arrivals, origin="broker", now=NOW)
        except Exception as error:
            failures.append(error)
        finally:
            over.set()

    listening = threading.Thread(target=listen)
    listening.start()
    while not over.is_set():
        judge_all(store)
    listening.join()
    judge_all(store)

    assert failures == []
    assert store.counts().messages == {"dispatched": 100, "pending": 100}
    assert store.counts().dispatches == {"ready": 100}


def test_defect_8_adding_a_message_costs_the_same_however_many_there_are(store: Store) -> None:
    """donkey wrote its whole file for each message, 20 a second at 4,000; ours does not slow down as it fills."""

    def seconds(first: int) -> float:
        began = time.monotonic()
        for number in range(first, first + 20):
            store.messages.take_in([frame(name=f"DS-{number}")], origin="broker", now=NOW)
        return time.monotonic() - began

    store.messages.take_in([frame(name=f"OLD-{number}") for number in range(500)], origin="import", now=NOW)
    few = min(seconds(0), seconds(20))
    store.messages.take_in([frame(name=f"OLD-{number}") for number in range(500, 8000)], origin="import", now=NOW)
    many = min(seconds(40), seconds(60))

    assert store.messages.count(Filter()) == 8080
    assert many < 4 * few + 0.2


def test_defect_9_an_open_or_an_erase_needs_no_dispatched_dataset(store: Store) -> None:
    """donkey raised on the open of a dataset that was not dispatched; ours begins its next generation."""
    store.messages.take_in([frame("open", name="NEW"), frame("erase", name="NEVER")], origin="broker", now=NOW)

    assert lists(store) == {"pending": ["NEW", "NEVER"]}


def test_defect_9_an_erase_deletes_no_history(store: Store) -> None:
    """donkey deleted the row of an erased dataset; ours keeps every event, dispatch and journal entry of it."""
    put_in_force(store, rule())
    store.messages.take_in([frame()], origin="broker", now=NOW)
    judge_all(store)
    before = store.journal.since(0)

    store.messages.take_in([frame("erase", at=later(1))], origin="broker", now=NOW)

    assert store.messages.get(MessageId(1)).state is MessageState.DISPATCHED
    assert len(store.dispatches.list()) == 1
    assert store.journal.since(0)[: len(before)] == before
