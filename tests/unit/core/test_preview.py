"""What an edited set of rules would have done with the history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from orchestrator.core.asking import AFTER, BEFORE
from orchestrator.core.clauses import Facts
from orchestrator.core.joins import Member, stand
from orchestrator.core.matching import RuleSet
from orchestrator.core.preview import Preview, edited
from schemas.rule import Rule, RuleVersion
from tests.unit.core.histories import edited_rules, page_of, random_history, random_rules, versions
from tests.unit.making import NOW, UNMATCHED, message, rule

Holder = tuple[int, str, int]


def nobody(_: Collection[str]) -> Mapping[str, Holder]:
    return {}


def seen(
    preview: Preview, history: Sequence[Facts], holders: Mapping[str, Holder] | None = None, page: int = 7
) -> Preview:
    """Shown to the preview, page by page."""
    for start in range(0, len(history), page):
        preview.look(page_of(history[start : start + page], preview.interest), lambda keys: holders or {})
    return preview


def wants(rules: RuleSet, facts: Facts) -> set[str]:
    """The rules that a message belongs to, asked one message at a time by the dispatcher's own judge."""
    verdict = rules.judge(facts)
    return {match.version.rule.name for match in verdict.matches} | {each.rule for each in verdict.joins}


@pytest.mark.parametrize("seed", range(150))
def test_a_preview_is_what_judging_every_message_with_both_sets_would_say(seed: int) -> None:
    """Newly matched, no longer matched and matched by other rules, and the counts of each rule, message by message."""
    random = Random(seed)
    old = random_rules(random)
    before, history = versions(old), random_history(random, 60)
    after = edited(before, edited_rules(random, old), prune=random.random() < 0.5)
    sets = RuleSet(1, before, UNMATCHED), RuleSet(2, after, UNMATCHED)

    preview = seen(Preview(before, after, examples=1000), history)

    newly: list[int] = []
    no_longer: list[int] = []
    otherwise: list[int] = []
    counts: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for facts in history:
        was, is_ = (wants(rules, facts) for rules in sets)
        counts[BEFORE].update(was)
        counts[AFTER].update(is_)
        if was != is_:
            (newly if not was else no_longer if not is_ else otherwise).append(facts.message.id)
    assert [each.message_id for each in preview.newly.examples] == newly
    assert [each.message_id for each in preview.no_longer.examples] == no_longer
    assert [each.message_id for each in preview.otherwise.examples] == otherwise
    stood, made = ({each.rule.name: each.rule for each in some} for some in (before, after))
    assert [change.name for change in preview.rules] == [
        name for name in sorted({*stood, *made}) if stood.get(name) != made.get(name)
    ]
    for change in preview.rules:
        assert change.matched == [counts[BEFORE][change.name], counts[AFTER][change.name]]
        assert change.gained - change.lost == counts[AFTER][change.name] - counts[BEFORE][change.name]


@pytest.mark.parametrize("seed", range(100))
def test_starts_are_those_of_carrying_out_every_match_in_turn(seed: int) -> None:
    """The prescale takes the first of every so many, a unique key the first of all, a room starts when complete."""
    random = Random(1000 + seed)
    after = versions(random_rules(random))
    history = random_history(random, 60)
    judging = RuleSet(1, after, UNMATCHED)
    everything = {key for facts in history for match in judging.judge(facts).matches if (key := match.unique_key)}
    holders = {key: (random.randint(1, 60), "rule-0", 99) for key in everything if random.random() < 0.2}

    preview = seen(Preview([], after), history, holders)

    started, refused, hours = _carried_out(judging, history, holders)
    assert {change.name: change.started[AFTER] for change in preview.rules if change.started[AFTER]} == started
    assert {change.name: change.refused[AFTER] for change in preview.rules if change.refused[AFTER]} == refused
    assert preview.refused.count == sum(refused.values())
    assert {hour: count for hour, (_, count) in preview.hours.items()} == hours
    assert all(before == 0 for before, _ in preview.hours.values())


def _carried_out(
    rules: RuleSet, history: Sequence[Facts], holders: Mapping[str, Holder]
) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    counted: Counter[str] = Counter()
    started: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    hours: Counter[str] = Counter()
    keys: dict[str, tuple[int, str]] = {}
    rooms: dict[tuple[str, str], list[Member]] = {}
    done: set[tuple[str, str]] = set()

    def start(facts: Facts, rule: Rule, key: str | None) -> None:
        counted[rule.name] += 1
        if (counted[rule.name] - 1) % rule.prescale:
            return
        if key is not None:
            mine = (facts.message.id, rule.name)
            owner = holders[key][:2] if key in holders else keys.setdefault(key, mine)
            keys.setdefault(key, mine)
            if owner != mine:
                refused[rule.name] += 1
                return
        started[rule.name] += len(rule.actions)
        hours[f"{facts.message.created_at:%Y-%m-%d %H}"] += len(rule.actions)

    for facts in history:
        verdict = rules.judge(facts)
        for match in verdict.matches:
            start(facts, match.version.rule, match.unique_key)
        for each in verdict.joins:
            join = each.version.rule.join
            assert join is not None
            room = rooms.setdefault((each.rule, each.key), [])
            room.append(Member(each.slot, facts.message))
            if (each.rule, each.key) not in done and stand(join, room, ()).complete:
                done.add((each.rule, each.key))
                start(facts, each.version.rule, None)
    return dict(+started), dict(+refused), dict(+hours)


