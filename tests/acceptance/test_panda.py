"""The installed command launches on PanDA: the unmodified panda-client, and a stand-in for the server."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from orchestrator.store.store import Store
from schemas.launch import CommandState, Launch, LaunchState, StepState
from tests.acceptance.home import Home, apply_rules, until
from tests.acceptance.panda_home import (
    EXPIRED,
    RULES,
    SINGLE,
    PandaHome,
    await_launch,
    await_state,
    await_states,
    out_ds,
    uploaded,
)
from tests.acceptance.sender import closes, send
from tests.services.activemq import ActiveMQ
from tests.services.panda import PandaServer, make_token

pytestmark = pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)

SINGLE_RULES = RULES.replace("calo", "single")

#: An action of another rule, which nothing of PanDA may keep from being done.
OTHERS = """
  - name: others
    scope: test
    actions: [{run: {command: ["true"]}}]
"""

OPEN = """
name: calo
launch_name: "rn{run:08d}-CALOR"
parameters:
  run: {type: integer}
inputs:
  raw: "{scope}:{name}"
steps:
  - {name: combine, command: [./step.sh], inputs: [raw], outputs: ["made-*.root"]}
  - {name: early, command: [./step.sh], inputs: [combine], outputs: ["early-*.root"], start: open}
  - {name: half, command: [./step.sh], inputs: [combine], outputs: ["half-*.root"], start: 0.5}
  - {name: last, command: [./step.sh], inputs: [half], outputs: ["last-*.root"]}
