"""Why jobs failed on PanDA, as both engines tell it of a stand-in server, and what is made of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.failure_groups import Failed, summed_up
from orchestrator.core.failures import Table
from orchestrator.launch.failure_table import read_table
from orchestrator.panda import failing
from orchestrator.panda.port import EngineRefused, EngineUnavailable
from schemas.failure import Complaint, FailedJob, FailureClass, Source
from schemas.launch import Launch as StoredLaunch
from schemas.launch import LaunchState
from tests.contract.panda_bench import Bench, Clock, Launch, close_all, engine_of, site_of, step
from tests.services.panda import PandaServer
from tests.unit.making import NOW

TOP, COMBINE = "user.shrek.tag_000_top", "user.shrek.tag_001_combine"
TWO = (step("top", "RAW"), step("combine", "top"))
MONITOR = {"task": "https://mon/task/{id}/", "job": "https://mon/job/{id}/"}


@pytest.fixture
def server() -> Iterator[PandaServer]:
    with PandaServer() as server:
        yield server
        close_all()


@pytest.fixture(params=["panda", "panda-stepwise"])
def bench(server: PandaServer, request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    clock = Clock()
    return Bench(server, engine_of(request.param, site_of(server, monitor=MONITOR), tmp_path, clock=clock), clock)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return read_table(tmp_path)


def job(at: str = "2026-11-22T01:00:00", **fields: Any) -> dict[str, Any]:
    """A failed job as the server knows it."""
    return {"jobStatus": "failed", "modificationTime": {"__datetime__": at}, **fields}


def stored(launch: Launch) -> StoredLaunch:
    return StoredLaunch(
        id=12, dispatch_id=7, key="k", name=launch.name, workflow="calo", parameters={}, inputs={}, outputs={},
        engine="e", reference=launch.reference, state=LaunchState.FAILED, reason=None, steps=launch.steps,
        created_at=NOW, updated_at=NOW,
    )  # fmt: skip


def told(bench: Bench, launch: Launch, step: str | None = None) -> tuple[FailedJob, ...]:
    return bench.engine.failures(launch.tracked(), step).jobs


def test_the_failed_jobs_of_a_workflow_are_told_with_all_they_complain_of(bench: Bench) -> None:
    """Newest first, with site, attempt, log and the memory that they had; jobs that succeeded are not among them."""
    launch = bench.submit("tag", *TWO)
    jobs = [
        job("2026-11-22T01:00:00", pilotErrorCode=1305, pilotErrorDiag="Failed to execute payload", transExitCode="83"),
        job("2026-11-22T02:00:00", pilotErrorCode=1099, computingSite="MIT", attemptNr=2, pilotID="http://logs/1|x|y"),
        {"jobStatus": "finished"},
    ]
    bench.server.advance(TOP, "finished", files=3, finished=1, failed=2, jobs=jobs, ramCount=1500)
    bench.look()

    newest, oldest = told(bench, launch)
    assert newest.complaints == (Complaint(Source.PILOT, 1099, "exit code 1099"),)
    assert (newest.site, newest.attempt, newest.log, newest.memory) == ("MIT", 2, "http://logs/1", 1500)
    assert oldest.complaints == (
        Complaint(Source.PILOT, 1305, "Failed to execute payload"),
        Complaint(Source.TRANSFORMATION, 83, "exit code 83"),
    )
    assert oldest.log == f"https://mon/job/{oldest.job}/"
    assert {each.task for each in (newest, oldest)} == {bench.server.task(TOP).id}
    assert newest.at is not None and oldest.at is not None and newest.at > oldest.at


def test_jobs_of_several_classes_are_summed_up_with_what_to_do(bench: Bench, table: Table) -> None:
    """Each class with its jobs, and the commands to type."""
    launch = bench.submit("tag", *TWO)
    jobs = [
        *[job(pilotErrorCode=1212, pilotErrorDiag="Payload ran out of memory")] * 3,
        *[job(pilotErrorCode=1305, pilotErrorDiag="Failed to execute payload", transExitCode="137")] * 2,
        job(pilotErrorCode=1305, transExitCode="1"),
        job(pilotErrorCode=1137, computingSite="MIT"),
        job(jobDispatcherErrorCode=100, jobDispatcherErrorDiag="lost heartbeat"),
        job(pilotErrorCode=1213),
        job(pilotErrorCode=1098),
        job(taskBufferErrorCode=100, taskBufferErrorDiag="killed by user", jobStatus="cancelled"),
        job(pilotErrorCode=1999, pilotErrorDiag="something new"),
    ]
    bench.server.advance(TOP, "failed", files=12, failed=12, jobs=jobs, ramCount=2000)
    bench.look()

    groups = summed_up([Failed(stored(launch), each) for each in told(bench, launch)], table)
    counts: dict[FailureClass, int] = {}
    for group in groups:
        counts[group.class_] = counts.get(group.class_, 0) + group.jobs
    assert counts == {
        FailureClass.MEMORY: 5,
        FailureClass.PAYLOAD: 1,
        FailureClass.STORAGE: 1,
        FailureClass.TRANSIENT: 1,
        FailureClass.TIME: 1,
        FailureClass.SITE: 1,
        FailureClass.OURS: 1,
        FailureClass.UNKNOWN: 1,
    }
    assert groups[0].command[:7] == ("launches", "retry", "12", "--step", "top", "--memory", "4000")


def test_a_task_without_failed_jobs_says_itself_what_went_wrong(bench: Bench) -> None:
    """Its words, without HTML, and its page."""
    launch = bench.submit("tag", *TWO)
    bench.server.advance(TOP, "broken", error="<b>no candidates</b> for the brokerage")
    bench.look()

    (failed,) = told(bench, launch, "top")
    assert failed.complaints == (Complaint(Source.STEP, None, "no candidates for the brokerage"),)
    task = bench.server.task(TOP).id
    assert (failed.task, failed.job, failed.log) == (task, None, f"https://mon/task/{task}/")


def test_what_goes_well_has_no_failures(bench: Bench) -> None:
    """Attempts that failed on the way to a task that is done in the end are not asked for."""
    launch = bench.submit("tag", *TWO)
    bench.server.advance(TOP, "running", files=3, finished=1)
    bench.look()
    assert told(bench, launch) == ()

    bench.server.advance(TOP, "done", files=3, finished=3, jobs=[job(pilotErrorCode=1212)])
    bench.look()
    asked = bench.server.calls["task/get_job_descriptions"]
    assert told(bench, launch, "top") == ()
    assert bench.server.calls["task/get_job_descriptions"] == asked


def test_one_step_can_be_asked_for(bench: Bench) -> None:
    """One that is not there is refused, with those that are."""
    launch = bench.submit("tag", *TWO)
    bench.server.advance(TOP, "finished", files=3, finished=2, failed=1, jobs=[job(pilotErrorCode=1)])
    bench.look()
    bench.look()
    bench.server.advance(COMBINE, "running", files=3, failed=1, jobs=[job(pilotErrorCode=2)])
    bench.look()

    assert [each.step for each in told(bench, launch)] == ["top", "combine"]
    assert [each.step for each in told(bench, launch, "combine")] == ["combine"]
    with pytest.raises(EngineRefused, match="top, combine"):
        told(bench, launch, "other")


def test_very_many_jobs_are_cut_and_that_is_said(bench: Bench) -> None:
    """The newest of them are told."""
    launch = bench.submit("tag", step("top", "RAW"))
    times = [f"2026-11-22T01:{number // 60:02}:{number % 60:02}" for number in range(failing.MOST + 5)]
    bench.server.advance(TOP, "failed", failed=len(times), jobs=[job(at, pilotErrorCode=1099) for at in times])
    bench.look()

    found = bench.engine.failures(launch.tracked())
    assert len(found.jobs) == failing.MOST
    assert f"{found.jobs[-1].at:%H:%M:%S}" == "01:00:05"
    assert [f"{failing.MOST:,}" in remark for remark in found.remarks] == [True]


def test_a_server_that_is_away_is_said(bench: Bench) -> None:
    launch = bench.submit("tag", *TWO)
    bench.look()
    bench.server.stop()

    with pytest.raises(EngineUnavailable):
        told(bench, launch)
