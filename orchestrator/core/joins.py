"""Joins: which slot of a rule a dataset takes, when a waiting room is complete, and what its templates may use.

A room is complete when as many members are there as are needed. What is masked or waived is not waited for: it lowers
the need when nothing else is left to wait for. What has arrived counts, masked or not. So neither an arrival nor a
waiver ever puts a room further from being complete.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from orchestrator.core.patterns import Pattern, PatternError
from orchestrator.core.templates import TemplateError, fields, fill
from orchestrator.core.values import MESSAGE_VARIABLES
from schemas.message import Message, MessageId, MessageState
from schemas.rule import Join, Rule, RuleVersion

#: Only messages in these states count: what was opened again, erased, held or put away has left.
LIVE: Final = frozenset({MessageState.PENDING, MessageState.DISPATCHED})

#: What the templates of a join may use beside the message's variables, the slots, and the groups of all patterns.
JOIN_VARIABLES: Final = frozenset({"key", "room", "round", "members", "missing"})

#: The store keeps no longer keys.
_LONGEST_KEY: Final = 400


class Member(NamedTuple):
    """A dataset that counts for a slot."""

    slot: str
    message: Message

    @property
    def age(self) -> tuple[datetime, MessageId]:
        """What tells the newest of several: when it happened."""
        return self.message.created_at or self.message.received_at, self.message.id


class Standing(NamedTuple):
    """How far a waiting room is."""

    #: The newest member of each slot that has any, in the order of the slots.
    present: Mapping[str, Member]
    #: Members that a newer one of their slot has replaced.
    replaced: Sequence[Member]
    #: Slots that are waited for.
    missing: Sequence[str]
    #: Slots that have nothing, whether they are waited for or not.
    absent: Sequence[str]
    #: Something is there that was not dispatched before.
    new: bool
    #: Enough is there.
    complete: bool


def stand(
    join: Join, members: Collection[Member], waived: Collection[str], known: Collection[MessageId] = ()
) -> Standing:
    """How far a room with these members is.

    Those in `known` were dispatched in an earlier round. They count, but never alone: something must be new. And after
    a round that was dispatched, whatever is new is enough. Members of slots that the join no longer has do not count.
    """
    present: dict[str, Member] = {}
    replaced: list[Member] = []
    for slot in join.members:
        mine = sorted((each for each in members if each.slot == slot), key=lambda each: each.age)
        if mine:
            present[slot] = mine[-1]
            replaced += mine[:-1]
    absent = [slot for slot in join.members if slot not in present]
    missing = [slot for slot in absent if slot not in join.masked and slot not in waived]
    need = min(join.need or len(join.members), len(present) + len(missing))
    new = any(member.message.id not in known for member in present.values())
    complete = new and (bool(known) or len(present) >= need)
    return Standing(present, replaced, missing, absent, new, complete)


def slot_versions(version: RuleVersion) -> Sequence[tuple[str | None, RuleVersion]]:
    """A rule once for each slot, with the slot's pattern; a rule that joins nothing, as it is and without a slot."""
    rule = version.rule
    if rule.join is None:
        return [(None, version)]
    return [
        (slot, version.model_copy(update={"rule": rule.model_copy(update={"pattern": pattern})}))
        for slot, pattern in rule.join.members.items()
    ]


def key_of(join: Join, captured: Mapping[str, str]) -> str:
    """The key of a dataset whose pattern captured this.

    Raises:
        TemplateError: it cannot be filled in, is empty, or is too long to be kept.
    """
    key = fill(join.key, captured)
    if not key.strip():
        raise TemplateError(f"{join.key!r}: the key of the join is empty for this name")
    if len(key) > _LONGEST_KEY:
        raise TemplateError(f"{join.key!r}: the key of the join has {len(key)} characters; {_LONGEST_KEY} are allowed")
    return key


def told(rule: Rule, standing: Standing, first: Member, *, room: int, round_: int, key: str) -> Mapping[str, str]:
    """What the actions of a complete room are told beside what is known of the message of `first`."""
    join = _join_of(rule)
    groups = Pattern(join.members[first.slot], search=rule.search).captures(first.message.name or "") or {}
    shared = _shared_groups(join)
    names = {slot: member.message.name or "" for slot, member in standing.present.items()}
    return {
        **{group: value for group, value in groups.items() if group in shared},
        **dict.fromkeys(join.members, ""),
        **names,
        "key": key,
        "room": str(room),
        "round": str(round_),
        "members": ",".join(names.values()),
        "missing": ",".join(standing.absent),
    }


def known_in_join(rule: Rule) -> frozenset[str]:
    """The names that a template of a rule that joins may use before the rule's own values. Raises PatternError."""
    join = _join_of(rule)
    return MESSAGE_VARIABLES | JOIN_VARIABLES | {"run"} | _shared_groups(join) | set(join.members)


def mistakes_in_join(rule: Rule) -> Iterator[tuple[tuple[int | str, ...], str]]:
    """What is wrong with the join of a rule: the field, and the mistake in words."""
    join = _join_of(rule)
    groups: dict[str, Sequence[str]] = {}
    for slot, text in join.members.items():
        place = ("join", "members", slot)
        try:
            groups[slot] = Pattern(text, search=rule.search).groups
        except PatternError as error:
            yield place, str(error)
            continue
        taken = MESSAGE_VARIABLES | JOIN_VARIABLES | {"run"} | set(groups[slot])
        if not slot.isidentifier() or slot in taken:
            yield place, f"a slot cannot be called {slot!r}: letters, digits and _ alone, and no name that means more"
    try:
        wanted = fields(join.key)
    except TemplateError as error:
        yield ("join", "key"), str(error)
        return
    if not wanted:
        yield (
            ("join", "key"),
            f"{join.key!r} names no group, so that all datasets would wait in one room: write {{run}}",
        )
    for slot, there in groups.items():
        if lacking := sorted(wanted - set(there)):
            said = ", ".join(f"{{{name}}}" for name in lacking)
            yield ("join", "members", slot), f"the key {join.key!r} needs {said}, and this pattern has no such group"


def _shared_groups(join: Join) -> frozenset[str]:
    """The groups that every member's pattern has. Raises PatternError."""
    return frozenset.intersection(*(frozenset(Pattern(text).groups) for text in join.members.values()))


def _join_of(rule: Rule) -> Join:
    assert rule.join is not None
    return rule.join
