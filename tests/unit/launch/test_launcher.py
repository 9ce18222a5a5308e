"""A launch is written down with all that will be sent, sent once, and never a second time while anybody doubts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event, Thread

import pytest
from sqlalchemy import delete

from orchestrator.core.actor import Done, GiveUp, LaunchRequest, Outcome, Retry, Wait
from orchestrator.core.naming import launch_key
from orchestrator.launch.launcher import Launcher
from orchestrator.launch.workflows import Workflows
from orchestrator.panda.port import EngineInDoubt, EngineRefused, EngineUnavailable, SubmissionState
from orchestrator.store.store import Store
from orchestrator.store.tables import launch_files
from schemas.did import Did
from schemas.dispatch import DispatchId
from schemas.launch import Launch, LaunchId, LaunchState
from tests.unit.launch.playing import NOW, PlayedEngine, dispatched, receipt
from tests.unit.making import message

PLAIN = """
name: plain
parameters:
  run: {type: integer, maximum: 99999}
steps:
  - {name: combine, command: [./combine.sh, "{run}"], outputs: [made.root]}
outputs:
  - {dataset: "{scope}:{launch}", step: combine}
"""

NAMED = PLAIN.replace("name: plain", "name: named\nlaunch_name: rn{run:08d}-CALOR/{name}")


@dataclass
class Life:
    """A launcher with everything around it, and a clock."""

    place: Path
    store: Store
    engine: PlayedEngine
    now: datetime = NOW
    largest: int = 1_000_000
    dispatches: int = 0
    ids: list[DispatchId] = field(default_factory=list)

    def launcher(self) -> Launcher:
        return Launcher(
            Workflows([self.place]),
            self.store.launches,
            self.engine,
            store_id="store",
            clock=lambda: self.now,
            largest=self.largest,
        )

    def write(self, document: str) -> Path:
        name = document.split()[1]
        folder = self.place / name
        folder.mkdir(exist_ok=True)
        (folder / "workflow.yaml").write_text(document)
        (folder / "combine.sh").write_text("#!/bin/sh\n")
        (folder / "combine.sh").chmod(0o755)
        return folder

    def launch(
        self, workflow: str = "plain", dispatch: int = 1, round_: int = 0, parameters: Mapping[str, str] | None = None
    ) -> Outcome:
        id_ = self.ids[dispatch - 1]
        key = launch_key(workflow, id_, round_)
        asked = {"run": "21615"} if parameters is None else parameters
        return self.launcher().launch(LaunchRequest(workflow, asked, message(), id_, key, "raw", round_))

    @property
    def only(self) -> Launch:
        (launch,) = self.store.launches.list()
        return launch


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    store = Store.open(f"sqlite:///{tmp_path / 'muleteer.db'}")
    life = Life(tmp_path / "workflows", store, PlayedEngine())
    life.place.mkdir()
    life.write(PLAIN)
    life.write(NAMED)
    life.ids = dispatched(store, 3)
    yield life
    store.close()


# Written down, then sent.


def test_a_launch_and_its_package_are_there_before_anything_is_sent(life: Life) -> None:
    """While the engine is asked, another process sees what is being sent."""
    seen: list[tuple[LaunchState, set[str]]] = []

    def look() -> None:
        launch = life.only
        seen.append((launch.state, {file.path for file in life.store.launches.files(launch.id)}))

    life.engine.meanwhile = look

    outcome = life.launch()

    assert isinstance(outcome, Done)
    launch = life.only
    (state, files) = seen[0]
    assert (state, files) == (LaunchState.SUBMITTING, set(life.engine.sent[0][1]))
    assert {"combine.sh", "muleteer/launch.json", "workflow.yaml"} <= files
    assert (launch.state, launch.reference, launch.run) == (LaunchState.SUBMITTED, f"ref:{launch.name}", 21615)
    assert launch.outputs == {f"group.sphenix:{launch.name}": "combine"}
    (tried,) = life.store.launches.tries(launch.id)
    assert (tried.command, tried.client, tried.verdict) == (("send", "it"), "played 1.0", "it runs")


def test_an_engine_that_registers_outputs_says_what_they_are_called(life: Life) -> None:
    """Then its own datasets are what others may wait for."""
    life.engine.registers_outputs = True

    life.launch()

    assert life.only.outputs == {f"user.me:{life.only.name}_combine": "combine"}


def test_what_is_sent_is_what_was_written_down_whatever_becomes_of_the_workflow(life: Life) -> None:
    """An edit, or the workflow's end, changes no launch that was intended."""
    life.engine.trouble = [EngineUnavailable("PanDA is away"), EngineUnavailable("still")]
    assert life.launch() == Retry("PanDA is away")
    folder = life.place / "plain"
    (folder / "combine.sh").write_text("edited\n")
    life.launch()
    for path in folder.iterdir():
        path.unlink()

    outcome = life.launch()

    assert isinstance(outcome, Done)
    ((_, package),) = life.engine.sent
    assert package["combine.sh"].content == b"#!/bin/sh\n"
    assert package["combine.sh"].executable


