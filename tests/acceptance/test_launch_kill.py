"""A workflow is running on the embedded engine when the power goes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from orchestrator.store.messages import Filter
from orchestrator.store.store import Store
from schemas.launch import LaunchState, StepState
from tests.acceptance.home import Home, apply_rules, until
from tests.acceptance.sender import closes, send
from tests.services.activemq import ActiveMQ

WORKFLOW = """
name: slow
steps:
  - name: first
    command: [./step.sh, first]
    outputs: [first.dat]
  - name: second
    command: [./step.sh, second]
    inputs: [first]
    outputs: [second.dat]
outputs:
  - dataset: "test:MADE-OF-{name}"
    step: second
"""

STEP = """#!/bin/sh
echo "$1" >> {place}/steps
sleep 1.5
echo "$1" > "$1.dat"
"""

RULES = """
rules:
  - name: make
    scope: test
    pattern: "DST-.*"
    actions:
      - launch: {workflow: slow}
        retry: {attempts: 5, delay: 0s}
"""


def _set_up(home: Home, store: Store) -> None:
    folder = home.place / "workflows" / "slow"
    folder.mkdir(parents=True)
    (folder / "workflow.yaml").write_text(WORKFLOW)
    (folder / "step.sh").write_text(STEP.format(place=home.place))
    (folder / "step.sh").chmod(0o755)
    apply_rules(store, RULES)


def _steps_begun(home: Home) -> list[str]:
    path = home.place / "steps"
    return path.read_text().split() if path.exists() else []


def _launch_directory(home: Home) -> Path:
    (place,) = (path for path in (home.place / "launches").iterdir() if path.is_dir())
    return place


def _assert_launched_once_and_well(store: Store) -> None:
    (launch,) = store.launches.list()
    assert launch.state is LaunchState.FINISHED
    assert [step.state for step in launch.steps] == [StepState.FINISHED] * 2
    made = store.messages.list(Filter(event="close", name="MADE-OF-*"))
    assert [(message.name, message.length, message.duplicates) for message in made] == [("MADE-OF-DST-00000001", 1, 0)]


def test_muleteer_is_killed_while_a_workflow_runs_and_follows_it_to_its_end_after_the_next_start(
    home: Home, store: Store, activemq: ActiveMQ, destination: str
) -> None:
    """The engine's runner goes on by itself: no step runs again, one launch, its outputs registered once."""
    _set_up(home, store)
    process = home.run(WORKER__LEASE="2s")
    send(activemq, destination, closes(1))
    until(lambda: _steps_begun(home) == ["first"], 15, "the first step")
    process.kill()
    until(lambda: _steps_begun(home) == ["first", "second"], 15, "the second step, without muleteer")

    home.run(WORKER__LEASE="2s")

    until(lambda: store.messages.count(Filter(event="close", name="MADE-OF-*")) == 1, 20, "the output's close")
    until(lambda: store.launches.list()[0].state is LaunchState.FINISHED, 20, "the launch's end")
    _assert_launched_once_and_well(store)
    assert _steps_begun(home) == ["first", "second"]


def test_muleteer_and_the_runner_are_killed_and_the_interrupted_step_runs_again(
    home: Home, store: Store, activemq: ActiveMQ, destination: str
) -> None:
    """As after a power cut: finished steps stay finished, the interrupted one begins anew in a clean directory."""
    _set_up(home, store)
    process = home.run(WORKER__LEASE="2s")
    send(activemq, destination, closes(1))
    until(lambda: _steps_begun(home) == ["first", "second"], 15, "the second step")
    process.kill()
    os.kill(int((_launch_directory(home) / "runner.lock").read_text()), signal.SIGKILL)

    home.run(WORKER__LEASE="2s")

    until(lambda: store.messages.count(Filter(event="close", name="MADE-OF-*")) == 1, 20, "the output's close")
    until(lambda: store.launches.list()[0].state is LaunchState.FINISHED, 20, "the launch's end")
    _assert_launched_once_and_well(store)
    assert _steps_begun(home) == ["first", "second", "second"]
