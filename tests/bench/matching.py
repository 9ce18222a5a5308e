"""What it costs to judge one message, by the number of rules, beside a loop over patterns of Python's.

The patterns have a shape that people really write, and exactly one of them matches.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from statistics import median
from typing import Any

from orchestrator.core.clauses import Facts
from orchestrator.core.matching import RuleSet
from schemas.message import Message, MessageId, MessageState
from schemas.rule import Action, Rule, RuleVersion, RuleVersionId, RunSelection
from tests.bench.bench import Bench
from tests.bench.figures import Figure

ROUNDS = 7


def measure(bench: Bench) -> Iterator[Figure]:
    for rules in (10, 100, 1_000) if bench.quick else (10, 100, 1_000, 5_000):
        patterns = [rf"(?P<kind>DST_[A-Z]+)_run{number:04d}_(?P<run>\d{{8}})-(?P<part>\d+)" for number in range(rules)]
        name = f"DST_CALOFITTING_run{rules // 2:04d}_00012345-0042"
        begun = time.perf_counter()
        rule_set = RuleSet(1, [_version(number, pattern) for number, pattern in enumerate(patterns)], {})
        built = time.perf_counter() - begun
        facts = Facts(_message(name))
        compiled = [re.compile(pattern) for pattern in patterns]
        repeats = max(1, 20_000 // rules)
        ours, plain = [], []
        for _ in range(ROUNDS):
            ours.append(_time(lambda: rule_set.judge(facts), repeats))  # noqa: B023  # called at once
            plain.append(_time(lambda: [one.fullmatch(name) for one in compiled], repeats))  # noqa: B023  # so is this
        target = {1_000: "< 0.2 ms", 5_000: "< 1 ms"}.get(rules, "")
        what = f"one message, {rules:,} rules (built in {built * 1000:.0f} ms; Python's re: {median(plain):.3f} ms)"
        share = median(ours) / median(plain)
        yield Figure("matching", what, f"{median(ours):.3f} ms", target, f"{share:.3f} of re")
        yield from _with_conditions(rules, patterns, facts, repeats, target)


def _with_conditions(rules: int, patterns: Sequence[str], facts: Facts, repeats: int, target: str) -> Iterator[Figure]:
    """The same rules with conditions: one that matches, and as many as there are whose pattern wants every name."""
    fields = {"where": {"bytes": ("> 100",), "run": ("1..99999",)}, "runs": RunSelection(exclude=("7", "100..200"))}
    wanted = RuleSet(1, [_version(number, pattern, **fields) for number, pattern in enumerate(patterns)], {})
    taken = [_time(lambda: wanted.judge(facts), repeats) for _ in range(ROUNDS)]
    yield Figure(
        "matching", f"one message, {rules:,} rules with conditions and runs", f"{median(taken):.3f} ms", target
    )
    refusing = {"where": {"bytes": ("> 1 TB",)}}
    all_asked = RuleSet(1, [_version(number, ".*", **refusing) for number in range(rules)], {})
    taken = [_time(lambda: all_asked.judge(facts), max(1, repeats // 50)) for _ in range(ROUNDS)]
    what = f"one message, {rules:,} rules whose pattern wants every name and whose condition refuses it"
    yield Figure("matching", what, f"{median(taken):.3f} ms", "", f"{1000 * median(taken) / rules:.1f} us a rule")


def _time(work: Callable[[], object], repeats: int) -> float:
    """Milliseconds of one call."""
    begun = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - begun) / repeats * 1000


def _version(number: int, pattern: str, **fields: Any) -> RuleVersion:
    action = Action(actor="launch", options={"workflow": "calorimeter", "parameters": {"run": "{run}"}})
    rule = Rule(name=f"rule-{number}", pattern=pattern, scope=("group.sphenix", "user.*"), actions=(action,), **fields)
    return RuleVersion(id=RuleVersionId(number), version=1, since_revision=1, until_revision=None, rule=rule)


def _message(name: str) -> Message:
    moment = datetime(2026, 11, 22, 1, 13, 40, 292656, tzinfo=UTC)
    return Message(
        id=MessageId(1),
        state=MessageState.PENDING,
        event_type="close",
        scope="group.sphenix",
        name=name,
        created_at=moment,
        received_at=moment,
        origin="broker",
        reason=None,
        duplicates=0,
        incarnation=1,
        generation=1,
        account=None,
        bytes=390,
        length=3,
        events=12,
        judged_revision=0,
    )
