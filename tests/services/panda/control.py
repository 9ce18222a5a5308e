"""The control of a stand-in that runs in another process."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any


class PandaControl:
    """`PandaControl(url).advance("name", status="running")` and the like; see server.CONTROL for what there is."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/_control"

    def snapshot(self) -> dict[str, Any]:
        """Everything: calls, handled, tasks, workflows, native_workflows, files."""
        state: dict[str, Any] = self._call(None)
        return state

    def do(self, name: str, **arguments: Any) -> Any:
        """Call one method of the server. Raises ValueError with its reason if it is refused."""
        return self._call({"do": name, **arguments})

    def advance(self, task: int | str, status: str | None = None, **arguments: Any) -> int:
        """Move a task; returns its id."""
        return int(self.do("advance", task=task, status=status, **arguments))

    def fault(self, path: str, kind: str, **arguments: Any) -> None:
        """Make a fault."""
        self.do("fault", path=path, kind=kind, **arguments)

    def _call(self, order: dict[str, Any] | None) -> Any:
        body = None if order is None else json.dumps(order).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(self._url, body), timeout=30) as reply:
                return json.loads(reply.read())
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(error.read().decode()) from None
