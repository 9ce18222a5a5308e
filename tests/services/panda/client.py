"""The unmodified panda-client, run as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_MAIN = "import sys; from pandaclient.{} import main; sys.exit(int(main() or 0))"
_CALLS = """
import contextlib, io, json, sys
from pandaclient import Client
answers = []
for name, args, kwargs in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()):
        answers.append(getattr(Client, name)(*args, **kwargs))
json.dump(answers, sys.stdout, default=str)
"""


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Without HOME: in it, prun asks whether that is meant."""
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment}


def run(
    script: str, *arguments: str, cwd: Path, environment: Mapping[str, str], timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run `PrunScript` or `PchainScript` in a directory of its own, without a terminal."""
    return subprocess.run(
        [sys.executable, "-u", "-c", _MAIN.format(script), *arguments],
        cwd=cwd,
        env=_environment(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def call(*calls: tuple[str, list[Any], dict[str, Any]], cwd: Path, environment: Mapping[str, str]) -> list[Any]:
    """The answers of these functions of `pandaclient.Client`, each given as name, arguments and keywords."""
    done = subprocess.run(
        [sys.executable, "-c", _CALLS],
        cwd=cwd,
        env=_environment(environment),
        input=json.dumps(calls),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    answers: list[Any] = json.loads(done.stdout)
    return answers
