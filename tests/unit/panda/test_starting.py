"""Which steps may begin, for an engine that sends them one by one."""

from __future__ import annotations

import pytest

from orchestrator.panda.following import Chain, Link
from orchestrator.panda.starting import Beginning, beginnings
from schemas.launch import FileCounts, StepProgress, StepState
from schemas.workflow import Start

W, R, F, X, K = StepState.WAITING, StepState.RUNNING, StepState.FINISHED, StepState.FAILED, StepState.KILLED


def step(name: str, state: StepState = W, *, task: int | None = None, files: tuple[int, int] = (0, 0)) -> StepProgress:
    total, finished = files
    number = task if state is W else task or 7
    return StepProgress(name=name, state=state, task=number, files=FileCounts(total=total, finished=finished))


def chain(start: Start | float = Start.ALL, *, when_failed: bool = False) -> Chain:
    return (Link("top", ()), Link("next", ("top",), "top", when_failed, start))


def begun(links: Chain, *steps: StepProgress) -> list[tuple[str, int | None]]:
    return [(one.step, one.parent_task) for one in beginnings(links, steps)]


def test_what_waits_for_nothing_begins_at_once() -> None:
    assert beginnings(chain(), [step("top"), step("next")]) == (Beginning("top"),)


def test_what_has_a_task_has_begun() -> None:
    assert not begun(chain(), step("top", task=7), step("next"))


@pytest.mark.parametrize(("state", "begins"), [(R, False), (F, True), (X, False), (K, False)])
def test_all_waits_for_a_good_end(state: StepState, begins: bool) -> None:
    assert begun(chain(), step("top", state), step("next")) == ([("next", None)] if begins else [])


@pytest.mark.parametrize(
    ("state", "finished", "expected"),
    [
        (R, 4, []),
        (R, 5, [("next", 7)]),
        (F, 5, [("next", None)]),
        (F, 4, []),
        (X, 9, []),
    ],
)
def test_a_fraction_waits_for_so_many_files(
    state: StepState, finished: int, expected: list[tuple[str, int | None]]
) -> None:
    """While the step still works, its task is named, so that the rest of its files is taken in later."""
    assert begun(chain(0.5), step("top", state, files=(10, finished)), step("next")) == expected


def test_a_fraction_of_files_that_nobody_has_counted_yet_is_nothing() -> None:
    assert not begun(chain(0.5), step("top", R), step("next"))


def test_open_begins_with_the_parent_s_task() -> None:
    assert not begun(chain(Start.OPEN), step("top", K), step("next"))
    assert begun(chain(Start.OPEN), step("top", W, task=9), step("next")) == [("next", 9)]


def test_open_waits_for_its_secondary_inputs() -> None:
    """PanDA can wait for the output of one task only."""
    links = (Link("a", ()), Link("b", ()), Link("next", ("a", "b"), "a", False, Start.OPEN))

    assert not begun(links, step("a", R), step("b", R), step("next"))
    assert begun(links, step("a", R), step("b", F), step("next")) == [("next", 7)]


def test_a_parent_that_makes_a_secondary_input_is_not_named() -> None:
    links = (Link("top", ()), Link("next", ("top",), None, False, 0.5))

    assert begun(links, step("top", R, files=(10, 5)), step("next")) == [("next", None)]


@pytest.mark.parametrize(("state", "begins"), [(R, False), (F, False), (X, True), (K, False)])
def test_a_step_for_failures_waits_for_one(state: StepState, begins: bool) -> None:
    links = chain(when_failed=True)

    assert begun(links, step("top", state), step("next")) == ([("next", None)] if begins else [])


def test_a_step_for_failures_waits_for_what_else_it_reads() -> None:
    """Until that has ended, or can no more begin."""
    links = (Link("a", ()), Link("b", ()), Link("c", ("b",), "b"), Link("mend", ("a", "c"), "a", True))

    assert not begun(links, step("a", X), step("b", R), step("c"), step("mend"))
    assert begun(links, step("a", X), step("b", X), step("c"), step("mend")) == [("mend", None)]
