"""Failed jobs summed up, with the command that does something about them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from orchestrator.core.failure_groups import By, Failed, summed_up
from orchestrator.core.failures import Table
from schemas.dispatch import DispatchId
from schemas.failure import Complaint, Entry, FailedJob, FailureClass, FailureGroup, Source
from schemas.launch import Launch, LaunchId, LaunchState
from tests.unit.making import NOW, later

TABLE = Table(
    [
        Entry.model_validate({"code": 1212, "class": "memory", "means": "m", "action": "a", "remedy": "more-memory"}),
        Entry.model_validate({"code": 1099, "class": "storage", "means": "m", "action": "a", "remedy": "retry"}),
        Entry.model_validate({"code": 1305, "class": "payload", "means": "m", "action": "a", "remedy": "redispatch"}),
        Entry.model_validate({"code": 1150, "class": "time", "means": "m", "action": "a"}),
    ]
)


def launch(id_: int, state: LaunchState = LaunchState.FAILED, **fields: Any) -> Launch:
    values: dict[str, Any] = {
        "id": id_, "dispatch_id": DispatchId(100 + id_), "key": "k", "name": f"n{id_}", "workflow": "calo",
        "parameters": {}, "inputs": {}, "outputs": {}, "engine": "e", "reference": f"task:{id_}", "state": state,
        "reason": None, "steps": (), "created_at": NOW, "updated_at": NOW,
    }  # fmt: skip
    return Launch.model_validate(values | fields)


def failed(
    code: int | None,
    of: Launch | None = None,
    *,
    step: str = "reco",
    site: str | None = "BNL",
    at: datetime | None = NOW,
    memory: int | None = 2000,
    text: str = "-",
) -> Failed:
    complaint = Complaint(Source.PILOT, code, text)
    return Failed(
        of or launch(1), FailedJob(step=step, site=site, complaints=(complaint,), at=at, memory=memory, log=text)
    )


def only(*jobs: Failed, by: By = By.STEP) -> FailureGroup:
    (group,) = summed_up(jobs, TABLE, by)
    return group


def test_what_fails_alike_is_one_group_with_its_newest_as_example() -> None:
    """How many, where, from when to when; the largest group first."""
    one, two = launch(1), launch(2)
    groups = summed_up(
        [
            failed(1099, step="links"),
            failed(1212, two, site="MIT", at=later(9), text="newest"),
            failed(1212, one, at=later(1)),
            failed(1212, one, at=None),
        ],
        TABLE,
    )

    assert [(group.class_, group.jobs) for group in groups] == [(FailureClass.MEMORY, 3), (FailureClass.STORAGE, 1)]
    memory = groups[0]
    assert (memory.source, memory.code, memory.launches, memory.steps) == (Source.PILOT, 1212, (1, 2), ("reco",))
    assert memory.sites == {"BNL": 2, "MIT": 1}
    assert (memory.first, memory.last) == (later(1), later(9))
    assert (memory.example.log, memory.example_launch) == ("newest", 2)


def test_what_is_told_apart_is_chosen() -> None:
    """Steps, sites or launches."""
    jobs = [
        failed(1212, launch(1), step="a", site="X"),
        failed(1212, launch(1), step="b", site="Y"),
        failed(1212, launch(2), step="b", site="Y"),
        failed(1212, launch(3), step="b", site="Y"),
    ]

    assert [group.steps for group in summed_up(jobs, TABLE, By.STEP)] == [("b",), ("a",)]
    assert [group.sites for group in summed_up(jobs, TABLE, By.SITE)] == [{"Y": 3}, {"X": 1}]
    assert [group.launches for group in summed_up(jobs, TABLE, By.LAUNCH)] == [(1,), (2,), (3,)]


def test_what_is_unknown_is_told_apart_by_its_words_without_their_numbers() -> None:
    """Files and nodes have numbers; one complaint of many files is one group."""
    groups = summed_up(
        [failed(None, text="lost file 17 of 20"), failed(None, text="lost file 3 of 20"), failed(None, text="burnt")],
        TABLE,
    )

    assert [(group.class_, group.jobs) for group in groups] == [(FailureClass.UNKNOWN, 2), (FailureClass.UNKNOWN, 1)]


def test_codes_of_one_entry_are_told_apart() -> None:
    """An entry may stand for many codes: which it was is not lost."""
    table = Table([Entry.model_validate({"source": "pilot", "class": "site", "means": "m", "action": "a"})])

    assert [group.code for group in summed_up([failed(1), failed(2)], table)] == [1, 2]


# Commands.


def test_more_memory_is_twice_what_the_largest_had() -> None:
    """Rounded up to half a gigabyte; for the one step."""
    group = only(failed(1212, launch(12), memory=2000), failed(1212, launch(13), memory=2100))

    assert group.command == (
        *("launches", "retry", "12", "13", "--step", "reco", "--memory", "4500"),
        *("--reason", "memory: pilot 1212"),
    )


def test_more_of_an_unknown_amount_is_no_command() -> None:
    """Nobody should retry with the same memory."""
    assert only(failed(1212, memory=None)).command == ()


def test_a_retry_names_those_that_can_be_retried() -> None:
    """Not one that finished meanwhile, and not one that the engine never had."""
    jobs = [
        failed(1099, launch(1)),
        failed(1099, launch(2, LaunchState.FINISHED)),
        failed(1099, launch(3, reference=None)),
        failed(1099, launch(4, LaunchState.RUNNING)),
    ]

    assert only(*jobs).command[:4] == ("launches", "retry", "1", "4")
    assert "5" not in only(*jobs).command
    assert only(jobs[1]).command == ()


def test_several_steps_are_retried_all() -> None:
    """What failed in them runs again, whichever it is."""
    group = only(failed(1099, step="a", site="X"), failed(1099, step="b", site="X"), by=By.SITE)

    assert "--step" not in group.command


def test_what_must_be_mended_first_is_dispatched_once_more() -> None:
    """By its dispatch, once, when its launches have ended; a launch by hand has none."""
    jobs = [
        failed(1305, launch(1)),
        failed(1305, launch(2, dispatch_id=101)),
        failed(1305, launch(3, LaunchState.RUNNING)),
        failed(1305, launch(4, dispatch_id=None)),
    ]

    assert only(*jobs).command == ("dispatches", "redispatch", "101", "--reason", "payload: pilot 1305")
    assert only(jobs[3]).command == ()


def test_some_failures_have_no_command() -> None:
    assert only(failed(1150)).command == ()
    assert summed_up([], TABLE) == []


def test_the_command_is_said_by_those_who_may_be_many() -> None:
    """Ids in order, whatever the order of the jobs."""
    group = only(*(failed(1099, launch(number)) for number in (3, 1, 2, 3)))

    assert group.launches == (LaunchId(1), LaunchId(2), LaunchId(3))
    assert group.command[2:5] == ("1", "2", "3")
