"""What the store promises of rules, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from sqlalchemy import delete

from orchestrator.core.actor import Trace
from orchestrator.core.dispatch import Next
from orchestrator.core.matching import RuleSet
from orchestrator.store.launches import Intent
from orchestrator.store.port import NotAllowed, NotFound
from orchestrator.store.rules import Change
from orchestrator.store.store import Store
from orchestrator.store.tables import revisions
from schemas.dispatch import AttemptOutcome, DispatchState
from schemas.rule import Rule
from tests.unit.making import NOW, UNMATCHED, frame, later, rule


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


# Switched, taken out, taken back.


def changed(store: Store) -> list[tuple[int, str | None, str | None, list[str]]]:
    """Every revision, newest first: its number, the command, why, and what it did."""
    return [
        (each.number, each.what, each.reason, [f"{one.did} {one.name} {one.version}" for one in each.touched])
        for each in store.rules.revisions()
    ]


def test_who_brought_a_version_and_why_is_kept_with_it(store: Store) -> None:
    """In the version, and in the journal for the new one and for the one that it ended."""
    apply(store, rule("a"))
    store.rules.apply([rule("a", "x")], prune=False, who="cli:you", reason="new\0 names", now=later(1))

    old, new = store.rules.version("a", 1), store.rules.version("a")

    assert (old.author, old.reason, old.at, old.until_revision) == ("cli:me", None, NOW, 2)
    assert (new.author, new.reason, new.at, new.version) == ("cli:you", "new\\0 names", later(1), 2)
    assert store.journal.of("rule", new.id)[-1].why == "changed a: new\\0 names"
    assert store.journal.of("rule", old.id)[-1].why == "revision 2: new\\0 names"


def test_what_applying_would_do_can_be_asked(store: Store) -> None:
    """The answer is what applying then does, and asking changes nothing."""
    apply(store, rule("a"), rule("b"), rule("c"))
    wanted = [rule("a", "new"), rule("b"), rule("d")]
    before = store.rules.in_force()

    told = store.rules.would_change(wanted, prune=True)

    assert store.rules.in_force() == before
    assert told == apply(store, *wanted, prune=True) == Change(2, ("d",), ("a",), ("c",), ("b",))


def test_rules_are_switched_off_and_on(store: Store) -> None:
    """Each switch is a new version that differs in nothing else; one that is so already is left alone."""
    apply(store, rule("a", description="d"), rule("b", enabled=False))

    off = store.rules.set_enabled(["a", "b", "a"], False, who="cli:me", reason="noise", now=NOW)
    on = store.rules.set_enabled(["a"], True, who="cli:me", reason="quiet again", now=NOW)

    assert (off, on) == (Change(2, changed=("a",), unchanged=("b",)), Change(3, changed=("a",)))
    assert [(each.rule.enabled, each.reason) for each in store.rules.history("a")] == [
        (True, "quiet again"),
        (False, "noise"),
        (True, None),
    ]
    assert store.rules.version("a").rule == rule("a", description="d")


def test_a_rule_that_is_taken_out_can_still_be_read(store: Store) -> None:
    """Its versions stay; who took it out and why is kept too."""
    apply(store, rule("a"), rule("b"))

    assert store.rules.remove(["a"], who="cli:me", reason="old", now=NOW) == Change(2, removed=("a",))

    assert in_force(store) == [("b", 1)]
    assert store.rules.version("a").until_revision == 2
    assert changed(store)[0] == (2, "remove", "old", ["removed a 1"])


@pytest.mark.parametrize("what", ["enable", "remove"])
def test_a_name_that_is_not_in_force_changes_nothing(store: Store, what: str) -> None:
    """All or nothing, with what was perhaps meant; a rule that was taken out is not in force."""
    apply(store, rule("raw-physics"), rule("gone"))
    store.rules.remove(["gone"], who="cli:me", now=NOW)
    before = store.rules.in_force()

    with pytest.raises(NotFound) as error:
        if what == "enable":
            store.rules.set_enabled(["raw-physics", "raw-physic", "gone"], False, who="cli:me", now=NOW)
        else:
            store.rules.remove(["raw-physics", "raw-physic", "gone"], who="cli:me", now=NOW)

    said = str(error.value).splitlines()
    assert said[0] == "there is no rule 'raw-physic': did you mean raw-physics?"
    assert said[1].startswith("there is no rule 'gone': ")
    assert store.rules.in_force() == before


def test_going_back_to_a_revision_brings_that_set_as_a_new_revision(store: Store) -> None:
    """What was added is taken out, what was taken out or changed comes back, what is the same is left alone."""
    apply(store, rule("a"), rule("b"), rule("same"))
    apply(store, rule("a", "new"), rule("c"))
    store.rules.remove(["b"], who="cli:me", now=NOW)
    same = store.rules.version("same")

    back = store.rules.rollback(1, who="cli:me", reason="worse", now=NOW)
    again = store.rules.rollback(1, who="cli:me", reason="twice", now=NOW)

    assert back == Change(4, added=("b",), changed=("a",), removed=("c",), unchanged=("same",))
    assert again == Change(4, unchanged=("a", "b", "same"))
    assert [each.rule for each in store.rules.at(4)] == [each.rule for each in store.rules.at(1)]
    assert in_force(store) == [("a", 3), ("b", 2), ("same", 1)]
    assert store.rules.version("same") == same
    assert changed(store)[0] == (4, "rollback to 1", "worse", ["changed a 3", "added b 2", "removed c 1"])


def test_going_back_to_before_the_first_rule_empties_the_set(store: Store) -> None:
    """Revision 0 is a revision; one that never was is refused with the newest."""
    apply(store, rule("a"))

    for number in (2, -1):
        with pytest.raises(NotFound, match=f"there is no revision {number}; the newest is 1"):
            store.rules.rollback(number, who="cli:me", now=NOW)

    assert store.rules.rollback(0, who="cli:me", now=NOW) == Change(2, removed=("a",))


def test_an_edit_of_what_somebody_else_has_changed_is_refused(store: Store) -> None:
    """Nobody's work is overwritten unseen, whether the rule was changed or taken out."""
    apply(store, rule("a"))
    had = store.rules.version("a")
    apply(store, rule("a", "theirs"))

    with pytest.raises(NotAllowed, match="rule a is at version 2 now: this was made of version 1"):
        store.rules.replace(had, rule("a", "mine"), who="cli:me", now=NOW)
    assert store.rules.version("a").rule.pattern == "theirs"
    had = store.rules.version("a")
    assert store.rules.replace(had, rule("a", "mine"), who="cli:me", now=NOW) == Change(3, changed=("a",))
    had = store.rules.version("a")
    store.rules.remove(["a"], who="cli:you", now=NOW)
    with pytest.raises(NotAllowed, match="rule a was taken out"):
        store.rules.replace(had, rule("a"), who="cli:me", now=NOW)


