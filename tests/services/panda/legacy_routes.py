"""`/server/panda/...`: workflows and the relay to iDDS."""

from __future__ import annotations

import json
from typing import Any

from .calls import NO_TOKEN, Call, legacy
from .cwl import Description, read
from .idds import ClientManager
from .model import Work
from .report import Report
from .step import Corrupted


@legacy
def put_workflow_request(req: Call, data: str, check: Any = False, sync: Any = False) -> str:
    """Read a workflow, and unless it is only a check give it a request id."""
    if not req.caller.secure:
        return json.dumps((False, NO_TOKEN))
    try:
        order = json.loads(data)
        told = _process(req, order, check in ("True", True))
    except (ValueError, KeyError, TypeError) as error:
        return json.dumps((False, f"cannot put request due to {error} "))
    return json.dumps((True, told))


def _process(call: Call, order: dict[str, Any], check: bool) -> dict[str, Any]:
    """Two logs make the answer's one: of the process that reads the description, then of the server itself."""
    inner, outer = Report(), Report()
    outer.say("start /submission")
    try:
        works = _read(call, order, inner)
    except Corrupted as error:
        (outer if error.exited else inner).say(str(error))
        outer.say(f"is_OK=False is_fatal={error.fatal} request_id=None")
        log = outer.text() if error.exited else inner.text() + outer.text()
        return {"status": False, "request_id": None, "log": log}
    number = None
    if not check:
        with call.state.lock:
            name = order.get("workflow_name")
            number = call.state.launch(name or order["outDS"], call.caller.name, order["outDS"], works).id
    outer.say(f"is_OK=True request_id={number}")
    return {"status": True, "request_id": number, "log": inner.text() + outer.text()}


def _read(call: Call, order: dict[str, Any], report: Report) -> list[Work]:
    report.say(f"downloading sandbox from {call.url}/cache/{order['sandbox']}")
    sandbox = call.state.cache.get(order["sandbox"])
    if sandbox is None:
        raise Corrupted("bad HTTP response 404", fatal=False)
    return read(Description(sandbox.content, order), report)


@legacy
def relay_idds_command(
    req: Call, command_name: str, args: Any = None, kwargs: Any = None, manager: Any = None, json_outputs: Any = None
) -> str:
    """Call a command of iDDS with the caller's name."""
    if not req.caller.secure:
        return json.dumps((False, NO_TOKEN))
    client = ClientManager(req.state, req.caller, with_json=json_outputs in ("True", True))
    with req.state.lock:
        return json.dumps(_relayed(client, command_name.partition("+")[0], args, kwargs))


def _relayed(client: ClientManager, command: str, args: Any, kwargs: Any) -> tuple[bool, Any]:
    if command.startswith("_") or not hasattr(ClientManager, command):
        return False, f"{command} is not a command of iDDS ClientManager"
    try:
        return True, getattr(client, command)(*json.loads(args or "[]"), **json.loads(kwargs or "{}"))
    except TypeError as error:
        return True, (False, str(error))


@legacy
def execute_idds_workflow_command(req: Call, command_name: str, kwargs: Any = None, json_outputs: Any = None) -> str:
    """The commands of pbook on a whole workflow."""
    arguments = json.loads(kwargs or "{}")
    client = ClientManager(req.state, req.caller, with_json=json_outputs in ("True", True))
    with req.state.lock:
        if command_name == "get_status":
            return json.dumps((True, client.get_status(**arguments)))
        if command_name not in ("abort", "suspend", "resume", "retry", "finish"):
            return json.dumps((False, f"{command_name} is unsupported"))
        return json.dumps(_owned_command(req, client, command_name, arguments))


def _owned_command(call: Call, client: ClientManager, command: str, arguments: dict[str, Any]) -> tuple[bool, Any]:
    if not call.caller.secure:
        return False, "SSL_CLIENT_S_DN is missing in HTTP request"
    number = arguments.get("request_id")
    if number is None:
        return False, "request_id is missing"
    request = call.state.requests.get(number)
    if request is None:
        return False, f"request {number} is not found"
    if request.owner != call.caller.name:
        return False, f"request {number} is not owned by {call.caller.name}"
    return _relayed(client, command, None, json.dumps(arguments))
