"""`messages explain`: why a message did or did not fire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.core.matching import RuleSet
from orchestrator.store.launches import Intent
from orchestrator.store.store import Store
from schemas.message import MessageId
from tests.unit.making import NAME, NOW, UNMATCHED, frame, rule

Muleteer = Callable[..., Any]


def judged(store: Store) -> None:
    revision, versions = store.rules.in_force()
    judging = RuleSet(revision, versions, UNMATCHED)
    store.dispatches.judge(judging, now=NOW, limit=100)


def answers(value: Any) -> list[tuple[str, str]]:
    return [(each["rule"], each["answer"]) for each in value["rules"]]


@pytest.fixture
def told(store: Store) -> Store:
    """A message that one rule matched, one nearly, and others not at all."""
    store.messages.take_in([frame(bytes=5.0)], origin="broker", now=NOW)
    rules = [
        rule("away", "DST.*"),
        rule("near", "SPHENIX.*", where={"bytes": "> 10"}),
        rule("raw", r"SPHENIX_RAW_EVENTS-(?P<run>\d+)", {"run": {"command": ["x", "{run:d}"]}}),
        rule("waits", where={"project": "pp"}),
    ]
    store.rules.apply(rules, prune=False, who="test", now=NOW)
    judged(store)
    return store


def test_every_rule_says_what_it_wanted_and_found(told: Store, muleteer: Muleteer) -> None:
    """Those that match first, near misses next, the others last; with what was filled in and what was started."""
    said = muleteer("messages", "explain", "1", "--json").json

    assert answers(said) == [("raw", "matches"), ("waits", "waits"), ("near", "nearly"), ("away", "refuses")]
    raw, _, near, away = said["rules"]
    assert raw["actions"] == [{"actor": "run", "options": {"command": ["x", "21615"]}}]
    assert raw["captured"] == {"run": "00021615"}
    assert near["refused_by"] == ["bytes"]
    assert near["clauses"][-1] == {"name": "bytes", "wanted": "> 10", "found": "5", "holds": False}
    assert away["clauses"][3] == {"name": "pattern", "wanted": "DST.*", "found": NAME, "holds": False}
    assert [each["rule"] for each in said["dispatches"]] == ["raw"]
    assert (said["revision"], said["would_differ"], said["matches_now"]) == (1, False, ["raw"])


def test_people_see_the_others_in_one_line_each(told: Store, muleteer: Muleteer) -> None:
    """Unless they ask for all, or for one rule."""
    plain = muleteer("messages", "explain", "1").out

    assert "rule raw (version 1) matches" in plain
    assert "rule near (version 1) nearly matches: only bytes refuses it" in plain
    assert "rule away (version 1) does not match: pattern" in plain
    assert "DST.*" not in plain
    assert "DST.*" in muleteer("messages", "explain", "1", "--all").out
    one = muleteer("messages", "explain", "1", "--rule", "away").out
    assert "DST.*" in one
    assert "rule raw" not in one


def test_a_message_that_matched_nothing_is_explained_as_well(store: Store, muleteer: Muleteer) -> None:
    """Judged or not, with rules or without."""
    store.messages.take_in([frame()], origin="broker", now=NOW)

    assert "There is no rule" in muleteer("messages", "explain", "1").out
    store.rules.apply([rule("no", "nothing")], prune=False, who="test", now=NOW)
    assert "not judged yet; the rules in force are at revision 1" in muleteer("messages", "explain", "1").out
    judged(store)
    said = muleteer("messages", "explain", "1")

    assert said.code == 0
    assert "judged last at revision 1; revision 1, in force, says the same" in said.out
    assert "rule no (version 1) does not match: pattern" in said.out


def test_rules_that_are_gone_and_rules_as_they_were(told: Store, muleteer: Muleteer) -> None:
    """A rule that started something is shown though it is gone; a revision shows the rules of that time."""
    told.rules.apply([rule("away", "SPHENIX.*")], prune=True, who="test", now=NOW)

    now = muleteer("messages", "explain", "1", "--json").json
    then = muleteer("messages", "explain", "1", "--revision", "1", "--json").json

    assert answers(now) == [("away", "matches"), ("raw", "matches")]
    assert [each["in_force"] for each in now["rules"]] == [True, False]
    assert (now["would_differ"], now["matched_then"], now["matches_now"]) == (True, ["raw"], ["away"])
    assert answers(then) == [("raw", "matches"), ("waits", "waits"), ("near", "nearly"), ("away", "refuses")]
    assert "which means raw; revision 2, in force, would mean away" in muleteer("messages", "explain", "1").out
    assert answers(muleteer("messages", "explain", "1", "--rule", "near", "--json").json) == [("near", "nearly")]


def test_what_kept_a_match_from_being_carried_out_is_told(store: Store, muleteer: Muleteer) -> None:
    """A prescale's count, and a unique key with who has it."""
    arrivals = [frame(name="A"), frame(name="B")]
    store.messages.take_in(arrivals, origin="broker", now=NOW)
    rules = [rule("keyed", unique="one"), rule("some", prescale=2)]
    store.rules.apply(rules, prune=False, who="test", now=NOW)
    judged(store)

    said = muleteer("messages", "explain", "2", "--json").json

    assert said["kept_back"] == [
        {"rule": "some", "by": "prescale", "why": "its match number 2 was left out"},
        {"rule": "keyed", "by": "unique key", "why": "'one' is taken by dispatch 1 (rule keyed, message 1)"},
    ]
    first = muleteer("messages", "explain", "1", "--json").json["kept_back"]
    assert first == [{"rule": "some", "by": "prescale", "why": "its match number 1 was carried out"}]
    assert "left out" in muleteer("messages", "explain", "2").out


@pytest.mark.parametrize(
    "words", [("explain", "9"), ("explain", "1", "--rule", "none"), ("explain", "1", "--revision", "9")], ids=" ".join
)
def test_what_is_not_there_is_said(told: Store, muleteer: Muleteer, words: tuple[str, ...]) -> None:
    """A message, a rule or a revision that never was."""
    said = muleteer("messages", *words)

    assert (said.code, said.out) == (4, "")
    assert "there is no" in said.err or "never" in said.err


def test_explaining_changes_nothing(told: Store, muleteer: Muleteer) -> None:
    """Nothing of the message, its journal and its dispatches."""
    before = told.messages.get(MessageId(1)), told.journal.since(0), told.dispatches.list()

    muleteer("messages", "explain", "1")

    assert (told.messages.get(MessageId(1)), told.journal.since(0), told.dispatches.list()) == before


def test_a_dataset_that_the_rule_made_itself_is_told(store: Store, muleteer: Muleteer) -> None:
    """The loop guard: it matches, and never starts on what it had a part in making."""
    intent = Intent(
        key="k",
        name="n",
        dispatch_id=None,
        workflow="w",
        parameters={},
        inputs={},
        outputs={"group.sphenix:made": "s"},
        engine="embedded",
        steps=[],
        rule="all",
    )
    store.launches.intend(intent, who="test", now=NOW)
    store.messages.take_in([frame(name="made")], origin="broker", now=NOW)
    store.rules.apply([rule("all"), rule("other")], prune=False, who="test", now=NOW)
    judged(store)

    said = muleteer("messages", "explain", "1", "--json").json

    assert answers(said) == [("all", "matches"), ("other", "matches")]
    assert said["kept_back"] == [{"rule": "all", "by": "loop guard", "why": "it had a part in making this dataset"}]
    assert [each["rule"] for each in said["dispatches"]] == ["other"]
