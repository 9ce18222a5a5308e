"""Tasks and workflows of the stand-in move as other tests count on: gates, commands, clock, queries."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.services.panda import PandaServer, direct

OUT = "user.shrek.wf"
STEP = "{{run: prun, in: {{opt_exec: {{default: run}}, opt_args: {{default: '--outputs o.txt'}}{more}}}, out: [outDS]}}"


def cwl(**parents: list[str]) -> str:
    """A workflow of these steps, each with its parents."""
    lines = ["cwlVersion: v1.0", "class: Workflow", "inputs: []", "outputs: {}", "steps:"]
    for name, above in parents.items():
        more = f", opt_inDS: {{source: [{', '.join(f'{parent}/outDS' for parent in above)}]}}" if above else ""
        lines.append(f"  {name}: {STEP.format(more=more)}")
    return "\n".join(lines)


def upload(panda: PandaServer, description: str) -> None:
    """Put a sandbox with this description into the cache."""
    direct.upload(panda.url, direct.sandbox({"w.cwl": description, "i.yaml": "{}"}))


def launch(panda: PandaServer, out_ds: str = OUT, timeout: float = 20) -> bytes:
    """Submit it; returns the answer as it came."""
    return direct.launch(panda.url, out_ds, timeout=timeout)


@pytest.mark.parametrize(
    ("method", "path", "body", "message"),
    [
        ("GET", "task/kill", None, "expecting POST, received GET"),
        ("POST", "task/get_status", {"task_id": 1}, "expecting GET, received POST"),
        ("POST", "task/kill", {}, "Argument error: missing a required argument: 'task_id'"),
        ("POST", "task/kill", {"task_id": 1, "x": 2}, "Argument error: got an unexpected keyword argument 'x'"),
        ("POST", "task/kill", {"task_id": "1"}, "Type error: 'task_id' must be of type int, got str."),
        (
            "GET",
            "task/get_job_ids?task_id=x",
            None,
            "Type error: 'task_id' with value 'x' could not be casted to type int",
        ),
        ("GET", "task/get_tasks_detailed_info_since?filters=x", None, "filters is not valid JSON"),
        ("GET", "task/get_tasks_detailed_info_since?since=today", None, "Failed to retrieve task IDs"),
    ],
)
def test_a_wrong_call_is_told_what_is_wrong(
    panda: PandaServer, method: str, path: str, body: Any, message: str
) -> None:
    """The envelope says it, with status 200."""
    status, said = direct.send(panda.url, method, f"/api/v1/{path}", b"" if body is None else json.dumps(body).encode())
    answer = json.loads(said)
    assert (status, answer["success"]) == ("200 OK", False)
    assert answer["message"].startswith(message)


def test_tasks_are_asked_for_in_bulk(panda: PandaServer) -> None:
    """By time of change, by equality before the limit and by pattern after it, and only one's own."""
    base = {"vo": "sphenix", "prodSourceLabel": "user"}
    for number in range(4):
        direct.ask(panda.url, "POST", "task/submit", {"task_parameters": base | {"taskName": f"user.shrek.t{number}"}})
    direct.ask(
        panda.url, "POST", "task/submit", {"task_parameters": base | {"taskName": "user.donkey.t"}}, name="Donkey"
    )

    def names(since: str = "", n_tasks: int = 500, **filters: str) -> list[str]:
        query = {"n_tasks": n_tasks, "filters": json.dumps(filters)} | ({"since": since} if since else {})
        answer = direct.ask(panda.url, "GET", f"task/get_tasks_detailed_info_since?{urlencode(query)}")
        return [row["taskName"].rpartition(".")[2] for row in answer["data"]]

    assert names() == ["t0", "t1", "t2", "t3"]
    assert names(n_tasks=2) == ["t0", "t1"]
    assert names(n_tasks=2, taskName="user.shrek.t3") == ["t3"]
    assert names(n_tasks=2, taskName="t3$") == []
    panda.advance("user.shrek.t2", "running", workingGroup="calor")
    assert names(status="running") == names(superStatus="running") == names(workingGroup="calor") == ["t2"]
    assert names(since=panda.task("user.shrek.t2").modified[:10] + " 00:00:00", taskName="t[12]$") == ["t1", "t2"]
    assert names(since="2999-01-01 00:00:00") == []
    panda.task("user.shrek.t3").modified = "2026-01-01T00:00:00.000000"
    assert names(since="2026-01-01 00:00:01") == ["t0", "t1", "t2"]


