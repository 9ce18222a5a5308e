"""What a rule requires of the catalog is there before anything starts; a closing that is not true starts nothing."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.core.actor import Done, Retry
from orchestrator.core.by_hand import DispatchVerb, Hand
from orchestrator.core.gates import EVERYTHING
from orchestrator.store.store import Store
from schemas.did import Did
from schemas.dispatch import DispatchId
from schemas.rule import Limits
from tests.contract.requiring import DID, Bench, one_file
from tests.services.catalog import Faulty, When
from tests.unit.making import SCOPE


@pytest.fixture
def bench(store: Store, tmp_path: Path) -> Bench:
    return Bench.at(tmp_path, store)


def test_an_action_waits_until_what_it_requires_is_there(bench: Bench) -> None:
    """Each look says what is missing; no try is counted against the retry policy; then it is carried out, once."""
    bench.requiring(closed=True, filled=True, every="5m")

    first = bench.work()
    assert (first.state, first.reason) == (
        "ready",
        f"required: {DID}: it is open; {DID}: there is no file in it",
    )
    bench.catalog.attach(DID, [one_file()])
    bench.now += timedelta(minutes=5)
    assert bench.work().reason == f"required: {DID}: it is open"

    bench.catalog.close(DID)
    bench.now += timedelta(minutes=5)
    last = bench.work()
    assert (last.state, len(bench.actor.done)) == ("done", 1)


def test_a_requirement_that_is_never_fulfilled_fails_in_the_end(bench: Bench) -> None:
    bench.requiring(filled=True, every="5m", within="10m")

    assert bench.work().state == "ready"
    bench.now += timedelta(minutes=10)
    last = bench.work()

    assert (last.state, last.reason) == ("failed", f"required in vain: {DID}: there is no file in it")
    assert bench.actor.done == []


def test_another_dataset_may_be_required(bench: Bench) -> None:
    """Its name is a template; a container is looked at with all that is in it."""
    bench.requiring(dataset="group.sphenix:CALIB-{run:06d}", closed=True, every="1m")
    assert bench.work().reason == (
        "required: group.sphenix:CALIB-021615: the catalog has no such dataset: never made, or erased"
    )

    bench.catalog.add_container(Did(SCOPE, "CALIB-021615"))
    for name in ("A", "B"):
        bench.catalog.add_dataset(Did(SCOPE, name))
    bench.catalog.enclose(Did(SCOPE, "CALIB-021615"), [Did(SCOPE, "A"), Did(SCOPE, "B")])
    bench.catalog.close(Did(SCOPE, "A"))
    bench.now += timedelta(minutes=1)
    assert bench.work().reason == "required: group.sphenix:B: it is open"

    bench.catalog.close(Did(SCOPE, "B"))
    bench.now += timedelta(minutes=1)
    assert bench.work().state == "done"


def test_members_of_a_dataset_are_never_there(bench: Bench) -> None:
    """They are asked of a container; what cannot hold must not pass."""
    bench.requiring(members=["CALIB-*"])

    assert "members and same_runs_as are about a container" in (bench.work().reason or "")


def test_many_findings_are_summed_up(bench: Bench) -> None:
    """A reason is a line, not a list of ten thousand files."""
    bench.catalog.attach(DID, [one_file(f"f-{number}") for number in range(2000)])
    bench.requiring(names="seg-.*")

    reason = bench.work().reason or ""

    assert reason.count("its name does not match") == 5
    assert reason.endswith("; and 1,995 more")


def test_while_the_catalog_is_away_nothing_starts(bench: Bench) -> None:
    bench.catalog.close(DID)
    bench.requiring(closed=True)

    away = bench.work(catalog=Faulty(bench.catalog, {1: When.BEFORE}))
    assert away.state == "ready"
    assert "the catalog cannot be asked" in (away.reason or "")

    bench.now += timedelta(seconds=30)
    assert bench.work().state == "done"


def test_without_a_requirement_the_catalog_is_not_asked(bench: Bench) -> None:
    catalog = Faulty(bench.catalog)
    bench.requiring()

    assert bench.work(catalog=catalog).state == "done"
    assert catalog.total == 0


def test_what_is_stopped_stays_stopped_when_its_requirement_comes_true(bench: Bench) -> None:
    """A look is not a start."""
    bench.requiring(closed=True, every="1m")
    bench.work()
    bench.store.suspensions.suspend(EVERYTHING, who="test", why="stop", now=bench.now)

    bench.catalog.close(DID)
    bench.now += timedelta(minutes=1)
    assert (bench.work().state, bench.actor.done) == ("ready", [])

    bench.store.suspensions.resume(EVERYTHING, who="test", why="go", now=bench.now)
    assert bench.work().state == "done"


def test_one_that_waits_takes_no_room_from_the_others(bench: Bench) -> None:
    """With one at a time, a dataset that never closes does not stall its rule."""
    bench.requiring(closed=True, every="1h")
    other = "SPHENIX_RAW_EVENTS-00021616"
    bench.catalog.add_dataset(Did(SCOPE, other))
    bench.catalog.close(Did(SCOPE, other))
    bench.arrive(other)

    first = bench.work({EVERYTHING: Limits(running=1)})

    assert first.state == "ready"
    assert [each.message.name for each in bench.actor.done] == [other]


def test_looks_that_find_the_same_leave_no_trace(bench: Bench) -> None:
    """A dispatch may wait for weeks: only what changes is written into the journal, and a look is no try."""
    bench.requiring(closed=True, filled=True, every="5m")
    for _ in range(20):
        bench.work()
        bench.now += timedelta(minutes=5)
    bench.catalog.attach(DID, [one_file()])
    bench.work()

    assert bench.store.dispatches.get(DispatchId(1)).attempts == 0
    assert [why for who, why in bench.journal() if who == "doorkeeper"] == [
        f"required: {DID}: it is open; {DID}: there is no file in it",
        f"required: {DID}: it is open",
    ]


def test_what_was_required_in_vain_has_as_long_again_when_it_is_retried(bench: Bench) -> None:
    bench.requiring(filled=True, every="5m", within="10m")
    bench.work()
    bench.now += timedelta(minutes=10)
    assert bench.work().state == "failed"

    hand = Hand("test", "once more", bench.now)
    bench.store.by_hand.dispatches(DispatchVerb.RETRY, [DispatchId(1)], hand)
    assert bench.work().state == "ready"
    bench.catalog.attach(DID, [one_file()])
    bench.now += timedelta(minutes=5)
    assert bench.work().state == "done"


def test_two_doorkeepers_look_once(bench: Bench) -> None:
    """Whoever takes it has it for a while."""
    bench.requiring(closed=True)
    taken = [
        bench.store.requirements.take(now=bench.now, until=bench.now + timedelta(minutes=1), limit=5) for _ in range(2)
    ]

    assert [len(each) for each in taken] == [1, 0]


# A closing is confirmed before anything is started for it.


@pytest.fixture
def confirming(bench: Bench) -> Bench:
    bench.confirm = True
    return bench


def test_a_closing_that_is_true_goes_through(confirming: Bench) -> None:
    confirming.catalog.close(DID)
    confirming.requiring()

    assert confirming.work().state == "done"


def test_a_dataset_that_is_open_again_starts_nothing(confirming: Bench) -> None:
    """The opening was lost on the way; the next closing comes, and starts it."""
    confirming.requiring()

    found = confirming.work()

    assert (found.state, found.reason) == ("failed", f"{DID} is open again: its next closing starts this anew")


def test_a_dataset_that_was_closed_again_starts_nothing_for_the_first_closing(confirming: Bench) -> None:
    """Both would start the same: the last closing counts."""
    confirming.now += timedelta(minutes=30)
    confirming.catalog.close(DID)
    confirming.requiring()

    found = confirming.work()

    assert found.state == "failed"
    assert "was closed again at 2026-11-22 01:43:40 UTC: that closing counts" in (found.reason or "")


def test_what_was_begun_is_not_stopped_by_what_happens_to_its_dataset(confirming: Bench) -> None:
    """Its launch may be on the way: it is looked after to its end, and the catalog is not asked again."""
    confirming.catalog.close(DID)
    confirming.actor.answers = [Retry("no answer"), Done("it was there")]
    confirming.requiring()

    assert confirming.work().state == "ready"
    confirming.catalog.reopen(DID)
    confirming.now += timedelta(minutes=1)

    assert confirming.work().state == "done"


def test_a_dataset_that_was_erased_starts_nothing(confirming: Bench) -> None:
    confirming.catalog.erase(DID)
    confirming.requiring()

    found = confirming.work()

    assert (found.state, found.reason) == ("failed", f"{DID} is not in the catalog any more")
