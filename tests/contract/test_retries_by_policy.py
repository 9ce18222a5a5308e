"""What has failed is retried by the workflow's policy: decided, asked, carried out and followed, on every engine."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.clock import utc_now
from orchestrator.core.actor import Done, LaunchRequest
from orchestrator.core.by_hand import Hand
from orchestrator.core.naming import launch_key
from orchestrator.core.states import LAUNCH_ENDED
from orchestrator.settings import load
from orchestrator.store.launch_commands import Ask
from orchestrator.wiring import Muleteer
from schemas.launch import Command, CommandState, Launch, LaunchCommand, LaunchId, LaunchState
from tests.services.panda import PandaServer
from tests.services.panda.home import WORKFLOW, add_site, add_workflow
from tests.unit.launch.playing import dispatched
from tests.unit.making import ROOT, message

RETRIED = WORKFLOW.replace("inputs:\n", "retry: {attempts: 1, memory: 1.5, after: 0s}\ninputs:\n").replace(
    '["made-*.root"]}', '["made-*.root"], panda: {memory: 2000}}'
)

COMBINE, RECO = "user.shrek.rn00021615-CALOR_000_combine", "user.shrek.rn00021615-CALOR_001_reco"

#: Fails when it runs for the first time.
SECOND_TIME = """
name: calo
retry: {attempts: ATTEMPTS, classes: [CLASS], after: 0s}
steps:
  - name: make
    script: test -e MARK || { touch MARK; exit 3; }; touch made
    outputs: [made]
  - {name: merge, script: touch merged, inputs: [make], outputs: [merged]}
"""


@dataclass
class Life:
    """A home, and one process of it."""

    muleteer: Muleteer

    def launch(self, parameters: Mapping[str, str], did: bool = True) -> Launch:
        (id_,) = dispatched(self.muleteer.store, 1)
        request = LaunchRequest("calo", parameters, message(), id_, launch_key("calo", id_, 0), "r", 0)
        outcome = self.muleteer.launcher.launch(request)
        assert isinstance(outcome, Done), outcome
        return self.only

    def look(self) -> Launch:
        self.muleteer.watcher().look()
        return self.only

    def decide(self) -> None:
        self.muleteer.retrier().decide()

    def carry_out(self) -> None:
        """Of each launch one command at a time."""
        for _ in range(3):
            self.muleteer.commander().carry_out()

    def again(self, ahead: timedelta = timedelta(0)) -> None:
        """Another process takes over, so much later."""
        self.muleteer.close()
        self.muleteer = Muleteer(self.muleteer.home, self.muleteer.settings, clock=lambda: utc_now() + ahead)

    @property
    def only(self) -> Launch:
        (launch,) = self.muleteer.store.launches.list()
        return launch

    @property
    def asked(self) -> list[LaunchCommand]:
        return list(self.muleteer.store.launch_commands.of(self.only.id))

    @property
    def said(self) -> list[str]:
        """What the policy has said in the launch's journal."""
        journal = self.muleteer.store.journal.of("launch", self.only.id)
        return [each.why or "" for each in journal if each.who == "policy"]


def home_with(path: Path, workflow: str, settings: str = "", panda: PandaServer | None = None) -> Life:
    add_workflow(path, workflow)
    if panda is not None:
        add_site(path, panda, submit_timeout="60s", settle="1s", poll="1s")
    (path / "muleteer.toml").write_text(settings)
    return Life(Muleteer(path, load(path)))


@pytest.fixture(params=["panda", "panda-stepwise"])
def life(request: pytest.FixtureRequest, tmp_path: Path, panda: PandaServer) -> Iterator[Life]:
    settings = f'[engine]\nkind = "{request.param}"\nsite = "standin"\n'
    life = home_with(tmp_path / "home", RETRIED, settings, panda)
    yield life
    life.muleteer.close()


def job(code: int) -> dict[str, Any]:
    """A job that has failed just now."""
    at = f"{utc_now():%Y-%m-%dT%H:%M:%S.%f}"
    return {"jobStatus": "failed", "modificationTime": {"__datetime__": at}, "pilotErrorCode": code}


MEMORY, PAYLOAD, SITE_TROUBLE = 1212, 1305, 1098