def test_a_step_with_one_parent_starts_after_it_and_one_with_two_when_both_are_processed(panda: PandaServer) -> None:
    """Gates open one after the other, in topological order whatever the order of the file."""
    upload(panda, cwl(end=["left", "right"], left=["top"], right=["top"], top=[]))
    panda.configure(refine_after=None)
    launch(panda)
    assert [task.name for task in panda.tasks()] == [f"{OUT}_000_top"]
    panda.settle()
    assert [task.name for task in panda.tasks()][1:] == [f"{OUT}_001_left", f"{OUT}_002_right"]
    panda.settle()
    panda.advance(f"{OUT}_001_left", "done")
    assert panda.tasks(f"{OUT}_003_end") == []
    panda.advance(f"{OUT}_002_right", "finished")
    assert len(panda.tasks(f"{OUT}_003_end")) == 1


def test_a_step_never_starts_behind_a_dead_one(panda: PandaServer) -> None:
    """One of two parents failed: the step does not become a task, and iDDS says the workflow is over in part."""
    upload(panda, cwl(left=[], right=[], end=["left", "right"]))
    launch(panda)
    panda.advance(f"{OUT}_000_left", "done")
    panda.advance(f"{OUT}_001_right", "failed")
    assert panda.tasks(f"{OUT}_002_end") == []
    assert status_of_request(panda) == "SubFinished"


def status_of_request(panda: PandaServer, number: int = 1) -> str:
    """What iDDS calls the state of a request."""
    good, answer = direct.relay(panda.url, "get_requests", request_id=number)
    assert good is True
    name: str = answer["data"][0]["status"]["attributes"]["_name_"]
    return name


def test_an_aborted_workflow_loses_its_tasks_and_the_rest(panda: PandaServer) -> None:
    """Its tasks are killed, the others never come, and iDDS calls it cancelled."""
    upload(panda, cwl(left=[], right=[], end=["left", "right"]))
    launch(panda)
    assert direct.relay(panda.url, "abort", request_id=1)[1][0][0] == 0
    assert [task.status for task in panda.tasks()] == ["aborted", "aborted"]
    assert status_of_request(panda) == "Cancelled"


def test_tasks_move_by_themselves_when_they_are_let(panda: PandaServer) -> None:
    """A chain runs to its end, the child never ahead of its parent, and the request is finished."""
    upload(panda, cwl(top=[], end=["top"]))
    panda.live(0.05)
    launch(panda)
    order = ["registered", "defined", "ready", "running", "done"]
    deadline = time.monotonic() + 10
    while (states := [task.status for task in panda.tasks()]) != ["done", "done"] and time.monotonic() < deadline:
        places = [order.index(state) if state else -1 for state in states]
        assert places == sorted(places, reverse=True)
        time.sleep(0.01)
    assert states == ["done", "done"]
    assert status_of_request(panda) == "Finished"


def test_a_request_may_have_no_tasks_yet(panda: PandaServer) -> None:
    """While iDDS is held its requests are new; let go, it submits what waits."""
    upload(panda, cwl(top=[], end=["top"]))
    panda.configure(hold_workflows=True)
    launch(panda)
    assert (status_of_request(panda), panda.tasks()) == ("New", [])
    panda.configure(hold_workflows=False)
    assert (status_of_request(panda), len(panda.tasks())) == ("Transforming", 2)


