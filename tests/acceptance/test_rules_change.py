"""Rules are changed while muleteer runs."""

from __future__ import annotations

import time

from orchestrator.store.store import Store
from schemas.dispatch import DispatchState
from schemas.message import MessageState
from tests.acceptance.home import EVERY_CLOSE, NOTE_ID, Home, apply_rules, noted, until
from tests.acceptance.sender import closes, send
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
