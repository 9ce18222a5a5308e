"""Read rules files, and refuse what could not work before it goes live."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from orchestrator.core.actor import Tools
from orchestrator.core.conditions import Condition, ConditionError
from orchestrator.core.documents import Document, DocumentError
from orchestrator.core.patterns import Pattern, PatternError
from orchestrator.core.runs import RunsError, read_range, read_run_file
from orchestrator.core.templates import TemplateError, fields_within
from orchestrator.core.values import known_names, mistakes_in_values, unknown_in, unknown_names
from orchestrator.dispatch.actors import Actors
from schemas.rule import Rule, RuleFile

#: The field, and what is wrong with it in words.
Mistake = tuple[tuple[int | str, ...], str]


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
    mistakes: list[str] = []
    rules: dict[str, Rule] = {}
    homes: dict[str, str] = {}
    for file in files:
        try:
            document = Document(file.read_text(encoding="utf-8"), str(file))
            read = document.read(RuleFile).rules
        except (OSError, UnicodeDecodeError) as error:
            mistakes.append(f"{file}: cannot be read: {error}")
            continue
        except DocumentError as error:
            mistakes.append(str(error))
            continue
        for position, written in enumerate(read):
            rule, wrong = _with_run_files(written, file.parent)
            if rule.name in rules:
                wrong.append(
                    (("name",), f"the rule {rule.name!r} is defined in {homes[rule.name]} too: give each its own name")
                )
            for place, what in (*wrong, *mistakes_of(rule, actors, tools)):
                mistakes.append(document.at(("rules", position, *place), what))
            rules[rule.name], homes[rule.name] = rule, str(file)
    if mistakes:
        raise RulesRefused("\n".join(mistakes))
    return list(rules.values())


def mistakes_of(rule: Rule, actors: Actors, tools: Tools) -> Iterator[Mistake]:
    """What is wrong with a rule of the right shape: the field, and the mistake in words."""
    yield from _mistakes_in_clauses(rule)
    try:
        pattern = Pattern(rule.pattern, search=rule.search)
    except PatternError as error:
        yield ("pattern",), str(error)
        return
    known = known_names(pattern)
    yield from mistakes_in_values(rule, known)
    known |= set(rule.values)
    if rule.unique is not None:
        yield from _mistakes_in_templates(("unique",), rule.unique, known)
    for position, action in enumerate(rule.actions):
        place = ("actions", position, action.actor)
        yield from _mistakes_in_templates(place, action.options, known)
        wrong = actors.wrong(action, tools)
        if wrong is not None:
            yield place, wrong


def _mistakes_in_clauses(rule: Rule) -> Iterator[Mistake]:
    for key, items in rule.where.items():
        try:
            Condition(items)
        except ConditionError as error:
            yield ("where", key), str(error)
    for name in ("include", "exclude"):
        for position, item in enumerate(getattr(rule.runs, name)):
            try:
                read_range(item)
            except RunsError as error:
                yield ("runs", name, position), str(error)
    if all(glob.startswith("!") for glob in rule.scope) and any(glob == "!*" for glob in rule.scope):
        yield ("scope",), "'!*' leaves no scope at all"


def _mistakes_in_templates(place: tuple[int | str, ...], templates: Any, known: frozenset[str]) -> Iterator[Mistake]:
    try:
        unknown = unknown_in(fields_within(templates), known)
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
