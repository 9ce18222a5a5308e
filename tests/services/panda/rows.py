"""What the stand-in tells about a task: the row of its details, its jobs, its datasets."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from .model import Params, Task

CAPTURED = Path(__file__).resolve().parents[2] / "data" / "panda_http.jsonl"

#: A job as far as failures are summed up from it; whoever adds one overrides what matters to it.
JOB: Params = {
    "attemptNr": 0,
    "brokerageErrorCode": 0,
    "brokerageErrorDiag": None,
    "computingSite": "BNL_SPHENIX",
    "cpuConsumptionTime": 0,
    "ddmErrorCode": 0,
    "ddmErrorDiag": None,
    "endTime": None,
    "exeErrorCode": 0,
    "exeErrorDiag": None,
    "jobDispatcherErrorCode": 0,
    "jobDispatcherErrorDiag": None,
    "jobStatus": "finished",
    "maxAttempt": 3,
    "maxPSS": None,
    "minRamCount": 2000,
    "modificationHost": "worker",
    "pilotErrorCode": 0,
    "pilotErrorDiag": None,
    "pilotID": None,
    "prodSourceLabel": "user",
    "startTime": None,
    "supErrorCode": 0,
    "supErrorDiag": None,
    "taskBufferErrorCode": 0,
    "taskBufferErrorDiag": None,
    "transExitCode": None,
}
#: What JEDI adds to the parameters of every task.
REFINED: Params = {
    "transPath": "https://pandaserver-doma.cern.ch/trf/user/runGen-00-00-02",
    "pushStatusChanges": True,
    "messageDriven": True,
    "cloudAsVO": True,
}
UNSUCCESSFUL = frozenset({"failed", "cancelled", "closed"})


@cache
def _captured_row() -> Params:
    """The details of a real task as they were captured, which give every row its columns."""
    for line in CAPTURED.read_text().splitlines():
        exchange = json.loads(line)
        if exchange["path"].endswith("/get_detailed_info"):
            row: Params | None = json.loads(exchange["resp_body"]["text"])["data"]
            if row:
                return row
    raise LookupError(f"{CAPTURED} holds no details of a task")


def _moment(time: str | None) -> Params | None:
    return {"__datetime__": time} if time else None


def _percent(part: int, whole: int) -> int:
    return 100 * part // whole if whole else 0


def details(task: Task) -> Params:
    """All columns of a task, times as `{"__datetime__": ...}`."""
    params = _expanded(task.params)
    return {
        **_captured_row(),
        "jediTaskID": task.id,
        "taskName": task.name,
        "status": task.status,
        "superStatus": task.super_status,
        "oldStatus": task.old_status,
        "userName": task.owner,
        "creationDate": _moment(task.created),
        "modificationTime": _moment(task.modified),
        "stateChangeTime": _moment(task.modified),
        "startTime": _moment(task.started),
        "endTime": _moment(task.ended),
        "errorDialog": task.error,
        "reqID": task.id,
        "parent_tid": task.parent,
        "attemptNr": task.attempt,
        "prodSourceLabel": params.get("prodSourceLabel"),
        "workingGroup": params.get("workingGroup"),
        "vo": params.get("vo"),
        "cloud": params.get("vo"),
        "site": params.get("site"),
        "processingType": params.get("processingType"),
        "ramCount": params["ramCount"],
        "container_name": params.get("container_name"),
        "job_execution_params": _command_line(params.get("jobParameters", [])),
        "task_creation_arguments": params.get("cliParams"),
        "raw_task_params": params,
        "nFiles": task.files,
        "nFilesFinished": task.finished,
        "nFilesFailed": task.failed,
        "nFilesMissing": task.missing,
        "pctFinished": _percent(task.finished, task.files),
        "pctFailed": _percent(task.failed, task.files),
        **task.fields,
    }


def _expanded(params: Params) -> Params:
    """Task parameters as JEDI keeps them: the URL of the sources put in, names of outputs and log by number."""
    items = [dict(item) for item in params.get("jobParameters", [])]
    outputs = 0
    for item in items:
        item["value"] = item["value"].replace("${SURL}", str(params.get("sourceURL")))
        if item.get("param_type") == "output":
            item["value"], outputs = f"${{OUTPUT{outputs}}}", outputs + 1
        elif item.get("param_type") == "pseudo_input":
            item["expandedList"] = [item["dataset"]]
    log = {"log": {**params["log"], "value": "${LOG0}"}} if "log" in params else {}
    return {**params, **log, **REFINED, "cloud": params.get("vo"), "jobParameters": items} | _memory(params)


def _memory(params: Params) -> Params:
    return {"ramCount": params.get("ramCount", 2000), "ramUnit": params.get("ramUnit", "MBPerCore")}


def _command_line(items: list[Params]) -> str:
    """The job's command line: what is not hidden, with a blank after each item unless it wants none."""
    shown = [item for item in items if not item.get("hidden")]
    return "".join(item["value"] + (" " if item.get("padding", True) else "") for item in shown).rstrip()


def columns() -> frozenset[str]:
    """The columns that may be asked for equality."""
    return frozenset(_captured_row())


def plain(value: Any) -> str:
    """A column as a text, as a database compares it and a pattern sees it."""
    if isinstance(value, dict) and "__datetime__" in value:
        return str(value["__datetime__"]).replace("T", " ")
    return str(value)


def short_details(task: Task) -> Params:
    """What `get_details` tells."""
    outputs = [item["dataset"] for item in task.params.get("jobParameters", []) if item.get("param_type") == "output"]
    log = [task.params["log"]["dataset"]] if "log" in task.params else []
    return {
        "inDS": task.params.get("dsForIN", ""),
        "outDS": ",".join([*outputs, *log]) if task.status not in ("tobroken", "broken") else "",
        "statistics": "",
        "PandaID": [job["PandaID"] for job in task.jobs],
        "mergeStatus": None,
        "mergePandaID": [],
        "status": task.status,
        "cliParams": task.params.get("cliParams"),
    }


def job(task: Task, number: int, given: Params) -> Params:
    """One job of a task, complete."""
    return {**JOB, "PandaID": number, "jediTaskID": task.id, "taskID": task.id, "reqID": task.id, **given}


def datasets(task: Task, kinds: list[str], with_files: bool) -> list[Params]:
    """The datasets of a task of these kinds (`input`, `pseudo_input`, `output`, `log`) with the files it knows of."""
    named = [("pseudo_input", "pseudo_dataset")] if task.params.get("noInput") else []
    named += [
        (item["param_type"], item["dataset"])
        for item in task.params.get("jobParameters", [])
        if item.get("type") == "template" and "dataset" in item
    ]
    if "log" in task.params:
        named.append(("log", task.params["log"]["dataset"]))
    return [
        {"dataset": {"name": name, "id": 10 * task.id + number}, "files": _files(task, kind) if with_files else []}
        for number, (kind, name) in enumerate(named, 1)
        if kind in kinds
    ]


def _files(task: Task, kind: str) -> list[Params]:
    if kind != "input":
        return []
    states = ["finished"] * task.finished + ["failed"] * task.failed
    states += ["ready"] * (task.files - len(states))
    return [
        {"lfn": f"file.{number:06d}", "scope": None, "id": number, "status": state}
        for number, state in enumerate(states, 1)
    ]
