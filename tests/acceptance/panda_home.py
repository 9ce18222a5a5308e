"""Homes whose engine is a stand-in PanDA, for the acceptance tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from orchestrator.store.store import Store
from schemas.launch import Launch, LaunchState
from tests.acceptance.home import Home, until
from tests.services.panda import PandaServer, make_token

#: What every dataset's name begins with.
PREFIX = "user.shrek"

#: The life of a token that is over.
EXPIRED = timedelta(days=-1)

#: Two steps, so pchain sends them.
CHAIN = """
name: calo
launch_name: "rn{run:08d}-CALOR"
parameters:
  run: {type: integer, minimum: 1, maximum: 500}
inputs:
  raw: "{scope}:{name}"
steps:
  - {name: combine, command: [./step.sh, "{run}"], inputs: [raw], outputs: ["made-*.root"]}
  - {name: reco, command: [./step.sh, "{run}"], inputs: [combine], outputs: ["dst-*.root"]}
"""

#: One step, so prun sends it.
SINGLE = """
name: single
launch_name: "rn{run:08d}-SINGLE"
parameters:
  run: {type: integer}
inputs:
  raw: "{scope}:{name}"
steps:
  - {name: only, command: [./step.sh, "{run}"], inputs: [raw], outputs: ["made-*.root"]}
"""

RULES = """
rules:
  - name: chain
    scope: test
    pattern: 'DST-(?P<run>\\d+)'
    actions:
      - launch: {workflow: calo, parameters: {run: "{run}"}}
        retry: {attempts: 20, delay: 0s}
"""

SITE = """
name: test
instance: testbed
url: {url}
url_ssl: {url}
vo: {vo}
prefix: user.shrek
token_file: {token}
site: BNL_SPHENIX
submit_timeout: {submit_timeout}
settle: {settle}
poll: 1s
parallel: 16
monitor:
  task: https://panda.example.org/task/{{id}}/
  request: https://panda.example.org/idds/{{id}}/
  job: https://panda.example.org/job/{{id}}/
"""


class PandaHome:
    """A home and the stand-in that its profile names. The token lies in a file of its own in the home.

    Args:
        kind: `panda` or `panda-stepwise`.
        workflows: documents by name; each has a job script `step.sh`.
    """

    def __init__(
        self, home: Home, panda: PandaServer, kind: str = "panda", workflows: Mapping[str, str] | None = None
    ) -> None:
        self.home = home
        self.panda = panda
        self.token = make_token()
        for name, text in (workflows or {"calo": CHAIN, "single": SINGLE}).items():
            self.write_workflow(name, text)
        self.write_token(self.token)
        self.write_site()
        (home.place / "muleteer.toml").write_text(f'[engine]\nkind = "{kind}"\nsite = "test"\n')

    @property
    def token_file(self) -> Path:
        return self.home.place / "secrets" / "panda_token"

    def write_workflow(self, name: str, text: str, script: str = "#!/bin/sh\n") -> None:
        folder = self.home.place / "workflows" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "workflow.yaml").write_text(text)
        (folder / "step.sh").write_text(script)
        (folder / "step.sh").chmod(0o755)

    def write_site(self, *, vo: str = "sphenix", submit_timeout: str = "10s", settle: str = "3s") -> None:
        folder = self.home.place / "sites"
        folder.mkdir(exist_ok=True)
        given = {"url": self.panda.url, "vo": vo, "token": self.token_file}
        (folder / "test.yaml").write_text(SITE.format(**given, submit_timeout=submit_timeout, settle=settle))

    def write_token(self, token: str, mode: int = 0o600) -> None:
        """As a person renews it: a new file takes the place of the old one."""
        self.token_file.parent.mkdir(exist_ok=True)
        new = self.token_file.with_suffix(".new")
        new.write_text(f"{token}\n")
        new.chmod(mode)
        new.replace(self.token_file)


def out_ds(number: int, what: str = "CALOR") -> str:
    """What the launch of that run is called on PanDA."""
    return f"{PREFIX}.rn{number:08d}-{what}"


def workflows_of(panda: PandaServer) -> Mapping[str, int]:
    """How many workflows the server was handed, by outDS."""
    counts: dict[str, int] = {}
    for request in panda.workflows():
        counts[request.out_ds] = counts.get(request.out_ds, 0) + 1
    return counts


def await_states(store: Store, wanted: Mapping[LaunchState, int], patience: float = 40) -> None:
    """Wait until the launches are in these states, so many in each."""
    what = ", ".join(f"{count} {state}" for state, count in wanted.items())
    until(lambda: _states(store) == dict(wanted), patience, f"launches: {what}; there are {_reasons(store)}")


def await_launch(store: Store, came_true: Callable[[Launch], bool], what: str, patience: float = 40) -> Launch:
    """Wait until the newest launch is as it should be."""
    deadline = time.monotonic() + patience
    while True:
        found = store.launches.list()
        if found and came_true(found[0]):
            return found[0]
        assert time.monotonic() < deadline, f"{what}: not within {patience:g} s; there are {_reasons(store)}"
        time.sleep(0.05)


def await_state(store: Store, state: LaunchState, patience: float = 40) -> Launch:
    return await_launch(store, lambda launch: launch.state is state, f"a launch that is {state}", patience)


def _states(store: Store) -> dict[LaunchState, int]:
    counts: dict[LaunchState, int] = {}
    for launch in store.launches.list(limit=1000):
        counts[launch.state] = counts.get(launch.state, 0) + 1
    return counts


def _reasons(store: Store) -> Sequence[str]:
    return [f"{launch.name}: {launch.state}, {launch.reason}" for launch in store.launches.list(limit=1000)]


def uploaded(panda: PandaServer) -> Sequence[bytes]:
    """Everything in the server's cache, as it was uploaded."""
    return [file.content for file in panda.state.cache.values()]
