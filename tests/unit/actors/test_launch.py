"""The actor `launch`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from actors.launch import Launch
from orchestrator.core.actor import Done, LaunchRequest, Order, Outcome
from schemas.dispatch import DispatchId
from tests.unit.making import message, tools


@dataclass
class Launching:
    """Takes every request, and knows one workflow."""

    requests: list[LaunchRequest] = field(default_factory=list)

    def launch(self, request: LaunchRequest) -> Outcome:
        self.requests.append(request)
        return Done("launched")

    def wrong(self, workflow: str, parameters: Mapping[str, str]) -> str | None:
        return None if workflow == "calo" else f"there is no workflow {workflow!r}"


def order(attempt: int) -> Order:
    options = {"workflow": "calo", "parameters": {"run": "00021615", "events": 5}}
    return Order(DispatchId(3), attempt, "raw", message(), {}, options)


def test_a_dispatch_asks_for_the_same_launch_however_often_it_is_tried(tmp_path: Path) -> None:
    """One key for each dispatch; numbers in a rule are as good as texts."""
    launching = Launching()
    given = replace(tools(tmp_path), launching=launching)

    outcomes = [Launch().act(order(attempt), given) for attempt in (1, 2)]

    assert outcomes == [Done("launched")] * 2
    values = {"run": "00021615", "events": "5"}
    asked = LaunchRequest("calo", values, message(), DispatchId(3), "calo/dispatch-3", "raw")
    assert launching.requests == [asked] * 2


def test_another_round_of_a_dispatch_asks_for_another_launch(tmp_path: Path) -> None:
    """As a person has asked for, after the launch before had ended."""
    launching = Launching()

    Launch().act(replace(order(2), round=1), replace(tools(tmp_path), launching=launching))

    assert [(each.key, each.round) for each in launching.requests] == [("calo/dispatch-3/round-1", 1)]


def test_a_workflow_is_checked_before_a_rule_goes_live(tmp_path: Path) -> None:
    """It has to be there; a message may not choose it."""
    given = replace(tools(tmp_path), launching=Launching())

    assert Launch().check({"workflow": "calo"}, given) is None
    assert "not choose the workflow" in (Launch().check({"workflow": "{name}"}, given) or "")
    assert Launch().check({"workflow": "none"}, given) == "launch: there is no workflow 'none'"
