"""Joins: when a waiting room is complete, who counts in it, and what is wrong with a join as it is written."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator.core.clauses import Facts
from orchestrator.core.joins import Member, Standing, known_in_join, mistakes_in_join, stand, told
from orchestrator.core.matching import RuleSet, plan_version
from schemas.message import MessageId, MessageState
from schemas.rule import Join, Rule
from tests.unit.making import UNMATCHED, later, message, rule, version

SLOTS = ("a", "b", "c", "d")


def joining(**join: Any) -> Rule:
    """A rule that joins `A-<run>` and `B-<run>`, unless told otherwise."""
    members = {"a": r"A-(?P<run>\d+)", "b": r"B-(?P<run>\d+)"}
    document = rule(**join.pop("rule", {})).document()
    return Rule.model_validate(document | {"join": {"key": "{run}", "members": members, **join}})


def join_of(slots: Sequence[str] = SLOTS, **join: Any) -> Join:
    return Join.model_validate({"key": "{run}", "members": dict.fromkeys(slots, r"(?P<run>\d+)"), **join})


def member(slot: str, id_: int = 1, at: float = 0) -> Member:
    return Member(slot, message(id=id_, name=f"{slot.upper()}-7", created_at=later(at)))


def standing(slots: Collection[str], join: Join, waived: Collection[str] = ()) -> Standing:
    return stand(join, [member(slot, number) for number, slot in enumerate(slots, 1)], waived)


@pytest.mark.parametrize(
    ("there", "join", "waived", "missing", "complete"),
    [
        ("", {}, "", "abcd", False),
        ("abc", {}, "", "d", False),
        ("abcd", {}, "", "", True),
        ("ab", {"need": 2}, "", "cd", True),
        ("a", {"need": 2}, "", "bcd", False),
        ("abc", {"masked": ["d"]}, "", "", True),
        ("abd", {"masked": ["d"]}, "", "c", False),
        ("ab", {"masked": ["d"]}, "c", "", True),
        ("a", {"need": 2, "masked": ["b", "c"]}, "", "d", False),
        ("a", {"need": 2, "masked": ["b", "c"]}, "d", "", True),
        ("", {"masked": ["a", "b", "c", "d"]}, "", "", False),
        ("c", {"masked": ["a", "b", "c", "d"]}, "", "", True),
        ("ac", {"need": 2, "masked": ["c"]}, "", "bd", True),
    ],
)
def test_a_room_is_complete_when_enough_is_there_of_what_can_still_come(
    there: str, join: dict[str, Any], waived: str, missing: str, complete: bool
) -> None:
    """Masked and waived members are not waited for, count when they come, and something must be there."""
    found = standing(there, join_of(**join), waived)

    assert ("".join(found.missing), found.complete) == (missing, complete)


slots = st.sets(st.sampled_from(SLOTS))


@given(slots, slots, slots, st.none() | st.integers(1, 4), st.sampled_from(SLOTS))
def test_neither_an_arrival_nor_a_waiver_puts_a_room_further_from_being_complete(
    there: set[str], masked: set[str], waived: set[str], need: int | None, one: str
) -> None:
    """Whatever is masked and waived: what was complete stays so, with one more member or one more waiver."""
    join = join_of(need=need, masked=sorted(masked))

    if standing(there, join, waived).complete:
        assert standing(there | {one}, join, waived).complete
        assert standing(there, join, waived | {one}).complete


def test_of_several_in_one_slot_the_newest_counts() -> None:
    """By when it happened, whatever the order of arrival; the others are replaced."""
    members = [member("a", 1, at=5), member("a", 2, at=9), member("a", 3, at=7), member("b", 4)]

    found = stand(join_of("ab"), members, ())

    assert [found.present[slot].message.id for slot in "ab"] == [2, 4]
    assert {each.message.id for each in found.replaced} == {1, 3}


def test_after_a_round_that_was_dispatched_anything_new_is_enough_and_nothing_new_is_not() -> None:
    """Known members count again, never alone."""
    join = join_of("abc")
    known = {MessageId(1)}

    assert not stand(join, [member("a", 1)], (), known).complete
    assert stand(join, [member("a", 1), member("b", 2)], (), known).complete
    assert stand(join, [member("b", 2)], (), known).complete


# What a message is to a join.


def rules(*given: Rule) -> RuleSet:
    return RuleSet(5, [version(each, number) for number, each in enumerate(given, 1)], UNMATCHED)


def test_a_message_that_a_join_wants_goes_into_its_room_and_stays_pending() -> None:
    """The verdict names slot and key; rules that want it for itself fire meanwhile."""
    verdict = rules(joining(rule={"name": "both"}), rule("alone", "A.*")).judge(Facts(message(name="A-12")))

    assert verdict.state is MessageState.PENDING
    assert verdict.reason == "matched by alone; rule both joins it with others of 12"
    assert [(each.rule, each.slot, each.key) for each in verdict.joins] == [("both", "a", "12")]
    assert [match.version.rule.name for match in verdict.matches] == ["alone"]


def test_a_message_takes_the_first_slot_that_fits_and_one_of_a_rule() -> None:
    """Patterns of slots may overlap: the order in which they are written decides."""
    members = {"special": r"A-(?P<run>7)", "any": r"[AB]-(?P<run>\d+)"}
    given = rules(joining(members=members))

    assert [each.slot for each in given.judge(Facts(message(name="A-7"))).joins] == ["special"]
    assert [each.slot for each in given.judge(Facts(message(name="A-8"))).joins] == ["any"]


def test_the_other_clauses_hold_for_each_member() -> None:
    """Scope, event, runs and conditions are asked of each; one that refuses is one near miss, whatever the slots."""
    members = {"a": r"[AB]-(?P<run>\d+)", "b": r"[BC]-(?P<run>\d+)"}
    given = rules(joining(members=members, rule={"runs": {"include": ["10.."]}}))
    refused = given.judge(Facts(message(name="B-9")))

    assert given.judge(Facts(message(name="B-10"))).joins
    assert not refused.joins
    assert [(miss.rule, miss.clause) for miss in refused.near_misses] == [("raw", "runs")]
    assert not given.judge(Facts(message(name="B-10", event_type="open"))).joins


def test_a_join_explains_itself_by_the_slot_that_fits() -> None:
    """Clause by clause, like any rule; a name that fits no slot is refused by the pattern."""
    given = rules(joining())

    (fits,), (not_,) = (given.explain(Facts(message(name=name))) for name in ("B-7", "C-7"))

    assert fits.matches
    assert fits.captured == {"run": "7"}
    assert not_.refused_by == ["pattern"]


@pytest.mark.parametrize(
    ("pattern", "said"), [(r"A-(?P<run>\d*)", "is empty for this name"), (r"A-(?P<run>x+)?", "is empty")]
)
def test_a_name_without_a_key_waits_for_the_rule_to_be_mended(pattern: str, said: str) -> None:
    """It is in nobody's room, and says why."""
    verdict = rules(joining(members={"a": pattern, "b": r"B-(?P<run>\d+)"})).judge(Facts(message(name="A-")))

    assert (verdict.state, verdict.joins) == (MessageState.PENDING, ())
    assert "waits for a rule to be mended" in verdict.reason
    assert said in verdict.reason


