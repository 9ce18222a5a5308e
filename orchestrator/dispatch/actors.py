"""Find actors by their entry point, and check what rules ask of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points

from pydantic import ValidationError

from orchestrator.core.actor import Actor, Tools
from orchestrator.core.documents import said
from schemas.rule import Action

GROUP = "muleteer.actors"


@dataclass(frozen=True, slots=True)
class Actors:
    """The actors that are installed, and those that are but cannot be used."""

    usable: Mapping[str, Actor]
    #: Why, by name.
    broken: Mapping[str, str]

    def wrong(self, action: Action, tools: Tools) -> str | None:
        """What is wrong with an action, in words; None if it can be carried out as far as can be known now."""
        actor = self.usable.get(action.actor)
        if actor is None:
            if action.actor in self.broken:
                return f"the actor {action.actor!r} cannot be used: {self.broken[action.actor]}"
            return f"there is no actor {action.actor!r}; there are: {', '.join(sorted(self.usable))}"
        try:
            actor.options.model_validate(action.options)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_input=False)
            return "; ".join(f"{'.'.join(map(str, (action.actor, *each['loc'])))}: {said(each)}" for each in problems)
        return actor.check(action.options, tools)


def installed() -> Actors:
    """Every actor in the entry-point group; one that cannot be loaded does not keep the others from working."""
    usable: dict[str, Actor] = {}
    broken: dict[str, str] = {}
    for entry in entry_points(group=GROUP):
        try:
            usable[entry.name] = entry.load()()
        except Exception as error:
            broken[entry.name] = f"{entry.value} does not load: {error}"
    return Actors(usable, broken)
