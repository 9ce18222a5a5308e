"""A launch from its dispatch to its end on PanDA: our rooms, the unmodified panda-client, a stand-in server."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.core.actor import Done, GiveUp, LaunchRequest, Outcome, Retry, Wait
from orchestrator.core.by_hand import Hand
from orchestrator.core.naming import launch_key
from orchestrator.settings import load
from orchestrator.store.launch_commands import Ask
from orchestrator.wiring import Muleteer
from schemas.dispatch import DispatchId
from schemas.launch import Command, CommandState, Launch, LaunchState
from tests.contract.store_transients import leaving, release
from tests.services.panda import PandaServer, make_token
from tests.services.panda.home import add_site, add_workflow
from tests.unit.launch.playing import dispatched
from tests.unit.making import NOW, ROOT, message

OUT = "user.shrek.rn00021615-CALOR"


@dataclass
class Life:
    """A home whose engine is PanDA, and one process of it."""

    panda: PandaServer
    muleteer: Muleteer
    dispatches: list[DispatchId]

    def launch(self, dispatch: int = 0, round_: int = 0) -> Outcome:
        id_ = self.dispatches[dispatch]
        request = LaunchRequest("calo", {"run": "21615"}, message(), id_, launch_key("calo", id_, round_), "r", round_)
        return self.muleteer.launcher.launch(request)

    def again(self) -> None:
        """Another process takes over."""
        self.muleteer.close()
        self.muleteer = Muleteer(self.muleteer.home, self.muleteer.settings)

    @property
    def only(self) -> Launch:
        (launch,) = self.muleteer.store.launches.list()
        return launch


@pytest.fixture
def panda() -> Iterator[PandaServer]:
    with PandaServer() as server:
        yield server


@pytest.fixture
def life(tmp_path: Path, panda: PandaServer) -> Iterator[Life]:
    """A home, until the end of the test."""
    life = at_home(tmp_path / "home", panda)
    yield life
    life.muleteer.close()


def at_home(home: Path, panda: PandaServer) -> Life:
    """A new home with a store of its own."""
    add_workflow(home)
    monitor = '{task: "https://panda.example.org/task/{id}/"}'
    add_site(home, panda, submit_timeout="60s", settle="1s", poll="1s", monitor=monitor)
    (home / "muleteer.toml").write_text('[engine]\nkind = "panda"\nsite = "standin"\n')
    muleteer = Muleteer(home, load(home))
    return Life(panda, muleteer, dispatched(muleteer.store, 2))


def look(life: Life) -> Launch:
    life.muleteer.watcher().look()
    return life.only


def test_a_launch_goes_to_its_end_and_is_all_written_down(life: Life) -> None:
    """One workflow on the server; its tasks are followed; what was sent and what came back is kept."""
    outcome = life.launch()

    assert isinstance(outcome, Done), outcome
    assert len(life.panda.workflows(OUT)) == 1
    sent = life.muleteer.store.launches.tries(life.only.id)
    assert len(sent) == 1
    assert (sent[0].client or "").startswith("panda-client")
    assert "workflow.cwl" in [file.path for file in life.muleteer.store.launches.files(life.only.id)]
    life.panda.advance(f"{OUT}_000_combine", "running", files=10, finished=4)
    running = look(life)
    assert (running.state, running.steps[0].task_status) == (LaunchState.RUNNING, "running")
    for step in ("000_combine", "001_reco"):
        life.panda.advance(f"{OUT}_{step}", "done", files=10, finished=10)
    life.panda.settle()

    assert look(life).state is LaunchState.FINISHED


@pytest.mark.parametrize("fault", ["lost", "500", "html", "cut", "empty"])
def test_a_lost_answer_never_makes_a_second_workflow(life: Life, fault: str) -> None:
    """Whoever comes after the doubt looks first, and adopts what arrived or sends again what did not."""
    life.panda.fault("put_workflow_request", fault)

    outcomes = [life.launch()]
    last = time.monotonic() + 30
    while not isinstance(outcomes[-1], Done) and time.monotonic() < last:
        assert isinstance(outcomes[-1], Wait | Retry), outcomes[-1]
        life.again()
        life.panda.settle()
        time.sleep(0.2)
        outcomes.append(life.launch())

    assert isinstance(outcomes[-1], Done), outcomes
    assert len(life.panda.workflows(OUT)) == 1
    assert life.only.state is LaunchState.SUBMITTED


DRIVER = """
import sys
from pathlib import Path
from orchestrator.core.actor import LaunchRequest
from orchestrator.settings import load
from orchestrator.wiring import Muleteer
from tests.unit.making import message
home = Path(sys.argv[1])
muleteer = Muleteer(home, load(home))
muleteer.launcher.launch(LaunchRequest("calo", {"run": "21615"}, message(), 1, "calo/dispatch-1", "r", 0))
"""


@pytest.mark.parametrize("call", ["file_server/upload_cache_file", "put_workflow_request"])
@pytest.mark.parametrize("fault", ["hang", "hang_after"])
def test_a_process_that_is_killed_while_sending_never_makes_a_second_workflow(
    life: Life, call: str, fault: str
) -> None:
    """Killed with -9 in the middle of a request, before or after it took effect: there is one workflow in the end."""
    life.panda.fault(call, fault, seconds=0.7)
    process = subprocess.Popen([sys.executable, "-c", DRIVER, str(life.muleteer.home)], cwd=ROOT)
    wait_for(lambda: life.panda.calls[call] > 0)
    process.kill()
    process.wait()
    assert life.only.state is LaunchState.SUBMITTING

    outcome: Outcome | None = None
    last = time.monotonic() + 30
    while not isinstance(outcome, Done) and time.monotonic() < last:
        outcome = life.launch()
        assert isinstance(outcome, Done | Wait), outcome
        time.sleep(0.2)
    time.sleep(1)  # whatever the one that was killed had begun has come to its end

    assert isinstance(outcome, Done), outcome
    assert len(life.panda.workflows(OUT)) == 1


def wait_for(condition: Callable[[], bool]) -> None:
    last = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < last, "it did not come so far"
        time.sleep(0.01)


def test_a_second_dispatch_sends_nothing(life: Life) -> None:
    """It is told who has the name; a round that a person asked for has another, once the first has ended."""
    assert isinstance(life.launch(), Done)

    second = life.launch(1)
    too_early = life.launch(0, 1)
    launches = life.muleteer.store.launches
    launches.advance(launches.list()[0], LaunchState.FAILED, who="test", why=None, now=NOW)
    repeated = life.launch(0, 1)

    assert isinstance(second, GiveUp)
    assert "was launched already" in second.reason
    assert isinstance(too_early, GiveUp)
    assert isinstance(repeated, Done)
    assert [len(life.panda.workflows(name)) for name in (OUT, f"{OUT}-r1")] == [1, 1]


def test_what_another_home_has_launched_is_neither_adopted_nor_repeated(life: Life, tmp_path: Path) -> None:
    """Two stores that know nothing of each other share a server, and a name."""
    assert isinstance(life.launch(), Done)
    other = at_home(tmp_path / "other", life.panda)

    outcome = other.launch()
    other.muleteer.close()

    assert isinstance(outcome, GiveUp)
    assert "somebody else's" in outcome.reason
    assert len(life.panda.workflows(OUT)) == 1


@pytest.mark.parametrize(("days", "code"), [(30, 0), (-1, 1)])
def test_doctor_says_who_we_are_and_until_when(life: Life, days: int, code: int) -> None:
    """A token that has expired is found before a launch needs it."""
    (life.muleteer.home / "token").write_text(make_token(expires=timedelta(days=days)))

    words = [sys.executable, "-c", "from orchestrator.cli import main; main()", "doctor", "--home"]
    said = subprocess.run([*words, str(life.muleteer.home)], capture_output=True, text=True, check=False, cwd=ROOT)

    (engine,) = [line for line in said.stdout.splitlines() if line.split()[1] == "engine"]
    assert said.returncode == code, said.stdout
    assert "panda at standin: " in engine if code == 0 else engine.startswith("WRONG")
    assert ("CAREFUL: settle is not longer than submit_timeout" in engine) == (code == 0)


def test_a_retry_with_more_memory_runs_and_is_followed(life: Life) -> None:
    """Asked for by a person without a token, carried out by whoever runs muleteer."""
    life.launch()
    life.panda.advance(f"{OUT}_000_combine", "failed", files=10, finished=0, failed=10, error="out of memory")
    look(life)
    life.panda.advance(f"{OUT}_001_reco", "aborted")
    life.panda.settle()
    failed = look(life)
    assert failed.state in (LaunchState.FAILED, LaunchState.KILLED), failed
    hand = Hand("cli:me", "memory", NOW)
    life.muleteer.store.launch_commands.ask(Ask(Command.RETRY, None, {"ramCount": "4000"}), [failed.id], hand)

    life.muleteer.commander().carry_out()

    (asked,) = life.muleteer.store.launch_commands.of(failed.id)
    assert asked.state is CommandState.TAKEN, asked.answer
    assert life.only.state is LaunchState.RUNNING


def test_a_launch_is_killed(life: Life) -> None:
    """And its end is seen by following it."""
    life.launch()
    life.panda.advance(f"{OUT}_000_combine", "running")
    look(life)
    hand = Hand("cli:me", "wrong build", NOW)
    life.muleteer.store.launch_commands.ask(Ask(Command.KILL), [life.only.id], hand)

    life.muleteer.commander().carry_out()
    life.panda.settle()

    assert look(life).state is LaunchState.KILLED


def test_what_leaves_is_not_read_and_the_launch_waits(life: Life) -> None:
    """Half of its input may be gone. Once it is called back the same dispatch is launched."""
    store, did = life.muleteer.store, message().did
    assert did is not None
    transient = leaving(store, of=release(did))

    outcome = life.launch()

    assert isinstance(outcome, Wait), outcome
    assert f"{did} is leaving" in outcome.reason
    assert store.launches.list() == []
    store.transients.recalled(transient.id, who="me", why="needed", now=NOW)
    assert isinstance(life.launch(), Done)
    assert str(did) in life.only.inputs.values()
