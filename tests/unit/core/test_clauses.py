"""One rule, asked about one message: what each clause wants, finds and says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from orchestrator.core.clauses import Clause, CompiledRule, Facts, run_of, scope_test
from tests.unit.making import NAME, message, rule, version

RAW = r"(?P<project>\w+)_RAW_EVENTS-(?P<run>\d{8})"


def asked(facts: Facts | None = None, pattern: str = ".*", **fields: Any) -> list[Clause]:
    """The clauses beside event, scope and name."""
    decision = CompiledRule(version(rule("r", pattern, **fields))).decide(facts or Facts(message()))
    return list(decision.clauses[4:])


def test_a_decision_says_what_every_clause_wanted_and_found() -> None:
    """In the words of the rule, whether or not an earlier clause has refused."""
    one = rule(
        "r", RAW, on=["open"], scope=["user.*", "!user.me"], where={"bytes": "> 5 kB"}, runs={"include": ["1..9"]}
    )

    decision = CompiledRule(version(one)).decide(Facts(message()))

    assert [tuple(clause) for clause in decision.clauses] == [
        ("enabled", "yes", "yes", True),
        ("event", "open", "close", False),
        ("scope", "user.*, !user.me", "group.sphenix", False),
        ("pattern", RAW, NAME, True),
        ("runs", "1..9", "21615", False),
        ("bytes", "> 5 kB", "3900", False),
    ]
    assert decision.refused_by == ["event", "scope", "runs", "bytes"]
    assert decision.captured == {"project": "SPHENIX", "run": "00021615"}


@pytest.mark.parametrize(
    ("facts", "found", "holds"),
    [
        (Facts(message()), "not known yet", None),
        (Facts(message(), metadata={}), "nothing", False),
        (Facts(message(), metadata={"project": "cosmics"}), "cosmics", True),
    ],
)
def test_what_the_catalog_has_to_say_is_waited_for(facts: Facts, found: str, holds: bool | None) -> None:
    """Unknown until it has answered; a dataset that it does not have has nothing."""
    assert asked(facts, where={"project": "cosmics"}) == [Clause("project", "cosmics", found, holds)]


def test_what_the_event_does_not_say_is_asked_of_the_catalog() -> None:
    """Sizes and the account are the event's, else the catalog's."""
    said, silent = message(bytes=100), message(bytes=None)

    assert [asked(Facts(each, metadata={"bytes": 7}), where={"bytes": 7})[0].holds for each in (said, silent)] == [
        False,
        True,
    ]
    assert asked(Facts(silent), where={"bytes": 7})[0].holds is None
    assert asked(Facts(said), where={"origin": "broker"})[0].holds


def test_keys_of_the_event_and_when_it_closed() -> None:
    """`event.KEY` is of the payload; a close happened when the dataset closed."""
    facts = Facts(message(), {"did_type": "DATASET"}, {})

    assert asked(facts, where={"event.did_type": "DATA*"})[0].holds
    assert asked(facts, where={"event.other": "x"})[0].holds is False
    assert asked(facts, where={"closed_at": "2026-11-22.."})[0].holds
    assert asked(Facts(message(event_type="open"), {}, {}), where={"closed_at": "2000.."})[0].holds is False


@pytest.mark.parametrize(
    ("found", "run"),
    [
        (5, 5),
        ("00021615", 21615),
        (21615.0, 21615),
        (5.5, None),
        (True, None),
        (float("nan"), None),
        (float("inf"), None),
        ("9" * 5000, None),
        ("five", None),
        (None, None),
        ([1], None),
    ],
)
def test_the_catalogs_run_is_a_number_or_nothing(found: Any, run: int | None) -> None:
    """Whatever stands there, nobody is stopped by it."""
    assert run_of(Facts(message(), metadata={"run_number": found}), {}) == run


@pytest.mark.parametrize(("word", "run"), [("00021615", 21615), ("", None), ("12a", None), ("٣", None)])
def test_a_group_that_is_no_number_is_no_run(word: str, run: int | None) -> None:
    """The pattern's group counts, though the catalog may know better."""
    assert run_of(Facts(message(), metadata={"run_number": 7}), {"run": word}) == run


@pytest.mark.parametrize(
    ("globs", "fitting"),
    [
        (["*"], ["a", "b", "user.me", ""]),
        (["a"], ["a"]),
        (["a", "user.*"], ["a", "user.me"]),
        (["*", "!user.*"], ["a", "b", ""]),
        (["!user.*"], ["a", "b", ""]),
        (["user.*", "!user.me"], []),
        (["[ab]"], ["a", "b"]),
        (["?"], ["a", "b"]),
    ],
)
def test_scopes_are_chosen_and_left_out(globs: Sequence[str], fitting: Sequence[str]) -> None:
    """A scope fits one of the globs and none of those after `!`; with those alone, all others fit."""
    assert [scope for scope in ("a", "b", "user.me", "") if scope_test(globs)(scope)] == fitting
