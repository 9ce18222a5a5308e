"""Look for closings that the broker lost, and make up for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from orchestrator.core.actor import Order, Outcome, Tools


class ReconcileOptions(BaseModel):
    """There is nothing to say: the settings do."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Reconcile:
    """Compares the catalog's closings with what is stored, from where the last look ended. Safe to repeat."""

    options: type[BaseModel] = ReconcileOptions

    def check(self, options: Mapping[str, Any], tools: Tools) -> str | None:
        return None

    def act(self, order: Order, tools: Tools) -> Outcome:
        return tools.reality.reconcile()