def fail(life: Life, panda: PandaServer, *codes: int) -> Launch:
    """Its first step fails, and PanDA stops what reads it."""
    panda.advance(COMBINE, "failed", files=10, failed=10, jobs=[job(code) for code in codes])
    if panda.tasks(RECO):
        panda.advance(RECO, "aborted")
    panda.settle()
    failed = life.look()
    assert failed.state is LaunchState.FAILED, failed
    return failed


def succeed(life: Life, panda: PandaServer) -> Launch:
    panda.settle()
    panda.advance(COMBINE, "done", files=10, finished=10, failed=0)
    panda.settle()
    life.look()
    panda.settle()
    panda.advance(RECO, "done", files=10, finished=10, failed=0)
    panda.settle()
    return life.look()


def test_what_failed_of_memory_gets_more_and_the_launch_finishes(life: Life, panda: PandaServer) -> None:
    """One retry is recorded, with who, why and its parameters; PanDA runs the same task with half as much again."""
    life.launch({"run": "21615"})
    fail(life, panda, MEMORY, MEMORY, SITE_TROUBLE)

    life.decide()
    life.decide()
    life.carry_out()
    assert life.only.state is LaunchState.RUNNING
    finished = succeed(life, panda)

    assert finished.state is LaunchState.FINISHED, finished
    first, *along = life.asked
    assert (first.command, first.step, first.parameters) == (Command.RETRY, "combine", {"ramCount": "3000"})
    assert (first.who, first.why) == ("policy", "3 jobs failed (2 memory, 1 site), retry 1 of 1")
    assert {each.state for each in life.asked} == {CommandState.TAKEN}
    assert [(each.step, each.parameters) for each in along] in ([], [("reco", {})])
    assert len(panda.tasks(COMBINE)) == 1
    assert panda.task(COMBINE).params["ramCount"] == 3000
    assert finished.retry_at is None


def test_after_its_attempts_it_stays_failed_and_says_so(life: Life, panda: PandaServer) -> None:
    """Once, in the journal; nothing more is asked."""
    life.launch({"run": "21615"})
    fail(life, panda, MEMORY)
    life.decide()
    life.carry_out()
    panda.settle()
    life.look()
    asked = len(life.asked)
    fail(life, panda, MEMORY, MEMORY)

    for _ in range(3):
        life.decide()
        life.carry_out()

    assert life.only.state is LaunchState.FAILED
    assert len(life.asked) == asked
    assert [each for each in life.said if "not retried" in each] == [
        "not retried by policy: combine: 2 jobs failed of class memory, after 1 of 1 retries"
        + ("; reco: 1 job failed of class ours, which is not retried" if panda.tasks(RECO) else "")
    ]


def test_what_the_policy_does_not_name_is_left(life: Life, panda: PandaServer) -> None:
    life.launch({"run": "21615"})
    fail(life, panda, PAYLOAD, PAYLOAD, PAYLOAD)

    life.decide()

    assert life.asked == []
    assert life.said[0].startswith("not retried by policy: combine: 3 jobs failed of class payload")


def test_what_a_person_killed_is_never_retried(life: Life, panda: PandaServer) -> None:
    """Nor when its end looks like a failure."""
    launch = life.launch({"run": "21615"})
    panda.advance(COMBINE, "running", files=10, finished=2)
    life.look()
    hand = Hand("cli:me", "wrong build", utc_now())
    life.muleteer.store.launch_commands.ask(Ask(Command.KILL), [launch.id], hand)
    life.carry_out()
    panda.advance(COMBINE, "failed", files=10, failed=10, jobs=[job(SITE_TROUBLE)])
    if panda.tasks(RECO):
        panda.advance(RECO, "aborted")
    panda.settle()
    ended = life.look()

    life.decide()

    assert ended.state in (LaunchState.FAILED, LaunchState.KILLED), ended
    assert [each.who for each in life.asked] == ["cli:me"]
    assert life.only.state is ended.state


