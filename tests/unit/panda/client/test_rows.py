"""Rows of PanDA and iDDS as they were captured from real servers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator.panda.client.rows import JobError, job_row, moment, request_row, task_row


def _captured(path: str) -> dict[str, Any]:
    """The first captured answer of that path with something in it."""
    for line in Path("tests/data/panda_http.jsonl").read_text().splitlines():
        exchange = json.loads(line)
        if exchange["path"].endswith(path) and exchange["resp_body"]["text"].startswith('{"success": true'):
            data: dict[str, Any] = json.loads(exchange["resp_body"]["text"])["data"]
            return data
    raise AssertionError(f"no {path} among the captured exchanges")


def test_a_captured_task_is_read() -> None:
    task = task_row(_captured("task/get_detailed_info"))

    assert (task.id, task.name, task.status, task.super_status) == (2, "user.shrek.test2/", "defined", "registered")
    assert task.modified_at == datetime(2026, 11, 22, 1, 15, 45, 197218, tzinfo=UTC)
    assert task.parent is None, "its own number stands for no parent"
    assert (task.user, task.site, task.ram_count, task.attempt) == ("Shrek Producer", "BNL_SPHENIX", 2000, 0)
    assert (task.error, task.ended_at) == (None, None)


def test_a_task_with_a_parent_and_an_error() -> None:
    row = {**_captured("task/get_detailed_info"), "parent_tid": 1, "errorDialog": "<b>no site</b>", "pctFinished": 40}

    task = task_row({**row, "nFiles": 10, "nFilesFinished": 4, "nFilesFailed": 1})

    assert (task.parent, task.error, task.percent) == (1, "<b>no site</b>", 40.0)
    assert (task.n_files, task.n_files_finished, task.n_files_failed) == (10, 4, 1)


def test_a_row_that_is_no_task_is_an_error() -> None:
    with pytest.raises(KeyError):
        task_row({"taskName": "x", "status": "done"})
    with pytest.raises(ValueError, match="task 3 has no modificationTime"):
        task_row({"jediTaskID": 3, "taskName": "x", "status": "defined", "modificationTime": None})


def _enum(kind: str, value: int, name: str) -> dict[str, Any]:
    return {"class": kind, "attributes": {"_value_": value, "_name_": name}}


def test_states_of_idds_are_words_however_they_are_written() -> None:
    row = {"request_id": 3, "name": "tag", "transform_name": "tag_000_top", "transform_id": 9}
    for status in (_enum("RequestStatus", 2, "Transforming"), 2, "Transforming"):
        read = request_row({**row, "status": status, "transform_status": _enum("TransformStatus", 0, "New")})
        assert (read.status, read.transform_status) == ("Transforming", "New")


@pytest.mark.parametrize(
    ("given", "workload"),
    [
        ({"transform_workload_id": 17, "processing_workload_id": 17}, 17),
        ({"transform_workload_id": None, "processing_workload_id": "17"}, 17),
        ({"transform_workload_id": None, "processing_workload_id": None}, None),
        ({}, None),
    ],
)
def test_a_steps_task_is_known_once_it_was_handed_in(given: dict[str, Any], workload: int | None) -> None:
    row = request_row({"request_id": 3, "status": 2, **given})

    assert row.workload_id == workload


@pytest.mark.parametrize(
    ("errors", "words"),
    [({}, None), ({"msg": ""}, None), ({"msg": "it broke"}, "it broke"), (None, None), ("no", "no")],
)
def test_errors_of_idds(errors: object, words: str | None) -> None:
    assert request_row({"request_id": 3, "status": 5, "errors": errors}).errors == words


JOB = {"PandaID": 77, "jobStatus": "failed", "attemptNr": 2, "computingSite": "BNL", "pilotID": "batch|x"}


def test_a_job_says_who_blames_whom() -> None:
    job = job_row(
        {**JOB, "pilotErrorCode": 1305, "pilotErrorDiag": "killed", "transExitCode": "65", "ddmErrorCode": 0}, "page"
    )

    assert (job.id, job.status, job.attempt, job.site, job.log) == (77, "failed", 2, "BNL", "page")
    assert job.errors == (JobError("pilot", 1305, "killed"), JobError("transformation", 65, "exit code 65"))


def test_the_pilots_own_output_goes_before_the_monitors_page() -> None:
    job = job_row({**JOB, "pilotID": "https://logs.example.org/77.out|pilot|PR"}, "page")

    assert job.log == "https://logs.example.org/77.out"


def test_times_are_utc() -> None:
    assert moment({"__datetime__": "2026-11-22T01:15:45"}) == datetime(2026, 11, 22, 1, 15, 45, tzinfo=UTC)
    assert moment("2026-11-22 03:15:45+02:00") == datetime(2026, 11, 22, 1, 15, 45, tzinfo=UTC)
    assert moment(None) is None


def test_half_a_character_is_written_out() -> None:
    """JSON may hold one, and no store and no model takes it: everything else in the answer would be lost with it."""
    row = {"jediTaskID": 1, "taskName": "a", "status": "failed", "modificationTime": "2026-11-22T01:15:45"}

    assert task_row({**row, "errorDialog": "bad \ud800 byte"}).error == "bad \\ud800 byte"