@pytest.mark.parametrize(
    ("workflow", "parameters", "said"),
    [
        ("gone", {"run": "1"}, "there is no workflow 'gone'"),
        ("plain", {}, "run"),
        ("plain", {"run": "100000"}, "run"),
        ("plain", {"run": "1", "rnu": "2"}, "rnu"),
    ],
)
def test_what_can_never_be_launched_is_given_up_and_nothing_is_written(
    life: Life, workflow: str, parameters: Mapping[str, str], said: str
) -> None:
    """A workflow that is not there, a parameter that is missing, out of range or unknown."""
    outcome = life.launch(workflow, parameters=parameters)

    assert isinstance(outcome, GiveUp)
    assert said in outcome.reason
    assert life.store.launches.list() == []


def test_a_package_over_the_limit_is_given_up(life: Life) -> None:
    """With what to do, and nothing is sent."""
    life.largest = 100

    outcome = life.launch()

    assert isinstance(outcome, GiveUp)
    assert "and 100 are allowed" in outcome.reason
    assert (life.store.launches.list(), life.engine.sent) == ([], [])


def test_a_refusal_is_given_up_and_the_same_launch_is_tried_again_once_it_is_mended(life: Life) -> None:
    """Its try is kept, with what came back."""
    life.engine.trouble = [EngineRefused("VO unknown", receipt("refused", "no such VO"))]

    first = life.launch()
    refused = life.only
    second = life.launch()

    assert first == GiveUp("VO unknown")
    assert (refused.state, refused.reason) == (LaunchState.PREPARED, "VO unknown")
    assert isinstance(second, Done)
    assert [each.output for each in life.store.launches.tries(life.only.id)] == ["no such VO", ""]


# Doubts.


def test_a_doubt_eats_no_attempt_and_nothing_is_sent_before_it_is_settled(life: Life) -> None:
    """It is looked up until the engine is sure that it has nothing; then, and only then, it is sent again."""
    life.engine.settle = timedelta(minutes=10)
    life.engine.trouble = [EngineInDoubt("no answer", receipt("in doubt"))]

    outcomes = []
    for minutes in (0, 1, 9, 10):
        life.now = NOW + timedelta(minutes=minutes)
        outcomes.append(life.launch())

    assert [type(each) for each in outcomes] == [Wait, Wait, Wait, Done]
    assert "no answer" in outcomes[0].reason if isinstance(outcomes[0], Wait) else False
    assert len(life.engine.sent) == 1
    assert len(life.store.launches.tries(life.only.id)) == 2


def test_what_turns_up_after_a_doubt_is_adopted(life: Life) -> None:
    """It arrived after all: nothing is sent a second time."""
    life.engine.settle = timedelta(minutes=10)
    life.engine.trouble = [EngineInDoubt("no answer")]
    life.launch()
    assert life.only.state is LaunchState.IN_DOUBT
    life.engine.states[life.only.name] = SubmissionState.SUBMITTED

    outcome = life.launch()

    assert isinstance(outcome, Done)
    assert (life.only.state, life.engine.sent) == (LaunchState.SUBMITTED, [])


def test_a_doubt_that_cannot_be_looked_up_waits(life: Life) -> None:
    """PanDA away for an hour costs no attempt either."""
    life.engine.trouble = [EngineInDoubt("no answer")]
    life.launch()
    life.engine.away = EngineUnavailable("still away")

    outcome = life.launch()

    assert isinstance(outcome, Wait)
    assert "still away" in outcome.reason
    assert life.only.state is LaunchState.IN_DOUBT


def test_a_process_that_died_while_sending_is_a_doubt(life: Life) -> None:
    """Its successor looks before it sends."""
    life.engine.settle = timedelta(minutes=10)

    def die() -> None:
        raise KeyboardInterrupt

    life.engine.meanwhile = die
    with pytest.raises(KeyboardInterrupt):
        life.launch()
    life.engine.meanwhile = lambda: None

    outcome = life.launch()

    assert isinstance(outcome, Wait)
    assert (life.only.state, life.engine.sent) == (LaunchState.IN_DOUBT, [])


