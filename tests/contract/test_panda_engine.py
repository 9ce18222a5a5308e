"""What both engines on PanDA promise, with the unmodified client against a stand-in server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import pytest

from orchestrator.panda.port import (
    EngineError,
    EngineInDoubt,
    EngineRefused,
    EngineUnavailable,
    Progress,
    SubmissionState,
    Tracked,
    UnknownSubmission,
)
from orchestrator.panda.reference import of_request, of_steps
from schemas.launch import Command, StepProgress, StepState
from schemas.workflow import Start
from tests.contract.panda_bench import PREFIX, Bench, Clock, close_all, engine_of, scripts, site_of, step, submission
from tests.services.panda import PandaServer, make_token

DAY = timedelta(days=1)


@pytest.fixture
def server() -> Iterator[PandaServer]:
    with PandaServer() as server:
        yield server
        close_all()


def bench_of(server: PandaServer, kind: str, directory: Path, **site: object) -> Bench:
    clock = Clock()
    return Bench(server, engine_of(kind, site_of(server, **site), directory, clock=clock), clock)


@pytest.fixture(params=["panda", "panda-stepwise"])
def bench(server: PandaServer, request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return bench_of(server, request.param, tmp_path)


@pytest.fixture
def chain(server: PandaServer, tmp_path: Path) -> Bench:
    return bench_of(server, "panda", tmp_path)


@pytest.fixture
def stepwise(server: PandaServer, tmp_path: Path) -> Bench:
    return bench_of(server, "panda-stepwise", tmp_path)


TWO = (step("top", "RAW"), step("combine", "top"))


def test_a_workflow_is_followed_to_its_end(bench: Bench) -> None:
    """Both engines make tasks of the same names, and tell how far each has come."""
    launch = bench.submit("tag", *TWO)
    bench.server.advance("user.shrek.tag_000_top", "running", files=10, finished=4)
    bench.look()

    assert launch.stands() is SubmissionState.RUNNING
    top = launch.step("top")
    assert (top.state, top.task_status) == (StepState.RUNNING, "running")
    assert top.files is not None and (top.files.total, top.files.finished) == (10, 4)
    bench.server.advance("user.shrek.tag_000_top", "done", files=10, finished=10)
    bench.look()
    bench.look()
    bench.server.advance("user.shrek.tag_001_combine", "done")
    bench.look()
    assert launch.stands() is SubmissionState.FINISHED
    assert launch.states() == {"top": "finished", "combine": "finished"}
    assert launch.reason is None
    assert [task.name.rstrip("/") for task in bench.server.tasks()] == [
        "user.shrek.tag_000_top",
        "user.shrek.tag_001_combine",
    ]


def test_a_single_step_is_one_task(bench: Bench) -> None:
    launch = bench.submit("tag", step("top", "RAW"))

    assert not bench.server.workflows()
    (task,) = bench.server.tasks()
    bench.server.advance(task.id, "done")
    bench.look()
    assert launch.stands() is SubmissionState.FINISHED
    assert launch.step("top").task == task.id
    assert launch.receipts[0].step == "top"


def test_nothing_new_is_not_told(bench: Bench) -> None:
    launch = bench.submit("tag", *TWO)
    bench.server.advance("user.shrek.tag_000_top", "running")
    assert bench.look(launch) is not None

    bench.look()
    assert bench.look(launch) is None


def test_an_end_is_told_until_it_is_heard(bench: Bench) -> None:
    """Whoever could not keep it hears it again."""
    launch = bench.submit("tag", step("top", "RAW"))
    bench.server.advance("user.shrek.tag_000_top", "done")
    bench.look()

    again = bench.look(launch)
    assert not isinstance(again, EngineError) and again is not None
    assert again.state is SubmissionState.FINISHED


def test_another_process_goes_on_following(bench: Bench, tmp_path: Path) -> None:
    launch = bench.submit("tag", *TWO)
    bench.server.advance("user.shrek.tag_000_top", "running", files=2, finished=1)
    bench.look()
    bench.server.advance("user.shrek.tag_000_top", "done", files=2, finished=2)
    bench.engine = engine_of(bench.engine.name, site_of(bench.server), tmp_path)
    bench.look()
    bench.look()

    assert launch.step("top").state is StepState.FINISHED
    bench.server.advance("user.shrek.tag_001_combine", "done")
    bench.look()
    assert launch.stands() is SubmissionState.FINISHED


def test_finished_in_part_is_partly_finished(bench: Bench) -> None:
    """PanDA's `finished` is not all of it."""
    launch = bench.submit("tag", step("top", "RAW"))
    bench.server.advance(
        "user.shrek.tag_000_top", "finished", files=10, finished=7, failed=3, error="<b>lost</b> heart"
    )
    bench.look()

    assert launch.stands() is SubmissionState.PARTLY_FINISHED
    assert launch.reason == "top: 7 of 10 files were processed; lost heart"


