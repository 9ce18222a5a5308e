"""Who hears the embedded catalog's announcements."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Listener:
    """Takes announcements, and refuses them while it is down."""

    frames: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    #: How many announcements it takes before it goes down.
    patience: int = 1_000_000

    def announce(self, headers: Mapping[str, str], body: bytes) -> None:
        if len(self.frames) >= self.patience:
            raise ConnectionError("the broker is down")
        self.frames.append((dict(headers), body))

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.frames]

    @property
    def types(self) -> list[str]:
        return [event["event_type"] for event in self.events]