def close(id_: int, name: str, **changes: Any) -> Facts:
    return Facts(message(id=id_, name=name, created_at=NOW + timedelta(hours=id_), **changes))


def test_only_the_part_of_history_that_could_matter_is_asked_for() -> None:
    """A preview says which events, which names and which fields it needs: an unchanged rule adds fields, not rows."""
    live = versions([rule("other", where={"bytes": 5}), rule("raw", "RAW-1.*")])

    preview = Preview(live, edited(live, [rule("raw", "RAW-2.*", on=["open"])], prune=False))

    parts = {events: bounds for events, bounds in preview.interest.parts}
    assert parts == {("close",): ("RAW-1", "RAW-2"), ("open",): ("RAW-2", "RAW-3")}
    assert set(preview.interest.fields) == {"id", "event_type", "scope", "name", "created_at", "bytes"}
    assert not preview.interest.payloads


def test_a_rule_that_cannot_be_told_or_filled_in_is_counted_as_such() -> None:
    """Without an answer of the catalog, or with a template that does not fit, nobody says that it would match."""
    rules = [
        rule("asks", where={"project": "pp"}),
        rule("numbered", r"(?P<run>.*)", {"run": {"command": ["{run:08d}"]}}),
    ]

    preview = seen(Preview([], versions(rules)), [close(1, "12"), close(2, "x")])

    asks, numbered = preview.rules
    assert (asks.matched[AFTER], asks.unknown[AFTER]) == (0, 2)
    assert (numbered.matched[AFTER], numbered.stuck[AFTER]) == (1, 1)


def test_who_has_a_key_is_said() -> None:
    """A match whose key is taken names the dispatch that has it, or the message of this history that came first."""
    live = versions([rule("raw", "DS-(?P<n>.).*")])
    history = [close(1, "DS-1"), close(2, "DS-2"), close(3, "DS-2-again")]

    new = edited(live, [rule("raw", "DS-(?P<n>.).*", unique="key {n}")], prune=False)
    preview = seen(Preview(live, new), history, {"key 1": (9, "raw", 77)})

    assert [each.note for each in preview.refused.examples] == [
        "the key 'key 1' is taken by dispatch 77",
        "the key 'key 2' is taken by message 2",
    ]
    (change,) = preview.rules
    assert (change.matched, change.started, change.refused) == ([3, 3], [3, 1], [0, 2])


def test_a_rule_that_cannot_make_its_key_wants_nothing() -> None:
    """Also one that is not edited: a message that it would match but for that is newly matched by another."""
    live = versions([rule("keyed", "DS-(?P<n>.*)", unique="{n}")])

    preview = seen(
        Preview(live, edited(live, [rule("new", "DS-.*")], prune=False)), [close(1, "DS-"), close(2, "DS-2")]
    )

    assert [each.message_id for each in preview.newly.examples] == [1]
    assert [each.message_id for each in preview.otherwise.examples] == [2]


def test_launches_are_counted_if_there_are_any() -> None:
    """Of a rule with a launch and a command, the launch counts; of rules with commands alone, each command."""
    launch, run = {"launch": {"workflow": "w"}}, {"run": {"command": ["x"]}}

    both = seen(Preview([], versions([rule("a", ".*", launch, run)])), [close(1, "DS")])
    runs = seen(Preview([], versions([rule("a", ".*", run, run)])), [close(1, "DS")])

    assert (both.launches, both.hours) == (True, {"2026-11-22 02": (0, 1)})
    assert (runs.launches, runs.hours) == (False, {"2026-11-22 02": (0, 2)})


def test_an_edited_set_is_what_applying_the_rules_would_make() -> None:
    """Rules that are not given stay, unless pruned; what is given unchanged keeps its version, and the rest is new."""
    live = versions([rule("a"), rule("b"), rule("c")])
    given = [rule("b"), rule("c", "new"), rule("d")]

    kept, pruned = (edited(live, given, prune=prune) for prune in (False, True))

    assert [(each.rule.name, each.version, each.id > 0) for each in kept] == [
        ("a", 1, True),
        ("b", 1, True),
        ("c", 2, False),
        ("d", 1, False),
    ]
    assert [each.rule.name for each in pruned] == ["b", "c", "d"]


def test_the_newest_examples_are_kept() -> None:
    """As many as asked for: what happens now is nearer to what will happen."""
    preview = seen(Preview([], versions([rule("a")]), examples=2), [close(id_, f"DS-{id_}") for id_ in range(1, 6)])

    assert preview.newly.count == 5
    assert [(each.message_id, each.did.name, each.after) for each in preview.newly.examples] == [
        (4, "DS-4", ["a"]),
        (5, "DS-5", ["a"]),
    ]


def test_keys_are_told_apart_however_many_there_are() -> None:
    """However many keys there are, each is taken once, and by the first."""
    versions_: Sequence[RuleVersion] = versions([rule("a", r"(?P<key>\d+)-.*", unique="{key}")])
    history = [close(id_, f"{id_ // 2}-{id_}") for id_ in range(1, 4001)]

    preview = seen(Preview([], versions_), history, page=1000)

    assert preview.refused.count == sum(id_ % 2 for id_ in range(3, 4001))
