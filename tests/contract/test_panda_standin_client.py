"""The unmodified panda-client works against the stand-in: prun, pchain and the functions of its Client."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.services.panda import PandaServer, client, make_token

CWL = """
cwlVersion: v1.0
class: Workflow
requirements: {MultipleInputFeatureRequirement: {}}
inputs: {top_exec: {type: string}}
outputs: {outDS: {type: string, outputSource: combine/outDS}}
steps:
  combine:
    run: prun
    in:
      opt_inDS: top/outDS
      opt_secondaryDSs: {source: [top/outDS]}
      opt_exec: {default: "./combine.sh %IN %{DS1} %{SECDS1}"}
      opt_args: {default: "--outputs b.root --secondaryDSs S:1:%{SECDS1} --nFilesPerJob 5"}
    out: [outDS]
  top:
    run: prun
    in:
      opt_exec: top_exec
      opt_args: {default: "--outputs seed.txt --nJobs 3 --avoidVP"}
    out: [outDS]
"""
PRUN = ("--exec", "./run.sh", "--outDS", "user.shrek.t1", "--outputs", "o.root", "--vo", "sphenix", "--site", "BNL")
PCHAIN = ("--cwl", "w.cwl", "--yaml", "i.yaml", "--outDS", "user.shrek.wf", "--vo", "sphenix")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with what prun and pchain submit."""
    (tmp_path / "run.sh").write_text("echo\n")
    (tmp_path / "w.cwl").write_text(CWL)
    (tmp_path / "i.yaml").write_text("top_exec: 'echo %RNDM:10 > seed.txt'\n")
    return tmp_path


def pchain(panda: PandaServer, place: Path, *more: str) -> tuple[dict[str, Any], str]:
    """What pchain dumps and says."""
    dump = place / "dump.json"
    done = client.run(
        "PchainScript", *PCHAIN, "--dumpJson", str(dump), *more, cwd=place, environment=panda.environment()
    )
    assert done.returncode == 0, done.stderr
    dumped: dict[str, Any] = json.loads(dump.read_text())
    return dumped, done.stdout


def test_prun_submits_once_and_the_second_time_is_told_of_the_first(panda: PandaServer, place: Path) -> None:
    """The second prun of a name ends with 90 and names the task that there is; its sandbox is not sent again."""
    arguments = (*PRUN, "--noBuild", "--nJobs", "2", "--dumpJson")
    first = client.run("PrunScript", *arguments, "1.json", cwd=place, environment=panda.environment())
    again = client.run("PrunScript", *arguments, "2.json", cwd=place, environment=panda.environment())
    assert (first.returncode, again.returncode) == (0, 90)
    [task] = panda.tasks("user.shrek.t1")
    assert json.loads((place / "1.json").read_text())[0]["jediTaskID"] == task.id >= 10**7
    assert f"jediTaskID={task.id} is in the defined state for outDS=user.shrek.t1/" in again.stdout
    assert panda.calls["task/submit"] == 2


def test_pchain_submits_a_chain(panda: PandaServer, place: Path) -> None:
    """Two tasks named after their steps; the child has its parent's dataset as input and as secondary."""
    dumped, _ = pchain(panda, place)
    [request] = panda.workflows("user.shrek.wf")
    assert dumped["requestID"] == request.id
    top, combine = panda.task("user.shrek.wf_000_top"), panda.task("user.shrek.wf_001_combine")
    assert combine.parent == top.id
    inputs = [item["dataset"] for item in combine.params["jobParameters"] if item.get("param_type") == "input"]
    assert inputs == ["user.shrek.wf_000_top_seed.txt/"] * 2
    assert "user.shrek.wf_000_top_seed.txt/ user.shrek.wf_000_top_seed.txt/" in combine.params["cliParams"]
    assert (top.params["nEvents"], combine.params["nFilesPerJob"]) == (3, 5)


def test_pchain_twice_makes_two_workflows(panda: PandaServer, place: Path) -> None:
    """Nothing keeps a workflow from being submitted twice; the works of the second fail."""
    numbers = [pchain(panda, place)[0]["requestID"] for _ in range(2)]
    assert len(set(numbers)) == len(panda.workflows("user.shrek.wf")) == 2
    assert len(panda.tasks()) == 2
    assert "is in the defined state" in str(panda.workflows("user.shrek.wf")[1].works[0].error)


@pytest.mark.parametrize(
    ("find", "put", "reason"),
    [
        ("--nJobs 3", "--nJobs 3 --stage all", "prun: error: unrecognized arguments: --stage all"),
        ("--nJobs 3", "--forceStagedSecondary", "unrecognized arguments: --forceStagedSecondary"),
        ("opt_inDS: top/outDS", "opt_inDS: nosuch/outDS", "Verification failure in ID:1 opt_inDS is unresolved"),
        ("opt_exec: top_exec", "opt_exec: nosuch", "Verification failure in ID:0 opt_exec is unresolved"),
        ("%{SECDS1}", "%{SECDS2}", "%{SECDS2} is unresolved in opt_exec"),
        (
            "opt_exec: top_exec",
            "opt_exec: top_exec\n      opt_nosuch: {default: 1}",
            "unknown input parameter opt_nosuch for prun",
        ),
        ("run: prun", "run: prum", "Unknown workflow prum"),
        ("--nJobs 3", "--site X --pfnList nosuch.txt", "No such file or directory: 'nosuch.txt'"),
    ],
)
def test_a_bad_description_is_refused(panda: PandaServer, place: Path, find: str, put: str, reason: str) -> None:
    """Checked or submitted: the reason is in the log, no request comes to be, and pchain ends with 0 all the same."""
    (place / "w.cwl").write_text(CWL.replace(find, put))
    _, said = pchain(panda, place, "--check")
    assert "workflow description is corrupted" in said
    assert reason in said
    dumped, _ = pchain(panda, place)
    assert (dumped["requestID"], panda.workflows()) == (None, [])


