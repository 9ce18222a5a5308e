"""SIGTERM and SIGINT: an orderly end, with nothing half done."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.store.store import Store
from schemas.dispatch import AttemptOutcome, DispatchId, DispatchState
from tests.acceptance.home import EVERY_CLOSE, Home, apply_rules, noted, until
from tests.acceptance.sender import Stream, closes, send
from tests.services.activemq import ActiveMQ


@pytest.fixture
def number(store: Store) -> signal.Signals:
    """One signal with SQLite, the other with PostgreSQL: the two have nothing to do with each other."""
    return signal.SIGTERM if store.database.is_sqlite else signal.SIGINT


def _states(store: Store) -> list[DispatchState]:
    return [dispatch.state for dispatch in store.dispatches.list()]


def test_an_action_that_is_running_may_finish(
    home: Home, store: Store, activemq: ActiveMQ, destination: str, number: signal.Signals
) -> None:
    """What is in progress goes on to its end; what has not begun waits for the next start."""
    home.script("act", "touch begun; sleep 1.5; echo $MULETEER_MESSAGE >> ids")
    apply_rules(store, EVERY_CLOSE)
    process = home.run(WORKER__THREADS="1")
    send(activemq, destination, closes(2))
    until((home.place / "begun").exists, 10, "the first action")
    until(lambda: len(_states(store)) == 2, 10, "both dispatches written")

    code = process.stop(number)

    assert code == 0
    assert sorted(_states(store)) == [DispatchState.DONE, DispatchState.READY]
    assert len(noted(home)) == 1


def test_an_action_that_does_not_finish_in_time_is_interrupted_and_run_again_after_the_next_start(
    home: Home, store: Store, activemq: ActiveMQ, destination: str, number: signal.Signals
) -> None:
    """The interruption is written down, costs no try, and the next start takes it up."""
    home.script("act", 'touch begun; [ "$MULETEER_ATTEMPT" -gt 1 ] || sleep 60')
    apply_rules(store, EVERY_CLOSE)
    process = home.run(WORKER__GRACE="1s")
    send(activemq, destination, closes(1))
    until((home.place / "begun").exists, 10, "the action")
    began = time.monotonic()

    code = process.stop(number)

    seconds = time.monotonic() - began
    assert (code, _states(store)) == (0, [DispatchState.READY])
    assert seconds < 1 + 5
    home.run()
    until(lambda: _states(store) == [DispatchState.DONE], 10, "the second try")
    tries = store.dispatches.attempts_of(DispatchId(1))
    assert [each.outcome for each in tries] == [AttemptOutcome.INTERRUPTED, AttemptOutcome.DONE]


def test_a_listener_that_is_stopped_in_mid_stream_leaves_every_frame_in_one_place(
    home: Home, store: Store, activemq: ActiveMQ, destination: str, number: signal.Signals
) -> None:
    """What was received is stored and acknowledged, and the rest is at the broker: none in both, none in neither."""
    with Stream(activemq, destination, closes(6_000), each_second=3_000) as stream:
        process = home.start("listen")
        until(lambda: store.messages.count() > 300, 20, "frames on their way")
        assert process.stop(number) == 0
        stream.finish()
    first = store.messages.count()

    told = home.listen(lambda: store.messages.count() == 6_000)

    before = process.output.read_text()
    assert re.match(rf"{first} messages stored", before)
    assert told == f"{6_000 - first} messages stored (0 of them quarantined), 0 duplicates\n"


@pytest.mark.parametrize("after", [0.1, 0.25, 0.4])
def test_ctrl_c_while_a_command_starts_shows_no_traceback(tmp_path: Path, after: float) -> None:
    """Also before it has come to its work: most of its first second goes by with imports."""
    words = [str(Path(sys.executable).with_name("muleteer")), "register", "list", "--home", str(tmp_path)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(after)
    process.send_signal(signal.SIGINT)

    said = process.communicate(timeout=20)

    assert "Traceback" not in said[1]
    # the interpreter itself may not have come to anything yet
    assert process.returncode in (130, -signal.SIGINT)
