"""Check a dataset, or a collection: what is not as it should be makes the action fail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from orchestrator.core.actor import GiveUp, Order, Outcome, Tools
from orchestrator.core.completeness import mistakes_in
from schemas.checks import Checks
from schemas.did import Did


class CheckOptions(Checks):
    """What `check` can be told."""

    dataset: str | None = Field(default=None, description="scope:name; that of the message unless it is said")


class Check:
    """Looks a dataset up in the catalog. Findings are tried again by the rule's retry policy, then it has failed."""

    options: type[BaseModel] = CheckOptions

    def check(self, options: Mapping[str, Any], tools: Tools) -> str | None:
        asked = CheckOptions.model_validate(_as_filled(options))
        for place, what in mistakes_in(asked):
            return f"check.{'.'.join(map(str, place))}: {what}"
        if not asked.model_dump(exclude_defaults=True).keys() - {"dataset", "run"}:
            return "check: nothing is checked: say closed, filled, files, replicas, names, numbered, members ..."
        return None

    def act(self, order: Order, tools: Tools) -> Outcome:
        asked = CheckOptions.model_validate(order.options)
        try:
            did = order.message.did if asked.dataset is None else Did.parse(asked.dataset)
        except ValueError as error:
            return GiveUp(str(error))
        if did is None:
            return GiveUp("the message is about no dataset: say which one with `dataset`")
        return tools.reality.check(did, asked)


def _as_filled(value: Any) -> Any:
    """In a template a brace that counts something is written twice: patterns as they will be."""
    if isinstance(value, Mapping):
        return {key: _as_filled(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_filled(item) for item in value]
    return value.replace("{{", "{").replace("}}", "}") if isinstance(value, str) else value
