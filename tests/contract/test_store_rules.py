"""What the store promises of rules, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import threading

import pytest

from orchestrator.store.rules import Change
from orchestrator.store.store import Store
from schemas.rule import Rule
from tests.unit.making import NOW, rule


def apply(store: Store, *rules: Rule, prune: bool = False) -> Change:
    return store.rules.apply(rules, prune=prune, who="cli:me", now=NOW)


def in_force(store: Store) -> list[tuple[str, int]]:
    return [(each.rule.name, each.version) for each in store.rules.in_force()[1]]


def test_before_any_rule_there_is_revision_0(store: Store) -> None:
    """An empty store has no rule in force."""
    assert store.rules.revision() == 0
    assert store.rules.in_force() == (0, [])


def test_rules_come_into_force_as_they_were_written(store: Store) -> None:
    """By name, word for word, as version 1 of the revision that brought them; the journal says who applied them."""
    b, a = rule("b", "x(?P<run>\\d+)", on=["open"], scope=["s*"], description="ü"), rule("a")

    change = apply(store, b, a)

    assert change == Change(1, added=("b", "a"))
    revision, versions = store.rules.in_force()
    assert (revision, store.rules.revision()) == (1, 1)
    assert [each.rule for each in versions] == [a, b]
    assert {(each.version, each.since_revision, each.until_revision) for each in versions} == {(1, 1, None)}
    said = [entry for _, entry in store.journal.since(0)]
    assert [(each.who, each.subject, each.to_state, each.why) for each in said] == [
        ("cli:me", "rule", "in_force", "added b"),
        ("cli:me", "rule", "in_force", "added a"),
    ]


def test_applying_the_same_again_changes_nothing(store: Store) -> None:
    """However it is spelled: no version, no revision, no journal row."""
    apply(store, rule("a", on="closed"))
    before = store.journal.since(0)

    change = apply(store, rule("a", on=["CLOSE"]))

    assert change == Change(1, unchanged=("a",))
    assert change.nothing
    assert store.journal.since(0) == before


def test_a_changed_rule_is_a_new_version(store: Store) -> None:
    """The old version stays, ended by the revision that brought the new one; others are left alone."""
    apply(store, rule("a"), rule("b"))
    old = {each.rule.name: each for each in store.rules.in_force()[1]}

    change = apply(store, rule("a", "new"))

    assert change == Change(2, changed=("a",))
    a, b = store.rules.in_force()[1]
    assert (a.version, a.since_revision, a.rule.pattern) == (2, 2, "new")
    assert a.id != old["a"].id
    assert b == old["b"]
    assert [(each.to_state, each.why) for each in store.journal.of("rule", old["a"].id)][-1] == ("ended", "revision 2")


def test_rules_that_are_not_given_stay_unless_pruned(store: Store) -> None:
    """With prune the given rules are the whole set; a rule that comes back goes on counting its versions."""
    apply(store, rule("a"), rule("b"))

    kept, pruned = apply(store, rule("c")), apply(store, rule("c"), prune=True)
    back = apply(store, rule("a"))

    assert (kept.removed, pruned) == ((), Change(3, removed=("a", "b"), unchanged=("c",)))
    assert back == Change(4, added=("a",))
    assert in_force(store) == [("a", 2), ("c", 1)]


def test_everything_can_be_pruned(store: Store) -> None:
    """An empty set is a set: its revision is a new one."""
    apply(store, rule("a"))

    assert apply(store, prune=True) == Change(2, removed=("a",))
    assert store.rules.in_force() == (2, [])


def test_rules_come_into_force_all_or_not_at_all(store: Store) -> None:
    """If one cannot be kept, none is, and the revision stays."""
    apply(store, rule("a"))
    impossible = Rule.model_construct(**{**dict(rule("z")), "name": None})
    before = store.journal.since(0)

    with pytest.raises(Exception, match=r"(?i)null"):
        apply(store, rule("a", "new"), rule("b"), impossible)

    assert in_force(store) == [("a", 1)]
    assert (store.rules.revision(), store.journal.since(0)) == (1, before)


def test_a_rule_used_once_by_hand_is_kept_but_never_in_force(store: Store) -> None:
    """Its dispatches can point at it for ever; nothing else changes."""
    apply(store, rule("a"))

    kept = store.rules.keep_for_reference(rule("a", "by hand"), who="cli:me", now=NOW)

    assert (kept.version, kept.until_revision, kept.rule.pattern) == (2, 1, "by hand")
    assert in_force(store) == [("a", 1)]
    assert store.rules.revision() == 1
    assert apply(store, rule("a", "new")).revision == 2
    assert in_force(store) == [("a", 3)]


def test_people_who_apply_rules_at_once_take_turns(store: Store) -> None:
    """Four sets at the same time give four revisions one after the other, and at each name one version in force."""

    def change(number: int) -> None:
        for turn in range(3):
            apply(store, rule("shared", f"{number}-{turn}"), rule(f"own-{number}"))

    threads = [threading.Thread(target=change, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert store.rules.revision() == 12
    assert in_force(store) == [*((f"own-{number}", 1) for number in range(4)), ("shared", 12)]
