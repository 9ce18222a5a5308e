"""Find actors by their entry point, and check what rules ask of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points

from pydantic import ValidationError

from orchestrator.core.actor import Actor, Tools
from orchestrator.core.mistakes import Mistake, mistakes_in
from schemas.rule import Action

GROUP = "muleteer.actors"


@dataclass(frozen=True, slots=True)
class Actors:
    """The actors that are installed, and those that are but cannot be used."""

    usable: Mapping[str, Actor]
    #: Why, by name.
    broken: Mapping[str, str]

    def mistakes(self, action: Action, tools: Tools) -> Iterator[Mistake]:
        """What is wrong with an action as far as can be known now: the field within its options, and the mistake."""
        actor = self.usable.get(action.actor)
        if actor is None:
            if action.actor in self.broken:
                yield (), f"the actor {action.actor!r} cannot be used: {self.broken[action.actor]}"
            else:
                yield (), f"there is no actor {action.actor!r}; there are: {', '.join(sorted(self.usable))}"
            return
        try:
            actor.options.model_validate(action.options)
        except ValidationError as error:
            yield from mistakes_in(error, actor.options, action.options)
            return
        wrong = actor.check(action.options, tools)
        if wrong is not None:
            yield _placed(action.actor, wrong)


def _placed(actor: str, wrong: str) -> Mistake:
    """Actors say `run.command: what is wrong`; the name before the colon is a place."""
    name, colon, what = wrong.partition(": ")
    first, *rest = name.split(".")
    return (tuple(rest), what) if colon and first == actor else ((), wrong)


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