def test_done_without_any_output_has_failed(bench: Bench) -> None:
    launch = bench.submit("tag", step("top", "RAW"))
    bench.server.advance("user.shrek.tag_000_top", "finished", files=10, finished=0, failed=10)
    bench.look()

    assert launch.stands() is SubmissionState.FAILED
    assert "none of its 10 files was processed" in (launch.reason or "")


def test_what_reads_a_failed_step_is_not_run(bench: Bench) -> None:
    """And that ends the workflow, although the step never had a task."""
    three = (step("left", "RAW"), step("right", "RAW2"), step("both", "left", "right"))
    launch = bench.submit("tag", *three)
    bench.look()
    bench.look()
    bench.server.advance("user.shrek.tag_000_left", "done")
    bench.server.advance("user.shrek.tag_001_right", "failed", error="out of <br>memory")
    bench.clock.ahead += DAY
    bench.look()
    bench.look()

    assert launch.stands() is SubmissionState.FAILED
    assert launch.step("both").reason == "not run: it reads right, which did not finish"
    assert launch.step("right").reason == "out of memory"


def test_a_task_that_is_not_known_yet_is_no_failure(bench: Bench) -> None:
    """Until JEDI has taken a task in, PanDA says that it does not know it."""
    bench.server.configure(refine_after=None)
    launch = bench.submit("tag", step("top", "RAW"))
    bench.clock.ahead += timedelta(minutes=5)
    bench.look()
    bench.look()
    assert launch.stands() is SubmissionState.SUBMITTED

    bench.server.configure(refine_after=0.0)
    bench.server.advance("user.shrek.tag_000_top", "done")
    bench.look()
    assert launch.stands() is SubmissionState.FINISHED


def test_a_task_that_is_gone_for_good_is_unknown(server: PandaServer, chain: Bench) -> None:
    launch = chain.submit("tag", *TWO)
    server.state.tasks.clear()
    server.state.requests.clear()
    chain.look()
    assert launch.stands() is SubmissionState.SUBMITTED
    chain.clock.ahead += timedelta(minutes=16)

    assert isinstance(chain.look(launch), UnknownSubmission)


def test_find_knows_what_was_sent(bench: Bench) -> None:
    launch = bench.submit("tag", *TWO)
    other = submission("tag2", *TWO)

    assert bench.engine.find("tag", launch.package) == launch.reference
    assert bench.engine.find("tag2", bench.engine.pack(other, scripts(other))) is None


def test_find_knows_a_workflow_without_tasks(server: PandaServer, chain: Bench) -> None:
    """iDDS has it before JEDI has any of its tasks."""
    server.configure(hold_workflows=True)
    launch = chain.submit("tag", *TWO)

    assert not server.tasks()
    assert chain.engine.find("tag", launch.package) == of_request(1)


def test_find_knows_steps_that_were_sent_by_hand(server: PandaServer, chain: Bench, stepwise: Bench) -> None:
    by_hand = stepwise.submit("tag", *TWO)

    assert chain.engine.find("tag", by_hand.package) == of_steps(f"{PREFIX}.tag")


