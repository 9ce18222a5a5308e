"""Keep datasets: no policy releases them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from actors.transient_options import asks
from orchestrator.core.actor import GiveUp, Order, Outcome, Tools
from orchestrator.core.transient.protection import demand_glob, exactly
from schemas.durations import Duration
from schemas.globs import mistake_in_glob


class KeepOptions(BaseModel):
    """What `keep` can be told."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    which: str | None = Field(
        default=None, description="scope:name, both globs; the message's dataset unless it is said"
    )
    span: Duration | None = Field(
        default=None, alias="for", description="so long from now on; for ever unless it is said"
    )


class Keep:
    """Says that datasets stay, whatever policies say. Safe to repeat."""

    options: type[BaseModel] = KeepOptions

    def check(self, options: Mapping[str, Any], tools: Tools) -> str | None:
        asked = KeepOptions.model_validate(options)
        if asked.span is not None and not asked.span:
            return "keep.for: 0s: expected a length of time, for example 7d; without it, they stay for ever"
        wrong = None if asked.which is None or "{" in asked.which else _mistake_in(asked.which)
        return None if wrong is None else f"keep.which: {wrong}"

    def act(self, order: Order, tools: Tools) -> Outcome:
        asked = KeepOptions.model_validate(order.options)
        which = asked.which
        if which is None:
            if order.message.did is None:
                return GiveUp("the message is about no dataset: say which ones with `which`")
            which = exactly(order.message.did)
        if (wrong := _mistake_in(which)) is not None:
            return GiveUp(wrong)
        return tools.transient.keep(which, asked.span, **asks(order))


def _mistake_in(which: str) -> str | None:
    try:
        demand_glob(which)
    except ValueError as error:
        return str(error)
    return mistake_in_glob(which)
