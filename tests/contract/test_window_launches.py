"""Launches through the window: looked at, summed up, asked for something. On SQLite and on PostgreSQL alike."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from orchestrator.store.launches import Intent, Noted
from orchestrator.store.store import Store
from schemas.failure_class import FailureClass
from schemas.job import JobReport, JobState
from schemas.launch import Command, FileCounts, LaunchId, LaunchState, StepProgress, StepState, SubmissionRecord
from schemas.retry import RetryPolicy, StepRetry
from tests.contract.test_store_launches import PACKAGE, intent, made
from tests.contract.test_window_acting import ask, last, written
from tests.unit.making import NOW, later


def command(client: TestClient, what: str, **body: Any) -> Any:
    return ask(client, "launches/commands", command=what, **body)


# Looked at.


@pytest.fixture
def three(store: Store) -> Store:
    """One that stalls, one that runs and is half done, one that has failed."""
    made(store, "rn1-CALO", LaunchState.SUBMITTED, run=1, now=later(-7 * 3600))
    runs = made(store, "rn2-CALO", LaunchState.SUBMITTED, run=2)
    files = FileCounts(total=10, finished=5, failed=1)
    steps = [StepProgress(name="reco", state=StepState.RUNNING, task=1234, files=files)]
    store.launches.note_progress([Noted(runs, steps, True)], who="watcher", now=NOW)
    made(store, "rn3-TRACKS", LaunchState.FAILED, run=3)
    return store


def test_launches_are_listed_with_how_far_they_are(client: TestClient, three: Store) -> None:
    """Newest first, a page at a time; whether one stalls is said."""
    listed = client.get("/api/v1/launches").json()

    assert [(each["id"], each["percent"], each["stalled"]) for each in listed] == [
        (3, 0.0, False),
        (2, 50.0, False),
        (1, 0.0, True),
    ]
    assert listed[1]["steps"][0]["task"] == 1234
    assert [each["id"] for each in client.get("/api/v1/launches?limit=1&before=3").json()] == [2]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("state=failed&state=running", [3, 2]),
        ("workflow=calo", [3, 2, 1]),
        ("workflow=other", []),
        ("run=1&run=3..9", [3, 1]),
        ("name=CALO", [2, 1]),
        ("rule=raw", []),
        ("stalled=true", [1]),
    ],
)
def test_launches_are_listed_by_the_filters_of_the_command_line(
    client: TestClient, three: Store, query: str, ids: list[int]
) -> None:
    """And those that are meant by the same filter, when something is asked of them, are the same."""
    assert [each["id"] for each in client.get(f"/api/v1/launches?{query}").json()] == ids
    wanted: dict[str, Any] = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        many = name in ("state", "run")
        wanted[name] = [*wanted.get(name, []), value] if many else True if name == "stalled" else value

    dry = command(client, "kill", filter=wanted, dry_run=True).json()

    assert sorted([*dry["changed"], *(id_ for each in dry["stayed"] for id_ in each["ids"])]) == sorted(ids)


@pytest.mark.parametrize(
    "query", ["run=x", "run=9..1", f"run={'9' * 5000}", "state=nonsense", "stalled=perhaps", "colour=red", "limit=0"]
)
def test_a_filter_that_cannot_be_understood_shows_nothing(client: TestClient, three: Store, query: str) -> None:
    """Neither a list nor sums; a slip of the pen must not show everything."""
    assert client.get(f"/api/v1/launches?{query}").status_code == 422
    assert client.get(f"/api/v1/launches/summary?{query}").status_code == 422


def test_launches_are_summed_up_by_run(client: TestClient, three: Store) -> None:
    """Newest runs first, a page at a time."""
    made(three, "rn2-TRACKS", LaunchState.FINISHED, run=2)

    summed = client.get("/api/v1/launches/summary?run=2..3").json()

    assert [(each["run"], each["launches"]) for each in summed] == [
        (3, {"failed": 1}),
        (2, {"finished": 1, "running": 1}),
    ]
    assert summed[1]["files"] == {"total": 10, "finished": 5, "failed": 1}
    assert [each["run"] for each in client.get("/api/v1/launches/summary?limit=1&before=3").json()] == [2]


def test_a_launch_is_shown_with_all_that_is_known_of_it(client: TestClient, store: Store) -> None:
    """Steps, what was sent, every try, what its jobs told, what was asked of it, and its history."""
    launch = store.launches.intend(intent("rn1-CALO"), PACKAGE, who="launcher", now=NOW)
    tried = SubmissionRecord(launch_id=launch.id, number=0, command=("pchain",), started_at=NOW, verdict="taken")
    store.launches.note_try(tried)
    store.job_reports.note(JobReport(launch=launch.name, step="reco", job="j1", what=JobState.STARTED), now=NOW)
    command(client, "kill", ids=[launch.id])

    shown = client.get(f"/api/v1/launches/{launch.id}").json()

    assert [step["name"] for step in shown["steps"]] == ["combine", "reco"]
    assert sorted(each["path"] for each in shown["files"]) == sorted(PACKAGE)
    assert [(each["number"], each["command"], each["verdict"]) for each in shown["tries"]] == [(1, ["pchain"], "taken")]
    assert [(each["step"], each["jobs"]) for each in shown["heard"]] == [("reco", 1)]
    (asked,) = shown["commands"]
    assert (asked["command"], asked["who"], asked["why"]) == ("kill", "rest:me", "calibration is late")
    assert [each["who"] for each in shown["journal"]] == ["launcher", "rest:me"]
    assert (shown["percent"], shown["stalled"]) == (0.0, False)


# Asked for something.


@pytest.mark.parametrize("what", Command)
def test_each_command_is_asked_for_with_who_and_why(client: TestClient, store: Store, what: Command) -> None:
    """Written down for whoever carries it out; a dry run writes nothing."""
    state = LaunchState.FAILED if what is Command.RETRY else LaunchState.RUNNING
    launch = made(store, "calo", state)
    before = written(store)

    dry = command(client, what, ids=[launch.id], dry_run=True)
    untouched = (written(store), store.launch_commands.of(launch.id))
    answer = command(client, what, ids=[launch.id], step="reco")

    assert (dry.status_code, dry.json()["changed"]) == (200, [launch.id])
    assert untouched == (before, [])
    assert (answer.status_code, answer.json()["changed"]) == (200, [launch.id])
    (asked,) = store.launch_commands.of(launch.id)
    assert (asked.command, asked.step, asked.who, asked.why) == (what, "reco", "rest:me", "calibration is late")
    why = f"{what} was asked for step reco: calibration is late"
    assert last(store, "launch", launch.id) == ("rest:me", state, why)


def test_a_retry_has_parameters_and_memory(client: TestClient, store: Store) -> None:
    """Numbers or texts, in the engine's words."""
    launch = made(store, "calo", LaunchState.FAILED)

    answer = command(client, "retry", ids=[launch.id], parameters={"nCore": 4, "site": "BNL"}, memory=5500)

    parameters = {"nCore": "4", "site": "BNL", "ramCount": "5500"}
    assert answer.json()["parameters"] == parameters
    assert store.launch_commands.of(launch.id)[0].parameters == parameters


