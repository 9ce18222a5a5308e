"""Rules are changed while muleteer runs."""

from __future__ import annotations

import time

import pytest

from orchestrator.store.store import Store
from schemas.dispatch import DispatchState
from schemas.message import MessageState
from tests.acceptance.home import EVERY_CLOSE, NOTE_ID, Home, apply_rules, noted, until
from tests.acceptance.sender import Stream, closes, send
from tests.services.activemq import ActiveMQ

ANOTHER = """
rules:
  - name: another
    scope: elsewhere
    actions:
      - run: {command: ["true"]}
"""


def test_a_pending_message_is_dispatched_as_soon_as_a_rule_for_it_is_applied(
    home: Home, store: Store, activemq: ActiveMQ, destination: str
) -> None:
    """`muleteer rules apply` in another process counts at once; nothing is started again."""
    home.script("act", NOTE_ID)
    rules = home.place / "rules.yaml"
    rules.write_text(EVERY_CLOSE)
    apply_rules(store, ANOTHER)
    home.run()
    send(activemq, destination, closes(3))
    until(lambda: [each.judged_revision for each in store.messages.list()] == [1, 1, 1], 10, "messages judged")
    waiting = {message.state for message in store.messages.list()}

    home.do("rules", "apply", str(rules))

    applied = time.monotonic()
    until(lambda: store.counts().dispatches == {DispatchState.DONE: 3}, 10, "what the new rule wants")
    assert time.monotonic() - applied < 2
    assert waiting == {MessageState.PENDING}
    assert sorted(noted(home)) == [1, 2, 3]


#: Two rules that want every close; the script writes down whose dispatch it was.
BOTH = """
rules:
  - name: steady
    actions:
      - run: {command: [./act]}
  - name: switched
    actions:
      - run: {command: [./act]}
"""


@pytest.mark.slow
def test_rules_are_switched_taken_out_and_taken_back_while_frames_arrive(
    home: Home, store: Store, activemq: ActiveMQ, destination: str
) -> None:
    """The running dispatcher uses each set within a second, and no other rule misses a frame.

    Every dispatch points at a version that was in force, and what a rule had begun is carried out after it is gone.
    """
    home.script("act", 'printf \'%s %s\\n\' "$MULETEER_RULE" "$MULETEER_MESSAGE" >> acted')
    rules = home.place / "rules.yaml"
    rules.write_text(BOTH)
    home.do("rules", "apply", str(rules), "--reason", "begin")
    home.run()

    def wanted_by(rule: str) -> set[int]:
        return {each.message_id for each in store.dispatches.list(rule=rule, limit=100_000)}

    def probes(first: int) -> set[int]:
        """Messages of frames that are sent now, one second after a change."""
        time.sleep(1)
        send(activemq, destination, closes(10, first))
        names = {f"DST-{number:08d}" for number in range(first, first + 10)}
        until(lambda: len(found(names)) == 10, 20, f"frames from {first} on")
        return found(names)

    def found(names: set[str]) -> set[int]:
        return {each.id for each in store.messages.list(limit=100_000) if each.name in names}

    with Stream(activemq, destination, closes(2000), each_second=20) as stream:
        until(lambda: len(wanted_by("switched")) >= 20, 20, "dispatches of both rules")
        home.do("rules", "disable", "switched", "--reason", "test")
        without = probes(10_000)
        home.do("rules", "enable", "switched", "--reason", "test")
        with_it = probes(10_100)
        home.do("rules", "remove", "switched", "--reason", "test")
        without |= probes(10_200)
        home.do("rules", "rollback", "1", "--reason", "test")
        with_it |= probes(10_300)
    until(lambda: store.counts().messages == {MessageState.DISPATCHED: len(wanted_by("steady"))}, 20, "every frame")
    until(lambda: set(store.counts().dispatches) == {DispatchState.DONE}, 60, "the end of all dispatches")

    steady, switched = wanted_by("steady"), wanted_by("switched")
    assert len(steady) >= stream.confirmed + 40
    assert switched.isdisjoint(without)
    assert switched > with_it
    versions = {each.id: each for each in store.rules.history("switched")}
    used = {each.rule_version_id for each in store.dispatches.list(rule="switched", limit=100_000)}
    assert sorted(versions[id_].version for id_ in used) == [1, 3, 4]
    assert all(versions[id_].rule.enabled for id_ in used)
    acted = (home.place / "acted").read_text().splitlines()
    assert sorted(acted) == sorted([*(f"steady {id_}" for id_ in steady), *(f"switched {id_}" for id_ in switched)])
