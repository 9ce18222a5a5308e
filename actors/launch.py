"""Launch a workflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from orchestrator.core.actor import LaunchRequest, Order, Outcome, Tools
from orchestrator.core.naming import launch_key


class LaunchOptions(BaseModel):
    """What `launch` can be told."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    workflow: str
    parameters: dict[str, str] = {}


class Launch:
    """Hands a workflow to the engine, once for each round of a dispatch, however often it is tried."""

    options: type[BaseModel] = LaunchOptions

    def check(self, options: Mapping[str, Any], tools: Tools) -> str | None:
        asked = LaunchOptions.model_validate(options)
        if "{" in asked.workflow:
            return f"launch.workflow: {asked.workflow!r}: a message may fill in parameters, but not choose the workflow"
        wrong = tools.launching.wrong(asked.workflow, asked.parameters)
        return f"launch: {wrong}" if wrong is not None else None

    def act(self, order: Order, tools: Tools) -> Outcome:
        asked = LaunchOptions.model_validate(order.options)
        return tools.launching.launch(
            LaunchRequest(
                workflow=asked.workflow,
                parameters=asked.parameters,
                message=order.message,
                dispatch_id=order.dispatch_id,
                key=launch_key(asked.workflow, order.dispatch_id, order.round),
                rule=order.rule,
                round=order.round,
            )
        )