"""


@pytest.fixture
def panda() -> Iterator[PandaServer]:
    with PandaServer() as server:
        yield server


@pytest.fixture
def at_panda(home: Home, panda: PandaServer) -> PandaHome:
    return PandaHome(home, panda)


@pytest.fixture
def arrive(activemq: ActiveMQ, destination: str) -> Callable[..., None]:
    """Have a dataset closed, by the number of its run."""
    return lambda number=1, count=1: send(activemq, destination, closes(count, number))


def steps_of(launch: Launch) -> Mapping[str, StepState]:
    return {step.name: step.state for step in launch.steps}


def files_below(directory: Path) -> Mapping[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_close_becomes_a_workflow_on_panda_which_is_followed_to_its_end(
    at_panda: PandaHome, store: Store, arrive: Callable[..., None], tmp_path: Path
) -> None:
    """Rule, pchain, request, tasks, end; and everything that was sent can be had again, byte for byte."""
    home, panda, name = at_panda.home, at_panda.panda, out_ds(1)
    apply_rules(store, RULES)
    process = home.run()

    arrive()
    launch = await_state(store, LaunchState.SUBMITTED)
    panda.advance(f"{name}_000_combine", "running", files=10, finished=4)
    await_launch(store, lambda found: bool(found.steps[0].files and found.steps[0].files.finished == 4), "four files")
    listed, runs = home.read("launches", "list"), home.read("launches", "runs")
    panda.advance(f"{name}_000_combine", "done", files=10, finished=10)
    panda.advance(f"{name}_001_reco", "done", files=10, finished=10)
    ended = await_state(store, LaunchState.FINISHED)

    assert [request.id for request in panda.workflows(name)] == [int((launch.reference or "").split(":")[1])]
    assert [(each["state"], each["percent"]) for each in listed] == [("running", 20)]
    assert [(each["run"], each["launches"], each["files"]["finished"]) for each in runs] == [(1, {"running": 1}, 4)]
    assert steps_of(ended) == {"combine": StepState.FINISHED, "reco": StepState.FINISHED}
    shown = home.do("launches", "show", str(launch.id))
    for step, task in (("combine", f"{name}_000_combine"), ("reco", f"{name}_001_reco")):
        assert f"https://panda.example.org/task/{panda.task(task).id}/" in shown, (step, shown)
    assert process.stop() == 0
    assert_sent_is_kept(at_panda, launch, tmp_path / "again")


def assert_sent_is_kept(at_panda: PandaHome, launch: Launch, place: Path) -> None:
    """What `launches files --to` writes is what the server got, for every file that both have."""
    at_panda.home.do("launches", "files", str(launch.id), "--to", str(place))
    written = files_below(place)
    both = 0
    for content in uploaded(at_panda.panda):
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for member in archive:
                path = member.name.removeprefix("./")
                stream = archive.extractfile(member)
                if stream is not None and path in written:
                    assert stream.read() == written[path], path
                    both += 1
    assert {"workflow.cwl", "step.sh"} <= set(written)
    assert both >= 2 * len(["step.sh", "workflow.cwl"]), "the server got the scripts and the workflow"


@pytest.mark.slow
def test_a_workflow_of_one_step_is_one_task(at_panda: PandaHome, store: Store, arrive: Callable[..., None]) -> None:
    """prun sends it; iDDS is not asked for anything. What the installed command says of failures is what PanDA says."""
    home, panda, task = at_panda.home, at_panda.panda, f"{out_ds(1, 'SINGLE')}_000_only"
    apply_rules(store, SINGLE_RULES)
    home.run()

    arrive()
    launch = await_state(store, LaunchState.SUBMITTED)
    jobs = [{"jobStatus": "failed", "pilotErrorCode": 1212, "pilotErrorDiag": "payload ran out of memory"}] * 3
    panda.advance(task, "finished", files=10, finished=7, failed=3, jobs=jobs)
    await_state(store, LaunchState.PARTLY_FINISHED)
    groups = home.read("launches", "failures")["groups"]

    assert launch.reference == f"task:{panda.task(task).id}"
    assert [each.name.rstrip("/") for each in panda.tasks()] == [task]
    assert panda.workflows() == []
    assert [(group["class"], group["jobs"]) for group in groups] == [("memory", 3)], groups
    assert "retry" in home.do("launches", "failures", str(launch.id))


@pytest.mark.slow
def test_failed_jobs_are_retried_with_more_memory_while_muleteer_runs(
    at_panda: PandaHome, store: Store, arrive: Callable[..., None]
) -> None:
    """Whoever asks needs no token: what he asks is carried out by the process that runs, and followed to its end."""
    home, panda, task = at_panda.home, at_panda.panda, f"{out_ds(1, 'SINGLE')}_000_only"
    apply_rules(store, SINGLE_RULES)
    home.run()
    arrive()
    launch = await_state(store, LaunchState.SUBMITTED)
    panda.advance(task, "failed", files=10, failed=10, error="out of memory")
    await_state(store, LaunchState.FAILED)

    asked = ("retry", str(launch.id), "--memory", "4000", "--reason", "out of memory")
    home.do("launches", *asked)
    until(lambda: commands_of(store, launch) == ["retry taken"], 20, "an answer to the retry")
    panda.advance(task, "done", files=10, finished=10, failed=0)
    ended = await_state(store, LaunchState.FINISHED)

    (retry,) = panda.task(task).commands
    assert retry["arguments"]["ramCount"] == 4000, retry
    shown = home.read("launches", "show", str(launch.id))
    assert [each["parameters"] for each in shown["commands"]] == [{"ramCount": "4000"}]
    assert ended.id == launch.id


def commands_of(store: Store, launch: Launch) -> list[str]:
    """What was asked of a launch and has an answer."""
    found = store.launch_commands.of(launch.id)
    return [f"{each.command} {each.state}" for each in found if each.state is not CommandState.WANTED]


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["kill", "finish"])
def test_a_launch_is_ended_by_hand(at_panda: PandaHome, store: Store, arrive: Callable[..., None], verb: str) -> None:
    """Killed, it has no second step any more; finished softly, what has succeeded counts."""
    home, panda, name = at_panda.home, at_panda.panda, out_ds(1)
    apply_rules(store, RULES)
    home.run()
    arrive()
    launch = await_state(store, LaunchState.SUBMITTED)
    panda.advance(f"{name}_000_combine", "running", files=10, finished=4)
    await_state(store, LaunchState.RUNNING)

    home.do("launches", verb, str(launch.id), "--reason", "enough")
    until(lambda: commands_of(store, launch) == [f"{verb} taken"], 20, "an answer")

    if verb == "kill":
        await_state(store, LaunchState.KILLED)
        assert panda.task(f"{name}_000_combine").status == "aborted"
    else:
        assert [each["command"] for each in panda.task(f"{name}_000_combine").commands] == ["finish"]
        await_launch(store, lambda found: found.state is not LaunchState.RUNNING, "its end")


@pytest.mark.slow
def test_stepwise_begins_each_step_as_it_says(
    home: Home, panda: PandaServer, store: Store, arrive: Callable[..., None]
) -> None:
    """An open one at once, another at half of the files; and the crash of one ends no other."""
    PandaHome(home, panda, "panda-stepwise", {"calo": OPEN})
    name = out_ds(1)
    apply_rules(store, RULES)
    home.run()

    def tasks() -> list[str]:
        return [task.name.rstrip("/").removeprefix(f"{name}_") for task in panda.tasks()]

    arrive()
    until(lambda: tasks() == ["000_combine", "001_early"], 30, "the first step and the one that is open")
    panda.advance(f"{name}_000_combine", "running", files=10, finished=4)
    await_launch(store, lambda found: bool(found.steps[0].files and found.steps[0].files.finished == 4), "four files")
    assert tasks() == ["000_combine", "001_early"]
    panda.advance(f"{name}_000_combine", "running", files=10, finished=5)
    until(lambda: "002_half" in tasks(), 30, "the step that needs half")
    panda.advance(f"{name}_001_early", "failed", files=5, failed=5, error="payload crashed")
    panda.advance(f"{name}_000_combine", "done", files=10, finished=10)
    panda.advance(f"{name}_002_half", "done", files=10, finished=10)
    until(lambda: "003_last" in tasks(), 30, "the last step")
    panda.advance(f"{name}_003_last", "done", files=10, finished=10)

    ended = await_state(store, LaunchState.PARTLY_FINISHED)
    assert steps_of(ended) == {
        "combine": StepState.FINISHED,
        "early": StepState.FAILED,
        "half": StepState.FINISHED,
        "last": StepState.FINISHED,
    }
    assert panda.task(f"{name}_001_early").parent == panda.task(f"{name}_000_combine").id
    assert sorted(tasks()) == ["000_combine", "001_early", "002_half", "003_last"]


def expire(at_panda: PandaHome) -> None:
    at_panda.write_token(make_token(expires=EXPIRED))


def remove(at_panda: PandaHome) -> None:
    at_panda.token_file.unlink(missing_ok=True)


def open_to_the_group(at_panda: PandaHome) -> None:
    at_panda.write_token(at_panda.token, 0o640)


def take_another_vo(at_panda: PandaHome) -> None:
    at_panda.write_site(vo="atlas")


#: How a token or a profile goes wrong, and what is said of it.
WRONGS = {
    "expired": (expire, "expired on"),
    "missing": (remove, "cannot be read"),
    "open": (open_to_the_group, "chmod 600"),
    "vo": (take_another_vo, "Unknown vo"),
}


@pytest.mark.slow
@pytest.mark.parametrize("wrong", WRONGS)
def test_what_is_wrong_with_the_token_is_said_and_passes_once_it_is_mended(
    at_panda: PandaHome, store: Store, arrive: Callable[..., None], wrong: str
) -> None:
    """Nothing is sent, the launch says why, other rules go on; and once it is mended, one workflow is launched."""
    home, panda = at_panda.home, at_panda.panda
    go_wrong, words = WRONGS[wrong]
    go_wrong(at_panda)
    apply_rules(store, RULES.replace("delay: 0s", "delay: 1s") + OTHERS)
    process = home.run()

    arrive()
    waits = await_launch(store, lambda found: found.reason is not None, "a reason")
    until(lambda: store.counts().dispatches.get("done") == 1, 20, "the other rule")

    assert waits.state is LaunchState.PREPARED
    assert words in (waits.reason or "")
    assert panda.workflows() == []
    assert at_panda.token not in home.do("launches", "show", str(waits.id))
    at_panda.write_token(at_panda.token)
    at_panda.write_site()
    if wrong == "vo":  # profiles are read at the start, tokens all the time
        assert process.stop() == 0
        home.run()
    await_state(store, LaunchState.SUBMITTED)
    assert len(panda.workflows(out_ds(1))) == 1


@pytest.mark.slow
def test_panda_is_away_for_long(at_panda: PandaHome, store: Store, arrive: Callable[..., None]) -> None:
    """What was launched before is followed again, what arrived meanwhile is launched once; nothing else waits."""
    home, panda = at_panda.home, at_panda.panda
    apply_rules(store, RULES.replace("delay: 0s", "delay: 1s") + OTHERS)
    home.run()
    arrive(1)
    await_state(store, LaunchState.SUBMITTED)

    panda.stop()
    arrive(2, count=2)
    await_states(store, {LaunchState.SUBMITTED: 1, LaunchState.PREPARED: 2})
    until(lambda: (store.counts().dispatches.get("done") or 0) == 4, 20, "the other rule, and the first launch")
    until(lambda: store.dispatches.list(rule="chain")[0].attempts > 2, 30, "more tries")
    panda.start()
    panda.live(0.2)

    await_states(store, {LaunchState.FINISHED: 3}, 60)
    assert [len(panda.workflows(out_ds(number))) for number in (1, 2, 3)] == [1, 1, 1]


def test_what_can_never_be_launched_fails_with_its_reason(
    at_panda: PandaHome, store: Store, arrive: Callable[..., None]
) -> None:
    """A parameter out of range, and a workflow that was removed after the rule came into force: others go on."""
    home, panda = at_panda.home, at_panda.panda
    gone = RULES.partition("rules:")[2].replace("name: chain", "name: gone").replace("workflow: calo", "workflow: gone")
    at_panda.write_workflow("gone", SINGLE.replace("name: single", "name: gone"))
    rules = home.place / "rules.yaml"
    rules.write_text(RULES + gone + OTHERS)
    home.do("rules", "apply", str(rules))
    for path in (home.place / "workflows" / "gone").iterdir():
        path.unlink()
    home.run()

    arrive(1)
    arrive(501)
    until(lambda: store.counts().dispatches == {"done": 3, "failed": 3}, 40, f"three of each: {store.counts()}")

    why = {(each.rule, each.captured.get("run")): each.reason for each in store.dispatches.list() if each.reason}
    assert "500" in (why["chain", "00000501"] or "")
    assert "gone" in (why["gone", "00000001"] or "")
    assert [request.out_ds for request in panda.workflows()] == [out_ds(1)]


@pytest.mark.slow
def test_the_token_is_nowhere_but_in_its_file(
    at_panda: PandaHome, store: Store, arrive: Callable[..., None], tmp_path: Path
) -> None:
    """Not in the store, not in a log, not in what a command prints, not in what is sent, whatever goes wrong."""
    home, panda = at_panda.home, at_panda.panda
    apply_rules(store, RULES)
    process = home.run(LOG__LEVEL="debug")
    for path, kind in (("put_workflow_request", "500"), ("file_server/upload_cache_file", "html"), ("task/*", "403")):
        panda.fault(path, kind)

    arrive(1, count=3)
    panda.live(0.2)
    await_states(store, {LaunchState.FINISHED: 3}, 60)
    printed = "".join(
        home.do("launches", *words)
        for words in (["list"], ["failures"], *(["show", str(number), "--tries"] for number in (1, 2, 3)))
    )
    printed += home.do("doctor", expect=0) + home.do("workflow", "launch", "--handshake")
    assert process.stop() == 0

    secrets = [part for part in at_panda.token.split(".") if len(part) > 20]
    assert secrets
    held = {
        str(path): path.read_bytes() for place in (home.place, tmp_path) for path in place.rglob("*") if path.is_file()
    }
    for path, content in held.items():
        if path != str(at_panda.token_file):
            assert not [secret for secret in secrets if secret.encode() in content], path
    assert not [secret for secret in secrets if secret in printed]
    for content in uploaded(panda):
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for member in archive:
                stream = archive.extractfile(member)
                assert stream is None or not re.search(rb"eyJ[A-Za-z0-9_-]{8}", stream.read()), member.name
