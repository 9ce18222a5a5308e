"""What a process does again and again."""

from __future__ import annotations

import threading
import time

import pytest

from orchestrator.service import Turns


class Job:
    """Notes when it was done, and ends everything with its last turn."""

    def __init__(self, turns: int, stopping: threading.Event, takes: float = 0.0) -> None:
        self.at: list[float] = []
        self._turns = turns
        self._stopping = stopping
        self._takes = takes

    def __call__(self) -> None:
        self.at.append(time.monotonic())
        time.sleep(self._takes)
        if len(self.at) == self._turns:
            self._stopping.set()


def run(job: Job, every: float, stopping: threading.Event) -> list[float]:
    """When the job was done, in seconds from the beginning."""
    turns, began = Turns(job, every, stopping), time.monotonic()
    while not stopping.is_set():
        turns.step()
    return [at - began for at in job.at]


def test_the_first_turn_is_at_once_and_the_others_come_in_time() -> None:
    """What was missed while muleteer was down is made up for soon; a job that is quick does not spin."""
    stopping = threading.Event()

    first, second, third = run(Job(3, stopping), 0.2, stopping)

    assert first < 0.2
    assert second - first > 0.19
    assert third - second > 0.19


def test_the_time_that_a_turn_takes_is_no_wait_on_top_of_it() -> None:
    """With a hundred launches a look takes long: the next one begins when it would have begun otherwise."""
    stopping = threading.Event()

    first, second, _ = run(Job(3, stopping, takes=0.5), 0.6, stopping)

    assert second - first < 0.5 + 0.6


def test_a_turn_that_goes_wrong_is_not_repeated_before_its_time() -> None:
    """A service that objects is not asked as fast as the loop goes round."""
    stopping = threading.Event()
    asked: list[float] = []

    def objecting() -> None:
        asked.append(time.monotonic())
        raise ValueError("no")

    turns = Turns(objecting, 0.3, stopping)
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            turns.step()

    assert asked[1] - asked[0] > 0.29


def test_whoever_waits_for_his_turn_is_stopped_at_once() -> None:
    """With a turn every ten minutes, too: and no turn is taken any more."""
    stopping = threading.Event()
    job = Job(2, stopping)
    turns = Turns(job, 600, stopping)
    turns.step()
    waiting = threading.Thread(target=turns.step, daemon=True)
    waiting.start()

    stopping.set()
    waiting.join(5)

    assert not waiting.is_alive()
    assert len(job.at) == 1
