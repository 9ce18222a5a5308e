"""The stand-in PanDA server gives the kinds of answers that a real one gave, and panda-client works against it."""

from __future__ import annotations

import base64
import gzip
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.services.panda import PandaServer, Work, direct, make_token

CAPTURED = Path(__file__).parents[1] / "data" / "panda_http.jsonl"
EXCHANGES: list[dict[str, Any]] = [json.loads(line) for line in CAPTURED.read_text().splitlines()]

#: Exchanges that are not replayed, by number of the line from 0, with the reason.
EXCLUDED = {
    0: "the real server's database had failed; the stand-in has none",
    3: "the real server's database had failed; the stand-in has none",
}
#: Exchanges whose message is not compared.
OWN_MESSAGE = {10: "the message lists the environment of the real server's process"}

OWNER = "Shrek Producer"
CWL = """
cwlVersion: v1.0
class: Workflow
inputs: []
outputs: {outDS: {type: string, outputSource: top/outDS}}
steps:
  top:
    run: prun
    in:
      opt_exec: {default: "echo 1"}
      opt_args: {default: "--outputs seed.txt --stage all"}
    out: [outDS]
"""


def _body(exchange: dict[str, Any]) -> bytes:
    """What was sent. Of long bodies only the beginning was kept: the rest is made up of zeros and the last boundary."""
    sent = exchange["req_body"]
    if "base64_first_2000" in sent:
        body = base64.b64decode(sent["base64_first_2000"][:2000])
        boundary = exchange["req_headers"]["Content-Type"].partition("boundary=")[2]
        end = f"\r\n--{boundary}--\r\n".encode()
        return body if len(body) == sent["nbytes"] else body.ljust(sent["nbytes"] - len(end), b"\0") + end
    body = sent.get("text", "").encode()
    return gzip.compress(body) if sent.get("gzip") else body


def _headers(exchange: dict[str, Any]) -> dict[str, str]:
    headers = {key: value for key, value in exchange["req_headers"].items() if key != "Content-Length"}
    if "Authorization" in headers:
        broken = "Invalid header padding" in exchange["resp_body"]["text"]
        headers["Authorization"] = "Bearer " + ("x.y.z" if broken else make_token())
    return headers


def _parameters(number: int) -> dict[str, Any]:
    """The parameters of a real task: the captured ones, or those of task 2 with the command line of this one."""
    if number == 5:
        submitted = next(exchange for exchange in EXCHANGES if exchange["step"] == "pchain_submit")
        params: dict[str, Any] = json.loads(submitted["req_body"]["text"])["task_parameters"]
        return params
    asked = next(exchange for exchange in EXCHANGES if exchange["path"].endswith("get_task_parameters"))
    params = json.loads(asked["resp_body"]["text"])["data"]
    told = [e for e in EXCHANGES if e["path"].endswith("get_details") and e["query"].startswith(f"task_id={number}&")]
    answer = json.loads(told[0]["resp_body"]["text"])["data"] if told else None
    return params | ({"cliParams": answer["cliParams"]} if answer else {})


#: The state that each task was in when it was asked about.
STATES = {
    1: None,
    2: "defined",
    5: "defined",
    6: "toabort",
    30000001: "tobroken",
    30000004: "ready",
    30000010: "defined",
}


