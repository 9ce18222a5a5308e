"""What the store promises of keeps: none that counts is overlooked, however many there are and whatever is in them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, insert

from orchestrator.core.transient.protection import Guard, NotUnderstood, alone, exactly
from orchestrator.store.port import NotAllowed, Overtaken
from orchestrator.store.store import Store
from orchestrator.store.tables import transient_keeps
from schemas.did import Did
from schemas.launch import LaunchState
from schemas.transient import TransientState
from tests.contract.store_transients import (
    HITS,
    ME,
    NO_CAPS,
    hits,
    launch,
    policy,
    put_down,
    refusal,
    release,
    see,
    states,
)
from tests.unit.making import NOW, later

#: Datasets whose names look like globs, and some that these would fit.
NAMES = ["HITS-1", "HITS-2", "HITS-*", "HITS-?", "HITS-[1]", "HITS-[*]", "HITS-[!1]", "HITS-", "hits-1", "HITS-]1["]
#: And what people and rules say.
SAID = [*NAMES, "HITS-[[]1]", "HITS-[[]*]", "HITS-[12]", "HITS-[!2]", "*-1", "HITS-[[][*]]", "HITS-[[*]]", "HITS-[]1[]"]


def keep(store: Store, which: str, at: float = 0, until: float | None = None) -> int:
    end = None if until is None else later(until)
    return store.transient_keeps.keep(which, who=ME, why="a paper", now=later(at), until=end).id


def put_in(store: Store, *names: str) -> None:
    """As rows: thousands by `keep` would take long."""
    rows = [{"which": each, "did": each, "who": ME, "why": "x", "at": NOW} for each in names]
    with store.database.write() as connection:
        connection.execute(insert(transient_keeps), rows)


def kept(store: Store, did: Did, at: float = 0) -> list[str]:
    """Why it stays, as whoever decides of it is told."""
    return list(Guard(keeps=store.transient_keeps.on([did], later(at)), of=[did]).kept(did, later(at)))


@pytest.mark.parametrize("scope", ["sphenix", "group.[a]"])
def test_what_is_found_by_name_is_what_fits(store: Store, scope: str) -> None:
    """Names that look like globs, globs that fit one dataset only, and escaped ones: as if all had been read."""
    dids = [Did(scope, name) for name in NAMES]
    for said in [*(f"{scope}:{name}" for name in SAID), *map(exactly, dids), f"{exactly(dids[0])[:-1]}*"]:
        _keep_if_it_can_be(store, said)
    all_of_them = Guard(keeps=store.transient_keeps.in_force(NOW))

    for did in dids:
        assert sorted(kept(store, did)) == sorted(all_of_them.kept(did, NOW))
        assert any(exactly(did) in why for why in kept(store, did))
    together = Guard(keeps=store.transient_keeps.on(dids, NOW), of=dids)
    assert all(sorted(together.kept(did, NOW)) == sorted(all_of_them.kept(did, NOW)) for did in dids)


def _keep_if_it_can_be(store: Store, which: str) -> None:
    try:
        keep(store, which)
    except NotAllowed as error:  # it is refused: nobody believes that it keeps anything
        assert "would fit nothing" in str(error) or "range" in str(error)


#: What names and globs are made of, for good or ill.
PIECES = ["a", "A", "1", "*", "?", "[", "]", "!", "-", ":", "\\", "^", "[*]", "[[]", "[?]", "[]", "[!]", "[^]", "[a]"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=5).map("".join)


@given(TEXTS, TEXTS)
def test_a_glob_of_one_name_fits_that_name_alone(said: str, other: str) -> None:
    """Whatever is in it. Each name can be written as such a glob, and is found by it."""
    assert alone(exactly(Did("a", said))) == f"a:{said}"
    which = f"a:{said}"
    if (name := alone(which)) is not None:
        assert fnmatchcase(name, which)
        assert fnmatchcase(f"a:{other}", which) == (f"a:{other}" == name)


def test_a_name_that_no_index_has_room_for_is_kept_as_well(store: Store) -> None:
    """It is kept, and found when the same is said again."""
    long = Did("sphenix", "Ü" * 3000)
    keep(store, str(long))

    assert len(kept(store, long)) == 1
    assert [each.which for each in store.transient_keeps.saying(str(long), NOW)] == [str(long)]
    assert kept(store, HITS) == []


def test_what_was_written_without_its_name_counts_as_a_glob(store: Store) -> None:
    """By a hand that knew nothing of names: it is not overlooked."""
    with store.database.write() as connection:
        connection.execute(insert(transient_keeps), {"which": str(HITS), "who": ME, "why": "x", "at": NOW})

    assert kept(store, HITS) == [f"{ME} keeps {HITS}: x"]


def test_what_is_over_or_lifted_keeps_nothing(store: Store) -> None:
    """By name as by glob."""
    for which in (str(HITS), "sphenix:DST_HITS-*"):
        keep(store, which, until=60)
        lifted = keep(store, which)
        assert len(kept(store, HITS)) == 2
        store.transient_keeps.lift(lifted, who=ME, why="done", now=NOW)
        assert len(kept(store, HITS, at=59)) == 1
        assert kept(store, HITS, at=60) == []
        store.transient_keeps.lift(lifted - 1, who=ME, why="done", now=NOW)


def test_the_same_is_found_again_as_it_was_said(store: Store) -> None:
    """Not what fits the same: who looks for it wants to know whether it was said."""
    first, second = keep(store, str(HITS), until=60), keep(store, str(HITS))
    glob, other = keep(store, "sphenix:DST_[H]*"), keep(store, "sphenix:DST_*")

    def said(which: str, at: float = 0) -> list[int]:
        return [each.id for each in store.transient_keeps.saying(which, later(at))]

    assert said(str(HITS)) == [first, second]
    assert said(str(HITS), at=60) == [second]
    assert (said("sphenix:DST_[H]*"), said("sphenix:DST_*"), said("sphenix:*")) == ([glob], [other], [])


def test_a_guard_of_some_tells_nothing_of_others() -> None:
    """What keeps another was not asked: nobody may take that for nothing."""
    guard = Guard(of=[HITS])

    assert list(guard.kept(HITS, NOW)) == []
    with pytest.raises(NotUnderstood, match=r"what keeps sphenix:DST_HITS-00000001 is not known"):
        list(guard.kept(hits(1), NOW))


def test_of_thousands_of_names_only_those_asked_for_are_read(store: Store) -> None:
    """A decision on one dataset costs the same, and so does one on more than fit into one question."""
    put_in(store, *(str(hits(number)) for number in range(4000)))
    keep(store, "sphenix:OTHER-*")
    for did in (hits(5000), Did("sphenix", "DST-[x]*")):
        keep(store, exactly(did))

    assert [each.which for each in store.transient_keeps.on([hits(7)], NOW)] == [str(hits(7)), "sphenix:OTHER-*"]
    assert len(store.transient_keeps.on([hits(number) for number in range(2000, 9000)], NOW)) == 2002
    assert store.transient_keeps.on([], NOW) == []


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_an_index_finds_them(store: Store) -> None:
    """Names, globs, and what was said."""
    plans: list[str] = []

    def explain(connection: object, cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("SELECT") and "FROM transient_keeps" in statement:
            plans.append(statement)

    event.listen(store.database.engine, "before_cursor_execute", explain)
    event.listen(store.database._reader, "before_cursor_execute", explain)
    store.transient_keeps.on([HITS], NOW)
    store.transient_keeps.saying(str(HITS), NOW)
    assert len(plans) == 3
    with store.database.read() as connection:
        for each in plans:
            found = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {each}", ("x",) * each.count("?")).all()
            assert any("ix_transient_keeps_did" in str(row) for row in found), (each, found)


# Said after all was proved.


def _keep(store: Store) -> None:
    keep(store, str(HITS))


def _keep_many(store: Store) -> None:
    keep(store, "sphenix:DST_*", until=60)


def _extend(store: Store) -> None:
    see(store, refusal())
    store.transients.extend(HITS, later(60), who=ME, why="plots", now=NOW)


def _read(store: Store) -> None:
    launch(store, "reader", LaunchState.RUNNING, reads=[HITS])


def _replace(store: Store) -> None:
    store.transient_policies.apply([policy(lifetime="90d")], prune=False, who=ME, now=NOW)


@pytest.mark.parametrize(
    ("meanwhile", "said"),
    [
        (_keep, f"{ME} keeps {HITS}: a paper"),
        (_keep_many, f"{ME} keeps sphenix:DST_\\* until .*: a paper"),
        (_extend, "it is to stay until 2026-11-22 01:14 UTC"),
        (_read, "launch 1, which is running, reads it"),
        (_replace, "version 1 of policy hits is not in force any more: version 2 is"),
    ],
)
def test_what_people_have_said_meanwhile_keeps_from_being_released(
    store: Store, meanwhile: Callable[[Store], None], said: str
) -> None:
    """All or nothing, as with every other reason: nothing is shown as released that would be held later."""
    store.transient_policies.apply([policy()], prune=False, who=ME, now=NOW)
    meanwhile(store)
    before, hour = states(store), timedelta(hours=1)

    with pytest.raises(Overtaken, match=f"nothing was released: .*{HITS}: {said}"):
        store.transients.release([(release(hits(1)), hour), (release(), hour)], NO_CAPS, who=ME, why="full", now=NOW)

    assert states(store) == before
    assert store.transients.released_since(later(-1)).datasets == 0


def test_what_is_not_kept_any_more_is_released(store: Store) -> None:
    """In that moment."""
    keep(store, str(HITS), until=60)
    keep(store, str(hits(1)))

    put_down(store, release(), now=later(60))

    assert states(store) == {HITS.name: TransientState.RELEASED}
