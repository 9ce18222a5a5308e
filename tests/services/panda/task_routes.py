"""`/api/v1/task/...`: tasks submitted, asked about and commanded."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

from . import rows
from .calls import Call, Envelope, answer, v1
from .model import Params, Task

NOT_FOUND = "Task not found"
NO_ID = "jediTaskID must be an integer"
PATTERN_MARKS = r"^$*+?\|()"


@v1("task", "POST")
def submit(call: Call, task_parameters: dict[str, Any], parent_tid: int | None = None) -> Envelope:
    params: Params = dict(task_parameters)
    owner = params["userName"] if call.caller.production and "userName" in params else call.caller.name
    code, message = call.state.submit(params, owner, parent_tid)
    if code not in (0, 3):
        return answer(False, message, code)
    found = re.search(r"jediTaskID=(\d+)", message)
    return answer(True, message, int(found[1]) if found else None)


@v1("task", "GET")
def get_status(call: Call, task_id: Any) -> Envelope:
    if not str(task_id).isdigit():
        return answer(False, NO_ID)
    task = call.state.known(int(task_id))
    return answer(True, data=task.status) if task else answer(False, NOT_FOUND)


@v1("task", "GET")
def get_details(call: Call, task_id: int, include_parameters: bool = False, include_status: bool = False) -> Envelope:
    task = call.state.known(task_id)
    if task is None:
        return answer(False, "Task not found or error retrieving the details")
    told = rows.short_details(task)
    if not include_parameters:
        del told["cliParams"]
    if not include_status:
        del told["status"]
    return answer(True, data=told)


@v1("task", "GET")
def get_detailed_info(call: Call, task_id: int) -> Envelope:
    task = call.state.known(task_id)
    if task is None:
        return answer(False, "Task not found or error retrieving task info")
    return answer(True, data=rows.details(task))


@v1("task", "GET")
def get_parent_detailed_info(call: Call, task_id: int) -> Envelope:
    task = call.state.known(task_id)
    if task is None:
        return answer(False, "Child task not found")
    if task.parent == task.id:
        return answer(False, "No parent task found")
    parent = call.state.known(task.parent)
    return answer(True, data=rows.details(parent)) if parent else answer(False, "Parent task not found")


@v1("task", "GET")
def get_task_parameters(call: Call, task_id: int) -> Envelope:
    task = call.state.tasks.get(task_id)
    return answer(True, data=task.params) if task else answer(False, NOT_FOUND)


@v1("task", "GET")
def get_tasks_detailed_info_since(
    call: Call,
    since: str | None = None,
    filters: str | None = None,
    n_tasks: int = 500,
) -> Envelope:
    """Rows of the caller's tasks. Plain values of `filters` count before `n_tasks` is applied, patterns after."""
    try:
        wanted = json.loads(filters) if filters else {}
    except ValueError:
        return answer(False, "filters is not valid JSON")
    if not isinstance(wanted, dict):
        return answer(False, "filters must be a JSON object")
    patterns = {key: text for key, text in wanted.items() if any(mark in text for mark in PATTERN_MARKS)}
    equal = {"userName": call.caller.name} | {key: text for key, text in wanted.items() if key not in patterns}
    try:
        earliest = datetime.strptime(since, "%Y-%m-%d %H:%M:%S").isoformat(timespec="microseconds") if since else ""  # noqa: DTZ007  # UTC
    except ValueError:
        return answer(False, "Failed to retrieve task IDs")
    if equal.keys() - rows.columns():
        return answer(False, "Failed to retrieve task IDs")
    return answer(True, data=_chosen(call, earliest, equal, patterns, n_tasks))


#: Columns that a task itself holds, so that most tasks are passed over without making their rows.
QUICK = {"userName": "owner", "taskName": "name", "status": "status", "jediTaskID": "id"}


def _chosen(call: Call, earliest: str, equal: dict[str, str], patterns: dict[str, str], most: int) -> list[Params]:
    quick = [(QUICK[key], text) for key, text in equal.items() if key in QUICK]
    slow = [(key, text) for key, text in equal.items() if key not in QUICK]
    chosen: list[Params] = []
    for task in call.state.tasks.values():
        if task.status is None or task.modified < earliest:
            continue
        if any(str(getattr(task, attribute)) != str(text) for attribute, text in quick):
            continue
        row = rows.details(task)
        if all(rows.plain(row[key]) == str(text) for key, text in slow):
            chosen.append(row)
            if len(chosen) == most:
                break
    return [row for row in chosen if _matches(row, patterns)]


def _matches(row: Params, patterns: dict[str, str]) -> bool:
    """Unknown columns are passed over; a pattern that is none matches nothing."""
    try:
        return all(re.search(text, rows.plain(row[key])) for key, text in patterns.items() if key in row)
    except re.error:
        return False


@v1("task", "GET")
def get_tasks_modified_since(
    call: Call,
    since: str,
    dn: str | None = None,
    full: bool = False,
    min_task_id: int | None = None,
    prod_source_label: str = "user",
) -> Envelope:
    earliest = since.replace(" ", "T")
    owner = dn or call.caller.name
    found = {
        str(task.id): rows.short_details(task)
        for task in call.state.tasks.values()
        if task.status is not None
        and task.owner == owner
        and task.modified >= earliest
        and task.id >= (min_task_id or 0)
        and task.params.get("prodSourceLabel") == prod_source_label
    }
    return answer(True, data=found)


