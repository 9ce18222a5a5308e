"""Release a transient dataset, if all is proved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from actors.transient_options import AboutDataset, asks, meant, mistake_in
from orchestrator.core.actor import GiveUp, Order, Outcome, Tools


class ReleaseOptions(AboutDataset):
    """What `release` can be told. A dataset that a dispatch is about is in use: the message is the successor's."""

    dataset: str = Field(description="scope:name")


class Release:
    """Releases one dataset that a policy matches. It can be taken back as if a person had released it.

    What stands in the way is tried again by the rule's retry policy.
    """

    options: type[BaseModel] = ReleaseOptions

    def check(self, options: Mapping[str, Any], tools: Tools) -> str | None:
        wrong = mistake_in(ReleaseOptions.model_validate(options).dataset)
        return None if wrong is None else f"release.dataset: {wrong}"

    def act(self, order: Order, tools: Tools) -> Outcome:
        did = meant(ReleaseOptions.model_validate(order.options), order)
        return did if isinstance(did, GiveUp) else tools.transient.release(did, **asks(order))
