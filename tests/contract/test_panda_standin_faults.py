"""The stand-in's faults and its memory do what other tests count on."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.services.panda import PandaControl, PandaServer, direct

OUT = "user.shrek.wf"
ROOT = Path(__file__).parents[2]
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
    ("kind", "workflows", "answer"),
    [
        ("500", 0, b"Internal Server Error"),
        ("503", 0, b"Service Unavailable"),
        ("403", 0, b"Forbidden"),
        ("404", 0, b"Not Found"),
        ("html", 0, b"<html>"),
        ("empty", 1, b""),
        ("cut", 1, b'[true, {"status": true'),
        ("drop", 0, None),
        ("lost", 1, None),
    ],
)
def test_a_fault_hits_once(panda: PandaServer, kind: str, workflows: int, answer: bytes | None) -> None:
    """The second call is hit and counted, handled or not as its kind says; the first and third are well."""
    upload(panda, cwl(top=[]))
    panda.fault("put_workflow_request", kind, nth=2)
    good = json.loads(launch(panda))
    if answer is None:
        with pytest.raises(http.client.RemoteDisconnected):
            launch(panda, "user.shrek.hit")
    else:
        said = launch(panda, "user.shrek.hit")
        assert said.startswith(answer)
        with pytest.raises(ValueError, match=r"Expecting|Unterminated|delimiter"):
            json.loads(said)
    assert good[1]["status"] is json.loads(launch(panda, "user.shrek.third"))[1]["status"] is True
    assert len(panda.workflows("user.shrek.hit")) == workflows
    assert (panda.calls["put_workflow_request"], panda.handled["put_workflow_request"]) == (3, 2 + workflows)


def test_an_error_may_be_told_of_a_call_that_was_handled(panda: PandaServer) -> None:
    """A 500 with `handled` leaves a workflow behind."""
    upload(panda, cwl(top=[]))
    panda.fault("put_*", "500", handled=True)
    assert launch(panda) == b"Internal Server Error"
    assert len(panda.workflows(OUT)) == 1


@pytest.mark.parametrize(("kind", "at_once"), [("hang", 0), ("hang_after", 1)])
def test_a_hanging_call_takes_effect(panda: PandaServer, kind: str, at_once: int) -> None:
    """The caller gives up; the workflow is there at once, or comes later."""
    upload(panda, cwl(top=[]))
    panda.fault("put_workflow_request", kind, seconds=1)
    with pytest.raises(TimeoutError):
        launch(panda, timeout=0.4)
    assert len(panda.workflows(OUT)) == at_once
    assert wait_for_workflow(panda)


def test_a_late_call_is_handled_after_its_connection_has_closed(panda: PandaServer) -> None:
    """A look-up straight after the failure finds nothing; later there is a workflow."""
    upload(panda, cwl(top=[]))
    panda.fault("put_workflow_request", "late", seconds=0.5)
    with pytest.raises(http.client.RemoteDisconnected):
        launch(panda)
    assert panda.workflows(OUT) == []
    assert wait_for_workflow(panda)


def wait_for_workflow(panda: PandaServer) -> bool:
    deadline = time.monotonic() + 5
    while not panda.workflows(OUT) and time.monotonic() < deadline:
        time.sleep(0.02)
    return len(panda.workflows(OUT)) == 1


def test_a_hundred_slow_launches_at_once(panda: PandaServer) -> None:
    """They are handled side by side: each takes a second, all take a few, and each makes one workflow."""
    upload(panda, cwl(top=[], end=["top"]))
    panda.fault("put_workflow_request", "slow", seconds=1)
    names = [f"user.shrek.n{number}" for number in range(100)]
    threads = [threading.Thread(target=launch, args=(panda, name)) for name in names]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= time.monotonic() - began < 15
    assert [len(panda.workflows(name)) for name in names] == [1] * 100
    assert len(panda.tasks()) == 200


def test_a_server_that_was_away_comes_back_as_it_was(panda: PandaServer) -> None:
    """While it is stopped nobody gets through, not even on a connection that was open."""
    upload(panda, cwl(top=[]))
    launch(panda)
    kept = http.client.HTTPConnection("127.0.0.1", panda.port, timeout=5)
    kept.request("GET", "/api/v1/system/is_alive")
    assert kept.getresponse().read()
    panda.stop()
    with pytest.raises(ConnectionError):
        kept.request("GET", "/api/v1/system/is_alive")
        kept.getresponse()
    kept.close()
    with pytest.raises(ConnectionError):
        launch(panda)
    panda.start()
    assert len(panda.workflows(OUT)) == 1
    assert json.loads(launch(panda))[1]["request_id"] == 2


def test_it_runs_as_a_process_and_remembers_what_it_did(tmp_path: Path) -> None:
    """Killed and started again on its directory, it knows its tasks and counts on; control works from outside."""
    (tmp_path / "state").mkdir()
    command = [sys.executable, "-m", "tests.services.panda", "--directory", str(tmp_path / "state")]
    for turn in (1, 2):
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                panda = PandaServer(port=int(process.stdout.readline().strip().rpartition(":")[2]))
                control = PandaControl(panda.url)
                if turn == 1:
                    upload(panda, cwl(top=[]))
                number = json.loads(launch(panda, f"{OUT}{turn}"))[1]["request_id"]
                assert number == turn
                control.advance(f"{OUT}{turn}_000_top", "running", files=4, finished=1)
                assert (
                    len(control.snapshot()["workflows"]) == control.snapshot()["calls"]["put_workflow_request"] == turn
                )
                with pytest.raises(ValueError, match="no such control"):
                    control.do("nothing")
            finally:
                process.kill()
    kept = json.loads((tmp_path / "state" / "state.json").read_text())
    assert [(task["status"], task["finished"]) for task in kept["tasks"].values()] == [("running", 1)] * 2