@v1("task", "GET")
def get_datasets_and_files(
    call: Call,
    task_id: Any,
    dataset_types: list[str] = ("input", "pseudo_input"),  # type: ignore[assignment]  # nobody changes it
    dataset_only: bool = False,
) -> Envelope:
    task = call.state.known(int(task_id))
    found = rows.datasets(task, list(dataset_types), not dataset_only) if task else []
    return answer(True, data=found) if found else answer(False, "No data found for the task")


@v1("task", "GET")
def get_job_ids(call: Call, task_id: int) -> Envelope:
    return answer(True, data=[job["PandaID"] for job in _jobs(call, task_id)])


@v1("task", "GET")
def get_job_descriptions(call: Call, task_id: int, unsuccessful_only: bool = False) -> Envelope:
    jobs = [job for job in _jobs(call, task_id) if not unsuccessful_only or job["jobStatus"] in rows.UNSUCCESSFUL]
    return answer(True, data=jobs)


def _jobs(call: Call, task_id: int) -> list[Params]:
    task: Task | None = call.state.known(task_id)
    return task.jobs if task else []


@v1("task", "POST", owner=True)
def kill(call: Call, task_id: int, broadcast: bool = False) -> Envelope:
    return _command(call, task_id, "kill")


@v1("task", "POST", owner=True)
def finish(call: Call, task_id: int, soft: bool = False, broadcast: bool = False) -> Envelope:
    return _command(call, task_id, "finish", {"soft": soft})


@v1("task", "POST", production=True)
def pause(call: Call, task_id: int) -> Envelope:
    return _command(call, task_id, "pause")


@v1("task", "POST", production=True)
def resume(call: Call, task_id: int) -> Envelope:
    return _command(call, task_id, "resume")


@v1("task", "POST")
def reload_input(call: Call, task_id: int, ignore_hard_exhausted: bool = False) -> Envelope:
    return _command(call, task_id, "incexec")


def _command(call: Call, task_id: int, command: str, arguments: Params | None = None) -> Envelope:
    code, message = call.state.command(task_id, command, arguments)
    return answer(code == 0, message, code)


@v1("task", "POST", owner=True)
def retry(
    call: Call,
    task_id: int,
    new_parameters: dict[str, Any] | str | None = None,
    no_child_retry: bool = False,
    discard_events: bool = False,
    disable_staging_mode: bool = False,
    keep_gshare_priority: bool = False,
    ignore_hard_exhausted: bool = False,
) -> Envelope:
    """Always a success; `data` tells whether it really is one (0, with new parameters 3) or not (2, 4)."""
    new = json.loads(new_parameters) if isinstance(new_parameters, str) else new_parameters
    task = call.state.known(task_id)
    if task is not None and task.status in ("running", "scouting", "pending") and _is_users(task):
        task.params.update(new or {})
        task.commands.append({"command": "increase_attempts", "arguments": {"increase": 5, **(new or {})}})
        text = f"retry has been triggered for failed jobs while the task is still {task.status}"
        if new:
            text += f". new tasks params have been set to jediTaskID={task_id}. "
        return answer(True, text, 3 if new else 0)
    if task is not None and task.status == "exhausted" and not call.caller.production:
        text = "Command rejected: the retry command is not accepted if the task is in exhausted status "
        return answer(True, text + "and production role is missing", 4)
    if new and task is not None:
        code, message = call.state.submit({**task.params, **new}, task.owner)
    else:
        code, message = call.state.command(task_id, "retry")
    return answer(True, message, code)


def _is_users(task: Task) -> bool:
    return task.params.get("prodSourceLabel") == "user"


@v1("task", "POST", production=True)
def reactivate(
    call: Call, task_id: int, keep_attempt_nr: bool = False, trigger_job_generation: bool = False
) -> Envelope:
    """Any task, known or not: the server does not look."""
    task = call.state.known(task_id)
    inputs = 0
    if task is not None:
        inputs, task.finished, task.failed = task.files, 0, 0
        task.commands.append({"command": "reactivate", "arguments": {"keep_attempt_nr": keep_attempt_nr}})
        task.move("ready")
    return answer(True, f"updated {inputs} inputs and task {task_id} was reactivated ", 0)


@v1("task", "POST", production=True)
def increase_attempts(call: Call, task_id: int, increase: int) -> Envelope:
    if increase < 0:
        return answer(False, f"increase must be a positive integer, got {increase}")
    task = call.state.known(task_id)
    if task is None:
        return answer(False, f"jediTaskID={task_id} not found", 1)
    good = ["running", "scouting", "ready"]
    if task.status not in good and task.old_status not in good:
        text = f"command rejected since status={task.status} or oldStatus={task.old_status} not in {good}"
        return answer(False, text, 2)
    again, task.failed = task.failed, 0
    task.commands.append({"command": "increase_attempts", "arguments": {"increase": increase}})
    return answer(True, f"increased attemptNr for {task.files} inputs ({again} reactivated)", 0)