@pytest.mark.parametrize(
    "wrong",
    [
        {"command": "retry", "memory": 1000, "parameters": {"ramCount": 2000}},
        {"command": "retry", "memory": 0},
        {"command": "retry", "memory": True},
        {"command": "retry", "memory": "1 GB"},
        {"command": "retry", "parameters": {"": "x"}},
        {"command": "retry", "parameters": {"nCore": None}},
        {"command": "retry", "parameters": {"nCore": {"more": 1}}},
        {"command": "retry", "parameters": ["nCore=4"]},
        {"command": "kill", "memory": 1000},
        {"command": "kill", "parameters": {"nCore": 4}},
        {"command": "pause", "force": True},
        {"command": "explode"},
        {"command": None},
        {"command": "kill", "step": ""},
        {"command": "kill", "step": "a\0b"},
    ],
)
def test_a_command_that_makes_no_sense_is_refused(client: TestClient, store: Store, wrong: dict[str, Any]) -> None:
    """422, with what is wrong; nothing was asked."""
    made(store, "calo", LaunchState.RUNNING)

    answer = ask(client, "launches/commands", ids=[1], **wrong)

    assert answer.status_code == 422
    assert answer.json()["mistakes"]
    assert store.launch_commands.of(LaunchId(1)) == []


def test_many_are_asked_only_if_so_many_are_expected(client: TestClient, store: Store) -> None:
    """By filter; what does not fit stays, with the reason."""
    for number in range(3):
        made(store, f"rn{number}", LaunchState.FAILED, run=number + 1)
    made(store, "rn9", LaunchState.FINISHED, run=9)
    wanted: dict[str, Any] = {"filter": {"workflow": "calo", "run": ["1..2", 9]}}

    unsaid = command(client, "retry", **wanted)
    dry = command(client, "retry", **wanted, dry_run=True)
    wrong = command(client, "retry", **wanted, expected=3)
    untouched = [store.launch_commands.of(LaunchId(id_)) for id_ in (1, 2, 3, 4)]
    right = command(client, "retry", **wanted, expected=2)

    assert (unsaid.status_code, dry.json()["count"]) == (422, 2)
    assert (wrong.status_code, wrong.json()["number"]) == (409, 2)
    assert wrong.json()["error"] == "2 would be changed now, and 3 were expected: nothing was changed"
    assert untouched == [[], [], [], []]
    assert (right.json()["changed"], right.json()["stayed"]) == ([1, 2], [{"why": "finished", "ids": [4]}])
    assert [len(store.launch_commands.of(LaunchId(id_))) for id_ in (1, 2, 3, 4)] == [1, 1, 0, 0]


