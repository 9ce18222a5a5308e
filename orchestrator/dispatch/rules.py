"""Read rules files, and refuse what could not work before it goes live."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.core.actor import Tools
from orchestrator.core.completeness import mistakes_in, templates_in
from orchestrator.core.conditions import Condition, ConditionError
from orchestrator.core.documents import Document, DocumentError, written
from orchestrator.core.joins import known_in_join, mistakes_in_join
from orchestrator.core.mistakes import Mistake
from orchestrator.core.patterns import Pattern, PatternError
from orchestrator.core.runs import RunsError, read_range, read_run_file
from orchestrator.core.templates import TemplateError, fields
from orchestrator.core.values import known_names, mistakes_in_values, unknown_in, unknown_names
from orchestrator.dispatch.actors import Actors
from schemas.checks import Requirement
from schemas.rule import Rule, RuleFile

#: The beginning of a named group.
_GROUP = re.compile(r"(?<!\\)\(\?P?<(\w+)>")


class RulesRefused(Exception):
    """The rules cannot be applied. The text has one line for each mistake: file, line, field, what is allowed."""


def read_rules(path: Path, actors: Actors, tools: Tools) -> Sequence[Rule]:
    """The rules of a file, or of all `*.yaml` and `*.yml` files in a folder, checked together.

    Raises:
        RulesRefused: nothing of it should be applied.
    """
    files = sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml")) if path.is_dir() else [path]
    if not files:
        raise RulesRefused(f"{path}: there is no .yaml file in this folder")
    reading = _Reading(actors, tools)
    for file in files:
        try:
            reading.read(file.read_text(encoding="utf-8"), str(file), file.parent)
        except (OSError, UnicodeDecodeError) as error:
            reading.mistakes.append(f"{file}: cannot be read: {error}")
    return reading.rules()


def read_rules_text(text: str, source: str, folder: Path, actors: Actors, tools: Tools) -> Sequence[Rule]:
    """The rules of a text that `source` names in messages; files of runs lie in the folder. Raises RulesRefused."""
    reading = _Reading(actors, tools)
    reading.read(text, source, folder)
    return reading.rules()


class _Reading:
    """Several texts, read as one set of rules."""

    def __init__(self, actors: Actors, tools: Tools) -> None:
        self._actors = actors
        self._tools = tools
        self._rules: dict[str, Rule] = {}
        #: Where each of them was found first.
        self._homes: dict[str, str] = {}
        self.mistakes: list[str] = []

    def read(self, text: str, source: str, folder: Path) -> None:
        try:
            document = Document(text, source)
            read = document.read(RuleFile).rules
        except DocumentError as error:
            self.mistakes.append(str(error))
            return
        mistakes: list[Mistake] = []
        for position, each in enumerate(read):
            rule, wrong = _with_run_files(each, folder)
            wrong += [*self._met_before(rule), *mistakes_of(rule, self._actors, self._tools)]
            mistakes += [(("rules", position, *place), what) for place, what in wrong]
            self._rules.setdefault(rule.name, rule)
            self._homes.setdefault(rule.name, source)
        if mistakes:
            self.mistakes.append(document.all(mistakes))

    def _met_before(self, rule: Rule) -> Iterator[Mistake]:
        if rule.name in self._rules:
            where = self._homes[rule.name]
            yield ("name",), f"the rule {rule.name!r} is defined in {where} too: give each its own name"

    def rules(self) -> Sequence[Rule]:
        """Raises RulesRefused."""
        if self.mistakes:
            raise RulesRefused("\n".join(self.mistakes))
        return list(self._rules.values())


def still_right(rules: Sequence[Rule], actors: Actors, tools: Tools) -> None:
    """Look once more at rules that were right when they were applied: what they ask for may be gone.

    Raises:
        RulesRefused: with a line for each mistake.
    """
    wrong = [
        f"rule {rule.name}: {'.'.join(map(str, place))}: {what}"
        for rule in rules
        if rule.enabled
        for place, what in mistakes_of(rule, actors, tools)
    ]
    if wrong:
        raise RulesRefused("\n".join(wrong))


def mistakes_of(rule: Rule, actors: Actors, tools: Tools) -> Iterator[Mistake]:
    """What is wrong with a rule of the right shape: the field, and the mistake in words."""
    yield from _mistakes_in_clauses(rule)
    try:
        pattern = Pattern(rule.pattern, search=rule.search)
    except PatternError as error:
        yield ("pattern",), str(error)
        return
    yield from _mistakes_in_groups(pattern)
    known = known_names(pattern)
    if rule.join is not None:
        wrong = list(mistakes_in_join(rule))
        for slot, text in rule.join.members.items():
            if not any(place == ("join", "members", slot) for place, _ in wrong):
                wrong += [(("join", "members", slot), what) for _, what in _mistakes_in_groups(Pattern(text))]
        yield from wrong
        if wrong:
            return
        known = known_in_join(rule)
    yield from mistakes_in_values(rule, known)
    known |= set(rule.values)
    if rule.unique is not None:
        yield from _mistakes_in_templates(("unique",), rule.unique, known)
    for position, action in enumerate(rule.actions):
        place = ("actions", position, action.actor)
        yield from _mistakes_in_templates(place, action.options, known)
        for within, what in actors.mistakes(action, tools):
            yield (*place, *within), what
        if action.require is not None:
            yield from _mistakes_in_requirement(("actions", position, "require"), action.require, known)


def _mistakes_in_requirement(
    place: tuple[int | str, ...], required: Requirement, known: frozenset[str]
) -> Iterator[Mistake]:
    yield from _mistakes_in_templates(place, templates_in(required), known)
    for within, what in mistakes_in(required):
        yield (*place, *within), what


def _mistakes_in_clauses(rule: Rule) -> Iterator[Mistake]:
    for key, items in rule.where.items():
        for position, item in enumerate(items):
            try:
                Condition([item])
            except ConditionError as error:
                yield ("where", key, position), str(error)
    for name in ("include", "exclude"):
        for position, item in enumerate(getattr(rule.runs, name)):
            try:
                read_range(item)
            except RunsError as error:
                yield ("runs", name, position), str(error)
    if all(glob.startswith("!") for glob in rule.scope) and any(glob == "!*" for glob in rule.scope):
        yield ("scope",), "'!*' leaves no scope at all"


def _mistakes_in_groups(pattern: Pattern) -> Iterator[Mistake]:
    """What RE2 lets pass, and would surprise."""
    named = _GROUP.findall(pattern.text)
    for name in pattern.groups:
        if not name.isidentifier():
            yield ("pattern",), f"the group {name!r} cannot be used in a template: letters, digits and _ alone"
        elif named.count(name) > 1:
            yield ("pattern",), f"two groups are named {name!r}, and only the first would count: name each once"


def _mistakes_in_templates(place: tuple[int | str, ...], value: Any, known: frozenset[str]) -> Iterator[Mistake]:
    """What is wrong with each template within a nested value."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _mistakes_in_templates((*place, key), item, known)
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            yield from _mistakes_in_templates((*place, position), item, known)
    elif isinstance(value, str):
        try:
            unknown = unknown_in(fields(value), known)
        except TemplateError as error:
            yield place, str(error)
            return
        if unknown:
            yield place, unknown_names(unknown, known)


def _with_run_files(rule: Rule, folder: Path) -> tuple[Rule, list[Mistake]]:
    """The rule with its files of runs read into it, and what is wrong with them."""
    runs: dict[str, Any] = {}
    mistakes: list[Mistake] = []
    for name in ("include", "exclude"):
        file = getattr(rule.runs, f"{name}_file")
        if file is None:
            continue
        try:
            items = read_run_file((folder / file).read_text(encoding="utf-8"))
            if not items and name == "include":
                raise RunsError("there is no run in it, so the rule would match nothing")
        except (OSError, UnicodeDecodeError, RunsError) as error:
            said = getattr(error, "strerror", None) or error
            mistakes.append((("runs", f"{name}_file"), f"{folder / file}: {said}"))
            continue
        runs |= {name: (*getattr(rule.runs, name), *items), f"{name}_file": None}
    return (rule.model_copy(update={"runs": rule.runs.model_copy(update=runs)}) if runs else rule), mistakes


def rules_text(rules: Sequence[Rule]) -> str:
    """The rules as a file that `read_rules` takes, written as a person would."""
    return written({"rules": [rule.as_written() for rule in rules]})
