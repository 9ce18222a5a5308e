"""What the stand-in remembers, in a directory: `state.json` as one piece, and the files of the cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .model import File, Request, Task, Work
from .state import State


def save(directory: Path, state: State, snapshot: dict[str, Any]) -> None:
    """Write everything down; a reader sees the old state or the new one."""
    for name, file in state.cache.items():
        if not (path := directory / "cache" / name).exists():
            path.write_bytes(file.content)
    cache = {name: [file.owner, file.checksum] for name, file in state.cache.items()}
    new = directory / "state.new"
    new.write_text(json.dumps(snapshot | {"cache": cache}))
    new.replace(directory / "state.json")


def load(directory: Path, state: State) -> dict[str, Any]:
    """Fill an empty state with what was written down, if anything was; returns all of it."""
    (directory / "cache").mkdir(parents=True, exist_ok=True)
    path = directory / "state.json"
    if not path.exists():
        return {}
    saved: dict[str, Any] = json.loads(path.read_text())
    for row in saved["tasks"].values():
        state.remember(Task(**row))
    for row in saved["workflows"].values():
        state.remember_request(Request(**row | {"works": [Work(**work) for work in row["works"]]}))
    for name, (owner, checksum) in saved["cache"].items():
        content = (directory / "cache" / name).read_bytes()
        state.cache[name] = File(name, owner, len(content), checksum, content)
    state.native_workflows = saved["native_workflows"]
    transforms = [work.transform_id for request in state.requests.values() for work in request.works]
    first = max(state.tasks, default=next(state.task_ids) - 1) + 1
    state.set_numbers(first, max(state.requests, default=0) + 1, max(transforms, default=0) + 1)
    return saved
