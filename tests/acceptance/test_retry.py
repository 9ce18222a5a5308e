"""Actions that fail: tried again by the rule's policy, and at last put before a person."""

from __future__ import annotations

from orchestrator.store.store import Store
from schemas.dispatch import AttemptOutcome, DispatchId, DispatchState
from tests.acceptance.home import Home, apply_rules, until
from tests.acceptance.sender import closes, send
from tests.services.activemq import ActiveMQ

THREE_TRIES = """
rules:
  - name: stubborn
    scope: test
    actions:
      - run: {command: [./act]}
        retry: {attempts: 3, delay: 200ms}
"""
FIRST = DispatchId(1)


def test_a_command_that_fails_twice_and_then_succeeds_is_done(
    home: Home, store: Store, activemq: ActiveMQ, destination: str
) -> None:
    """Each try is kept with its exit code and what it printed."""
    home.script("act", 'echo "try $MULETEER_ATTEMPT"; [ "$MULETEER_ATTEMPT" -eq 3 ]')
    apply_rules(store, THREE_TRIES)
    home.run()
    send(activemq, destination, closes(1))

    until(lambda: store.counts().dispatches == {DispatchState.DONE: 1}, 20, "the third try")

    shown = home.read("dispatches", "show", "1")
    assert [(each["exit_code"], each["outcome"]) for each in shown["tries"]] == [
        (1, "retry"),
        (1, "retry"),
        (0, "done"),
    ]
    assert [each["stdout"] for each in shown["tries"]] == ["try 1\n", "try 2\n", "try 3\n"]


def test_a_command_that_always_fails_is_given_up_until_a_person_puts_it_back(
    home: Home, store: Store, activemq: ActiveMQ, destination: str
) -> None:
    """After the policy's tries it is failed; `dispatches retry` gives it as many again."""
    home.script("act", "[ -e mended ]")
    apply_rules(store, THREE_TRIES)
    home.run()
    send(activemq, destination, closes(1))
    until(lambda: store.counts().dispatches == {DispatchState.FAILED: 1}, 20, "the last try")
    tries = store.dispatches.attempts_of(FIRST)
    (home.place / "mended").touch()

    home.do("dispatches", "retry", "1")

    until(lambda: store.counts().dispatches == {DispatchState.DONE: 1}, 20, "the try by hand")
    assert [each.outcome for each in tries] == [AttemptOutcome.RETRY] * 3
    assert [each.outcome for each in store.dispatches.attempts_of(FIRST)][3:] == [AttemptOutcome.DONE]
