"""What stays whatever a policy says: each case differs from a dataset that may leave in one thing only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.core.states import LAUNCH_ENDED
from orchestrator.core.transient.facts import Facts, Some, Unknown
from orchestrator.core.transient.protection import Guard, NotUnderstood, _glob, demand_glob, exactly
from schemas.did import Did
from schemas.launch import LaunchState
from schemas.transient import Keep
from tests.unit.core.transient.making import (
    DAY,
    FACTS,
    GUARD,
    HITS,
    NOW,
    PROOF,
    RULE,
    cheaply,
    checks,
    deeply,
    entry,
    maker,
    policy,
)

AWAY: Any = Unknown("the catalog is away")


def keep(which: str = "sphenix:*-00012345", **changes: Any) -> Keep:
    return Keep(**{"id": 1, "which": which, "who": "ben", "why": "I read it", "at": NOW - DAY, **changes})


def test_what_nothing_protects_is_not_refused() -> None:
    """The dataset that all the other cases differ from."""
    assert cheaply(FACTS) == []
    assert deeply(PROOF) == []


@pytest.mark.parametrize(
    ("facts", "check", "said"),
    [
        (entry(closed=False), "open", "it is open"),
        (replace(FACTS, extended_until=NOW + DAY), "extended", "2026-11-23 12:00 UTC"),
        (replace(FACTS, in_use="launch 7 reads it"), "read", "launch 7 reads it"),
        (replace(FACTS, rests=("sphenix:RAW-1",)), "proof", "sphenix:RAW-1"),
        (replace(FACTS, policies=("hits", "all")), "ambiguous", "all, hits"),
        (replace(FACTS, in_use=AWAY), "unknown", "whether it is read is not known: the catalog is away"),
        (replace(FACTS, makers=AWAY), "unknown", "which launches make it"),
        (replace(FACTS, rests=AWAY), "unknown", "what rests on it"),
    ],
)
def test_each_thing_protects_by_itself(facts: Facts, check: str, said: str) -> None:
    """One refusal, which says what was found. Whatever could not be asked protects too."""
    (refusal,) = cheaply(facts)

    assert refusal.check == check
    assert said in refusal.text


def test_what_is_over_does_not_protect() -> None:
    """A dataset that was to stay until yesterday may leave; one whose time ends in this moment as well."""
    assert cheaply(replace(FACTS, extended_until=NOW)) == []


@pytest.mark.parametrize("state", LaunchState)
def test_whoever_still_makes_it_protects_it(state: LaunchState) -> None:
    """A launch may go on filling it until it has ended, one way or another."""
    found = checks(cheaply(replace(FACTS, makers=(maker(state=state),))))

    assert found == ([] if state in LAUNCH_ENDED else ["making"])


def test_an_open_dataset_leaves_only_if_the_policy_says_so() -> None:
    """Then its age is counted from its creation."""
    assert checks(cheaply(entry(closed=False), policy(open=True))) == []


@pytest.mark.parametrize(
    ("never", "refused"),
    [
        ("sphenix:DST_HITS-*", True),
        ("*:*", True),
        ("sphenix:DST_*-0001234?", True),
        ("other:*", False),
        ("sphenix:DST_HITS", False),
    ],
)
def test_what_the_settings_say_never_leaves(never: str, refused: bool) -> None:
    """Globs on the whole of `scope:name`."""
    assert checks(cheaply(FACTS, guard=Guard(never=[never]))) == (["never"] if refused else [])


@pytest.mark.parametrize(
    ("kept", "refused"),
    [
        (keep(), True),
        (keep("sphenix:DST_HITS-00012345"), True),
        (keep(until=NOW + DAY), True),
        (keep(until=NOW), False),
        (keep(lifted_at=NOW), False),
        (keep("sphenix:*-00012346"), False),
        (keep("other:*"), False),
    ],
)
def test_what_a_person_keeps_stays(kept: Keep, refused: bool) -> None:
    """Until it is lifted or over; who and why are told."""
    found = cheaply(FACTS, guard=Guard(keeps=[kept]))

    assert checks(found) == (["never"] if refused else [])
    assert all("ben" in refusal.text and "I read it" in refusal.text for refusal in found)


@pytest.mark.parametrize(("scopes", "refused"), [(["raw*", "sph*"], True), (["raw*"], False), ([], False)])
def test_nothing_leaves_a_scope_of_raw_data(scopes: list[str], refused: bool) -> None:
    """Whatever its name is. Without such scopes none is protected by this."""
    assert checks(cheaply(FACTS, guard=Guard(raw_scopes=scopes))) == (["raw"] if refused else [])


@pytest.mark.parametrize("which", ["", "name", ":name", "scope:"])
def test_what_cannot_be_understood_is_no_way_to_keep_something(which: str) -> None:
    """A slip of the pen must not look like protection."""
    with pytest.raises(ValueError, match="write scope:name"):
        demand_glob(which)
    with pytest.raises(ValueError, match="write scope:name"):
        Guard(never=[which])
    demand_glob("a:b*")


@pytest.mark.parametrize(
    ("rule", "check"),
    [
        (RULE, None),
        (RULE._replace(account="friends"), None),
        (RULE._replace(account="others"), "foreign_rule"),
        (RULE._replace(account="others", ends_at=NOW - DAY), "foreign_rule"),
        (RULE._replace(account="others", on=Did("sphenix", "everything")), "foreign_rule"),
        (RULE._replace(locked=True), "locked"),
        (RULE._replace(locked=True, ends_at=NOW - DAY), "locked"),
        (RULE._replace(locked=True, account="others"), "locked"),
    ],
)
def test_replication_rules_of_others_and_locked_ones_protect(rule: Any, check: str | None) -> None:
    """On the dataset or on anything above it, as long as the catalog has them."""
    found = deeply(replace(PROOF, rules=(rule,)), guard=Guard(accounts=("us", "friends")))

    assert checks(found) == ([] if check is None else [check])
    assert all(str(rule.on) in refusal.text and rule.account in refusal.text for refusal in found)


def test_a_dataset_whose_files_are_needed_elsewhere_stays() -> None:
    """The first of them are named."""
    (refusal,) = deeply(replace(PROOF, shared=Some(5, ("f1 is in a:b", "f2 is in a:b"))))

    assert refusal == ("shared", "5 of its files are in something else too: f1 is in a:b, f2 is in a:b and 3 more")


@pytest.mark.parametrize("field", ["shared", "rules"])
def test_what_cannot_be_asked_of_the_catalog_protects(field: str) -> None:
    """No proof, no release."""
    (refusal,) = deeply(replace(PROOF, **{field: AWAY}))

    assert refusal.check == "unknown"
    assert refusal.text.endswith("the catalog is away")


def test_every_reason_is_told() -> None:
    """A person mends all of them at once."""
    facts = replace(entry(closed=False), extended_until=NOW + DAY, in_use="it is read", rests=("a:b",))
    guard = Guard(never=["*:*"], keeps=[keep()], raw_scopes=["*"])

    assert checks(cheaply(facts, guard=guard)) == ["never", "never", "raw", "open", "extended", "read", "proof"]


def test_the_reasons_to_keep_one_can_be_asked_for_by_themselves() -> None:
    """While it leaves already, too."""
    assert list(Guard(keeps=[keep()]).kept(HITS, NOW)) == ["ben keeps sphenix:*-00012345: I read it"]
    assert list(Guard(raw_scopes=["sph*"]).kept(HITS, NOW)) == [
        "sphenix is a scope of raw data ([transient] raw_scopes)"
    ]
    assert list(GUARD.kept(HITS, NOW)) == []


@pytest.mark.parametrize("name", ["HITS-1", "HITS-*", "HITS-[0]", "HITS-?"])
def test_a_dataset_can_be_kept_alone(name: str) -> None:
    """Whatever is in its name: no other one is kept with it."""
    guard = Guard(keeps=[keep(exactly(Did("sphenix", name)))])

    others = ["HITS-1", "HITS-2", "HITS-0", "HITS-*", "HITS-[0]", "HITS-?", "HITS-11"]
    assert [each for each in others if list(guard.kept(Did("sphenix", each), NOW))] == [name]


def test_one_file_is_told_of_as_one() -> None:
    """In words that read well."""
    (refusal,) = GUARD.deep(replace(PROOF, shared=Some(1, ("f1 is in a:b",))))

    assert refusal.text == "1 of its files is in something else too: f1 is in a:b"


def test_what_cannot_be_understood_is_told_apart() -> None:
    """From whatever else may be wrong: nothing leaves because of it."""
    with pytest.raises(NotUnderstood, match="'DST' does not say what stays"):
        Guard(never=["DST"])
    with pytest.raises(NotUnderstood, match="'DST' does not say what stays"):
        Guard(keeps=[keep("DST")])


def test_thousands_of_keeps_are_compiled_once() -> None:
    """A guard is made for each decision: names are compared as they are, and globs are remembered."""
    names = [keep(f"sphenix:NAME-{number:08d}") for number in range(10_000)]
    globs = [keep(f"sphenix:GLOB-{number:08d}*") for number in range(6_000)]
    before = _glob.cache_info().misses
    Guard(keeps=[*names, *globs])
    assert _glob.cache_info().misses - before == len(globs)

    guard = Guard(keeps=[*names, *globs])

    assert _glob.cache_info().misses - before == len(globs)
    for name in ("NAME-00009999", "GLOB-00005999-x"):
        assert len(list(guard.kept(Did("sphenix", name), NOW))) == 1