def _prepare(panda: PandaServer, exchange: dict[str, Any]) -> None:
    """Bring the stand-in into the state in which the real server was."""
    asked = exchange["query"] + exchange["req_body"].get("text", "")
    named = re.search(r"task_id\D{1,4}(\d+)|jediTaskID%22%3A\+%22(\d+)", asked)
    if named:
        task = int(named[1] or named[2])
        _seed(panda, task, _parameters(task))
    if exchange["step"] == "prun_dup" and exchange["path"].endswith("submit"):
        _seed(panda, 3, json.loads(asked)["task_parameters"], "defined")
    if "FOUND:" in exchange["resp_body"]["text"].replace("NOTFOUND", ""):
        sent = json.loads(exchange["req_body"]["text"])
        footer = sent["checksum"].to_bytes(4, "little") + bytes(4)
        direct.upload(panda.url, footer.rjust(sent["file_size"]))
    if exchange["path"].endswith("put_workflow_request"):
        order = json.loads(json.loads(asked)["data"])
        files = {order["workflowSpecFile"]: CWL, order["workflowInputFile"]: "{}"}
        direct.upload(panda.url, direct.sandbox(files), order["sandbox"])
    if exchange["step"] == "old_pbook_1.5.7_n":
        work = Work(0, "user.shrek.wf_000_top", _parameters(5), [], None)
        panda.state.launch("wfname2", OWNER, "user.shrek.wf", [work])


def _seed(panda: PandaServer, number: int, params: dict[str, Any], status: str | None = None) -> None:
    panda.state.set_numbers(number, 1, 1)
    panda.state.submit(params, OWNER)
    if status or STATES[number]:
        panda.settle()
        panda.advance(number, status or STATES[number])
    else:
        panda.configure(refine_after=None)


@pytest.mark.parametrize("number", [number for number in range(len(EXCHANGES)) if number not in EXCLUDED])
def test_a_captured_exchange_gets_the_captured_kind_of_answer(number: int) -> None:
    """Status, envelope, success, code, type of the data and the message with its ids replaced are the captured ones."""
    exchange = EXCHANGES[number]
    path = exchange["path"] + (f"?{exchange['query']}" if exchange["query"] else "")
    with PandaServer() as panda:
        _prepare(panda, exchange)
        status, body = direct.send(panda.url, exchange["method"], path, _body(exchange), _headers(exchange))
    captured = exchange["resp_body"]["text"]
    assert status == exchange["status"]
    assert _kind(body.decode(), number) == _kind(captured, number)


def test_what_is_not_replayed_is_told(record_property: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the captured exchanges, these are not replayed, and why."""
    for number, reason in EXCLUDED.items():
        exchange = EXCHANGES[number]
        record_property(f"not replayed: {number} {exchange['path']}", reason)
        with capsys.disabled():
            sys.stdout.write(f"\nnot replayed: line {number}, {exchange['method']} {exchange['path']}: {reason}\n")
        assert "DB failure" in exchange["resp_body"]["text"]


def _kind(text: str, number: int) -> Any:
    """What two answers of one kind share."""
    try:
        value = json.loads(text)
    except ValueError:
        return _words(text)
    if isinstance(value, dict):
        message = "" if number in OWN_MESSAGE else _words(value.get("message", ""))
        data = type(value["data"]) if "new jediTaskID" in message else _shape(value["data"])
        return sorted(value), value["success"], message, data
    return _shape(value)


def _words(text: str) -> str:
    """A text without what differs each time: dates, ids, names of sandboxes, and what libraries log on the way."""
    text = re.sub(r"failed with 2:.*?usage:", "failed with 2:usage:", text, flags=re.DOTALL)
    text = re.sub(r"\d{4}-\d\d-\d\d[ T][\d:.,]+", "<time>", text)
    text = re.sub(r"jobO\.[-\w]+\.tar\.gz", "<sandbox>", text)
    return re.sub(r"\d+", "<n>", text)


#: Of these, only the type is compared: ids, and what is another thing each time.
ONLY_TYPE = {"PandaID", "environment", "id", "jediTaskID", "parent_tid", "reqID", "workflow_id"}


def _shape(value: Any) -> Any:
    """Names, types and texts all the way down; small numbers, which are codes, as they are."""
    if isinstance(value, dict):
        return {key: type(item) if key in ONLY_TYPE else _shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shape(item) for item in value]
    if isinstance(value, str):
        return _words(value)
    return value if value is None or isinstance(value, bool) or value in range(10) else type(value)