def test_a_task_is_unknown_until_it_is_refined(panda: PandaServer) -> None:
    """Nobody knows its status, it cannot be killed, and its name is taken all the same."""
    panda.configure(refine_after=None)
    params = {"taskName": "user.shrek.t/", "vo": "sphenix", "prodSourceLabel": "user", "uniqueTaskName": True}

    def submit() -> Any:
        return direct.ask(panda.url, "POST", "task/submit", {"task_parameters": params})

    def status() -> Any:
        return direct.ask(panda.url, "GET", f"task/get_status?task_id={number}")

    number = submit()["data"]
    assert status() == {"success": False, "message": "Task not found", "data": None}
    killed = direct.ask(panda.url, "POST", "task/kill", {"task_id": number})
    assert killed["message"] == "not the task owner or no production role"
    assert (submit()["data"], submit()["message"][:40]) == (1, f"jediTaskID={number} is already queued for out"[:40])
    panda.refine("user.shrek.t/")
    assert (status()["data"], submit()["data"]) == ("defined", 2)
    panda.advance(number, "finished")
    assert submit()["message"].startswith(f"reactivation accepted. jediTaskID={number} (currently in finished state)")
    assert (status()["data"], len(panda.tasks())) == ("ready", 1)


def test_commands_wait_until_they_are_settled(panda: PandaServer) -> None:
    """A kill that is registered shows only once JEDI has carried it out."""
    upload(panda, cwl(top=[]))
    panda.configure(command_seconds=None)
    launch(panda)
    task = panda.task(f"{OUT}_000_top")
    answer = direct.ask(panda.url, "POST", "task/kill", {"task_id": task.id})
    assert (answer["data"], panda.task(task.id).status) == (0, "defined")
    panda.settle()
    assert panda.task(task.id).status == "aborted"


def test_a_list_of_files_is_counted(panda: PandaServer) -> None:
    """`--pfnList` names a file of the sandbox; the task has as many inputs as it has lines."""
    description = cwl(top=[]).replace("--outputs o.txt", "--outputs o.txt --pfnList in/files.txt --site X")
    files = {"w.cwl": description, "in/files.txt": "root://a\nroot://b\n\nroot://c\n", "i.yaml": "{}"}
    direct.upload(panda.url, direct.sandbox(files))
    launch(panda)
    panda.advance(f"{OUT}_000_top", "done")
    task = panda.task(f"{OUT}_000_top")
    assert task.params["pfnList"] == ["root://a", "root://b", "root://c"]
    assert (task.files, task.finished) == (3, 3)


def test_sub_workflows_scatter_and_conditions(panda: PandaServer) -> None:
    """A sub-workflow runs once for each item; steps with `when` wait for success or for failure."""
    inner = """
class: Workflow
inputs: {data: {type: string}, word: {type: string}}
outputs: {outDS: {type: string, outputSource: fit/outDS}}
steps:
  fit:
    run: prun
    in: {opt_inDS: data, opt_exec: {default: "fit %{word}"}, opt_args: {default: "--outputs f.root"}}
    out: [outDS]
"""
    outer = """
class: Workflow
inputs: {words: {type: "string[]"}}
outputs: {}
steps:
  top: {run: prun, in: {opt_exec: {default: run}, opt_args: {default: "--outputs o.txt"}}, out: [outDS]}
  many: {run: sub/fit.cwl, scatter: [word], in: {data: top/outDS, word: words}, out: [outDS]}
  good: {run: prun, when: $(self.opt_inDS), in: {opt_inDS: top/outDS, opt_exec: {default: g}, opt_args: {default: ""}}}
  bad: {run: prun, when: $(!self.opt_inDS), in: {opt_inDS: top/outDS, opt_exec: {default: b}, opt_args: {default: ""}}}
"""
    files = {"w.cwl": outer, "sub/fit.cwl": inner, "i.yaml": "words: [one, two]"}
    direct.upload(panda.url, direct.sandbox(files))
    assert json.loads(launch(panda))[1]["status"] is True
    fits = [task for task in panda.tasks() if task.name.endswith("_fit")]
    assert [task.params["cliParams"].partition("--exec ")[2].partition(" --outDS")[0] for task in fits] == [
        "'fit one'",
        "'fit two'",
    ]
    assert {task.params["dsForIN"] for task in fits} == {f"{OUT}_000_top_o.txt/"}
    assert len(panda.tasks()) == 3
    panda.advance(f"{OUT}_000_top", "failed")
    assert [task.name for task in panda.tasks()][3:] == [f"{OUT}_006_bad"]
    assert "--inDS" not in panda.tasks()[3].params["cliParams"]
