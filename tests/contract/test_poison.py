"""One message or rule that nobody foresaw must not hold up the others, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.core.clauses import Facts
from orchestrator.core.matching import RuleSet, Verdict
from orchestrator.dispatch.dispatcher import Dispatcher
from orchestrator.store.port import StoreUnavailable
from orchestrator.store.store import Store
from schemas.message import MessageState
from schemas.rule import Rule
from tests.contract.test_store_dispatches import messages
from tests.unit.making import NOW, UNMATCHED, frame, rule


def judge(store: Store, *rules: Rule) -> None:
    """Judge until nothing comes up any more."""
    store.rules.apply(rules, prune=True, who="test", now=NOW)
    dispatcher = Dispatcher(store, UNMATCHED, clock=lambda: NOW)
    while dispatcher.judge_batch().judged:
        pass


def states(store: Store) -> dict[str | None, tuple[MessageState, str | None]]:
    return {each.name: (each.state, each.reason) for each in store.messages.list()}


def test_a_message_that_cannot_be_judged_is_put_off(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect of ours costs this one message its turn, until the rules change; it says so, and the others go on."""
    honest = RuleSet.judge

    def failing(self: RuleSet, facts: Facts) -> Verdict:
        if facts.message.name == "DS-1":
            raise ZeroDivisionError("a defect")
        return honest(self, facts)

    monkeypatch.setattr(RuleSet, "judge", failing)
    messages(store, 4)

    judge(store, rule("all", "DS-.*"))

    put_off = states(store).pop("DS-1")
    assert put_off[0] is MessageState.PENDING
    assert "cannot be judged, which is a defect of muleteer: ZeroDivisionError: a defect" in str(put_off[1])
    assert store.counts().messages == {"dispatched": 3, "pending": 1}

    monkeypatch.undo()
    judge(store, rule("all", "DS-.*"), rule("more", "x"))
    assert store.counts().messages == {"dispatched": 4}


def test_a_store_that_is_away_puts_nothing_off(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is no defect of a message."""

    def away(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("gone")

    messages(store, 2)
    store.rules.apply([rule("all", "DS-.*")], prune=True, who="test", now=NOW)
    dispatcher = Dispatcher(store, UNMATCHED, clock=lambda: NOW)
    monkeypatch.setattr(type(store.dispatches), "judge", away)

    with pytest.raises(StoreUnavailable):
        dispatcher.judge_batch()

    assert {each.judged_revision for each in store.messages.list()} == {-1}


@pytest.mark.parametrize(
    ("template", "name", "said"),
    [
        ("{name}", "DS-" + "x" * 400, "has 403 characters; 400 are allowed"),
        ("{account}", "DS-1", "the unique key is empty for this message"),
    ],
)
def test_a_unique_key_that_cannot_be_kept_waits_for_the_rule_to_be_mended(
    store: Store, template: str, name: str, said: str
) -> None:
    """It is said with the message, and other messages of the batch are dispatched."""
    store.messages.take_in([frame(name=name)], origin="broker", now=NOW)
    messages(store, 1)
    once = rule("once", "DS-.*", unique=template) if "name" in template else rule("once", "DS-1", unique=template)

    judge(store, once, rule("all", "DS-0"))

    assert states(store)[name][0] is MessageState.PENDING
    assert said in str(states(store)[name][1])
    assert states(store)["DS-0"][0] is MessageState.DISPATCHED
