"""Read rules files, and refuse what could not work before it goes live."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from orchestrator.core.actor import Tools
from orchestrator.core.documents import Document, DocumentError
from orchestrator.core.matching import MESSAGE_VARIABLES
from orchestrator.core.patterns import Pattern, PatternError
from orchestrator.core.templates import TemplateError, fields_within
from orchestrator.dispatch.actors import Actors
from schemas.rule import Rule, RuleFile


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
        for position, rule in enumerate(read):
            if rule.name in rules:
                message = f"the rule {rule.name!r} is defined in {homes[rule.name]} too: give each its own name"
                mistakes.append(document.at(("rules", position, "name"), message))
            mistakes += (
                document.at(("rules", position, *place), what) for place, what in mistakes_of(rule, actors, tools)
            )
            rules[rule.name], homes[rule.name] = rule, str(file)
    if mistakes:
        raise RulesRefused("\n".join(mistakes))
    return list(rules.values())


def mistakes_of(rule: Rule, actors: Actors, tools: Tools) -> Iterator[tuple[tuple[int | str, ...], str]]:
    """What is wrong with a rule of the right shape: the field, and the mistake in words."""
    groups: Sequence[str] = ()
    try:
        groups = Pattern(rule.pattern).groups
    except PatternError as error:
        yield ("pattern",), str(error)
        return
    known = MESSAGE_VARIABLES | set(groups)
    for position, action in enumerate(rule.actions):
        place = ("actions", position, action.actor)
        try:
            unknown = sorted(fields_within(action.options) - known)
        except TemplateError as error:
            yield place, str(error)
            continue
        if unknown:
            names = ", ".join(f"{{{name}}}" for name in unknown)
            yield place, f"{names} is neither a group of the pattern nor one of: {', '.join(sorted(known))}"
        wrong = actors.wrong(action, tools)
        if wrong is not None:
            yield place, wrong