def test_an_absence_is_believed_after_the_site_s_time(bench: Bench) -> None:
    now = datetime.now(UTC)

    assert not bench.engine.settled(now - timedelta(seconds=1), now)
    assert bench.engine.settled(now - timedelta(seconds=2), now)


def test_datasets_are_named_beforehand(bench: Bench) -> None:
    """The same on both engines, and as PanDA makes them."""
    asked = submission("tag", *TWO)

    assert dict(bench.engine.datasets(asked)) == {
        "user.shrek:user.shrek.tag_000_top_0": "top",
        "user.shrek:user.shrek.tag_001_combine_0": "combine",
    }
    bench.submit("tag", *TWO)
    made = [
        item["dataset"]
        for item in bench.server.task("user.shrek.tag_000_top").params["jobParameters"]
        if item.get("param_type") == "output"
    ]
    assert made == ["user.shrek.tag_000_top_0/"]


def test_outputs_are_not_on_this_machine(bench: Bench) -> None:
    launch = bench.submit("tag", step("top", "RAW"))

    with pytest.raises(UnknownSubmission, match="not on this machine"):
        bench.engine.outputs(launch.reference, "top")
    assert bench.engine.registers_outputs


# --- commands


def test_kill_stops_all_of_it(bench: Bench) -> None:
    launch = bench.submit("tag", *TWO)
    bench.server.advance("user.shrek.tag_000_top", "running")
    bench.look()

    answer = bench.command(launch, Command.KILL)
    assert "command=kill is registered" in answer or "Command registered" in answer
    bench.look()
    bench.clock.ahead += DAY
    bench.look()
    assert launch.stands() is SubmissionState.KILLED
    assert set(launch.states().values()) == {"killed"}


def test_a_command_to_what_is_not_known_yet_is_asked_for_again(bench: Bench) -> None:
    """JEDI takes a moment to learn of a task; after a quarter of an hour it never will."""
    bench.server.configure(refine_after=None)
    launch = bench.submit("tag", step("top", "RAW"))

    with pytest.raises(EngineUnavailable, match="knows no task of tag yet"):
        bench.command(launch, Command.KILL)
    bench.clock.ahead += timedelta(minutes=16)
    with pytest.raises(UnknownSubmission, match="nothing to kill"):
        bench.command(launch, Command.KILL)


def test_kill_of_what_has_ended_does_nothing(bench: Bench) -> None:
    launch = bench.submit("tag", step("top", "RAW"))
    bench.server.advance("user.shrek.tag_000_top", "done")
    bench.look()

    assert "has ended already and is done" in bench.command(launch, Command.KILL)
    assert not bench.server.task("user.shrek.tag_000_top").commands


def test_retry_runs_again_what_failed_only(bench: Bench) -> None:
    """With new parameters; what has succeeded stays, and the end of before is forgotten."""
    launch = bench.submit("tag", step("left", "RAW"), step("right", "RAW2"))
    bench.look()
    bench.server.advance("user.shrek.tag_000_left", "done")
    bench.server.advance("user.shrek.tag_001_right", "failed", error="memory")
    bench.look()
    assert launch.stands() is SubmissionState.PARTLY_FINISHED

    answer = bench.command(launch, Command.RETRY, ramCount="4000")
    assert "left: task 30000001 is done: there is nothing to retry" in answer
    assert bench.server.task("user.shrek.tag_001_right").params["ramCount"] == 4000
    assert not bench.server.task("user.shrek.tag_000_left").commands
    bench.look()
    assert launch.stands() is SubmissionState.RUNNING
    assert launch.step("right").state is not StepState.FAILED
    bench.server.advance("user.shrek.tag_001_right", "done")
    bench.look()
    assert launch.stands() is SubmissionState.FINISHED


