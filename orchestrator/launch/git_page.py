"""What a launch looks like in the archive: its record, and its row in the README's table."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from schemas.launch import Launch, LaunchFile, SubmissionRecord

RECORD: Final = "record.json"
README: Final = "README.md"

_HEAD: Final = """# Launches

What was sent for each launch, byte for byte, and in its `record.json` what came of it. Written by
`muleteer launches archive`, which writes this page anew each time.

| date | workflow | run | parameters | state | ids |
|---|---|---|---|---|---|
"""
#: What would be more than text in a table of Markdown.
_MARKS: Final = re.compile(r"([\\`*_{}\[\]<>()#+!|~$&])")
_LONGEST: Final = 300


def record(
    launch: Launch, tries: Sequence[SubmissionRecord], files: Sequence[LaunchFile], left_out: Sequence[str]
) -> bytes:
    """The record, the same bytes for the same launch. What changes while it runs is not in it, but its state."""
    document = {
        "launch": launch.id,
        "name": launch.name,
        "key": launch.key,
        "workflow": launch.workflow,
        "definition": launch.definition,
        "run": launch.run,
        "parameters": launch.parameters,
        "inputs": launch.inputs,
        "outputs": launch.outputs,
        "engine": launch.engine,
        "reference": launch.reference,
        "dispatch": launch.dispatch_id,
        "state": launch.state.value,
        "created_at": launch.created_at.isoformat(),
        "submitted_at": None if launch.submitted_at is None else launch.submitted_at.isoformat(),
        "tasks": {step.name: step.task for step in launch.steps},
        "tries": [each.model_dump(mode="json", exclude={"launch_id"}) for each in tries],
        "files": {
            each.path: {"size": each.size, "sha256": each.digest, "executable": each.executable} for each in files
        },
        "left_out": list(left_out),
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def readme(records: Iterable[tuple[str, Mapping[str, Any]]]) -> bytes:
    """The page with a row for each launch, newest first; records come with their folder."""
    rows = sorted(((str(each["created_at"]), folder, each) for folder, each in records), key=lambda row: row[:2])
    return (_HEAD + "".join(_row(folder, each) for _, folder, each in reversed(rows))).encode()


def _row(folder: str, record: Mapping[str, Any]) -> str:
    parameters = ", ".join(f"{name}={value}" for name, value in record["parameters"].items())
    tasks = [f"{name} {task}" for name, task in record["tasks"].items() if task is not None]
    ids = ", ".join([f"launch {record['launch']}", *([record["reference"]] if record["reference"] else []), *tasks])
    link = f"[{_text(folder.partition('/')[2])}]({folder}/{RECORD})"
    cells = (
        record["created_at"][:10],
        f"{_text(record['workflow'])}: {link}",
        "" if record["run"] is None else str(record["run"]),
        _text(parameters),
        _text(record["state"]),
        _text(ids),
    )
    return f"| {' | '.join(cells)} |\n"


def _text(text: str) -> str:
    """In one line, and nothing but text."""
    shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return _MARKS.sub(r"\\\1", "".join(sign if sign.isprintable() else " " for sign in shown))