def test_while_the_engine_is_away_nothing_is_decided(life: Life, panda: PandaServer) -> None:
    """Nor lost."""
    launch = life.launch({"run": "21615"})
    fail(life, panda, MEMORY)
    panda.stop()

    life.decide()

    assert (life.asked, life.said) == ([], [])
    panda.start()
    store = life.muleteer.store
    store.launch_retries.postpone(store.launches.get(launch.id), utc_now())
    life.decide()
    assert [each.step for each in life.asked][:1] == ["combine"]


def test_a_process_that_dies_in_between_asks_neither_twice_nor_never(life: Life, panda: PandaServer) -> None:
    """Before it was asked, after it was asked, and after it was carried out."""
    life.launch({"run": "21615"})
    fail(life, panda, MEMORY)
    life.again()
    life.decide()
    asked = len(life.asked)
    life.again()
    life.decide()
    life.carry_out()
    life.again()
    life.decide()
    life.carry_out()

    assert len(life.asked) == asked
    assert len([each for each in panda.task(COMBINE).commands if each["command"] in ("retry", "incexec")]) == 1
    assert succeed(life, panda).state is LaunchState.FINISHED


DRIVER = """
import sys
from pathlib import Path
from orchestrator.settings import load
from orchestrator.wiring import Muleteer
home = Path(sys.argv[1])
muleteer = Muleteer(home, load(home))
muleteer.retrier().decide()
muleteer.commander().carry_out()
"""


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        ("task/get_job_descriptions", "hang"),  # while it looks why it failed
        ("task/retry", "hang"),  # while it carries out what it has asked for
        ("task/retry", "hang_after"),
    ],
)
def test_a_process_that_is_killed_retries_exactly_once(life: Life, panda: PandaServer, call: str, fault: str) -> None:
    """Killed with -9 while PanDA is asked. What perhaps was taken is not repeated; what was not asked for is asked."""
    life.launch({"run": "21615"})
    fail(life, panda, MEMORY)
    panda.fault(call, fault, seconds=0.7)
    process = subprocess.Popen([sys.executable, "-c", DRIVER, str(life.muleteer.home)], cwd=ROOT)
    last = time.monotonic() + 20
    while not panda.calls[call]:
        assert time.monotonic() < last, "it did not come so far"
        time.sleep(0.01)
    process.kill()
    process.wait()
    time.sleep(1)  # whatever it had begun has come to its end
    before = [(each.step, each.who) for each in life.asked]

    life.again(ahead=timedelta(minutes=11))  # whoever was at it is taken for dead
    life.decide()
    life.carry_out()

    after = [(each.step, each.who) for each in life.asked]
    assert after.count(("combine", "policy")) == 1
    assert before == ([] if call == "task/get_job_descriptions" else after)
    assert [each["command"] for each in panda.task(COMBINE).commands] == ["incexec"]
    assert life.only.state is LaunchState.RUNNING


def test_what_was_launched_keeps_its_policy(life: Life, panda: PandaServer) -> None:
    """A document that is changed later changes the launches to come."""
    life.launch({"run": "21615"})
    document = life.muleteer.home / "workflows" / "calo" / "workflow.yaml"
    document.write_text(RETRIED.replace("attempts: 1", "attempts: 0"))
    fail(life, panda, MEMORY)

    life.decide()

    assert [each.parameters for each in life.asked][:1] == [{"ramCount": "3000"}]


# The embedded engine.


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Callable[..., Life]]:
    """A home whose step fails the first time."""
    made: list[Life] = []

    def make(attempts: int = 1, class_: str = "payload", mark: Path = tmp_path / "mark") -> Life:
        told = {"ATTEMPTS": str(attempts), "CLASS": class_, "MARK": str(mark)}
        workflow = SECOND_TIME
        for word, value in told.items():
            workflow = workflow.replace(word, value)
        made.append(home_with(tmp_path / "home", workflow))
        return made[-1]

    yield make
    for life in made:
        life.muleteer.close()


def until(life: Life, condition: Callable[[Launch], bool]) -> Launch:
    last = time.monotonic() + 20
    while not condition(launch := life.look()):
        assert time.monotonic() < last, launch
        time.sleep(0.05)
    return launch


def has_failed(launch: Launch) -> bool:
    return launch.state is LaunchState.FAILED