def test_one_step_alone_can_be_meant(bench: Bench) -> None:
    launch = bench.submit("tag", step("left", "RAW"), step("right", "RAW2"))
    bench.look()
    bench.look()

    bench.command(launch, Command.KILL, "right")
    assert [task.status == "aborted" for task in bench.server.tasks()] == [False, True]
    with pytest.raises(EngineRefused, match="no step 'middle'; it has left, right"):
        bench.command(launch, Command.KILL, "middle")


def test_pause_needs_the_production_role(bench: Bench) -> None:
    launch = bench.submit("tag", step("top", "RAW"))
    bench.server.advance("user.shrek.tag_000_top", "running")
    bench.look()

    with pytest.raises(EngineRefused, match="production_role in the site's profile"):
        bench.command(launch, Command.PAUSE)


@pytest.mark.parametrize("kind", ["panda", "panda-stepwise"])
def test_pause_and_resume(server: PandaServer, tmp_path: Path, kind: str) -> None:
    bench = bench_of(server, kind, tmp_path, production_role=True)
    launch = bench.submit("tag", step("top", "RAW"))
    server.advance("user.shrek.tag_000_top", "running")
    bench.look()
    bench.command(launch, Command.PAUSE)
    bench.look()
    assert launch.step("top").task_status == "paused"

    bench.command(launch, Command.RESUME)
    bench.look()
    assert launch.step("top").task_status == "running"
    assert "running, and not paused" in bench.command(launch, Command.RESUME)


def test_finish_lets_what_runs_end(bench: Bench) -> None:
    launch = bench.submit("tag", step("top", "RAW"))
    bench.server.advance("user.shrek.tag_000_top", "running", files=5, finished=2)
    bench.look()

    bench.command(launch, Command.FINISH)
    assert bench.server.task("user.shrek.tag_000_top").commands[0]["arguments"] == {"soft": True}
    bench.look()
    assert launch.stands() is SubmissionState.PARTLY_FINISHED


def test_reload_looks_at_the_input_again(bench: Bench) -> None:
    launch = bench.submit("tag", step("top", "RAW"))
    bench.server.advance("user.shrek.tag_000_top", "done")
    bench.look()

    assert "command=incexec is registered" in bench.command(launch, Command.RELOAD)


def test_a_command_whose_answer_is_lost_is_a_doubt(bench: Bench) -> None:
    launch = bench.submit("tag", step("top", "RAW"))
    bench.server.advance("user.shrek.tag_000_top", "failed")
    bench.look()
    bench.server.fault("task/retry", "lost")

    with pytest.raises(EngineInDoubt):
        bench.command(launch, Command.RETRY)


# --- step by step


def test_a_crash_of_one_step_does_not_end_the_others(stepwise: Bench) -> None:
    """And what it would have fed starts once somebody has retried it with success."""
    steps = (step("left", "RAW"), step("right", "RAW2"), step("l2", "left"), step("r2", "right"))
    launch = stepwise.submit("tag", *steps)
    stepwise.look()
    stepwise.server.advance("user.shrek.tag_000_left", "failed", error="crash")
    stepwise.server.advance("user.shrek.tag_001_right", "done")
    stepwise.look()
    assert launch.stands() is SubmissionState.RUNNING
    assert launch.states() == {"left": "failed", "right": "finished", "l2": "waiting", "r2": "waiting"}
    stepwise.server.advance("user.shrek.tag_003_r2", "done")
    stepwise.look()
    assert launch.stands() is SubmissionState.PARTLY_FINISHED
    assert launch.step("l2").reason == "not run: it reads left, which did not finish"

    stepwise.command(launch, Command.RETRY)
    stepwise.server.advance("user.shrek.tag_000_left", "done")
    stepwise.look()
    stepwise.server.advance("user.shrek.tag_002_l2", "done")
    stepwise.look()
    assert launch.stands() is SubmissionState.FINISHED
    assert [receipt.step for receipt in launch.receipts] == ["left", "right", "r2", "l2"]
    assert len(stepwise.server.tasks()) == 4


