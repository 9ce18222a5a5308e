"""Submits one workflow in a process of its own, which a test kills.

Its arguments: the server's URL, the kind of engine, the workflow's name, a directory, fields of the site as JSON, and
how many steps. It waits for a line on its input before it sends, and after.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from orchestrator.panda.port import Submission
from tests.contract.panda_bench import engine_of, scripts, site_of, step, submission


def asked(name: str, steps: int) -> Submission:
    """A workflow of one or two steps."""
    return submission(name, step("top", "RAW"), *([step("combine", "top")] if steps > 1 else []))


def main(url: str, kind: str, name: str, directory: str, site: str, steps: str) -> None:
    given: dict[str, Any] = json.loads(site)
    engine = engine_of(kind, site_of(url, **given), Path(directory))
    wanted = asked(name, int(steps))
    package = engine.pack(wanted, scripts(wanted))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    reference, _ = engine.submit(name, package)
    sys.stdout.write(f"{reference}\n")
    sys.stdout.flush()
    sys.stdin.readline()


if __name__ == "__main__":
    main(*sys.argv[1:])