def test_whoever_was_taken_for_dead_and_comes_back_with_the_reference_is_believed(life: Life) -> None:
    """Somebody else had put the launch in doubt meanwhile."""

    def doubt() -> None:
        life.store.launches.advance(life.only, LaunchState.IN_DOUBT, who="other", why="gone", now=NOW)

    life.engine.meanwhile = doubt

    assert isinstance(life.launch(), Done)
    assert (life.only.state, life.only.reference) == (LaunchState.SUBMITTED, f"ref:{life.only.name}")


# Names that workflows give.


def test_a_workflow_may_name_its_launches(life: Life) -> None:
    """What suits no file system is replaced; the key follows from the name."""
    life.launch("named")

    assert life.only.name == "rn00021615-CALOR_SPHENIX_RAW_EVENTS-00021615"
    assert life.only.key == f"store/named/{life.only.name}"


def test_a_second_dispatch_with_the_same_name_is_refused(life: Life) -> None:
    """It is told which launch and dispatch have the name, how that stands, and how to repeat it on purpose."""
    life.launch("named", 1)

    outcome = life.launch("named", 2)

    assert isinstance(outcome, GiveUp)
    assert "launch 1 is submitted" in outcome.reason
    assert f"for dispatch {life.ids[0]}" in outcome.reason
    assert f"dispatches redispatch {life.ids[1]} --again" in outcome.reason
    assert len(life.engine.sent) == 1


def test_a_repeat_that_a_person_asked_for_has_a_name_of_its_own(life: Life) -> None:
    """Each round is one more launch, whoever made the one before, once that has ended."""
    outcomes = []
    for dispatch, round_ in ((1, 0), (2, 1), (1, 2), (1, 2)):
        outcomes.append(life.launch("named", dispatch, round_))
        if (dispatch, round_) != (1, 2):
            too_early = life.launch("named", dispatch, round_ + 1)
            assert isinstance(too_early, GiveUp)
            assert "is submitted. Nothing was sent" in too_early.reason
            newest = life.store.launches.list(limit=1)[0]
            life.store.launches.advance(newest, LaunchState.FAILED, who="test", why=None, now=NOW)

    assert [type(each) for each in outcomes] == [Done] * 4
    first = "rn00021615-CALOR_SPHENIX_RAW_EVENTS-00021615"
    assert [name for name, _ in life.engine.sent] == [first, f"{first}-r1", f"{first}-r2"]


def test_a_name_that_somebody_else_has_on_the_engine_is_not_adopted(life: Life) -> None:
    """We never sent it, so it is not ours; once it is gone, the same launch is sent."""
    name = "rn00021615-CALOR_SPHENIX_RAW_EVENTS-00021615"
    life.engine.states[name] = SubmissionState.RUNNING

    outcome = life.launch("named")
    refused = life.only
    del life.engine.states[name]
    later = life.launch("named")

    assert isinstance(outcome, GiveUp)
    assert "somebody else's" in outcome.reason
    assert (refused.state, refused.reason) == (LaunchState.PREPARED, outcome.reason)
    assert isinstance(later, Done)


def test_a_name_that_we_sent_ourselves_is_adopted(life: Life) -> None:
    """A doubt about a name of ours is settled as any other."""
    life.engine.trouble = [EngineInDoubt("no answer")]
    life.launch("named")
    life.engine.states[life.only.name] = SubmissionState.RUNNING

    assert isinstance(life.launch("named"), Done)
    assert life.only.state is LaunchState.SUBMITTED


def test_a_name_that_cannot_be_looked_up_first_is_not_sent(life: Life) -> None:
    """PanDA away: the rule's policy says when it is tried again, and the launch says why it waits."""
    life.engine.away = EngineUnavailable("PanDA is away")

    outcome = life.launch("named")

    assert isinstance(outcome, Retry)
    assert life.only.state is LaunchState.PREPARED
    assert "PanDA is away" in (life.only.reason or "")


@pytest.mark.parametrize(("template", "said"), [("{scope:.0s}//", "no letter"), ("x" * 116, "116 characters")])
def test_a_name_that_nobody_can_use_is_refused(life: Life, template: str, said: str) -> None:
    """With the template, what it gave and what is allowed."""
    life.write(PLAIN.replace("name: plain", f"name: odd\nlaunch_name: '{template}'"))

    outcome = life.launch("odd")

    assert isinstance(outcome, GiveUp)
    assert said in outcome.reason


# By hand.


def test_a_person_launches_without_a_dispatch(life: Life) -> None:
    """Each time another launch; written down first, sent after."""
    did = Did("group.sphenix", "RAW-1")
    for _ in range(2):
        launch = life.launcher().by_hand("plain", {"run": "1"}, did, who="cli:me")
        assert launch.state is LaunchState.PREPARED
        assert isinstance(life.launcher().go_on(launch.id), Done)

    assert len({name for name, _ in life.engine.sent}) == 2
    assert life.store.journal.of("launch", launch.id)[0].who == "cli:me"


