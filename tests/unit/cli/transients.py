"""A home with clusters, the seeds that were made of them, and a policy over both."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from tests.unit.cli.conftest import Muleteer

SCOPE: Final = "group.sphenix"

POLICIES: Final = r"""
policies:
  - name: clusters
    scope: group.sphenix
    pattern: 'CLUSTERS-(?P<run>\d{8})'
    lifetime: 1ms
    undo: 1d
    fraction: 1
    successor:
      dataset: '{scope}:SEEDS-{run}'
      maps:
        files: 'CLUSTERS-(?P<run>\d{8})-(?P<n>\d+)\.root'
        onto: 'SEEDS-(?P<run>\d{8})-(?P<n>\d+)\.root'
"""


def clusters(run: int) -> str:
    return f"{SCOPE}:CLUSTERS-{run:08d}"


def seeds(run: int) -> str:
    return f"{SCOPE}:SEEDS-{run:08d}"


def fill(muleteer: Muleteer, home: Path, did: str, files: int) -> None:
    """A closed dataset with so many files of its own."""
    name = did.partition(":")[2]
    paths = [home / f"{name}-{number}.root" for number in range(files)]
    for path in paths:
        path.write_text(f"what is in {path.name}")
    assert muleteer("catalog", "create", did, *paths).code == 0
    assert muleteer("catalog", "close", did).code == 0


def pair(muleteer: Muleteer, home: Path, run: int, *, missing: int = 0) -> str:
    """Clusters of a run, three files, and the seeds that were made of them but for some that are missing."""
    fill(muleteer, home, clusters(run), 3)
    fill(muleteer, home, seeds(run), 3 - missing)
    return clusters(run)


def apply(muleteer: Muleteer, home: Path, text: str = POLICIES) -> None:
    path = home / "policies.yaml"
    path.write_text(text)
    said = muleteer("transient", "policies", "apply", path, "--reason", "disks are full")
    assert said.code == 0, said.err


def plan(muleteer: Muleteer, home: Path, *options: str) -> Path:
    """A plan that was written."""
    path = home / "plan.json"
    said = muleteer("transient", "plan", "--out", path, *options)
    assert said.code == 0, said.err
    return path


def release(muleteer: Muleteer, home: Path) -> list[dict[str, Any]]:
    """All that may leave."""
    said = muleteer("transient", "release", "--plan", plan(muleteer, home), "--reason", "disks are full", "--json")
    assert said.code == 0, said.err
    found: list[dict[str, Any]] = said.json
    return found