def test_a_fraction_of_the_input_can_be_enough(stepwise: Bench) -> None:
    """The task that still makes the rest is named, so that PanDA goes on taking in its files."""
    stepwise.submit("tag", step("top", "RAW"), step("combine", "top", start=0.5))
    stepwise.server.advance("user.shrek.tag_000_top", "running", files=10, finished=4)
    stepwise.look()
    assert len(stepwise.server.tasks()) == 1

    stepwise.server.advance("user.shrek.tag_000_top", "running", files=10, finished=5)
    stepwise.look()
    top, combine = stepwise.server.tasks()
    assert combine.parent == top.id
    assert combine.params["noWaitParent"] is True


def test_an_open_dataset_is_read_from_the_start(stepwise: Bench) -> None:
    stepwise.submit("tag", step("top", "RAW"), step("combine", "top", start=Start.OPEN))
    stepwise.look()

    top, combine = stepwise.server.tasks()
    assert combine.parent == top.id
    assert combine.params["noWaitParent"] is True


def test_a_step_for_failures_runs_when_its_parent_has_failed(stepwise: Bench) -> None:
    launch = stepwise.submit("tag", step("top", "RAW"), step("mend", "top", when="failed"))
    stepwise.server.advance("user.shrek.tag_000_top", "failed", error="crash")
    stepwise.look()

    stepwise.server.advance("user.shrek.tag_001_mend", "done")
    stepwise.look()
    assert launch.stands() is SubmissionState.FAILED
    assert launch.states() == {"top": "failed", "mend": "finished"}


def test_a_step_is_sent_once_by_two_processes(stepwise: Bench, tmp_path: Path) -> None:
    """What the other has sent is adopted, known to PanDA or only on its way."""
    launch = stepwise.submit("tag", *TWO)
    stepwise.server.advance("user.shrek.tag_000_top", "done")
    other = engine_of("panda-stepwise", site_of(stepwise.server), tmp_path)
    before = launch.tracked()
    stepwise.server.configure(refine_after=None)
    stepwise.look()
    other.look([before])
    stepwise.server.settle()
    third = engine_of("panda-stepwise", site_of(stepwise.server), tmp_path)
    third.look([before])

    assert [task.name for task in stepwise.server.tasks()] == ["user.shrek.tag_000_top/", "user.shrek.tag_001_combine/"]
    assert stepwise.server.handled["task/submit"] == 3


def test_what_ended_long_ago_is_adopted_and_not_run_again(stepwise: Bench, tmp_path: Path) -> None:
    """PanDA runs a task of the same name once more if that has ended, so each is looked up before it is sent."""
    launch = stepwise.submit("tag", *TWO)
    before = launch.tracked()
    stepwise.server.advance("user.shrek.tag_000_top", "done")
    stepwise.look()
    stepwise.server.advance("user.shrek.tag_001_combine", "done")
    for task in stepwise.server.tasks():
        task.modified = f"{datetime.now(UTC) - DAY:%Y-%m-%dT%H:%M:%S.%f}"
    stepwise.engine = engine_of("panda-stepwise", site_of(stepwise.server), tmp_path, clock=stepwise.clock)
    launch.steps = before.steps
    for _ in range(4):
        stepwise.clock.ahead += timedelta(minutes=1)
        stepwise.look()

    assert launch.stands() is SubmissionState.FINISHED
    assert stepwise.server.handled["task/submit"] == 2


@pytest.mark.parametrize("kind", ["500", "drop", "lost", "cut", "html"])
def test_a_step_that_could_not_be_sent_is_sent_later(stepwise: Bench, kind: str) -> None:
    launch = stepwise.submit("tag", *TWO)
    stepwise.server.advance("user.shrek.tag_000_top", "done")
    stepwise.server.fault("task/submit", kind)
    stepwise.look()
    assert launch.stands() is SubmissionState.RUNNING
    assert launch.step("combine").state is StepState.WAITING
    assert launch.receipts[-1].step == "combine"

    stepwise.clock.ahead += timedelta(minutes=1)
    stepwise.look()
    assert len(stepwise.server.tasks("user.shrek.tag_001_combine")) == 1
    assert launch.step("combine").task is not None


