"""The power cut: SIGKILL at any moment, again and again, costs nothing but repetitions that the journal explains."""

from __future__ import annotations

import time
from collections import Counter
from random import Random

import pytest

from orchestrator.store.store import Store
from schemas.dispatch import AttemptOutcome, DispatchState
from schemas.message import MessageState
from tests.acceptance.home import EVERY_CLOSE, NOTE_ID, Home, apply_rules, noted, until
from tests.acceptance.sender import Stream, closes
from tests.services.activemq import ActiveMQ

FRAMES = 5_000
KILLS = 6
#: Every second frame is enough to keep all threads busy with actions; the others wait for a rule.
WANTED = FRAMES // 2
RULES = EVERY_CLOSE.replace("scope: test", "scope: test\n    pattern: '.*[02468]'")
THRIFTY = {"WORKER__THREADS": "8", "WORKER__LEASE": "2s", "LOG__LEVEL": "warning"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
def test_six_kills_lose_nothing_while_5000_frames_arrive_and_are_carried_out(
    home: Home, store: Store, activemq: ActiveMQ, destination: str, seed: int
) -> None:
    """Every frame is stored exactly once, and carried out if a rule wants it.

    What ran twice was interrupted, and the journal says so.
    """
    home.script("act", NOTE_ID)
    apply_rules(store, RULES)
    chance = Random(seed)
    with Stream(activemq, destination, closes(FRAMES), each_second=400) as stream:
        for _ in range(KILLS):
            process = home.start("run", **THRIFTY)
            time.sleep(chance.uniform(1.0, 4.0))
            process.kill()
        home.start("run", **THRIFTY)
        stream.finish()

        until(lambda: store.messages.count() == FRAMES, 90, "every frame stored")
        until(lambda: _settled(store) == WANTED, 90, "every dispatch carried out")

    runs = Counter(noted(home))
    messages = store.messages.list(limit=2 * FRAMES)
    dispatches = {int(each.message_id): each for each in store.dispatches.list(limit=2 * FRAMES)}
    assert len({message.name for message in messages}) == len(messages) == FRAMES
    wanted = {message.id for message in messages if message.state is MessageState.DISPATCHED}
    assert len(wanted) == WANTED
    assert any(each.attempts > 1 for each in dispatches.values()), "no kill hit anything"
    assert set(dispatches) == set(runs) == wanted
    for message_id, count in runs.items():
        interrupted = 0
        if count > 1 or dispatches[message_id].attempts > 1:
            tries = store.dispatches.attempts_of(dispatches[message_id].id)
            interrupted = [each.outcome for each in tries].count(AttemptOutcome.INTERRUPTED)
        assert 1 <= count <= 1 + interrupted


def _settled(store: Store) -> int:
    counts = store.counts().dispatches
    return counts.get(DispatchState.DONE, 0) + counts.get(DispatchState.FAILED, 0)