def test_every_change_of_the_set_can_be_read(store: Store) -> None:
    """Newest first, page by page, of all rules or of one; what was used by hand only is no change of the set."""
    apply(store, rule("a"), rule("b"))
    store.rules.keep_for_reference(rule("a", "by hand"), who="cli:me", now=NOW)
    apply(store, rule("a", "new"))
    apply(store, rule("b"), prune=True)

    assert changed(store) == [
        (3, "apply --prune", None, ["removed a 3"]),
        (2, "apply", None, ["changed a 3"]),
        (1, "apply", None, ["added a 1", "added b 1"]),
    ]
    assert [each.number for each in store.rules.revisions("b")] == [1]
    assert [each.number for each in store.rules.revisions(limit=1, before=3)] == [2]
    assert [one.name for one in store.rules.revisions("b")[0].touched] == ["b"]
    assert [(each.rule.name, each.version) for each in store.rules.history(limit=2)] == [("a", 3), ("a", 2)]


def test_a_change_older_than_its_author_can_be_read(store: Store) -> None:
    """An earlier version of the program kept neither who nor why."""
    apply(store, rule("a"))
    with store.database.write() as connection:
        connection.execute(delete(revisions))

    (first,) = store.rules.revisions()

    assert (first.number, first.at, first.who, first.reason) == (1, None, None, None)
    assert [one.name for one in first.touched] == ["a"]


