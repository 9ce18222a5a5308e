"""What goes wrong with one of the dispatches that wait for the catalog keeps none of the others."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update
from structlog.testing import capture_logs

from orchestrator.reconcile.doorkeeper import Doorkeeper
from orchestrator.reconcile.gate import AWAY, Gate
from orchestrator.settings import ConfigurationError
from orchestrator.store.port import StoreUnavailable
from orchestrator.store.signals import DISPATCHES
from orchestrator.store.store import Store
from orchestrator.store.tables import dispatches
from schemas.did import Did
from schemas.dispatch import DispatchId
from tests.contract.requiring import Bench
from tests.services.catalog import Faulty, When
from tests.unit.making import SCOPE

#: Datasets that are closed; the bench's own is not.
OTHERS = [f"SPHENIX_RAW_EVENTS-{run:08d}" for run in range(21616, 21620)]

OPEN = f"required: {SCOPE}:SPHENIX_RAW_EVENTS-00021615: it is open"


@pytest.fixture
def bench(store: Store, tmp_path: Path) -> Bench:
    """Five dispatches are held back; what four of them require holds."""
    found = Bench.at(tmp_path, store)
    found.requiring(closed=True, every="5m")
    for name in OTHERS:
        found.catalog.add_dataset(Did(SCOPE, name))
        found.catalog.close(Did(SCOPE, name))
    found.arrive(*OTHERS)
    return found


def let_through(bench: Bench) -> int:
    """How many workers may claim now."""
    claims = bench.store.dispatches.claim(owner="test", limit=10, lease=timedelta(minutes=1), now=bench.now)
    return len(claims)


def reason(bench: Bench, number: int = 1) -> str | None:
    return bench.store.dispatches.get(DispatchId(number)).reason


def test_an_exception_that_nobody_foresaw_puts_off_one_and_keeps_no_other(bench: Bench) -> None:
    """Whoever reads why it waits learns what went wrong; it is looked at again as soon as if the catalog was away."""
    faulty = Faulty(bench.catalog, {1: When.BEFORE}, error=lambda: KeyError("a column\nis missing"))
    doorkeeper = bench.doorkeeper(lambda: Gate(faulty))

    assert doorkeeper.look() == 5

    assert let_through(bench) == 4
    assert reason(bench) == (
        "required: it cannot be looked at, see the log of muleteer: KeyError: 'a column\\nis missing'"
    )
    bench.now += AWAY
    assert doorkeeper.look() == 1
    assert reason(bench) == OPEN


def test_settings_that_do_not_fit_are_said_and_waited_out(bench: Bench) -> None:
    """The password may be in its file a minute later: each dispatch says what is missing, and nothing is lost."""
    missing: list[Exception] = [ConfigurationError("the password cannot be read")]

    def gate() -> Gate:
        if missing:
            raise missing[0]
        return Gate(bench.catalog)

    doorkeeper = bench.doorkeeper(gate)
    doorkeeper.look_at_all()
    assert {reason(bench, number) for number in range(1, 6)} == {
        "required: the catalog cannot be asked: the password cannot be read"
    }
    missing.clear()
    bench.now += AWAY
    doorkeeper.look_at_all()

    assert let_through(bench) == 4


def test_the_same_failure_is_logged_once(bench: Bench) -> None:
    """With a thousand dispatches waiting, the log says it once, with the traceback; another failure is said as well."""
    texts = ["one", "one", "one", "another", "another", "one"]
    faulty = Faulty(bench.catalog, dict.fromkeys(range(1, 7), When.BEFORE), error=lambda: ValueError(texts.pop(0)))
    doorkeeper = bench.doorkeeper(lambda: Gate(faulty))

    with capture_logs() as lines:
        doorkeeper.look()
        bench.now += AWAY
        doorkeeper.look()

    defects = [line for line in lines if line["event"] == "doorkeeper.defect"]
    assert [line["reason"].rpartition(": ")[2] for line in defects] == ["one", "another"]
    assert all(line["exc_info"] for line in defects)
    assert texts == []


def test_what_another_version_requires_keeps_no_other(bench: Bench) -> None:
    """What cannot be read as a requirement is put off, and says so."""
    with bench.store.database.write() as connection:
        unreadable = update(dispatches).where(dispatches.c.id == 1).values(required='{"of_old": true}')
        connection.execute(unreadable)

    bench.doorkeeper(lambda: Gate(bench.catalog)).look_at_all()

    assert let_through(bench) == 4
    assert "1 validation error for Requirement of_old Extra inputs are not permitted" in (reason(bench) or "")


def test_a_store_that_is_away_is_waited_for(bench: Bench) -> None:
    """Nothing can be put off then."""

    def gate() -> Gate:
        raise StoreUnavailable("away")

    with pytest.raises(StoreUnavailable):
        bench.doorkeeper(gate).look()


def test_no_bell_wakes_it(bench: Bench) -> None:
    """That of the dispatches rings for each of them: the store is asked once a second, however busy the day is."""
    doorkeeper = bench.doorkeeper(lambda: Gate(bench.catalog))
    doorkeeper.look_at_all()
    looks, thread = _stepping(doorkeeper)

    for _ in range(10):
        bench.store.bells.ring(DISPATCHES)
        thread.join(0.02)
    assert looks == []

    doorkeeper.stop()
    thread.join(5)
    assert looks == ["ended"]


def test_what_comes_is_looked_at_within_a_moment(bench: Bench) -> None:
    doorkeeper = bench.doorkeeper(lambda: Gate(bench.catalog))
    doorkeeper.look_at_all()
    looks, thread = _stepping(doorkeeper)
    name = "SPHENIX_RAW_EVENTS-00021620"
    bench.catalog.add_dataset(Did(SCOPE, name))
    bench.arrive(name)

    thread.join(5)
    assert looks == ["ended"]
    doorkeeper.step()

    assert reason(bench, 6) == f"required: {SCOPE}:{name}: it is open"


def _stepping(doorkeeper: Doorkeeper) -> tuple[list[str], threading.Thread]:
    """A thread in the middle of a step, and what it notes when that is over."""
    ended: list[str] = []

    def step() -> None:
        doorkeeper.step()
        ended.append("ended")

    thread = threading.Thread(target=step, daemon=True)
    thread.start()
    return ended, thread