def test_a_step_that_fails_the_first_time_is_retried_on_this_machine(local: Callable[..., Life]) -> None:
    """And what reads it runs after it."""
    life = local()
    life.launch({})
    until(life, has_failed)

    life.decide()
    life.carry_out()
    finished = until(life, lambda launch: launch.state is LaunchState.FINISHED)

    assert [step.state for step in finished.steps] == ["finished", "finished"]
    (only,) = life.asked
    assert (only.who, only.step, only.state) == ("policy", "make", CommandState.TAKEN)
    assert only.why == "1 job failed (1 payload), retry 1 of 1"


def test_a_step_that_fails_again_and_again_is_retried_as_often_as_it_says(local: Callable[..., Life]) -> None:
    life = local(attempts=2, mark=Path("/nowhere/mark"))
    life.launch({})
    for _ in range(3):
        until(life, has_failed)
        life.decide()
        life.carry_out()

    assert life.only.state is LaunchState.FAILED
    assert len(life.asked) == 2
    assert "after 2 of 2 retries" in life.said[-1]


THREE = """
name: calo
retry: {attempts: 1, classes: [payload], after: 0s}
steps:
  - {name: one, script: "test -e MARK-1 || { touch MARK-1; exit 3; }; touch a", outputs: [a]}
  - {name: two, script: "test -e MARK-2 || { touch MARK-2; exit 3; }; touch b", outputs: [b]}
  - {name: merge, script: "test -e MARK-3 || { touch MARK-3; exit 3; }; touch c", inputs: [one, two], outputs: [c]}
"""


def test_a_retry_of_all_that_has_failed_costs_only_what_had_failed_an_attempt(
    local: Callable[..., Life], tmp_path: Path
) -> None:
    """A step that fails for the first time after it is retried as often as the policy says of each step."""
    life = local()
    (life.muleteer.home / "workflows" / "calo" / "workflow.yaml").write_text(THREE.replace("MARK", f"{tmp_path}/mark"))
    life.launch({})
    for _ in range(2):
        until(life, has_failed)
        life.decide()
        life.carry_out()
    finished = until(life, lambda launch: launch.state in LAUNCH_ENDED)

    assert [(each.step, each.attempt_of) for each in life.asked] == [(None, ("one", "two")), ("merge", ())]
    assert finished.state is LaunchState.FINISHED, finished


def test_it_waits_before_it_retries(local: Callable[..., Life]) -> None:
    """As long as the policy says; meanwhile the launch is failed, and it is known when it is decided about."""
    life = local()
    document = life.muleteer.home / "workflows" / "calo" / "workflow.yaml"
    document.write_text(document.read_text().replace("after: 0s", "after: 1h"))
    life.launch({})
    failed = until(life, has_failed)

    life.decide()

    assert life.asked == []
    assert failed.retry_at == failed.updated_at + timedelta(hours=1)


def test_a_rule_of_the_home_says_what_an_error_means(local: Callable[..., Life]) -> None:
    """A home's failures.yaml goes before the table that comes with the product; while it is broken, it is waited."""
    life = local(class_="transient")
    table = life.muleteer.home / "failures.yaml"
    table.write_text("failures: [{")
    life.launch({})
    until(life, has_failed)
    life.decide()
    assert (life.asked, life.said) == ([], [])

    table.write_text("failures: [{source: payload, code: 3, class: transient, means: The moon., action: Wait.}]")
    life.decide()

    assert [each.why for each in life.asked] == ["1 job failed (1 transient), retry 1 of 1"]


def test_a_launch_that_is_repeated_is_not_brought_back(local: Callable[..., Life]) -> None:
    """Both would write the same."""
    life = local()
    first = life.launch({})
    until(life, has_failed)
    id_ = first.dispatch_id
    assert id_ is not None
    request = LaunchRequest("calo", {}, message(), id_, launch_key("calo", id_, 1), "r", 1)
    assert isinstance(life.muleteer.launcher.launch(request), Done)

    life.decide()

    store = life.muleteer.store
    assert store.launch_commands.of(first.id) == []
    said = [each.why or "" for each in store.journal.of("launch", LaunchId(first.id)) if each.who == "policy"]
    assert len(said) == 1
    assert "repeats it" in said[0]
