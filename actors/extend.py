"""Let a transient dataset stay for longer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from actors.transient_options import AboutDataset, asks, meant, mistake_in
from orchestrator.core.actor import GiveUp, Order, Outcome, Tools
from schemas.durations import Duration


class ExtendOptions(AboutDataset):
    """What `extend` can be told."""

    span: Duration = Field(alias="for", description="so long from now on, at least")


class Extend:
    """Lets one dataset stay for a while, whatever its policy says. Safe to repeat."""

    options: type[BaseModel] = ExtendOptions

    def check(self, options: Mapping[str, Any], tools: Tools) -> str | None:
        asked = ExtendOptions.model_validate(options)
        if not asked.span:
            return "extend.for: 0s: expected a length of time, for example 7d"
        wrong = mistake_in(asked.dataset)
        return None if wrong is None else f"extend.dataset: {wrong}"

    def act(self, order: Order, tools: Tools) -> Outcome:
        asked = ExtendOptions.model_validate(order.options)
        did = meant(asked, order)
        return did if isinstance(did, GiveUp) else tools.transient.extend(did, asked.span, **asks(order))
