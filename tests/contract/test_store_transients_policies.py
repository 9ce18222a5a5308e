"""What the store promises of policies about transient datasets, and of what must stay."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.store.port import NotAllowed, NotFound
from orchestrator.store.store import Store
from orchestrator.store.transient_policies import PolicyChange
from schemas.transient import TransientPolicy
from tests.contract.store_transients import ME, policy
from tests.contract.test_store_dispatches import at_once
from tests.unit.making import NOW, later


def apply(store: Store, *policies: TransientPolicy, prune: bool = False, at: float = 0) -> PolicyChange:
    return store.transient_policies.apply(policies, prune=prune, who=ME, now=later(at), reason="less disk")


def in_force(store: Store) -> list[tuple[str, int]]:
    return [(each.policy.name, each.version) for each in store.transient_policies.in_force()]


# Policies.


def test_what_is_applied_is_in_force_as_it_was_written(store: Store) -> None:
    """With who, when and why, and in the journal."""
    hits = policy(keep={"last_runs": 3}, where={"datatype": "hits"})

    assert apply(store, hits, policy("seeds")) == PolicyChange(added=("hits", "seeds"))

    found = store.transient_policies.version("hits")
    assert (found.policy, found.version, found.author, found.reason, found.at) == (hits, 1, ME, "less disk", NOW)
    assert (found.ended_at, found.confirmed) == (None, None)
    (entry,) = store.journal.of("policy", int(found.id))
    assert (entry.to_state, entry.who, entry.why) == ("in_force", ME, "added hits: less disk")


def test_each_change_is_a_version_and_the_older_ones_stay(store: Store) -> None:
    """What is the same word for word is left alone; with prune, what is not given is taken out."""
    apply(store, policy(), policy("seeds"), policy("tracks"))
    wanted = [policy(lifetime="7d"), policy("seeds"), policy("new")]
    expected = PolicyChange(added=("new",), changed=("hits",), removed=("tracks",), unchanged=("seeds",))
    assert store.transient_policies.would_change(wanted, prune=True) == expected
    assert in_force(store) == [("hits", 1), ("seeds", 1), ("tracks", 1)]

    assert apply(store, *wanted, prune=True, at=60) == expected

    assert in_force(store) == [("hits", 2), ("new", 1), ("seeds", 1)]
    old = store.transient_policies.version("hits", 1)
    assert (old.policy, old.ended_at) == (policy(), later(60))
    assert [each.to_state for each in store.journal.of("policy", int(old.id))] == ["in_force", "ended"]
    assert [each.version for each in store.transient_policies.history("hits")] == [2, 1]
    assert store.transient_policies.version("tracks").ended_at == later(60)
    apply(store, policy("tracks"), at=120)
    assert store.transient_policies.version("tracks").version == 2


def test_a_file_with_a_name_twice_changes_nothing(store: Store) -> None:
    """Which of the two was meant cannot be known."""
    calls: list[Callable[[], object]] = [lambda: apply(store, policy(), policy(lifetime="7d")), lambda: _would(store)]
    for call in calls:
        with pytest.raises(NotAllowed, match="more than one policy is called hits"):
            call()

    assert in_force(store) == []


def _would(store: Store) -> PolicyChange:
    return store.transient_policies.would_change([policy(), policy(lifetime="7d")], prune=False)


def test_policies_are_switched_off_and_on_and_taken_out(store: Store) -> None:
    """A name that none in force has changes nothing, and the nearest is named."""
    apply(store, policy(), policy("seeds"))
    policies = store.transient_policies
    for wrong in (
        lambda: policies.set_enabled(["hits", "seed"], False, who=ME, now=NOW),
        lambda: policies.remove(["hits", "seed"], who=ME, now=NOW),
        lambda: policies.confirm("seed", 1, 5, who=ME, now=NOW),
    ):
        with pytest.raises(NotFound, match=r"no policy 'seed' is in force: did you mean seeds\?"):
            wrong()
    assert in_force(store) == [("hits", 1), ("seeds", 1)]

    assert policies.set_enabled(["hits"], False, who=ME, now=NOW, reason="x").changed == ("hits",)
    assert not policies.version("hits").policy.enabled
    assert policies.set_enabled(["hits"], False, who=ME, now=NOW).nothing
    assert policies.remove(["hits"], who=ME, now=NOW).removed == ("hits",)

    assert in_force(store) == [("seeds", 1)]
    with pytest.raises(NotFound, match="has no version 9; its newest is 2"):
        policies.version("hits", 9)
    with pytest.raises(NotFound, match="there never was a policy 'nobody'"):
        policies.history("nobody")


def test_a_confirmation_is_of_one_version(store: Store) -> None:
    """It stays when the same is applied again; another version must be confirmed anew."""
    apply(store, policy())
    confirmed = store.transient_policies.confirm("hits", 1, 120, who="cli:ann", now=NOW, reason="all of August")
    assert confirmed.confirmed == 120
    entry = store.journal.of("policy", int(confirmed.id))[-1]
    assert (entry.to_state, entry.who, entry.why) == (
        "confirmed",
        "cli:ann",
        "it may match 120 datasets: all of August",
    )

    apply(store, policy())
    assert store.transient_policies.version("hits").confirmed == 120
    apply(store, policy(lifetime="7d"))
    assert store.transient_policies.version("hits").confirmed is None
    assert store.transient_policies.version("hits", 1).confirmed == 120


def test_people_who_apply_at_once_take_turns(store: Store, store_url: str) -> None:
    """Each finds what the other has put in force; no version is given twice."""
    other = Store.open(store_url)
    at_once(*(lambda at=at, of=of: apply(of, policy(lifetime=f"{at}d")) for at, of in enumerate([store, other] * 4, 1)))
    other.close()

    versions = [each.version for each in store.transient_policies.history("hits")]
    assert sorted(versions) == list(range(1, len(versions) + 1))
    assert in_force(store) == [("hits", max(versions))]


# What must stay.


def test_what_is_kept_is_kept_until_it_is_over_or_lifted(store: Store) -> None:
    """Each with who and why, in the journal too; nothing is ever deleted."""
    keeps = store.transient_keeps
    first = keeps.keep("sphenix:*", who="anna", why="a paper", now=NOW)
    second = keeps.keep("sphenix:DST_[AB]*", who="rule", why="qa", now=NOW, until=later(60))

    assert keeps.in_force(NOW) == [first, second]
    assert keeps.in_force(later(60)) == [first]
    lifted = keeps.lift(first.id, who="ben", why="published", now=later(90))

    assert (lifted.lifted_at, lifted.lifted_by) == (later(90), "ben")
    assert keeps.in_force(later(90)) == []
    assert [each.id for each in keeps.all(10)] == [second.id, first.id]
    assert [(each.to_state, each.why) for each in store.journal.of("keep", first.id)] == [
        ("kept", "sphenix:*: a paper"),
        ("lifted", "sphenix:*: published"),
    ]
    for id_ in (first.id, 99):
        with pytest.raises(NotFound, match=f"there is no keep {id_} in force"):
            keeps.lift(id_, who="ben", why="again", now=later(99))


def test_what_would_keep_nothing_is_refused(store: Store) -> None:
    """Nobody shall believe that something is safe which is not."""
    with pytest.raises(NotAllowed, match="write scope:name"):
        store.transient_keeps.keep("DST_HITS-*", who="anna", why="a paper", now=NOW)
    with pytest.raises(NotAllowed, match="is over: nothing would be kept"):
        store.transient_keeps.keep("sphenix:*", who="anna", why="a paper", now=NOW, until=NOW)

    assert store.transient_keeps.all(10) == []
