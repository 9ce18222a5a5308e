"""Whatever stands in the way and whatever happens in between: nothing is touched that is not to leave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import assert_never

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.transient.calls import (
    AddEndingRule,
    Call,
    DetachFrom,
    EndRule,
    GiveLife,
    Hold,
    KeepAlive,
    Keeping,
    LetStay,
    LookAgain,
    SetLifetime,
    Settle,
    SetTombstones,
)
from orchestrator.core.transient.facts import RuleOn
from orchestrator.core.transient.steps import LONGEST, CopiesLeft, Standing, next_calls
from schemas.did import Did
from tests.unit.core.transient.making import HITS, NOW

RSES = ("A", "B", "C", "TAPE")
BOX = Did("s", "box")


@st.composite
def rules(draw: st.DrawFn) -> RuleOn:
    return RuleOn(
        id=draw(st.sampled_from("pqrst")),
        on=draw(st.sampled_from([HITS, BOX])),
        account=draw(st.sampled_from(["us", "others"])),
        rse_expression="x",
        locked=draw(st.booleans()),
        ends_at=draw(st.sampled_from([None, NOW, NOW + LONGEST])),
        rses=draw(st.none() | st.frozensets(st.sampled_from(RSES))),
    )


@st.composite
def copies(draw: st.DrawFn) -> CopiesLeft:
    left = draw(st.integers(0, 5))
    held = draw(st.integers(0, left))
    return CopiesLeft(
        draw(st.sampled_from(RSES)),
        left=left,
        held=held,
        marked=draw(st.integers(0, left - held)),
        on_disk=draw(st.integers(0, 2)),
        may_mark=draw(st.booleans()),
        all_files=draw(st.booleans()),
    )


@st.composite
def standings(draw: st.DrawFn) -> Standing:
    return Standing(
        did=HITS,
        account="us",
        erases=draw(st.booleans()),
        there=draw(st.booleans()),
        expires_at=draw(st.sampled_from([None, NOW, NOW + LONGEST])),
        rules=draw(st.lists(rules(), max_size=4, unique_by=lambda rule: rule.id)),
        objections=draw(st.sampled_from([(), (), ("ben keeps it",)])),
        containers=draw(st.sampled_from([(), (BOX,)])),
        copies=draw(st.lists(copies(), max_size=4, unique_by=lambda each: each.rse)),
        staying_at=draw(st.sampled_from([frozenset(), frozenset({"TAPE"}), frozenset({"TAPE", "A"})])),
        looks=draw(st.integers(0, 100)),
        leaving_at=NOW - draw(st.integers(0, 20)) * LONGEST,
        unknown=draw(st.sampled_from([(), (), ("away",)])),
    )


@given(standings())
def test_no_call_touches_what_stays(standing: Standing) -> None:
    """Neither copies at an RSE where some stay, nor rules that hold these, are locked or are of others."""
    by_id = {rule.id: rule for rule in standing.rules}
    for call in next_calls(standing, NOW):
        match call:
            case EndRule(id_) | GiveLife(id_):
                rule = by_id[id_]
                assert (rule.account, rule.on, rule.locked) == ("us", HITS, False)
                assert not standing.staying_at if rule.rses is None else not rule.rses & standing.staying_at
            case SetTombstones(rse) | AddEndingRule(rse) | LetStay(rse) | Hold(rse):
                assert rse not in standing.staying_at
            case DetachFrom() | SetLifetime() | KeepAlive():
                assert standing.erases
                assert standing.there
            case LookAgain() | Settle():
                pass
            case _:
                assert_never(call)


@given(standings())
def test_nothing_is_done_against_an_objection_or_without_knowing(standing: Standing) -> None:
    """Then the only answer is another look, and that it is kept; or that all has left already, if that is known."""
    *before, last = next_calls(standing, NOW)
    keeps = [isinstance(call, Keeping) for call in before]

    if standing.unknown or standing.objections:
        assert all(keeps)
        assert isinstance(last, LookAgain if standing.unknown else LookAgain | Settle)
        assert standing.objections or not any(isinstance(call, Hold) for call in before)
    else:
        assert not any(keeps)


@given(standings())
def test_it_is_over_only_when_nothing_is_left(standing: Standing) -> None:
    """The last call says so, and it is the only one then."""
    *before, last = next_calls(standing, NOW)
    left = any(each.left or each.on_disk for each in standing.copies) or (standing.erases and standing.there)

    assert isinstance(last, LookAgain | Settle)
    assert isinstance(last, Settle) is (not left and not standing.unknown)
    assert not any(isinstance(call, LookAgain | Settle) for call in before)


@dataclass
class _World:
    """A catalog with one dataset: what its daemons do, they do whenever they get to it."""

    erases: bool
    keeps: frozenset[str]
    may_mark: bool
    now: datetime = NOW
    there: bool = True
    expires_at: datetime | None = None
    containers: list[Did] = field(default_factory=list)
    rules: dict[str, RuleOn] = field(default_factory=dict)
    #: By RSE and file: how it stands. `marked` copies are deleted by the reaper.
    copies: dict[tuple[str, int], str] = field(default_factory=dict)

    def standing(self, looks: int) -> Standing:
        return Standing(
            did=HITS,
            account="us",
            erases=self.erases,
            there=self.there,
            expires_at=self.expires_at,
            rules=list(self.rules.values()),
            objections=(),
            containers=list(self.containers),
            copies=[self._at(rse) for rse in RSES if rse not in self.keeps],
            staying_at=self.keeps,
            looks=looks,
            leaving_at=NOW,
        )

    def _at(self, rse: str) -> CopiesLeft:
        here = [state for (where, _), state in self.copies.items() if where == rse]
        held = len(here) - here.count("marked") if self._holds(rse) else 0
        return CopiesLeft(rse, len(here), held, here.count("marked"), may_mark=self.may_mark)

    def _holds(self, rse: str) -> bool:
        return any(rse in (rule.rses or RSES) for rule in self.rules.values())

    def do(self, call: Call) -> None:
        match call:
            case EndRule(id_):
                self.rules[id_] = self.rules[id_]._replace(ends_at=self.now)
            case SetTombstones(rse):
                assert self.may_mark
                if not self._holds(rse):
                    self._mark(rse)
            case AddEndingRule(rse, lifetime):
                self.rules[f"new-{rse}"] = RuleOn(
                    f"new-{rse}", HITS, "us", rse, False, self.now + lifetime, frozenset({rse})
                )
            case DetachFrom(container):
                self.containers.remove(container)
            case SetLifetime():
                self.expires_at = self.now
            case KeepAlive() | GiveLife() | Hold() | LookAgain() | Settle() | LetStay():
                raise AssertionError(call)
            case _:
                assert_never(call)

    def _mark(self, rse: str) -> None:
        self.copies.update({key: "marked" for key in self.copies if key[0] == rse})

    def daemons(self, work: Sequence[str]) -> None:
        for daemon in work:
            if daemon == "undertaker" and self.expires_at is not None and not self.containers:
                self.there = False
                self._end(list(self.rules))
            elif daemon == "cleaner":
                self._end([key for key, rule in self.rules.items() if rule.ends_at and rule.ends_at <= self.now])
            elif daemon == "reaper":
                self.copies = {key: state for key, state in self.copies.items() if state != "marked"}

    def _end(self, ids: Sequence[str]) -> None:
        for id_ in ids:
            ended = self.rules.pop(id_)
            for rse in ended.rses or RSES:
                if not self._holds(rse):
                    self._mark(rse)


def _until_it_breaks(found: Sequence[Call], breaks_after: int) -> Iterator[Call]:
    """The calls that were made before the machine stopped."""
    for number, call in enumerate(found):
        if number >= breaks_after or isinstance(call, LookAgain | Settle):
            return
        yield call


@settings(deadline=None)  # forty looks at most, on a machine that may be busy
@given(st.data())
def test_it_leaves_however_often_it_is_broken_off(data: st.DataObject) -> None:
    """Nothing is remembered but what the catalog shows; daemons are late, calls break off; in the end all is gone."""
    erases = data.draw(st.booleans(), label="erases")
    keeps: frozenset[str] = frozenset() if erases else frozenset({"TAPE"})
    world = _World(erases, keeps, may_mark=data.draw(st.booleans(), label="may mark"))
    places = data.draw(st.sets(st.tuples(st.sampled_from("ABC"), st.integers(0, 2))), label="copies")
    world.copies = dict.fromkeys(places, "there")
    world.containers = [BOX] if data.draw(st.booleans(), label="in a container") else []
    for number, held in enumerate(data.draw(st.lists(st.frozensets(st.sampled_from("ABC"), min_size=1), max_size=2))):
        world.rules[str(number)] = RuleOn(str(number), HITS, "us", "x", False, None, held)

    for looks in range(40):
        found = next_calls(world.standing(looks), world.now)
        if isinstance(found[-1], Settle):
            break
        unlucky = looks < 10
        breaks_after = data.draw(st.integers(0, 6), label="calls made") if unlucky else 99
        for call in _until_it_breaks(found, breaks_after):
            world.do(call)
        daemons = ["undertaker", "cleaner", "reaper"]
        world.now += LONGEST
        world.daemons(data.draw(st.permutations(daemons))[: data.draw(st.integers(0, 3))] if unlucky else daemons)

    assert isinstance(next_calls(world.standing(0), world.now)[-1], Settle)
    assert world.copies == {}
    assert world.there is not erases