def test_a_good_description_is_checked_without_a_trace(panda: PandaServer, place: Path) -> None:
    """A check starts nothing."""
    _, said = pchain(panda, place, "--check")
    assert "successfully verified workflow description" in said
    assert (panda.workflows(), panda.tasks()) == ([], [])


def test_the_functions_of_the_client(panda: PandaServer, place: Path) -> None:
    """Status, details, since-query, jobs, retry, kill and the relay of iDDS, as the client returns them."""
    pchain(panda, place)
    top = panda.advance("user.shrek.wf_000_top", "failed", files=3, finished=2, failed=1, error="out of memory")
    child = panda.task("user.shrek.wf_001_combine").id
    relay = {"kwargs": {"request_id": 1, "with_detail": True}, "manager": True, "json_outputs": True}
    answers = client.call(
        ("getTaskStatus", [top], {}),
        ("get_task_details_json", [top], {}),
        ("get_tasks_detailed_info_since", [None, {"taskName": r"^user\.shrek\.wf_"}], {}),
        ("get_tasks_detailed_info_since", ["2999-01-01 00:00:00"], {}),
        ("get_job_descriptions", [top], {"unsuccessful_only": True}),
        ("retryTask", [top], {"newParams": {"ramCount": 4000}}),
        ("retryTask", [child], {}),
        ("killTask", [child], {}),
        ("pauseTask", [top], {"verbose": False}),
        ("getTaskStatus", [12], {}),
        ("call_idds_command", ["get_requests"], relay | {"compress": True}),
        ("call_idds_command", ["get_requests"], relay),
        ("call_idds_command", ["abort"], relay | {"compress": True, "kwargs": {"request_id": 99}}),
        cwd=place,
        environment=panda.environment(),
    )
    status, details, since, later, jobs, retried, refused, killed, paused, unknown, idds, bare, aborted = answers
    assert status == [0, "failed"]
    assert details[1][1]["nFilesFailed"] == 1 and len(details[1][1]) == 93
    assert [row["taskName"] for row in since[1]] == ["user.shrek.wf_000_top", "user.shrek.wf_001_combine"]
    assert later == [0, []]
    assert [job["pilotErrorDiag"] for job in jobs[1]] == ["out of memory"]
    assert retried[1][0] == 3 and panda.task(top).params["ramCount"] == 4000
    assert refused[1][0] == 4 and "not accepted if the task is in defined status" in refused[1][1]
    assert killed == [0, [True, 0]] and panda.task(child).status == "aborted"
    assert paused == [0, [False, "production or pilot role required"]]
    assert unknown == [255, None]
    assert [row["transform_workload_id"] for row in idds[1][1]["data"]] == [top, child]
    assert bare[0] == 255 and "missing 1 required positional argument: 'command_name'" in bare[1]
    assert aborted[1][1][0][0] == -1


@pytest.mark.parametrize(
    ("token", "vo", "text"),
    [
        ({"expires": timedelta(minutes=-1)}, "sphenix", "Signature has expired"),
        ({"groups": ["cms"]}, "sphenix", "Not a member of the sphenix group"),
        ({}, "atlas", "Unknown vo : atlas"),
    ],
)
def test_who_is_refused_hears_why(panda: PandaServer, place: Path, token: dict[str, Any], vo: str, text: str) -> None:
    """An expired token, one of another group, and an unknown VO are a 403 whose text says it."""
    environment = panda.environment(make_token(**token), vo=vo)
    [answer] = client.call(("hello", [], {}), cwd=place, environment=environment)
    assert answer[0] == 255
    assert answer[1].startswith("Communication issue: ERROR : Token authentication failed. ")
    assert text in answer[1]


def test_others_tasks_need_the_production_role(panda: PandaServer, place: Path) -> None:
    """One without the role may not kill another's task; with it, one may, and pause and resume too."""
    pchain(panda, place)
    task = panda.task("user.shrek.wf_000_top").id
    other = make_token(name="Donkey", nickname="donkey")
    [refused] = client.call(("killTask", [task], {}), cwd=place, environment=panda.environment(other))
    assert refused == [0, [False, "not the task owner or no production role"]]
    answers = client.call(
        ("pauseTask", [task], {}),
        ("resumeTask", [task], {}),
        ("killTask", [task], {}),
        cwd=place,
        environment=panda.environment(other, production=True),
    )
    assert [answer[1][0] for answer in answers] == [True, True, True]
    assert [command["command"] for command in panda.task(task).commands] == ["pause", "resume", "kill"]
