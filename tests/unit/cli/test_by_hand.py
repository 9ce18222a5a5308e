"""What people change by hand: what is said, how the commands end, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.actor import Trace
from orchestrator.core.dispatch import Next
from orchestrator.core.matching import RuleSet
from orchestrator.store.launches import Intent
from orchestrator.store.store import Store
from schemas.dispatch import AttemptOutcome, DispatchId, DispatchState
from schemas.launch import LaunchState
from schemas.message import MessageId
from schemas.rule import Rule
from tests.unit.making import NOW, UNMATCHED, frame, rule

Muleteer = Callable[..., Any]

BECAUSE = ("--reason", "because")

ON_ITS_WAY = (LaunchState.SUBMITTING, LaunchState.SUBMITTED)


def take_in(store: Store, count: int) -> None:
    store.messages.take_in([frame(name=f"DS-{number}") for number in range(count)], origin="broker", now=NOW)


def judge(store: Store, *rules: Rule) -> None:
    store.rules.apply(rules, prune=True, who="test", now=NOW)
    revision, versions = store.rules.in_force()
    judging = RuleSet(revision, versions, UNMATCHED)
    store.dispatches.judge(judging, now=NOW, limit=1000)


def carry_out(store: Store) -> None:
    for one in store.dispatches.claim(owner="w", limit=100, lease=timedelta(seconds=15), now=NOW):
        end = Next(DispatchState.DONE, AttemptOutcome.DONE, "well")
        store.dispatches.settle(one.order.dispatch_id, one.order.attempt, end, Trace(), owner="w", now=NOW)


def launched(store: Store, dispatch_id: int, *steps: LaunchState, outputs: Sequence[str] = ()) -> None:
    launch = store.launches.intend(
        Intent(
            key=f"{dispatch_id}",
            name=f"name-{dispatch_id}",
            dispatch_id=DispatchId(dispatch_id),
            workflow="w",
            parameters={},
            inputs={},
            outputs=dict.fromkeys(outputs, "step"),
            engine="embedded",
            steps=[],
        ),
        who="launcher",
        now=NOW,
    )
    for state in steps:
        launch = store.launches.advance(launch, state, who="launcher", why=None, now=NOW)


# Messages.


def test_one_line_says_what_was_changed_and_what_was_not(store: Store, muleteer: Muleteer) -> None:
    """Counted, by reason; with a dry run in the conditional."""
    take_in(store, 1_005)
    muleteer("messages", "drop", "1", "2", *BECAUSE)
    muleteer("messages", "hold", "3", *BECAUSE)

    dry = muleteer("messages", "hold", "--name", "DS-*", "--dry-run", *BECAUSE)
    done = muleteer("messages", "hold", "--name", "DS-*", *BECAUSE)

    left = "; 3 stay as they are: 2 are dropped, 1 is held\n"
    assert (dry.code, dry.out) == (0, f"1,002 messages would be held{left}")
    assert (done.code, done.out) == (0, f"1,002 messages held{left}")
    assert muleteer("messages", "release", "3", *BECAUSE).out == "1 message released\n"


def test_every_verb_does_to_messages_what_it_says(store: Store, muleteer: Muleteer) -> None:
    """And programs are told of each id where it went, or why not."""
    take_in(store, 2)

    for verb, state in (("hold", "held"), ("release", "pending"), ("drop", "dropped"), ("repend", "pending")):
        said = muleteer("messages", verb, "1", *BECAUSE, "--json")

        assert (said.code, said.err) == (0, "")
        changed = {"dry_run": False, "count": 1, "changed": [1]}
        assert said.json == {**changed, "stayed": [], "remarks": [], "details": {}}
        found = store.messages.get(MessageId(1))
        assert (found.state, found.reason) == (state, "because")
    said = muleteer("messages", "release", "1", "2", *BECAUSE, "--json")
    assert said.json["stayed"] == [{"why": "pending", "ids": [1, 2]}]
    assert (said.code, "not released: 1, 2 are pending" in said.err) == (4, True)


@pytest.mark.parametrize("verb", ["hold", "release", "drop", "repend", "dispatch"])
@pytest.mark.parametrize(
    "words", [(), ("1", "--state", "pending"), ("--all", "--state", "held"), ("1", "--all")], ids=" ".join
)
def test_nobody_changes_everything_by_a_slip(
    store: Store, muleteer: Muleteer, verb: str, words: tuple[str, ...]
) -> None:
    """Ids, or filters, or --all: none of them or two of them is no command."""
    take_in(store, 2)
    rule_ = ("--rule", "raw") if verb == "dispatch" else ()

    said = muleteer("messages", verb, *words, *rule_, *BECAUSE)

    assert (said.code, said.out) == (2, "")
    assert store.counts().messages == {"pending": 2}


@pytest.mark.parametrize("words", [(), ("--reason", " ")], ids=["none", "blank"])
def test_a_reason_must_be_given(store: Store, muleteer: Muleteer, words: tuple[str, ...]) -> None:
    """For whoever reads the journal."""
    take_in(store, 1)

    assert muleteer("messages", "hold", "--all", *words).code == 2
    assert store.counts().messages == {"pending": 1}


def test_messages_are_chosen_as_they_are_listed(store: Store, muleteer: Muleteer) -> None:
    """Every filter of `messages list` is one of these commands too."""
    take_in(store, 3)
    judge(store, rule("near", "DS-1", scope="elsewhere"))
    filters = (
        ("--state", "pending"),
        ("--event", "closed"),
        ("--scope", "group.*"),
        ("--name", "DS-2"),
        ("--since", "2026-11-23"),
        ("--until", "2026-11-23"),
        ("--failed-only-on", "scope"),
    )

    listed = [sorted(each["id"] for each in muleteer("messages", "list", *one, "--json").json) for one in filters]
    chosen = [muleteer("messages", "hold", *one, *BECAUSE, "--dry-run", "--json").json["changed"] for one in filters]

    assert chosen == listed == [[1, 2, 3], [1, 2, 3], [1, 2, 3], [3], [], [1, 2, 3], [2]]


def test_a_long_list_is_not_counted_to_the_end(store: Store, muleteer: Muleteer) -> None:
    """`messages list` says of how many it shows the first, as far as it counts."""
    take_in(store, 9_999)
    counted = muleteer("messages", "list", "--limit", "2").out
    store.messages.take_in([frame(name="ONE-MORE"), frame(name="AND-ANOTHER")], origin="broker", now=NOW)

    assert "2 of 9,999;" in counted
    assert "2 of 10,000 or more;" in muleteer("messages", "list", "--limit", "2").out


def test_messages_are_dispatched_to_a_rule(store: Store, muleteer: Muleteer) -> None:
    """Those that cannot be are said, each with its reason, and so are those whose key another has."""
    take_in(store, 3)
    store.messages.take_in([frame(name="OTHER")], origin="broker", now=NOW)
    judge(store, rule("raw", r"DS-(?P<n>0)", {"run": {"command": ["{n}"]}}))
    judge(store, rule("raw", r"DS-(?P<n>\d)", {"run": {"command": ["{n}"]}}, scope="no", unique="{scope}", prescale=50))

    said = muleteer("messages", "dispatch", "--rule", "raw", "--all", *BECAUSE)

    assert (said.code, said.out) == (
        0,
        "2 messages dispatched to rule raw (of these 1 is refused: another match has their unique key); "
        "2 stay as they are: 1 is dispatched to this rule already, 1 is not enough to fill the rule's templates\n"
        "  message 1: dispatch 1\n"
        "  message 3: the key 'group.sphenix' is taken by dispatch 2\n"
        "  message 4: '{n}': there is no value 'n'; there are: account, bytes, created_at, did, event, events, "
        "generation, length, message_id, name, scope; the catalog was not asked about it\n",
    )
    assert [str(each.state) for each in store.dispatches.list(message_id=MessageId(2))] == ["ready"]


def test_a_rule_that_is_not_in_force_gets_nothing(store: Store, muleteer: Muleteer) -> None:
    """The nearest name is offered."""
    take_in(store, 1)
    judge(store, rule("raw-events", "nothing"))

    said = muleteer("messages", "dispatch", "--rule", "raw-event", "1", *BECAUSE)

    assert (said.code, said.out) == (4, "")
    assert "there is no rule 'raw-event' in force: did you mean raw-events?" in said.err


def test_a_rule_that_joins_datasets_is_given_none_alone(store: Store, muleteer: Muleteer) -> None:
    """What its waiting room misses can be waived; the error says how."""
    take_in(store, 1)
    action = {"run": {"command": ["true"]}}
    join = {"key": "{run}", "members": {"a": r"A-(?P<run>\d+)", "b": r"B-(?P<run>\d+)"}}
    both = Rule.model_validate({"name": "both", "join": join, "actions": [action]})
    store.rules.apply([both], prune=True, who="test", now=NOW)

    said = muleteer("messages", "dispatch", "--rule", "both", "1", *BECAUSE)

    assert (said.code, "muleteer rooms list --rule both" in said.err) == (3, True)


# Dispatches.


def test_every_verb_does_to_dispatches_what_it_says(store: Store, muleteer: Muleteer) -> None:
    """By id, and by rule and state; without either it is no command."""
    take_in(store, 2)
    judge(store, rule())
    steps = (
        ("hold", "held"),
        ("release", "ready"),
        ("cancel", "cancelled"),
        ("redispatch", "ready"),
    )

    for verb, state in steps:
        said = muleteer("dispatches", verb, "1", *BECAUSE)

        assert (said.code, said.out.startswith("1 dispatch ")) == (0, True)
        assert store.dispatches.get(DispatchId(1)).state == state
        assert muleteer("dispatches", verb, *BECAUSE).code == 2
    assert muleteer("dispatches", "hold", "--rule", "raw", *BECAUSE).out == "2 dispatches held\n"
    filtered = muleteer("dispatches", "cancel", "--rule", "raw", "--state", "ready", *BECAUSE, "--json")
    assert filtered.json["changed"] == []


def test_another_launch_is_made_after_one_that_failed(store: Store, muleteer: Muleteer) -> None:
    """What the earlier one left behind is listed."""
    take_in(store, 1)
    judge(store, rule())
    carry_out(store)
    launched(store, 1, *ON_ITS_WAY, LaunchState.FAILED, outputs=["test:made"])

    said = muleteer("dispatches", "redispatch", "1", *BECAUSE)

    assert (said.code, said.out.splitlines()) == (
        0,
        [
            "  launch 1 (name-1) of dispatch 1 is failed",
            "    test:made: not in the catalog",
            "1 dispatch ready once more (of these 1 is to make another launch, beside the one there was)",
        ],
    )
    assert store.dispatches.get(DispatchId(1)).round == 1


def test_a_dataset_in_the_way_of_another_launch_must_be_seen_to(store: Store, muleteer: Muleteer) -> None:
    """Nothing is changed before; one that bears its launch's name is in nobody's way."""
    take_in(store, 1)
    judge(store, rule())
    carry_out(store)
    launched(store, 1, *ON_ITS_WAY, LaunchState.FINISHED, outputs=["test:made", "test:of.name-1"])
    muleteer("catalog", "create", "test:made")
    muleteer("catalog", "create", "test:of.name-1")

    kept = muleteer("dispatches", "redispatch", "1", *BECAUSE)
    refused = muleteer("dispatches", "redispatch", "1", "--again", *BECAUSE)
    state = store.dispatches.get(DispatchId(1)).state
    done = muleteer("dispatches", "redispatch", "1", "--again", "--cleaned", *BECAUSE, "--json")

    assert (kept.code, "--again makes another" in kept.err) == (4, True)
    assert (refused.code, state) == (3, DispatchState.DONE)
    assert "left behind test:made: clean up" in refused.err
    assert (done.code, done.json["changed"]) == (0, [1])
    (left,) = done.json["left_behind"]
    assert left["datasets"] == [{"did": "test:made", "state": "open"}, {"did": "test:of.name-1", "state": "open"}]


# Forced.


@pytest.fixture
def rivals(store: Store) -> Store:
    """Dispatch 1 is done and has the key; dispatch 2 was refused for it."""
    take_in(store, 2)
    judge(store, rule(unique="{scope}"))
    carry_out(store)
    return store


def test_a_refused_dispatch_is_forced(rivals: Store, muleteer: Muleteer) -> None:
    """What has the key, and what it left behind, is listed; a dry run stops there."""
    launched(rivals, 1, *ON_ITS_WAY, LaunchState.FAILED, outputs=["test:made"])

    dry = muleteer("dispatches", "force", "2", "--dry-run", *BECAUSE)
    before = rivals.dispatches.get(DispatchId(2)).state
    done = muleteer("dispatches", "force", "2", *BECAUSE)

    assert (dry.code, before) == (0, DispatchState.REFUSED)
    assert (done.code, done.out.splitlines()) == (
        0,
        [
            "the key 'group.sphenix' is with rule raw, message 1:",
            "  dispatch 1 is done",
            "  launch 1 (name-1) of dispatch 1 is failed",
            "    test:made: not in the catalog",
            "dispatch 2 is ready, and has the key now",
        ],
    )
    assert rivals.dispatches.get(DispatchId(2)).state is DispatchState.READY


def test_nothing_is_forced_while_the_first_goes_on(rivals: Store, muleteer: Muleteer) -> None:
    """Exit 3, with what goes on; not even what is said to be cleaned up."""
    launched(rivals, 1, *ON_ITS_WAY)

    said = muleteer("dispatches", "force", "2", "--cleaned", *BECAUSE, "--json")

    assert (said.code, said.json["ready"]) == (3, [])
    assert said.json["in_the_way"] == "the first is still going on: launch 1 (name-1) is submitted"
    assert rivals.dispatches.get(DispatchId(2)).state is DispatchState.REFUSED


def test_what_the_first_made_must_be_cleaned_up(rivals: Store, muleteer: Muleteer) -> None:
    """While its datasets are in the catalog they are named, and nothing is changed without --cleaned."""
    launched(rivals, 1, *ON_ITS_WAY, LaunchState.FINISHED, outputs=["test:made"])
    muleteer("catalog", "create", "test:made")

    refused = muleteer("dispatches", "force", "2", *BECAUSE)
    before = rivals.dispatches.get(DispatchId(2)).state
    done = muleteer("dispatches", "force", "2", "--cleaned", *BECAUSE, "--json")

    assert (refused.code, before) == (3, DispatchState.REFUSED)
    assert "the first left behind test:made: clean up" in refused.err
    assert "test:made: open, 0 files" in refused.out
    assert (done.code, done.json["ready"]) == (0, [2])


@pytest.mark.parametrize("id_", ["1", "9"])
def test_what_was_not_refused_is_not_forced(rivals: Store, muleteer: Muleteer, home: Path, id_: str) -> None:
    """It has its key, or is not there."""
    said = muleteer("dispatches", "force", id_, *BECAUSE)

    assert (said.code, said.out) == (4, "")
