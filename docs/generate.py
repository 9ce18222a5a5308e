"""Write the generated pages of the reference: `make docs`. A test proves that they are fresh."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from typer.cli import get_docs_for_click
from typer.main import get_command

from orchestrator.cli.commands import app
from orchestrator.cli.session import Exit
from orchestrator.settings import FILE_NAME, Settings

REFERENCE = Path(__file__).parent / "reference"

_MEANINGS = {
    Exit.OK: "done",
    Exit.FAILED: "the command did its work, and something in it failed or was found wrong",
    Exit.USAGE: "the command line cannot be understood",
    Exit.REFUSED: "settings, rules or a document were refused; nothing was changed",
    Exit.NOT_FOUND: "there is no such thing, or its state does not allow it",
    Exit.UNAVAILABLE: "store, broker, catalog or engine cannot be used",
}


def pages() -> dict[Path, str]:
    """The text of each generated page."""
    return {REFERENCE / "cli.md": _cli(), REFERENCE / "settings.md": _settings()}


def _cli() -> str:
    command = get_command(app)
    context = command.context_class(command, info_name="muleteer")
    text = get_docs_for_click(obj=command, ctx=context, name="muleteer", title="Commands").strip()
    codes = "\n".join(f"| {code.value} | {meaning} |" for code, meaning in _MEANINGS.items())
    return f"{text}\n\n## Exit codes\n\n| code | means |\n|---|---|\n{codes}\n"


def _settings() -> str:
    rows = "\n".join(_rows(Settings, ""))
    return f"""# Settings

They stand in `{FILE_NAME}` in the home directory (TOML). A variable of the environment counts more than the file; lists
and tables in it are JSON: `MULETEER_BROKER__ADDRESSES='["mq:61613"]'`. Files are relative to the home directory.
Secrets come from the environment or from a file of their own, never from a command line.

| in the file | in the environment | by default | |
|---|---|---|---|
{rows}
"""


def _rows(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _rows(kind, f"{path}.")
            continue
        variable = "MULETEER_" + path.upper().replace(".", "__")
        yield f"| `{path}` | `{variable}` | {_shown(model, name, field.default)} | {field.description or ''} |"


def _shown(model: type[BaseModel], name: str, default: object) -> str:
    if default is None or default is PydanticUndefined:
        return ""
    value: Any = model().model_dump(mode="json", include={name})[name]
    if hasattr(default, "get_secret_value"):
        value = default.get_secret_value()
    return f"`{value}`"


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path}\n")