def test_what_was_asked_for_already_is_not_asked_for_twice(client: TestClient, store: Store) -> None:
    """409, and the first stands."""
    made(store, "calo", LaunchState.RUNNING)
    command(client, "kill", ids=[1])

    again = command(client, "kill", ids=[1])

    assert (again.status_code, again.json()["error"]) == (409, "nothing was changed: 1 is asked for that already")
    assert len(store.launch_commands.of(LaunchId(1))) == 1


def test_a_retry_beside_another_launch_for_the_same_needs_force(client: TestClient, store: Store) -> None:
    """The answer says which one is at work."""
    first = made(store, "store/calo/a", LaunchState.FAILED)
    made(store, "store/calo/a/round-1", LaunchState.RUNNING)

    refused = command(client, "retry", ids=[first.id])
    forced = command(client, "retry", ids=[first.id], force=True)

    assert refused.status_code == 409
    assert "(store/calo/a/round-1) is running" in refused.json()["details"][str(first.id)]
    assert forced.json()["changed"] == [first.id]


def test_a_coming_retry_is_called_off(client: TestClient, store: Store) -> None:
    """By the command that kills; the answer says of which launches there was no more to do than that."""
    steps = [StepProgress(name="reco", state=StepState.FAILED)]
    policy = RetryPolicy(steps={"reco": StepRetry(attempts=1, classes=(FailureClass.SITE,))})
    intended = Intent("a", "a", None, "calo", {}, {}, {}, "panda:bnl", steps, retry=policy)
    launch = store.launches.intend(intended, who="test", now=NOW)
    for state in (LaunchState.SUBMITTING, LaunchState.SUBMITTED, LaunchState.FAILED):
        launch = store.launches.advance(launch, state, who="test", why=None, now=NOW, reference="r")
    runs = made(store, "b", LaunchState.RUNNING)

    dry = command(client, "kill", filter={"workflow": "calo"}, dry_run=True).json()
    before = client.get(f"/api/v1/launches/{launch.id}").json()
    answer = command(client, "kill", filter={"workflow": "calo"}, expected=2).json()
    after = client.get(f"/api/v1/launches/{launch.id}").json()

    remarks = [{"why": "over already: the coming retry is called off", "ids": [launch.id]}]
    assert (dry["changed"], dry["remarks"]) == (answer["changed"], answer["remarks"]) == ([launch.id, runs.id], remarks)
    assert (before["retry_at"] is None, after["retry_at"]) == (False, None)
    assert [(each["command"], each["state"], each["who"]) for each in after["commands"]] == [
        ("kill", "taken", "rest:me")
    ]
    assert [each.state for each in store.launch_commands.of(runs.id)] == ["wanted"]
