"""Random rules and histories, for tests that compare a quick way with a slow one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from random import Random
from typing import Any

from orchestrator.core.clauses import Facts
from orchestrator.core.past import Interest, Page, past_maker
from schemas.message import Message, MessageId
from schemas.rule import Rule, RuleVersion
from tests.unit.making import NOW, message, rule, version

SCOPES = ("group.sphenix", "user.mine", "data26", "")
KINDS = ("RAW", "DST", "raw", "CALO")

PATTERNS = (
    *(".*", r"RAW-(?P<run>\d+)", r"(?P<kind>\w+)-(?P<run>\d+)(?P<rest>.*)", "DST-.*", "(?i)raw.*", "[RD].*", "nothing"),
    *(r"(?P<kind>RAW|CALO)-(?P<run>[0-9x]+)", r"RAW-1\d*|DST-2\d*", r"(?P<all>.*)"),
)

_WHERE: Sequence[Mapping[str, Any]] = (
    *({}, {}, {}, {"bytes": "> 50"}, {"length": 3}, {"run": "1..15"}, {"event.color": "r*"}, {"project": "!cosmics"}),
    *({"account": "prod", "bytes": "!0"}, {"created_at": ">= 2026-11-22T02:00"}, {"run_flags": "QA"}),
)

_UNIQUE = (None, None, "{run}", "{scope}/{name}", "{run:04d}", "{kind}", "{rest}", "all", "{metadata_project}")

_VALUES: Sequence[Mapping[str, Any]] = ({}, {}, {"tag": "x{name}"}, {"tag": [{"to": 10, "value": "old"}]})


def random_rule(random: Random, name: str) -> Rule:
    """A rule of any kind. Its templates may name what its pattern lacks: then it is never filled in."""
    if random.random() < 0.15:
        fields: dict[str, Any] = {
            "join": {
                "key": "{run}",
                "members": {"a": r"RAW-(?P<run>\d+).*", "b": r"(?P<k>\w+)-(?P<run>\d+)", "c": r".*-(?P<run>\d+)"},
                "need": random.choice([None, 2]),
                "masked": random.choice([[], ["c"]]),
            }
        }
    else:
        fields = {"pattern": random.choice(PATTERNS), "search": random.random() < 0.2, "unique": random.choice(_UNIQUE)}
    values = random.choice(_VALUES)
    command = ["x", "{name}", random.choice(["", "{tag}" if values else "{did}"])]
    fields |= {
        "on": random.choice(["close", "open", ["close", "open"]]),
        "scope": random.choice(["*", "group.*", ["*", "!user.*"], "data26"]),
        "where": random.choice(_WHERE),
        "runs": random.choice([{}, {}, {"include": ["3..12"]}, {"exclude": [5, "20.."]}]),
        "prescale": random.choice([1, 1, 1, 3]),
        "enabled": random.random() < 0.9,
        "values": values,
        "unmatched": random.choice([None, None, "dropped"]),
        "actions": [{"run": {"command": command}}] * random.choice([1, 2]),
    }
    return Rule.model_validate(rule(name).document() | fields)


def random_rules(random: Random, most: int = 6) -> list[Rule]:
    return [random_rule(random, f"rule-{number}") for number in range(random.randint(0, most))]


def edited_rules(random: Random, rules: Sequence[Rule]) -> list[Rule]:
    """The rules with some changed, some taken out, and some new."""
    kept = [
        each if random.random() < 0.5 else random_rule(random, each.name) for each in rules if random.random() < 0.8
    ]
    return [*kept, *(random_rule(random, f"new-{number}") for number in range(random.randint(0, 2)))]


def versions(rules: Sequence[Rule]) -> list[RuleVersion]:
    return [version(each, number) for number, each in enumerate(sorted(rules, key=lambda one: one.name), start=1)]


def random_history(random: Random, count: int) -> list[Facts]:
    """Messages with ids from 1 on, an hour or so between them, some with what the catalog said."""
    flags = {5: ("QA",), 7: ("QA", "bad")}
    return [_random_facts(random, number, flags) for number in range(1, count + 1)]


def _random_facts(random: Random, id_: int, flags: Mapping[int, Sequence[str]]) -> Facts:
    tail = random.choice(["", "", "-b", "x", "é"])
    made = message(
        id=id_,
        event_type=random.choice(["close", "close", "open", "erase"]),
        scope=random.choice(SCOPES),
        name=f"{random.choice(KINDS)}-{random.randint(0, 25)}{tail}",
        created_at=NOW + timedelta(minutes=random.randint(0, 60) * id_),
        account=random.choice([None, "prod"]),
        bytes=random.choice([None, 0, 100]),
        length=random.choice([None, 3]),
    )
    catalog: Mapping[str, Any] = {
        "run_number": random.randint(0, 25),
        "project": random.choice(["cosmics", "pp", None]),
    }
    metadata = random.choice([None, {}, catalog, catalog])
    return Facts(made, random.choice([{}, {"color": "red"}, {"color": "blue"}]), metadata, flags)


def page_of(history: Sequence[Facts], interest: Interest) -> Page:
    """The history as the store gives it: rows with the fields of the interest, and no others."""
    known = {facts.message.id: facts for facts in history}
    rows = [tuple(getattr(facts.message, name) for name in interest.fields) for facts in history]
    return Page(rows, partial(_facts_of, known, past_maker(interest.fields)))


def _facts_of(known: Mapping[MessageId, Facts], make: Any, row: tuple[Any, ...]) -> Facts:
    past: Message = make(row)
    return known[row[0]]._replace(message=past)
