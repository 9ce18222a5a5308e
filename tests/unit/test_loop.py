"""Loops that do not die."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import structlog
from structlog.testing import capture_logs
from structlog.typing import EventDict

from orchestrator.loop import Loop, Outage, Patience


@pytest.fixture
def said() -> Iterator[list[EventDict]]:
    """What is logged."""
    structlog.reset_defaults()
    with capture_logs() as entries:
        yield entries


def events(said: list[EventDict]) -> list[str]:
    return [entry["event"] for entry in said]


def test_waits_double_up_to_the_longest_and_begin_anew_after_a_success() -> None:
    """0.2 s, 0.4 s, 0.8 s ... 5 s; after a success 0.2 s again."""
    patience = Patience("loop", Outage("store"), longest=5.0, chance=lambda: 1.0)

    waits = [patience.failed(OSError()) for _ in range(7)]
    patience.succeeded()

    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert patience.failed(OSError()) == 0.2


def test_waits_are_spread_so_that_many_do_not_meet() -> None:
    """Chance takes away up to half of a wait."""
    assert Patience("loop", Outage("store"), chance=lambda: 0.0).failed(OSError()) == 0.1


def test_an_outage_is_said_once_and_its_end_once(said: list[EventDict]) -> None:
    """However often one loop fails: one warning with the error, and one line when it is back."""
    patience = Patience("listener", Outage("store"))

    for _ in range(5):
        patience.failed(OSError("down"))
    patience.succeeded()
    patience.succeeded()

    assert events(said) == ["store.lost", "store.back"]
    assert (said[0]["log_level"], said[0]["error"]) == ("warning", "down")


def test_an_outage_that_many_notice_is_said_once(said: list[EventDict]) -> None:
    """It begins with the first that notices, and is over when the last goes on."""
    outage = Outage("store")
    one, other = Patience("listener", outage), Patience("worker", outage)

    one.failed(OSError())
    other.failed(OSError())
    one.succeeded()
    assert events(said) == ["store.lost"]
    other.succeeded()

    assert events(said) == ["store.lost", "store.back"]


def run(step: Callable[[threading.Event], None]) -> None:
    """Run a loop over `step` until it sets its event."""
    stopping = threading.Event()
    patience = Patience("test", Outage("store"), longest=0.001)
    loop = Loop("test", lambda: step(stopping), stopping=stopping, passing=OSError, patience=patience)
    loop.start()
    assert loop.join(10)


@pytest.mark.parametrize(
    ("error", "says"),
    [(OSError("away"), ["store.lost", "store.back"]), (ZeroDivisionError("defect"), ["loop.defect"])],
    ids=["foreseen", "defect"],
)
def test_whatever_a_step_raises_the_loop_goes_on(said: list[EventDict], error: Exception, says: list[str]) -> None:
    """What is away is waited for; a defect is logged with its traceback, once in a row; neither ends the loop."""
    calls: list[int] = []

    def step(stopping: threading.Event) -> None:
        calls.append(1)
        if len(calls) < 5:
            raise error
        if len(calls) == 6:
            stopping.set()

    run(step)

    assert len(calls) == 6
    assert events(said) == says


def test_a_loop_ends_when_it_is_stopped_however_long_it_would_wait() -> None:
    """A long wait after a failure is cut short."""
    stopping = threading.Event()
    patience = Patience("test", Outage("store"), longest=60, chance=lambda: 1.0)
    for _ in range(10):
        patience.failed(OSError())
    failed = threading.Event()

    def step() -> None:
        failed.set()
        raise OSError

    loop = Loop("test", step, stopping=stopping, passing=OSError, patience=patience)
    loop.start()
    assert failed.wait(5)
    assert not loop.join(0.05)
    stopping.set()

    assert loop.join(5)


def test_a_defect_is_said_although_an_outage_came_before(said: list[EventDict]) -> None:
    """What nobody foresaw is logged with its traceback, once, also when the loop was waiting already."""
    patience = Patience("loop", Outage("store"), chance=lambda: 1.0)
    patience.failed(ConnectionError("away"))

    for _ in range(2):
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            patience.surprised()

    assert [line["event"] for line in said] == ["store.lost", "loop.defect"]


def test_whoever_leaves_does_not_keep_an_outage_alive(said: list[EventDict]) -> None:
    """An outage ends when nobody waits any more, also when the last one gave up."""
    outage = Outage("store")
    leaving = Patience("leaving", outage)
    leaving.failed(ConnectionError("away"))

    leaving.leave()
    Patience("next", outage).failed(ConnectionError("away again"))

    assert [line["event"] for line in said] == ["store.lost", "store.back", "store.lost"]
