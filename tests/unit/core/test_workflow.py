"""Checking a workflow, and the values given to it, before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.core.workflow import WorkflowError, check, ordered, values
from schemas.workflow import Workflow


def workflow(**changes: Any) -> Workflow:
    """Two steps, one parameter that must be given and one that need not."""
    document: dict[str, Any] = {
        "name": "calo",
        "parameters": {"run": {"pattern": r"\d{8}"}, "build": {"default": "ana381", "pattern": r"ana\d{3}"}},
        "inputs": {"raw": "{scope}:{name}"},
        "steps": [
            {"name": "combine", "command": ["./combine.py", "{run}"], "inputs": ["raw"], "outputs": ["{run}.prdf"]},
            {"name": "reco", "command": ["./reco.py", "{build}", "{launch}"], "inputs": ["combine"]},
        ],
        "outputs": [{"dataset": "{scope}:rn{run}-CALOR", "step": "reco"}],
    }
    return Workflow.model_validate(document | changes)


def step(name: str, *inputs: str) -> dict[str, Any]:
    return {"name": name, "command": [name], "inputs": inputs}


def test_a_workflow_that_fits_passes() -> None:
    """Parameters, scope, name and the launch's own name may stand in its templates."""
    check(workflow())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"inputs": {"raw": "{typo}:{name}"}},
            "there is no parameter 'typo'; there are: build, launch, name, run, scope",
        ),
        ({"outputs": [{"dataset": "{scope}:{", "step": "reco"}]}, "write {{ and }}"),
        ({"parameters": {"run": {"pattern": "(?=x)"}, "build": {"default": "x"}}}, "look-ahead"),
        (
            {"inputs": {}, "outputs": [], "steps": [step("a", "b"), step("b", "a")]},
            "wait for each other",
        ),
    ],
)
def test_a_workflow_that_cannot_run_says_why(changes: dict[str, Any], said: str) -> None:
    """The error names the workflow and what to mend."""
    with pytest.raises(WorkflowError) as refused:
        check(workflow(**changes))

    assert str(refused.value).startswith("workflow calo: ")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": []}, "at least 1 item"),
        ({"steps": [step("a"), step("a")], "outputs": []}, "steps and inputs share names"),
        ({"steps": [step("raw")], "outputs": []}, "steps and inputs share names"),
        ({"steps": [step("a", "nowhere")], "outputs": []}, "step 'a' reads 'nowhere', which is neither"),
        ({"outputs": [{"dataset": "s:n", "step": "nowhere"}]}, "the step 'nowhere', which does not exist"),
        ({"name": "../up"}, "String should match pattern"),
        ({"typo": 1}, "Extra inputs are not permitted"),
    ],
)
def test_a_workflow_of_the_wrong_shape_is_refused(changes: dict[str, Any], said: str) -> None:
    """What does not fit together is found when the document is read."""
    with pytest.raises(ValidationError, match=said):
        workflow(**changes)


def test_steps_come_after_those_they_read() -> None:
    """An engine gets the steps in an order in which nothing waits for what is still to come."""
    shuffled = workflow(outputs=[], steps=[step("c", "a", "b"), step("b", "a"), step("a", "raw"), step("d")])

    names = [each.name for each in ordered(shuffled)]

    assert sorted(names) == ["a", "b", "c", "d"]
    assert names.index("a") < names.index("b") < names.index("c")


def test_defaults_fill_in_what_was_not_given() -> None:
    """A given value counts over the default."""
    assert values(workflow(), {"run": "00021615"}) == {"run": "00021615", "build": "ana381"}
    assert values(workflow(), {"run": "00021615", "build": "ana999"})["build"] == "ana999"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "parameter 'run' has no default and was not given"),
        ({"run": "00021615", "typo": "1"}, "has no parameter typo; it has: run, build"),
        ({"run": "21615"}, r"parameter run is '21615', which does not match '\\d{8}'"),
        ({"run": "00021615x"}, "which does not match"),
        ({"run": "00021615", "build": "new"}, "parameter build is 'new'"),
    ],
)
def test_values_that_do_not_fit_are_refused(given: dict[str, str], said: str) -> None:
    """An unknown, a missing and a wrong parameter are each named."""
    with pytest.raises(WorkflowError) as refused:
        values(workflow(), given)

    assert said in str(refused.value)
