"""Rules that start on what rules make: the loop guard stops such a loop when it runs, this shows it before.

What a launch makes is known from its workflow: the templates of its outputs, filled in with what is known of the rule.
What nobody knows, such as a value of the catalog, may be any text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from string import Formatter
from typing import Any, Final, NamedTuple

from orchestrator.core.overlap import ANYTHING, Node, glob, overlap, read, row, text, together
from schemas.rule import Rule
from schemas.workflow import OutputDataset, Workflow

#: What happens to a dataset that a launch makes.
_PRODUCED: Final = frozenset({"create_dts", "close"})

_LAUNCH: Final = "launch"


class Cycle(NamedTuple):
    """Rules each of which makes what starts the next; the first stands at the end again."""

    path: tuple[str, ...]
    #: What the last but one makes, as its workflow says it: `{scope}:rn{run}-DST`.
    product: str
    #: Nothing but event, scope and name decides: no conditions, no runs.
    certain: bool

    @property
    def words(self) -> str:
        unless = "" if self.certain else ", unless its conditions prevent it"
        return f"a cycle of rules, {' -> '.join(self.path)}: {self.product} may start {self.path[-1]} again{unless}"


class _Step(NamedTuple):
    source: str
    target: str
    product: str
    certain: bool


def cycles(rules: Sequence[Rule], workflows: Mapping[str, Workflow]) -> list[Cycle]:
    """The shortest way back to each rule that has one, each loop once; whether the rules are enabled is not asked.

    `rules` is the whole set, names unlike each other. `workflows` are by name; those that are not given make nothing.
    """
    steps: dict[str, list[_Step]] = {}
    for rule in rules:
        for workflow, options in _launches(rule, workflows):
            for output in workflow.outputs:
                for step in _steps(rule, workflow, options, output, rules):
                    steps.setdefault(rule.name, []).append(step)
    found: dict[frozenset[str], Cycle] = {}
    for rule in sorted(rules, key=lambda each: each.name):
        way = _way_back(rule.name, steps)
        if way:
            names = (*(step.source for step in way), rule.name)
            found.setdefault(frozenset(names), Cycle(names, way[-1].product, all(step.certain for step in way)))
    return list(found.values())


def new_cycles(before: Sequence[Rule], after: Sequence[Rule], workflows: Mapping[str, Workflow]) -> list[Cycle]:
    """The cycles among enabled rules that a change of the set brings."""
    known = {cycle.path for cycle in cycles([rule for rule in before if rule.enabled], workflows)}
    coming = cycles([rule for rule in after if rule.enabled], workflows)
    return [cycle for cycle in coming if cycle.path not in known]


def _way_back(name: str, steps: Mapping[str, Sequence[_Step]]) -> Sequence[_Step]:
    """The fewest steps from a rule to itself; none if there is no way."""
    ways: list[tuple[_Step, ...]] = [(step,) for step in steps.get(name, ())]
    met: set[str] = set()
    for way in ways:  # it grows meanwhile
        target = way[-1].target
        if target == name:
            return way
        if target not in met:
            met.add(target)
            ways += [(*way, step) for step in steps.get(target, ())]
    return ()


def launched(rule: Rule) -> Iterator[Mapping[str, Any]]:
    """The options of each launch of a rule."""
    return (action.options for action in rule.actions if action.actor == _LAUNCH)


def _launches(rule: Rule, workflows: Mapping[str, Workflow]) -> Iterator[tuple[Workflow, Mapping[str, Any]]]:
    for options in launched(rule):
        workflow = workflows.get(str(options.get("workflow")))
        if workflow is not None:
            yield workflow, options


def _steps(
    rule: Rule, workflow: Workflow, options: Mapping[str, Any], output: OutputDataset, rules: Sequence[Rule]
) -> Iterator[_Step]:
    scope, name = _product(rule, workflow, options, output)
    for other in rules:
        if _PRODUCED & set(other.on) and overlap(scope, _scopes(other.scope)) and overlap(name, names_of(other)):
            certain = not (other.where or other.runs.include or other.runs.exclude or _excludes(other))
            yield _Step(rule.name, other.name, output.dataset, certain)


def _excludes(rule: Rule) -> bool:
    return any(each.startswith("!") for each in rule.scope)


def _product(rule: Rule, workflow: Workflow, options: Mapping[str, Any], output: OutputDataset) -> tuple[Node, Node]:
    """The scopes and the names that an output may have."""
    given = options.get("parameters") or {}
    known: dict[str, Node] = {"scope": _scopes(rule.scope), "name": names_of(rule)}
    known["launch"] = row(text(f"{workflow.name}."), ANYTHING)  # see core.naming
    for parameter, each in workflow.parameters.items():
        template = given.get(parameter, each.default)
        known[parameter] = ANYTHING if template is None else _filled(str(template), rule)
        if each.pattern is not None and known[parameter] == ANYTHING:
            known[parameter] = read(each.pattern)[0]
    scope, _, name = output.dataset.partition(":")
    return _words(scope, known), _words(name, known)


def _filled(template: str, rule: Rule) -> Node:
    """What a template of a rule may become."""
    known: dict[str, Node] = {"scope": _scopes(rule.scope), "name": names_of(rule)}
    known["event"] = together([text(event) for event in rule.on])
    if rule.join is None:
        known |= _read(rule.pattern)[1]
    for name, value in rule.values.items():
        templates = [value] if isinstance(value, str) else [each.value for each in value]
        known[name] = together([_words(each, known) for each in templates]) if templates else ANYTHING
    return _words(template, known)


def _words(template: str, known: Mapping[str, Node]) -> Node:
    parts: list[Node] = []
    for literal, name, spec, _ in Formatter().parse(template):
        parts.append(text(literal))
        if name is not None:
            parts.append(ANYTHING if spec else known.get(name, ANYTHING))
    filled = [part for part in parts if part != text("")]
    return filled[0] if len(filled) == 1 else row(*filled)


def names_of(rule: Rule) -> Node:
    """The names that a rule, or some member of a join, wants."""
    patterns = [rule.pattern] if rule.join is None else list(rule.join.members.values())
    wanted = together([_read(pattern)[0] for pattern in patterns])
    return row(ANYTHING, wanted, ANYTHING) if rule.search else wanted


def may_meet(one: Rule, other: Rule) -> bool:
    """Whether one message can match both, as far as event, scope and name decide."""
    return (
        bool({*one.on} & {*other.on})
        and overlap(_scopes(one.scope), _scopes(other.scope))
        and overlap(names_of(one), names_of(other))
    )


_read = cache(read)


@cache
def _scopes(globs: tuple[str, ...]) -> Node:
    wanted = [each for each in globs if not each.startswith("!")]
    if not wanted or "*" in wanted:
        return ANYTHING  # of those that a `!` leaves out, nothing is said
    return together([glob(each) for each in wanted])
