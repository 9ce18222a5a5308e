"""The part of iDDS that callers see: requests with a row for each of their steps, and abort."""

from __future__ import annotations

from typing import Any

from .model import FINAL, PROCESSED, Params, Request, Work
from .state import State
from .tokens import Caller

REQUEST_STATUS = {
    "New": 0,
    "Transforming": 2,
    "Finished": 3,
    "SubFinished": 4,
    "Failed": 5,
    "Cancelling": 8,
    "Cancelled": 9,
}
TRANSFORM_STATUS = {"New": 0, "Transforming": 2, "Finished": 3, "SubFinished": 4, "Failed": 5, "Cancelled": 9}
TRANSFORM_OF_TASK = {
    "done": "Finished",
    "finished": "SubFinished",
    "failed": "Failed",
    "broken": "Failed",
    "aborted": "Cancelled",
}


def _enum(kind: str, name: str, values: dict[str, int]) -> Params:
    return {"class": kind, "attributes": {"_value_": values[name], "_name_": name}}


class ClientManager:
    """The commands that the relay knows. What is not a public method here is not a command."""

    def __init__(self, state: State, caller: Caller, with_json: bool) -> None:
        self._state, self._caller, self._with_json = state, caller, with_json

    def get_requests(
        self,
        request_id: int | None = None,
        workload_id: int | None = None,
        with_detail: bool = False,
        with_metadata: bool = False,
    ) -> Any:
        """One row for each request, or with details for each step; without an id all of the caller's."""
        found = [row for request in self._found(request_id) for row in self._rows(request, with_detail)]
        if workload_id is not None:
            found = [row for row in found if row.get("transform_workload_id") == workload_id]
        return {"data": found, "error": None, "status": 0} if self._with_json else found

    def abort(self, request_id: int | None = None, workload_id: int | None = None) -> list[Any]:
        """Cancel a request with all its tasks."""
        found = self._found(request_id) if request_id is not None else []
        for request in found:
            self._state.abort(request)
        if not found:
            return [[-1, {"message": "No match requests", "status": -1}]]
        return [[0, {"message": "Command registered successfully", "status": 0}] for _ in found]

    def get_status(
        self, request_id: int | None = None, workload_id: int | None = None, with_detail: bool = False
    ) -> str:
        """A table for people."""
        lines = [
            "  request_id  request_workload_id    scope:name        status        errors",
            "------------  ---------------------  ----------------  ------------  --------",
        ]
        for request in self._found(request_id):
            lines.append(f"{request.id:>12}  {'':21}  {'workflow:' + request.name:<16}  {self._status(request)}")
        return "\n".join(lines)

    def _found(self, request_id: int | None) -> list[Request]:
        if request_id is not None:
            request = self._state.requests.get(int(request_id))
            return [request] if request else []
        return [request for request in self._state.requests.values() if request.owner == self._caller.name]

    def _rows(self, request: Request, with_detail: bool) -> list[Params]:
        row: Params = {
            "request_id": request.id,
            "scope": "workflow",
            "name": request.name,
            "username": request.owner,
            "requester": "panda",
            "request_type": _enum("RequestType", "Workflow", {"Workflow": 0}),
            "status": _enum("RequestStatus", self._status(request), REQUEST_STATUS),
            "created_at": request.created,
            "updated_at": request.updated,
            "errors": None,
        }
        if not with_detail:
            return [row]
        return [row | self._transform(work) for work in request.works]

    def _transform(self, work: Work) -> Params:
        outputs = [item["dataset"] for item in work.params["jobParameters"] if item.get("param_type") == "output"]
        status = _enum("TransformStatus", self._transform_status(work), TRANSFORM_STATUS)
        return {
            "transform_id": work.transform_id,
            "transform_name": work.name,
            "transform_status": status,
            "transform_workload_id": work.task_id,
            "processing_workload_id": work.task_id,
            "output_coll_name": outputs[0] if outputs else None,
            "errors": {"msg": work.error} if work.error else None,
        }

    def _transform_status(self, work: Work) -> str:
        if work.task_id is None:
            return "Failed" if work.error else "New"
        return TRANSFORM_OF_TASK.get(self._state.tasks[work.task_id].status or "", "Transforming")

    def _status(self, request: Request) -> str:
        states = [task.status for task in self._state.tasks_of(request)]
        over = all(status in FINAL for status in states)
        failed = [work for work in request.works if work.error]
        if request.aborted:
            return "Cancelled" if over else "Cancelling"
        if not states and not failed:
            return "New"
        if not over:
            return "Transforming"
        good = [status for status in states if status in PROCESSED]
        if len(good) == len(request.works) and all(status == "done" for status in good):
            return "Finished"
        return "SubFinished" if good else "Failed"
