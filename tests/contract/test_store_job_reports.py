"""What the store promises of what jobs tell: the last of each, bounded, and no launch is changed by it."""

from __future__ import annotations

import pytest

from orchestrator.store.port import NotAllowed, NotFound
from orchestrator.store.store import Store
from schemas.job import JobReport, JobState, StepHeard
from schemas.launch import LaunchState
from tests.contract.test_store_launches import made
from tests.unit.making import NOW, later


def said(what: str = "running", launch: str = "a", step: str = "reco", job: str = "1", **more: object) -> JobReport:
    return JobReport.model_validate({"launch": launch, "step": step, "job": job, "what": what, **more})


def test_the_last_of_each_job_is_kept(store: Store) -> None:
    """A heart-beat without counts leaves the counts as they were; the first moment stays."""
    launch = made(store, "a")
    store.job_reports.note(said("started", index=3, host="node1"), now=NOW)
    store.job_reports.note(said("running", done=4, of=10), now=later(5))
    store.job_reports.note(said("running"), now=later(9))

    (job,) = store.job_reports.of(launch.id)

    assert (job.what, job.done, job.of, job.index, job.host) == (JobState.RUNNING, 4, 10, 3, "node1")
    assert (job.since, job.at) == (NOW, later(9))


def test_who_has_finished_stays_so_unless_he_starts_again(store: Store) -> None:
    """Reports may overtake each other; a try of the same number begins with clean counts."""
    launch = made(store, "a")
    store.job_reports.note(said("finished", code=3, done=10, of=10), now=NOW)
    store.job_reports.note(said("running", done=9), now=later(1))
    (overtaken,) = store.job_reports.of(launch.id)
    store.job_reports.note(said("started"), now=later(2))
    (again,) = store.job_reports.of(launch.id)

    assert (overtaken.what, overtaken.code) == (JobState.FINISHED, 3)
    assert (again.what, again.code, again.done, again.since) == (JobState.STARTED, None, None, later(2))


def test_the_jobs_of_a_step_are_summed_up(store: Store) -> None:
    """How many report, run, ended badly; what they counted together; when any was heard last."""
    launch = made(store, "a")
    other = made(store, "b")
    store.job_reports.note(said("running", job="1", done=4, of=10), now=NOW)
    store.job_reports.note(said("finished", job="2", done=10, of=10, code=0), now=later(3))
    store.job_reports.note(said("finished", job="3", code=1), now=later(2))
    store.job_reports.note(said("started", job="1", step="combine"), now=NOW)

    assert store.job_reports.by_step(launch.id) == [
        StepHeard(step="combine", jobs=1, running=1, failed=0, done=0, of=0, at=NOW),
        StepHeard(step="reco", jobs=3, running=1, failed=1, done=14, of=20, at=later(3)),
    ]
    assert store.job_reports.by_step(other.id) == []


def test_jobs_are_listed_the_most_silent_first(store: Store) -> None:
    """All of them, those of a step, or those that said the same last."""
    launch = made(store, "a")
    for number, seconds in (("1", 5), ("2", 1), ("3", 3)):
        store.job_reports.note(said("started", job=number), now=later(seconds))
    store.job_reports.note(said("finished", job="9", step="combine", code=0), now=later(9))

    assert [job.job for job in store.job_reports.of(launch.id)] == ["2", "3", "1", "9"]
    assert [job.job for job in store.job_reports.of(launch.id, step="reco", limit=2)] == ["2", "3"]
    assert [job.job for job in store.job_reports.of(launch.id, what=JobState.FINISHED)] == ["9"]


def test_a_launch_is_not_changed_by_what_its_jobs_say(store: Store) -> None:
    """Neither its state nor its journal: no person has acted."""
    launch = made(store, "a", LaunchState.SUBMITTED)
    before = store.journal.of("launch", launch.id)
    store.job_reports.note(said("finished", code=1), now=later(60))

    assert store.launches.get(launch.id) == launch
    assert store.journal.of("launch", launch.id) == before


def test_no_more_jobs_are_kept_than_allowed(store: Store) -> None:
    """Those that are known may go on."""
    launch = made(store, "a")
    store.job_reports.note(said(job="1"), now=NOW, most=2)
    store.job_reports.note(said(job="2"), now=NOW, most=2)
    with pytest.raises(NotAllowed, match="2 jobs of a have reported"):
        store.job_reports.note(said(job="3"), now=NOW, most=2)
    store.job_reports.note(said("finished", job="2", code=0), now=later(1), most=2)

    assert [(job.job, job.what) for job in store.job_reports.of(launch.id)] == [("1", "running"), ("2", "finished")]


@pytest.mark.parametrize("report", [said(launch="b"), said(step="gone")])
def test_what_is_about_nothing_is_not_kept(store: Store, report: JobReport) -> None:
    """No launch of that name, or no such step."""
    launch = made(store, "a")

    with pytest.raises(NotFound, match=r"there is no launch 'b'|has no step 'gone'"):
        store.job_reports.note(report, now=NOW)
    assert store.job_reports.of(launch.id) == []