def test_the_actions_are_told_of_the_room_and_its_members() -> None:
    """Key, round, members, what is absent, each slot's dataset, the shared groups, and values by the run."""
    ranges = {"tag": [{"to": 6, "value": "old"}, {"from": 7, "value": "new"}]}
    words = "{key} {run} {room} {round} {members} {missing} {a} {b}{tag} {name}"
    fields = {"values": ranges, "actions": [{"run": {"command": ["do", words]}}], "unique": "x-{key}-{round}"}
    given = version(joining(rule=fields, need=1))
    first = member("a")
    room = stand(given.rule.join or join_of(), [first], ())

    match = plan_version(given, Facts(first.message), told(given.rule, room, first, room=3, round_=2, key="7"))

    assert match.planned[0].options["command"][1] == "7 7 3 2 A-7 b A-7 new A-7"
    assert match.unique_key == "x-7-2"


# What is refused.


@pytest.mark.parametrize(
    ("join", "place", "said"),
    [
        ({"key": "all"}, ("join", "key"), "names no group"),
        ({"key": "{run"}, ("join", "key"), "write {{ and }}"),
        ({"key": "{year}"}, ("join", "members", "a"), "needs {year}, and this pattern has no such group"),
        ({"members": {"a": r"A-(?P<run>\d+)", "b": "B"}}, ("join", "members", "b"), "needs {run}"),
        ({"members": {"a": r"A-(?P<run>(?=1))", "b": r"(?P<run>\d)"}}, ("join", "members", "a"), "look-ahead"),
        ({"members": {"a": r"A-(?P<run>\d)", "key": r"(?P<run>\d)"}}, ("join", "members", "key"), "cannot be called"),
        ({"members": {"a": r"A-(?P<run>\d)", "run": r"(?P<run>\d)"}}, ("join", "members", "run"), "cannot be called"),
        ({"members": {"a": r"A-(?P<run>\d)", "b c": r"(?P<run>\d)"}}, ("join", "members", "b c"), "cannot be called"),
    ],
)
def test_a_join_that_could_not_work_is_refused_with_its_place(
    join: dict[str, Any], place: tuple[str, ...], said: str
) -> None:
    """Field and mistake in words."""
    found = dict(mistakes_in_join(joining(**join)))

    assert said in found[place]


def test_templates_of_a_join_know_the_shared_groups_and_the_slots() -> None:
    """A group that one pattern has and another has not cannot be filled in for every room."""
    members = {"a": r"A(?P<sector>\d)-(?P<run>\d+)", "b": r"B-(?P<run>\d+)"}

    known = known_in_join(joining(members=members))

    assert {"run", "a", "b", "key", "missing", "scope"} <= known
    assert "sector" not in known


@pytest.mark.parametrize(
    ("join", "said"),
    [
        ({"members": {"a": "A"}}, "at least 2"),
        ({"need": 3}, "3 are needed, and there are 2 members"),
        ({"masked": ["z"]}, "z is not among the members: a, b"),
        ({"rule": {"pattern": "A.*"}}, "a rule has a pattern or a join"),
        ({"deadline": "soon"}, "is not a length of time"),
        ({"late": "never"}, "'dispatch', 'ignore' or 'alert'"),
    ],
)
def test_a_join_of_the_wrong_shape_is_no_rule(join: dict[str, Any], said: str) -> None:
    """Refused with what is allowed."""
    with pytest.raises(ValidationError, match=said):
        joining(**join)


def test_a_rule_with_a_join_survives_being_written_down() -> None:
    """As a document, and as a person would write it."""
    given = joining(need=1, masked=["a"], deadline="24h", at_deadline="drop", late="ignore")

    assert Rule.model_validate(given.document()) == Rule.model_validate(given.as_written()) == given
