"""What is done next with a dataset that leaves: decided anew at each look, whatever happened in between."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.core.transient.calls import (
    AddEndingRule,
    Call,
    DetachFrom,
    EndRule,
    GiveLife,
    Hold,
    KeepAlive,
    LetStay,
    LookAgain,
    SetLifetime,
    Settle,
    SetTombstones,
)
from orchestrator.core.transient.steps import (
    CLOCKS,
    ENDING,
    LONGEST,
    PATIENCE,
    SHORTEST,
    CopiesLeft,
    Standing,
    next_calls,
)
from schemas.did import Did
from tests.unit.core.transient.making import DAY, HITS, NOW, RULE

BOX = Did("sphenix", "everything")
LEAVES = Standing(
    did=HITS,
    account="us",
    erases=True,
    there=True,
    expires_at=None,
    rules=(),
    objections=(),
    containers=(),
    copies=(CopiesLeft("DISK", left=10),),
    staying_at=frozenset(),
    looks=0,
    leaving_at=NOW,
)
COPIES_ONLY = replace(LEAVES, erases=False, staying_at=frozenset({"TAPE"}))
GONE = CopiesLeft("DISK", left=0)


def calls(standing: Standing) -> list[Call]:
    """All but the look that follows them."""
    *first, last = next_calls(standing, NOW)
    assert isinstance(last, LookAgain | Settle)
    return [*first, last] if isinstance(last, Settle) else first


def why(standing: Standing) -> str:
    last = next_calls(standing, NOW)[-1]
    assert isinstance(last, LookAgain)
    return last.why


def disk(**changes: Any) -> tuple[CopiesLeft, ...]:
    return (replace(LEAVES.copies[0], **changes),)


def test_a_dataset_leaves_with_its_copies() -> None:
    """Rules first, since marked are only copies that no rule holds; containers before it is erased itself."""
    standing = replace(LEAVES, rules=(RULE,), containers=(BOX,))

    assert calls(standing) == [EndRule("r1"), SetTombstones("DISK"), DetachFrom(BOX), SetLifetime()]


def test_when_all_is_gone_it_has_left() -> None:
    """The dataset, the copies, and the files on the disk."""
    assert calls(replace(LEAVES, there=False, copies=(GONE,))) == [Settle()]
    assert calls(replace(LEAVES, there=False, copies=())) == [Settle()]
    assert calls(replace(COPIES_ONLY, copies=(GONE,))) == [Settle()]


@pytest.mark.parametrize(
    ("standing", "said"),
    [
        (replace(LEAVES, copies=(GONE,)), "the catalog has the dataset still"),
        (replace(LEAVES, there=False), "10 copies at DISK are there still"),
        (replace(COPIES_ONLY, copies=disk(held=4)), "10 copies at DISK are there still, 4 held by a replication rule"),
        (
            replace(LEAVES, there=False, copies=disk(left=0, on_disk=2, seen=("/d/f1", "/d/f2"))),
            "2 files are on the disk still, and the catalog has them no more: /d/f1, /d/f2",
        ),
    ],
)
def test_until_then_it_is_told_what_is_waited_for(standing: Standing, said: str) -> None:
    """With how many, where; and a catalog that says deleted is not believed against the disk."""
    assert said in why(standing)


@pytest.mark.parametrize(
    ("changes", "left_out"),
    [
        ({"expires_at": NOW}, SetLifetime()),
        ({"expires_at": NOW - DAY}, SetLifetime()),
        ({"rules": (RULE._replace(ends_at=NOW),)}, EndRule("r1")),
        ({"copies": disk(marked=10)}, SetTombstones("DISK")),
        ({"copies": disk(marked=4, held=6)}, SetTombstones("DISK")),
        ({"containers": ()}, DetachFrom(BOX)),
    ],
)
def test_what_was_done_is_not_done_again(changes: dict[str, Any], left_out: Call) -> None:
    """As far as it can be seen; the rest is done."""
    whole = replace(LEAVES, rules=(RULE,), containers=(BOX,))

    wanted = [call for call in calls(whole) if call != left_out]

    assert calls(replace(whole, **changes)) == wanted
    assert len(wanted) == 3


def test_where_no_copy_is_left_there_is_nothing_to_mark() -> None:
    """Rules that held copies end with the dataset."""
    assert calls(replace(LEAVES, rules=(RULE,), copies=(GONE,))) == [SetLifetime()]


def test_a_lifetime_that_is_not_over_is_shortened() -> None:
    """The catalog would erase it some day; it leaves now."""
    assert SetLifetime() in calls(replace(LEAVES, expires_at=NOW + DAY))
    assert EndRule("r1") in calls(replace(LEAVES, rules=(RULE._replace(ends_at=NOW + DAY),)))


@pytest.mark.parametrize(
    "rule",
    [
        RULE._replace(account="others"),
        RULE._replace(account="friends"),
        RULE._replace(on=BOX),
        RULE._replace(locked=True),
        RULE._replace(rses=frozenset({"DISK", "TAPE"})),
        RULE._replace(rses=frozenset({"TAPE"})),
        RULE._replace(rses=frozenset({"ELSEWHERE"})),
        RULE._replace(rses=None),
    ],
)
def test_only_our_own_rules_over_nothing_else_are_ended(rule: Any) -> None:
    """Not those of others, on something else, that are locked, that hold what stays, or of which that is not known."""
    assert not any(isinstance(call, EndRule) for call in calls(replace(COPIES_ONLY, rules=(rule,))))


def test_where_everything_leaves_every_rule_of_ours_on_it_may_end() -> None:
    """What it holds need not be known."""
    assert EndRule("r1") in calls(replace(LEAVES, rules=(RULE._replace(rses=None),)))


def test_where_copies_stay_the_dataset_is_not_touched() -> None:
    """Neither taken out of what it is in nor erased; and nothing at an RSE where copies stay."""
    both = replace(COPIES_ONLY, containers=(BOX,), copies=(*COPIES_ONLY.copies, CopiesLeft("TAPE", left=3)))

    assert calls(both) == [SetTombstones("DISK")]


@pytest.mark.parametrize(
    ("changes", "on_files"),
    [
        ({}, False),
        ({"copies": disk(may_mark=False, all_files=False)}, True),
        ({"there": False}, True),
    ],
)
def test_where_we_may_not_mark_copies_a_rule_ends_instead(changes: dict[str, Any], on_files: bool) -> None:
    """Over the dataset only if that makes no new copies, and before the dataset is erased."""
    standing = replace(LEAVES, **{"copies": disk(may_mark=False), **changes})

    assert calls(standing)[0] == AddEndingRule("DISK", ENDING, on_files=on_files)


def test_such_a_rule_is_made_once() -> None:
    """While it is there the copies are held, and they are marked by the catalog when it ends."""
    ending = RULE._replace(ends_at=NOW + ENDING)

    assert calls(replace(COPIES_ONLY, copies=disk(may_mark=False), rules=(ending,))) == []
    assert calls(replace(COPIES_ONLY, copies=disk(may_mark=False, held=10))) == []


def test_copies_that_others_hold_stay_in_the_end() -> None:
    """After what was in our own way has had its time, and not before."""
    late = NOW - PATIENCE - timedelta(seconds=1)
    held = replace(LEAVES, there=False, copies=disk(held=10), leaving_at=late)

    (stays,) = calls(held)
    assert isinstance(stays, LetStay)
    assert stays.every
    (some,) = calls(replace(held, copies=disk(held=3, marked=10)))
    assert isinstance(some, LetStay)
    assert not some.every
    assert calls(replace(held, leaving_at=NOW - PATIENCE)) == []
    assert calls(replace(held, there=True, expires_at=NOW)) == []
    assert calls(replace(COPIES_ONLY, copies=disk(held=10), leaving_at=late, rules=(RULE._replace(ends_at=NOW),))) == []
    assert isinstance(calls(replace(COPIES_ONLY, copies=disk(held=10), leaving_at=late))[0], LetStay)


def test_nothing_is_done_once_something_speaks_against_it() -> None:
    """Somebody keeps it, or a rule of others came; what has left by then has left."""
    against = replace(LEAVES, rules=(RULE,), containers=(BOX,), objections=("ben keeps it", "it is locked"))

    assert calls(against) == [Hold("DISK", each=False)]
    assert why(against) == "nothing more is done: ben keeps it; it is locked"
    assert calls(replace(against, there=False, copies=(GONE,))) == [Settle()]


def test_what_may_be_marked_is_held_once() -> None:
    """At each RSE that it leaves, and nowhere else; also when the dataset itself is there no more."""
    two = (*disk(), CopiesLeft("CEPH", left=2), CopiesLeft("TAPE", left=3), GONE)
    against = replace(COPIES_ONLY, copies=two, objections=("ben keeps it",))

    assert calls(against) == [Hold("DISK", each=False), Hold("CEPH", each=False)]
    assert calls(replace(against, copies=disk(secured=True))) == []
    assert calls(replace(LEAVES, there=False, objections=("ben keeps it",))) == [Hold("DISK", each=False)]
    assert SetTombstones("DISK") in calls(replace(LEAVES, copies=disk(secured=True)))


@pytest.mark.parametrize("against", [{"objections": ("ben keeps it",)}, {"unknown": ("the catalog is away",)}])
def test_rules_of_ours_that_we_have_ended_get_their_life_back(against: dict[str, Any]) -> None:
    """Those that somebody has given an end, or that are not ours to end, stay as they are."""
    held = replace(LEAVES, copies=disk(secured=True), **against)
    ended = RULE._replace(ends_at=NOW)

    assert calls(replace(held, rules=(ended,))) == [GiveLife("r1")]
    for other in (
        RULE,
        RULE._replace(ends_at=NOW + DAY),
        RULE._replace(ends_at=NOW - DAY),
        ended._replace(locked=True),
        ended._replace(account="others"),
        ended._replace(on=BOX),
        ended._replace(rses=frozenset({"ELSEWHERE"})),
    ):
        assert calls(replace(held, rules=(other,))) == []


@pytest.mark.parametrize("against", [{"objections": ("ben keeps it",)}, {"unknown": ("the catalog is away",)}])
def test_the_catalog_does_not_erase_what_something_speaks_against(against: dict[str, Any]) -> None:
    """The lifetime that we have set is taken off; set again when nothing does any more. One of others is theirs."""
    ours = replace(LEAVES, expires_at=NOW, copies=disk(secured=True), **against)

    assert calls(ours) == [KeepAlive()]
    assert calls(replace(ours, expires_at=NOW - 3 * DAY, leaving_at=NOW - 3 * DAY)) == [KeepAlive()]
    for other in (None, NOW + DAY, NOW - CLOCKS - timedelta(seconds=1)):
        assert calls(replace(ours, expires_at=other)) == []
    assert calls(replace(ours, there=False)) == calls(replace(ours, erases=False)) == []
    assert SetLifetime() in calls(LEAVES)


def test_what_could_not_be_asked_is_no_proof_that_it_has_left() -> None:
    """Nor is anything done by halves."""
    away = replace(LEAVES, there=False, copies=(), unknown=("the catalog is away",))

    assert calls(away) == []
    assert why(away) == "not known: the catalog is away"


def test_it_is_looked_at_less_and_less_often() -> None:
    """From half a minute to ten minutes, however long it takes."""
    waits = []
    for looks in (0, 1, 2, 5, 10_000):
        last = next_calls(replace(LEAVES, looks=looks), NOW)[-1]
        assert isinstance(last, LookAgain)
        waits.append(last.after)

    assert waits == [SHORTEST, 2 * SHORTEST, 4 * SHORTEST, LONGEST, LONGEST]