def test_a_killed_workflow_begins_no_step_any_more(stepwise: Bench, tmp_path: Path) -> None:
    """Not even for a process that came after."""
    launch = stepwise.submit("tag", *TWO)
    stepwise.look()
    stepwise.server.advance("user.shrek.tag_000_top", "done")
    stepwise.command(launch, Command.KILL)
    stepwise.engine = engine_of("panda-stepwise", site_of(stepwise.server), tmp_path)
    stepwise.look()

    assert launch.stands() is SubmissionState.KILLED
    assert launch.states() == {"top": "finished", "combine": "killed"}
    assert len(stepwise.server.tasks()) == 1
    stepwise.command(launch, Command.RETRY)
    stepwise.look()
    assert len(stepwise.server.tasks()) == 2


def test_a_kill_reaches_what_is_being_sent_at_that_moment(server: PandaServer, tmp_path: Path) -> None:
    """The step whose task PanDA has not told of yet is killed as well, and the next in the queue is not sent."""
    bench = bench_of(server, "panda-stepwise", tmp_path, parallel=1)
    launch = bench.submit("tag", step("top", "RAW"), step("left", "top"), step("right", "top"))
    bench.look()
    server.advance("user.shrek.tag_000_top", "done")
    server.fault("task/submit", "hang", seconds=2)
    looking = Thread(target=bench.look)
    looking.start()
    while server.calls["task/submit"] < 2:
        time.sleep(0.01)
    bench.command(launch, Command.KILL)
    looking.join()
    for _ in range(3):
        bench.clock.ahead += timedelta(minutes=1)
        bench.look()

    assert {task.name: task.status for task in server.tasks()} == {
        "user.shrek.tag_000_top/": "done",
        "user.shrek.tag_001_left/": "aborted",
    }
    assert launch.stands() is SubmissionState.KILLED


# --- many


def test_following_thousands_takes_few_questions(server: PandaServer, chain: Bench) -> None:
    """3,300 workflows of 10,000 tasks in which nothing changes."""
    steps = tuple(StepProgress(name=name, state=StepState.WAITING) for name in ("a", "b", "c"))
    begun = datetime.now(UTC)
    tracked = [Tracked(f"tag{number}", of_request(number), steps, begun, dict) for number in range(1, 3301)]
    for each in tracked:
        for number, name in enumerate(("a", "b", "c")):
            server.state.submit(
                {"taskName": f"{PREFIX}.{each.name}_{number:03d}_{name}", "jobParameters": []}, "Shrek Producer"
            )
    server.state.tick()
    for number in list(server.state.tasks):
        server.state.find(number).move("running")
        server.state.find(number).modified = f"{begun - timedelta(seconds=number % 3000):%Y-%m-%dT%H:%M:%S.%f}"
    api = chain.engine._api
    first = chain.engine.look(tracked)
    assert len(first) == 3300
    come = {name: progress for name, progress in first.items() if isinstance(progress, Progress)}
    known = [Tracked(each.name, each.reference, come[each.name].steps, begun, dict) for each in tracked]
    before, cpu = api.requests_made, time.thread_time()
    for _ in range(40):
        chain.clock.ahead += timedelta(seconds=30)
        assert not chain.engine.look(known)

    assert api.requests_made - before < 20 * 100
    assert time.thread_time() - cpu < 0.02 * 1200


def test_a_token_that_panda_does_not_accept_is_told(server: PandaServer, tmp_path: Path) -> None:
    """And nothing is handed over: sending again is safe, once there is a better one."""
    bench = Bench(server, engine_of("panda", site_of(server), tmp_path, make_token(groups=())), Clock())

    with pytest.raises(EngineUnavailable, match="token"):
        bench.submit("tag", *TWO)
    assert not server.workflows()