def test_of_a_rule_the_version_in_force_is_shown(store: Store) -> None:
    """Not a newer one that was used by hand; a version or a rule that never was is not found."""
    apply(store, rule("a"))
    store.rules.keep_for_reference(rule("a", "by hand"), who="cli:me", now=NOW)

    assert [store.rules.version("a", number).rule.pattern for number in (None, 1, 2)] == [".*", ".*", "by hand"]
    with pytest.raises(NotFound, match="rule a has no version 3; its newest is 2"):
        store.rules.version("a", 3)
    for ask in (store.rules.version, store.rules.history, store.rules.revisions):
        with pytest.raises(NotFound, match="there is no rule 'b'"):
            ask("b")


def test_what_a_rule_has_begun_goes_on_without_it(store: Store) -> None:
    """Ready, running and failed: what has not ended is counted, named, and left as it is when the rule is taken out."""
    frames = [frame(name=f"X-{number}") for number in range(9)]
    store.messages.take_in(frames, origin="broker", now=NOW)
    apply(store, rule("a"), rule("b", "X-0"))
    judging = RuleSet(1, store.rules.in_force()[1], UNMATCHED)
    store.dispatches.judge(judging, now=NOW, limit=100)
    mine = [each.id for each in reversed(store.dispatches.list()) if each.rule == "a"]
    failing, running = store.dispatches.claim(owner="w", limit=2, lease=timedelta(seconds=9), now=NOW, only=mine[:2])
    broke = Next(DispatchState.FAILED, AttemptOutcome.GIVE_UP, "broke")
    store.dispatches.settle(failing.order.dispatch_id, 1, broke, Trace(), owner="w", now=NOW)
    intent = Intent("k", "n", running.order.dispatch_id, "w", {}, {}, {}, "embedded", [])
    launch = store.launches.intend(intent, who="w", now=NOW)
    before = store.rules.in_flight("a")

    store.rules.remove(["a"], who="cli:me", now=NOW)

    assert before == store.rules.in_flight("a")
    assert [(each.state, each.count, each.ids) for each in before.dispatches] == [
        ("ready", 7, tuple(mine[2:7])),
        ("running", 1, (running.order.dispatch_id,)),
    ]
    assert [(each.state, each.count, each.ids) for each in before.launches] == [("prepared", 1, (launch.id,))]
    assert (before.count, store.rules.in_flight("b").count, store.rules.in_flight("none").count) == (9, 1, 0)
    kept = {each.rule_version_id for each in store.dispatches.list(rule="a")}
    assert kept == {store.rules.version("a", 1).id}
    assert store.dispatches.claim(owner="w", limit=99, lease=timedelta(seconds=9), now=NOW, only=mine) != []


def test_whoever_changes_rules_at_once_loses_nothing(store: Store) -> None:
    """Switching, taking out, applying and going back at the same time: each sees what the one before has left."""
    apply(store, *(rule(f"r{number}") for number in range(4)))

    def change(number: int) -> None:
        name = f"r{number}"
        for turn in range(3):
            store.rules.set_enabled([name], turn % 2 == 1, who="cli:me", now=NOW)
        store.rules.remove([name], who="cli:me", now=NOW)
        apply(store, rule(name, "back"))

    threads = [threading.Thread(target=change, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert store.rules.revision() == 1 + 4 * 5
    assert in_force(store) == [(f"r{number}", 5) for number in range(4)]
    assert [len(each.touched) for each in store.rules.revisions(limit=100)] == [*[1] * 20, 4]


def test_the_order_of_a_rules_values_is_kept(store: Store) -> None:
    """A value may name those above it; written in another order it is another rule."""
    one = rule("a", values={"tag": "t", "output": "{tag}-x"})
    other = rule("a", values={"output": "{tag}-x", "tag": "t"})

    apply(store, one)

    assert list(store.rules.version("a").rule.values) == ["tag", "output"]
    assert apply(store, one).nothing
    assert apply(store, other) == Change(2, changed=("a",))
    assert list(store.rules.version("a").rule.values) == ["output", "tag"]
