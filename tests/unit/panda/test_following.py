"""How far a workflow has come, by what PanDA says of its tasks."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.panda import following
from orchestrator.panda.client.rows import RequestRow, Task
from orchestrator.panda.following import Chain, Link
from orchestrator.panda.port import Submission, SubmissionState, SubmissionStep
from schemas.launch import StepProgress, StepState
from schemas.workflow import StepInput

THEN = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
LATER = THEN + timedelta(minutes=1)
TASK = Task(
    id=30000001,
    name="user.shrek.tag_000_top",
    status="running",
    super_status="running",
    parent=None,
    user="Shrek",
    n_files=10,
    n_files_finished=4,
    n_files_failed=1,
    percent=40.0,
    error=None,
    created_at=THEN,
    modified_at=THEN,
    started_at=THEN,
    ended_at=None,
    site=None,
    ram_count=2000,
    attempt=0,
)


def task(status: str, *, files: int = 10, finished: int = 0, failed: int = 0, error: str | None = None) -> Task:
    return replace(TASK, status=status, n_files=files, n_files_finished=finished, n_files_failed=failed, error=error)


def seen(row: Task) -> following.Seen:
    return following.seen_as(row, "top", None)


@pytest.mark.parametrize(
    ("row", "state", "reason"),
    [
        (task("registered", files=0), StepState.WAITING, None),
        (task("defined"), StepState.WAITING, None),
        (task("pending", error="no <b>site</b>"), StepState.WAITING, "no site"),
        (task("pending", finished=3), StepState.RUNNING, None),
        (task("ready", failed=1), StepState.RUNNING, None),
        (task("scouting"), StepState.RUNNING, None),
        (task("paused"), StepState.RUNNING, None),
        (task("exhausted", error="too slow"), StepState.RUNNING, "too slow"),
        (task("toabort"), StepState.RUNNING, None),
        (task("a word of next year"), StepState.RUNNING, None),
        (task("done", finished=10), StepState.FINISHED, None),
        (task("finished", finished=7, failed=3), StepState.FINISHED, "7 of 10 files were processed"),
        (task("failed", error="out of memory"), StepState.FAILED, "out of memory"),
        (task("broken"), StepState.FAILED, "PanDA says broken, and not why"),
        (task("aborted"), StepState.KILLED, "it was stopped"),
    ],
)
def test_a_task_s_word_in_ours(row: Task, state: StepState, reason: str | None) -> None:
    told = seen(row).step

    assert (told.state, told.reason, told.task_status) == (state, reason, row.status)


@pytest.mark.parametrize("status", ["done", "finished"])
def test_an_end_without_output_is_a_failure(status: str) -> None:
    told = seen(task(status, failed=10, error="all lost")).step

    assert told.state is StepState.FAILED
    assert told.reason == f"it ended as {status}, but none of its 10 files was processed: there is no output; all lost"


def test_files_task_and_page_are_told() -> None:
    told = following.seen_as(TASK, "top", "https://panda.example.org/task/{id}/").step

    assert told.files is not None
    assert (told.files.total, told.files.finished, told.files.failed) == (10, 4, 1)
    assert (told.task, told.log) == (30000001, "https://panda.example.org/task/30000001/")
    assert seen(task("running", files=0)).step.files is None


def test_only_what_has_ended_has_an_end() -> None:
    assert seen(TASK).step.ended_at is None
    assert seen(replace(task("failed"), ended_at=LATER)).step.ended_at == LATER
    assert seen(task("failed")).step.ended_at == THEN


@pytest.mark.parametrize(
    ("dialog", "words"),
    [
        ("<a href='https://x.y'>log</a> says:<br>\n no &lt;input&gt;", "log says: no <input>"),
        ("", None),
        (None, None),
        ("<br/>", None),
    ],
)
def test_errors_are_told_without_html(dialog: str | None, words: str | None) -> None:
    assert following.in_words(dialog) == words


def test_errors_without_end_are_cut() -> None:
    assert len(following.in_words("x" * 5000) or "") == 1003


# --- the order of answers


def test_an_older_answer_is_no_news() -> None:
    known = seen(replace(TASK, modified_at=LATER))

    assert not following.is_news(TASK, known)
    assert following.is_news(replace(TASK, modified_at=LATER), known)
    assert following.is_news(TASK, None)


def test_an_end_stays_unless_something_newer_says_that_it_runs_again() -> None:
    known = seen(replace(task("failed"), modified_at=LATER))

    assert not following.is_news(replace(TASK, modified_at=LATER), known)
    assert following.is_news(replace(TASK, modified_at=LATER + timedelta(seconds=1)), known)


def test_a_later_task_of_the_same_name_counts() -> None:
    known = seen(replace(TASK, modified_at=LATER))

    assert following.is_news(replace(TASK, id=TASK.id + 1), known)
    assert not following.is_news(replace(TASK, id=TASK.id - 1, modified_at=LATER + timedelta(days=1)), known)


@pytest.mark.parametrize(
    ("name", "owners"),
    [
        ("user.shrek.tag_000_top", [("user.shrek.tag", "top")]),
        ("user.shrek.tag_000_top/", [("user.shrek.tag", "top")]),
        ("u.s.rn_001_x_002_my_step", [("u.s.rn", "x_002_my_step"), ("u.s.rn_001_x", "my_step")]),
        ("user.shrek.other", []),
    ],
)
def test_a_task_s_name_tells_its_workflow_and_step(name: str, owners: list[tuple[str, str]]) -> None:
    assert list(following.owners(name)) == owners


# --- iDDS


def request(**more: Any) -> RequestRow:
    given: dict[str, Any] = {
        "request_id": 7,
        "name": "tag",
        "user": "Shrek",
        "status": "Transforming",
        "transform_id": 1,
        "transform_name": "user.shrek.tag_000_top",
        "transform_status": "Transforming",
        "workload_id": 30000001,
        "errors": None,
    }
    return RequestRow(**{**given, **more})


STEPS = {"user.shrek.tag_000_top": "top", "user.shrek.tag_001_combine": "combine"}


def test_a_request_tells_its_tasks_and_what_it_could_not_hand_in() -> None:
    rows = [
        request(status="SubFinished"),
        request(
            status="SubFinished",
            transform_name="user.shrek.tag_001_combine",
            transform_status="Failed",
            workload_id=None,
            errors="<b>duplicate</b>",
        ),
    ]
    verdict = following.verdict_of(rows, STEPS)

    assert verdict is not None
    assert verdict.is_over
    assert verdict.tasks == {"top": 30000001}
    assert verdict.refused == {"combine": "duplicate"}


def test_a_request_that_goes_on_is_not_over() -> None:
    verdict = following.verdict_of([request(transform_name=None, workload_id=None)], STEPS)

    assert verdict is not None
    assert not verdict.is_over
    assert not verdict.tasks
    assert following.verdict_of([], STEPS) is None


# --- the whole


def link(name: str, *parents: str, when_failed: bool = False) -> Link:
    return Link(name, parents, parents[0] if parents else None, when_failed)


def told(name: str, state: StepState, status: str | None = None, reason: str | None = None) -> StepProgress:
    number = None if state is StepState.WAITING else 1
    return StepProgress(name=name, state=state, task=number, task_status=status, reason=reason)


TWO: Chain = (link("top"), link("combine", "top"))
FORK: Chain = (link("top"), link("left", "top"), link("right", "top"))
W, R, F, X, K = StepState.WAITING, StepState.RUNNING, StepState.FINISHED, StepState.FAILED, StepState.KILLED


@pytest.mark.parametrize(
    ("chain", "states", "verdict"),
    [
        (TWO, [F, F], SubmissionState.FINISHED),
        (TWO, [F, X], SubmissionState.FAILED),
        (TWO, [X, W], SubmissionState.FAILED),
        (TWO, [X, K], SubmissionState.FAILED),
        (TWO, [F, K], SubmissionState.KILLED),
        (TWO, [K, W], SubmissionState.KILLED),
        (FORK, [F, F, X], SubmissionState.PARTLY_FINISHED),
        (FORK, [F, F, K], SubmissionState.PARTLY_FINISHED),
        (FORK, [F, X, X], SubmissionState.FAILED),
        ((link("top"), link("mend", "top", when_failed=True)), [F, W], SubmissionState.FINISHED),
        ((link("top"), link("mend", "top", when_failed=True)), [X, F], SubmissionState.FAILED),
    ],
)
def test_the_verdict_is_by_the_ordinary_steps(chain: Chain, states: list[StepState], verdict: SubmissionState) -> None:
    steps = [told(each.name, state) for each, state in zip(chain, states, strict=True)]

    assert following.concluded(chain, steps).state is verdict


def test_a_step_that_is_finished_in_part_makes_the_whole_partial() -> None:
    steps = [told("top", F, "finished"), told("combine", F, "done")]

    assert following.concluded(TWO, steps).state is SubmissionState.PARTLY_FINISHED


def test_a_kill_counts_as_one_whatever_had_ended() -> None:
    assert following.concluded(FORK, [told("top", F), told("left", F), told("right", W)], killed=True).state is (
        SubmissionState.KILLED
    )
    assert following.concluded(TWO, [told("top", F), told("combine", F)], killed=True).state is SubmissionState.FINISHED


def test_asked_to_finish_what_was_done_counts() -> None:
    assert following.concluded(TWO, [told("top", F), told("combine", W)], finishing=True).state is (
        SubmissionState.PARTLY_FINISHED
    )


def test_what_was_not_run_says_why() -> None:
    chain = (link("top"), link("combine", "top"), link("end", "combine"))
    progress = following.concluded(chain, [told("top", X, reason="crash"), told("combine", W), told("end", W)])

    assert [step.reason for step in progress.steps] == [
        "crash",
        "not run: it reads top, which did not finish",
        "not run: it reads combine, which did not finish",
    ]
    assert progress.reason == "top: crash"


@pytest.mark.parametrize(
    ("states", "whole"),
    [([W, W], SubmissionState.SUBMITTED), ([R, W], SubmissionState.RUNNING), ([F, W], SubmissionState.RUNNING)],
)
def test_a_workflow_runs_once_a_step_has_begun(states: list[StepState], whole: SubmissionState) -> None:
    steps = [told(name, state) for name, state in zip(("top", "combine"), states, strict=True)]

    assert following.going_on(steps).state is whole


def test_a_chain_holds_steps_only() -> None:
    reads = StepInput.model_validate
    steps = (
        SubmissionStep("top", ("x",), (reads({"from": "RAW"}),)),
        SubmissionStep("both", ("x",), (reads({"from": "RAW"}), reads({"from": "top"}))),
    )

    assert following.chain_of(Submission("tag", "calo", {}, {}, steps)) == (Link("top", ()), Link("both", ("top",)))
