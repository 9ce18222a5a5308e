"""What the actors on transient datasets share: which dataset is meant, and who asks."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.core.actor import GiveUp, Order
from schemas.did import Did


class AboutDataset(BaseModel):
    """Options that name a dataset."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    dataset: str | None = Field(default=None, description="scope:name; that of the message unless it is said")


def mistake_in(dataset: str | None) -> str | None:
    """What is wrong with a name that is no template."""
    if dataset is None or "{" in dataset:
        return None
    try:
        Did.parse(dataset)
    except ValueError as error:
        return str(error)
    return None


def meant(asked: AboutDataset, order: Order) -> Did | GiveUp:
    """The dataset that is meant, or why there is none."""
    try:
        did = order.message.did if asked.dataset is None else Did.parse(asked.dataset)
    except ValueError as error:
        return GiveUp(str(error))
    return GiveUp("the message is about no dataset: say which one with `dataset`") if did is None else did


def asks(order: Order) -> Mapping[str, str]:
    """Who asks, and why, for the record."""
    return {"who": f"rule {order.rule}", "why": f"dispatch {order.dispatch_id}"}
