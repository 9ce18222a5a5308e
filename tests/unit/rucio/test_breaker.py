"""A server that keeps failing is left alone for a while."""

from __future__ import annotations

import threading

import pytest

from orchestrator.rucio.client.breaker import Breaker, Failed, Resting, Unsure


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(most=3, rest=10, clock=clock)


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(Failed), breaker.passing():
            raise Failed("connection refused")


def test_it_opens_after_some_failures_in_a_row(breaker: Breaker) -> None:
    """An answer between them begins the row anew; so does a no, which is an answer too."""
    fail(breaker, 2)
    with breaker.passing():
        pass
    fail(breaker, 2)
    with pytest.raises(ValueError), breaker.passing():
        raise ValueError("no")
    fail(breaker, 3)

    said = r"failed 3 times in a row, so it is not asked for 10s.*connection refused"
    with pytest.raises(Resting, match=said), breaker.passing():
        pytest.fail("nobody may pass")


def test_what_says_nothing_neither_counts_nor_begins_the_row_anew(breaker: Breaker) -> None:
    """An HTTP 500 may be about one request, or about the server."""
    fail(breaker, 2)
    for _ in range(5):
        with pytest.raises(Unsure), breaker.passing():
            raise Unsure("HTTP 500")
    assert not breaker.is_open
    fail(breaker)

    assert breaker.is_open
    with pytest.raises(Resting), breaker.passing():
        pytest.fail("nobody may pass")


def test_after_its_rest_one_call_decides(breaker: Breaker, clock: Clock) -> None:
    """If it fails, the rest begins anew; if it succeeds, everybody passes."""
    fail(breaker, 3)
    clock.now = 9.9
    with pytest.raises(Resting), breaker.passing():
        pass
    clock.now = 10
    fail(breaker)
    clock.now = 19.9
    with pytest.raises(Resting), breaker.passing():
        pass
    clock.now = 20
    for _ in range(3):
        with breaker.passing():
            pass


def test_while_one_call_decides_the_others_wait_no_longer(breaker: Breaker, clock: Clock) -> None:
    """They fail at once."""
    fail(breaker, 3)
    clock.now = 10
    inside, leave = threading.Event(), threading.Event()

    def probe() -> None:
        with breaker.passing():
            inside.set()
            leave.wait(5)

    thread = threading.Thread(target=probe)
    thread.start()
    inside.wait(5)
    with pytest.raises(Resting), breaker.passing():
        pass
    leave.set()
    thread.join()

    with breaker.passing():
        pass


def test_a_call_that_is_broken_off_does_not_block_the_others(breaker: Breaker, clock: Clock) -> None:
    """Whoever was to decide was interrupted: the next one does."""
    fail(breaker, 3)
    clock.now = 10
    with pytest.raises(KeyboardInterrupt), breaker.passing():
        raise KeyboardInterrupt

    with breaker.passing():
        pass
