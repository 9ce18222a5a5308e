"""What people say of runs, and what follows, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from orchestrator.core.matching import RuleSet
from orchestrator.store.store import Store
from schemas.rule import Rule
from tests.unit.making import NOW, UNMATCHED, frame

QA = Rule.model_validate(
    {
        "name": "qa",
        "pattern": r"RAW-(?P<run>\d{8})",
        "where": {"run_flags": ["QA", "!bad"]},
        "actions": [{"run": {"command": ["true"]}}],
    }
)


def judge(store: Store) -> dict[str, int]:
    """Judge what comes up, and say how many messages stand where."""
    revision, versions = store.rules.in_force()
    rules = RuleSet(revision, versions, UNMATCHED)
    store.dispatches.judge(rules, now=NOW, limit=100)
    return store.counts().messages


def arrive(store: Store, *runs: int) -> None:
    store.rules.apply([QA], prune=False, who="test", now=NOW)
    store.messages.take_in([frame(name=f"RAW-{run:08d}") for run in runs], origin="broker", now=NOW)
    assert judge(store) == {"pending": len(runs)}


def test_a_flag_brings_the_runs_messages_up_again(store: Store) -> None:
    """The dispatcher needs no restart and no new rule; other runs stay where they are."""
    arrive(store, 59641, 59642)

    assert store.run_flags.set([59641, 59641], "QA", who="me", reason="complete", now=NOW) == [59641]

    assert judge(store) == {"dispatched": 1, "pending": 1}
    assert [each.captured["run"] for each in store.dispatches.list()] == ["00059641"]


def test_a_flag_that_is_not_wanted_keeps_the_run_out(store: Store) -> None:
    """`!bad` refuses, whatever other flags the run has; without it the run goes."""
    arrive(store, 59641)
    store.run_flags.set([59641], "bad", who="me", reason="beam lost", now=NOW)
    store.run_flags.set([59641], "QA", who="me", reason="complete", now=NOW)
    assert judge(store) == {"pending": 1}

    assert store.run_flags.unset([59641, 7], "bad", who="me", reason="it was another", now=NOW) == [59641]

    assert judge(store) == {"dispatched": 1}


def test_who_said_it_and_why_is_kept(store: Store) -> None:
    """The list has what holds, the journal what ever was."""
    store.run_flags.set([2, 1], "QA", who="me", reason="complete", now=NOW)
    assert store.run_flags.set([1], "QA", who="you", reason="again", now=NOW) == []
    store.run_flags.unset([1], "QA", who="you", reason="no", now=NOW)

    assert [(each.run, each.flag, each.who, each.reason) for each in store.run_flags.list()] == [
        (2, "QA", "me", "complete")
    ]
    told = [(each.who, each.from_state, each.to_state, each.why) for each in store.journal.of("run", 1)]
    assert told == [("me", None, "set", "QA: complete"), ("you", "set", "unset", "QA: no")]