def test_a_name_launched_by_hand_is_launched_once(life: Life) -> None:
    """Before it was sent the same is carried on with; after that it is refused, unless another round is asked for."""
    launcher, did = life.launcher(), Did("group.sphenix", "RAW-1")
    first = launcher.by_hand("named", {"run": "1"}, did, who="cli:me")
    assert launcher.by_hand("named", {"run": "1"}, did, who="cli:me").id == first.id
    launcher.go_on(first.id)

    for again in (False, True):
        with pytest.raises(ValueError, match=r"launch 1 is submitted.*workflow launch named --again"):
            launcher.by_hand("named", {"run": "1"}, did, who="cli:me", again=again)
    ended = life.store.launches.advance(
        life.store.launches.get(first.id), LaunchState.FAILED, who="test", why=None, now=NOW
    )
    second = launcher.by_hand("named", {"run": "1"}, did, who="cli:me", again=True)

    assert second.name == f"{ended.name}-r1"
    assert [each.id for each in life.store.launches.rounds(second.key)] == [first.id, second.id]


# What earlier versions left.


def test_whoever_is_taken_for_dead_and_found_unsent_comes_back_with_the_reference(life: Life) -> None:
    """His doubt was settled while he was still sending: what he sent is followed all the same."""

    def settle() -> None:
        launch = life.only
        for state in (LaunchState.IN_DOUBT, LaunchState.PREPARED):
            launch = life.store.launches.advance(launch, state, who="another", why=None, now=life.now)

    life.engine.meanwhile = settle

    outcome = life.launch()

    assert isinstance(outcome, Done)
    assert (life.only.state, life.only.reference) == (LaunchState.SUBMITTED, f"ref:{life.only.name}")


def test_whoever_was_taken_for_dead_does_not_undo_what_another_sends(life: Life) -> None:
    """His failure is about his own try: if it put the launch back, a third would send what the second is sending."""

    def send_too() -> None:
        life.now += timedelta(minutes=10)
        launch = life.only
        for state in (LaunchState.IN_DOUBT, LaunchState.PREPARED, LaunchState.SUBMITTING):
            launch = life.store.launches.advance(launch, state, who="another", why=None, now=life.now)

    life.engine.meanwhile = send_too
    life.engine.trouble = [EngineUnavailable("nothing was sent")]

    life.launch()

    assert life.only.state is LaunchState.SUBMITTING


@dataclass
class Rival:
    """Somebody who brings the same launch on its way, and is held up while he sends it."""

    life: Life
    id: LaunchId
    sending: Event = field(default_factory=Event)
    goes_on: Event = field(default_factory=Event)

    def __post_init__(self) -> None:
        self._thread = Thread(target=lambda: self.life.launcher().go_on(self.id))

    def begin(self) -> None:
        """Come so far as to send it."""
        self.life.engine.looking = lambda: None
        self.life.engine.meanwhile = self._hold
        self._thread.start()
        assert self.sending.wait(10)

    def _hold(self) -> None:
        self.life.engine.meanwhile = lambda: None
        self.sending.set()
        assert self.goes_on.wait(10)

    def end(self) -> None:
        self.goes_on.set()
        self._thread.join(10)


@pytest.mark.parametrize("doubtful", [False, True])
def test_of_two_who_bring_one_launch_on_its_way_one_sends_it(life: Life, doubtful: bool) -> None:
    """Both found that the engine does not have it, at the same moment: whoever is second leaves it to the first."""
    id_ = life.launcher().by_hand("named", {"run": "21615"}, Did("s", "DS"), who="cli:me").id
    if doubtful:
        life.engine.trouble = [EngineInDoubt("cut")]
        life.launcher().go_on(id_)
    rival = Rival(life, id_)
    life.engine.looking = rival.begin

    outcome = life.launcher().go_on(id_)
    rival.end()

    assert isinstance(outcome, Wait)
    assert len(life.engine.sent) == 1
    assert life.only.state is LaunchState.SUBMITTED


def test_a_launch_that_was_written_down_without_its_package_gets_one(life: Life) -> None:
    """As earlier versions did: it is packed once more, and kept."""
    life.engine.trouble = [EngineUnavailable("away")]
    life.launch()
    with life.store.database.write() as connection:
        connection.execute(delete(launch_files))

    assert isinstance(life.launch(), Done)
    ((_, package),) = life.engine.sent
    assert [file.path for file in life.store.launches.files(life.only.id)] == sorted(package)
