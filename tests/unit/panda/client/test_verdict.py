"""What the client's end is taken for. Nothing but a number is success, and nothing but certainty is no doubt."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.panda.client.verdict import Kind, Outcome, classify

NAME = "user.shrek.tag"
TRACE = "Traceback (most recent call last):\n  File ...\njson.decoder.JSONDecodeError: Expecting value: line 1"
PRUN = "INFO : gathering files under /tmp/x\nINFO : upload sandbox\n"
PRUN_SENT = f"{PRUN}INFO : submit {NAME}/\n"
PCHAIN = "INFO : uploading workflow sandbox\n" + PRUN
PCHAIN_SENT = f"{PCHAIN}INFO : submit workflow {NAME}\n"
ACTIVE = (
    f"jediTaskID=3 is in the defined state for outDS={NAME}/. You can re-submit the task with new parameters for the "
    "same or another input once it goes into finished/failed/done. "
)
QUEUED = f"jediTaskID=4 is already queued for outDS={NAME}/. You cannot submit duplicated tasks. "
ANOTHERS = "jediTaskID=3 is in the defined state for outDS=user.shrek.other/. You can re-submit the task"
TOKEN = "ERROR : Token authentication failed. Invalid token. Signature has expired"


def _captured_refusal() -> str:
    """What a real server said of a workflow with an option that prun does not know."""
    for line in Path("tests/data/panda_http.jsonl").read_text().splitlines():
        exchange = json.loads(line)
        if exchange["path"].endswith("put_workflow_request"):
            return str(json.loads(exchange["resp_body"]["text"])[1]["log"])
    raise AssertionError("no put_workflow_request among the captured exchanges")


def _prun(
    code: int | None, output: str = PRUN_SENT, said: str | None = None, number: Any = None, **more: Any
) -> Outcome:
    dump = None if said is None else [{"returnCode": code, "returnOut": said, "jediTaskID": number}]
    return replace(Outcome("prun", NAME, code, output, dump), **more)


def _pchain(
    code: int | None, output: str = PCHAIN_SENT, said: str | None = None, number: Any = None, **more: Any
) -> Outcome:
    dump = None if said is None else {"returnCode": code, "returnOut": said, "requestID": number}
    return replace(Outcome("pchain", NAME, code, output, dump), **more)


def _said_no(log: str) -> Outcome:
    output = f"{PCHAIN_SENT}INFO : messages from the server\n\n{log}\nERROR : workflow submission failed with False\n"
    return _pchain(0, output, "workflow submission failed with False")


CASES: dict[str, tuple[Outcome, Kind, str]] = {
    # A number, and whatever Python takes for one
    "prun, a new task": (_prun(0, said="succeeded. new jediTaskID=7", number=7), Kind.TAKEN, "task 7"),
    "pchain, a request": (
        _pchain(0, said="successfully submitted with request_id=7", number=7),
        Kind.TAKEN,
        "request 7",
    ),
    "prun, an ended task of that name": (
        _prun(0, said="reactivation accepted. jediTaskID=7 (currently in done state) will be ...", number=7),
        Kind.TAKEN,
        "runs it again",
    ),
    "pchain, True is no number": (_pchain(0, said="successfully submitted", number=True), Kind.IN_DOUBT, "looked up"),
    "pchain, None is no number": (
        _pchain(0, said="successfully submitted with request_id=None"),
        Kind.IN_DOUBT,
        "None",
    ),
    "pchain, zero is no number": (_pchain(0, said="successfully submitted", number=0), Kind.IN_DOUBT, "looked up"),
    "pchain, a pair is no number": (_pchain(0, said="submitted", number=[False, "x"]), Kind.IN_DOUBT, "looked up"),
    "pchain, returnCode false": (
        replace(_pchain(0), dump={"returnCode": False, "returnOut": "submitted", "requestID": 7}),
        Kind.IN_DOUBT,
        "looked up",
    ),
    "prun, code 0 without a number": (_prun(0, said="succeeded."), Kind.IN_DOUBT, "looked up"),
    "prun, code 0 and nothing": (_prun(0, ""), Kind.IN_DOUBT, "printed nothing"),
    "pchain, code 0 and nothing": (_pchain(0, ""), Kind.IN_DOUBT, "printed nothing"),
    # The server says no
    "prun, a task of that name runs": (_prun(90, said=f"task submission failed. {ACTIVE}"), Kind.FOUND, "task 3"),
    "prun, a task of that name waits": (_prun(90, said=f"task submission failed. {QUEUED}"), Kind.FOUND, "task 4"),
    "prun, a task of another name": (_prun(90, said=f"task submission failed. {ANOTHERS}"), Kind.REFUSED, "other"),
    "prun, the server's reason": (_prun(90, said="task submission failed. no such VO"), Kind.REFUSED, "no such VO"),
    "prun, the server's database": (
        _prun(90, said="task submission failed. failed to register task"),
        Kind.IN_DOUBT,
        "failed to register",
    ),
    "prun, without a token": (
        _prun(90, said="task submission failed. SSL secure connection is required"),
        Kind.UNAVAILABLE,
        "no token",
    ),
    "pchain, a bad description": (_said_no(_captured_refusal()), Kind.REFUSED, "unrecognized arguments: --stage all"),
    "pchain, iDDS gave no number": (
        _said_no("2026-11-22 01:40:20.8 : is_OK=False is_fatal=True request_id=[False, 'Rest exception']"),
        Kind.IN_DOUBT,
        "submission failed",
    ),
    "pchain, killed while it was read": (
        _said_no("main execution failed with -9:\nis_OK=False is_fatal=False request_id=None"),
        Kind.IN_DOUBT,
        "submission failed",
    ),
    "pchain, no word why": (_said_no(""), Kind.IN_DOUBT, "submission failed"),
    "pchain, without a token": (
        _pchain(1, said="workflow submit failed. SSL secure connection is required"),
        Kind.UNAVAILABLE,
        "no token",
    ),
    "pchain, the server broke": (
        _pchain(1, said="workflow submit failed. cannot put request due to disk full "),
        Kind.IN_DOUBT,
        "disk full",
    ),
    "pchain, a flat no": (_pchain(1, said="workflow submit failed. you may not"), Kind.REFUSED, "you may not"),
    # No answer to the request itself
    "prun, 500": (
        _prun(90, f"{PRUN_SENT}NoneType: None\n\nInternal Error\n", "task submission failed with 255"),
        Kind.IN_DOUBT,
        "Internal Error",
    ),
    "pchain, 503": (
        _pchain(1, f"{PCHAIN_SENT}ERROR : Try later\n", "workflow submit failed with 255"),
        Kind.IN_DOUBT,
        "Try later",
    ),
    "prun, a token that ended meanwhile": (
        _prun(90, f"{PRUN_SENT}NoneType: None\n\n{TOKEN}\n", "task submission failed with 255"),
        Kind.UNAVAILABLE,
        "did not accept the token",
    ),
    "pchain, a token that ended meanwhile": (
        _pchain(1, f"{PCHAIN_SENT}ERROR : {TOKEN}\n", "workflow submit failed with 255"),
        Kind.UNAVAILABLE,
        "did not accept the token",
    ),
    "prun, an old server": (
        _prun(90, f"{PRUN_SENT}ERROR : method submit is forbidden\n", "task submission failed with 255"),
        Kind.REFUSED,
        "does not know",
    ),
    "prun, refused connection, perhaps the server's own": (
        _prun(90, f"{PRUN_SENT}[Errno 111] Connection refused\n", "task submission failed with 255"),
        Kind.IN_DOUBT,
        "Connection refused",
    ),
    "prun, HTML": (_prun(1, PRUN_SENT + TRACE), Kind.IN_DOUBT, "JSONDecodeError"),
    "pchain, a list that is none": (_pchain(1, PCHAIN_SENT + TRACE), Kind.IN_DOUBT, "JSONDecodeError"),
    "prun, no time": (_prun(-15, timed_out=True), Kind.IN_DOUBT, "took too long"),
    "pchain, killed": (_pchain(-9), Kind.IN_DOUBT, "signal 9"),
    "prun, a part of the output is lost": (_prun(50, PRUN, complete=False), Kind.IN_DOUBT, "50"),
    # Before anything was handed in
    "prun, an unknown option": (
        _prun(2, "usage: prun [options]\nprun: error: unrecognized arguments: --stage x\n"),
        Kind.REFUSED,
        "--stage x",
    ),
    "prun, a bad option": (
        _prun(10, "ERROR : --site is required with --pfnList\n"),
        Kind.REFUSED,
        "--site is required",
    ),
    "pchain, a bad name": (_pchain(1, "ERROR : invalid output dataset name: x\n"), Kind.REFUSED, "invalid output"),
    "prun, upload refused": (
        _prun(50, f"{PRUN}ERROR : failed to register sandbox to DB with ERROR: DB failure\n"),
        Kind.UNAVAILABLE,
        "DB failure",
    ),
    "prun, the package is too large": (_prun(50, f"{PRUN}ERROR : Exceeded size limit (11>10)\n"), Kind.REFUSED, "size"),
    "pchain, upload failed": (
        _pchain(1, "INFO : uploading workflow sandbox\nERROR: Could not\nERROR : Failed with 255\n"),
        Kind.UNAVAILABLE,
        "nothing was started",
    ),
    "pchain, its second upload failed": (_pchain(50, f"{PCHAIN}ERROR: Could not\n"), Kind.UNAVAILABLE, "nothing was"),
    "prun, upload with a bad token": (
        _prun(50, f"{PRUN}ERROR: Could not check sandbox duplication with {TOKEN}\n"),
        Kind.UNAVAILABLE,
        "did not accept the token",
    ),
    "prun, HTML at the upload": (_prun(1, PRUN + TRACE), Kind.UNAVAILABLE, "broke off"),
    "prun, no room": (_prun(60, f"{PRUN}ERROR : Failed to archive working area\n"), Kind.UNAVAILABLE, "archive"),
    "prun, no client": (_prun(1, f"{TRACE}\nModuleNotFoundError: pandaclient\n"), Kind.UNAVAILABLE, "ModuleNotFound"),
    "prun, no sign-in": (_prun(255, "ERROR : Failed to get Auth configuration\n"), Kind.UNAVAILABLE, "who we are"),
    "prun, no time at the upload": (_prun(-15, PRUN, timed_out=True), Kind.UNAVAILABLE, "before the workflow"),
    "pchain, killed at the upload": (_pchain(-9, PCHAIN), Kind.UNAVAILABLE, "before the workflow"),
    "prun, killed without a word": (_prun(-9, ""), Kind.IN_DOUBT, "signal 9"),
    "prun, an end nobody knows": (_prun(33, PRUN), Kind.IN_DOUBT, "33"),
    # Checks change nothing
    "check, good": (
        _pchain(
            0, f"{PCHAIN}INFO : check workflow\nINFO : successfully verified workflow description\n", "", check=True
        ),
        Kind.GOOD,
        "can read",
    ),
    "check, bad": (
        _pchain(
            0,
            f"INFO : messages from the server\n\n{_captured_refusal()}\nERROR : workflow description is corrupted\n",
            "",
            check=True,
        ),
        Kind.REFUSED,
        "unrecognized arguments: --stage all",
    ),
    "check, no answer": (_pchain(1, PCHAIN, "workflow check failed with 255", check=True), Kind.UNAVAILABLE, "checked"),
    "check, no time": (_pchain(-15, PCHAIN, check=True, timed_out=True), Kind.UNAVAILABLE, "too long"),
    "check, code 0 and nothing": (_pchain(0, "", check=True), Kind.UNAVAILABLE, "could not be checked"),
    "check of prun, good": (_prun(0, PRUN, "", check=True), Kind.GOOD, "takes it"),
    "check of prun, bad": (_prun(10, "ERROR : --nJobs must be positive\n", check=True), Kind.REFUSED, "positive"),
    "check of prun, code 0 and nothing": (_prun(0, PRUN, check=True), Kind.UNAVAILABLE, "could not be checked"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_end_is_taken_for_what_it_is(case: str) -> None:
    outcome, kind, words = CASES[case]

    verdict = classify(outcome)

    assert (verdict.kind, words in verdict.text) == (kind, True), verdict
    assert (verdict.number is not None) == (kind in (Kind.TAKEN, Kind.FOUND))


@pytest.mark.parametrize("tool", ["prun", "pchain"])
@pytest.mark.parametrize("code", [*range(-20, 3), 10, 50, 60, 90, 255])
@pytest.mark.parametrize("tail", ["", TRACE, TOKEN, "ERROR : Failed with 1", "[Errno 111] Connection refused"])
def test_after_it_was_handed_in_no_end_without_an_answer_is_certain(tool: str, code: int, tail: str) -> None:
    """Whatever the client ends with, a workflow that may have been taken is looked up before it is sent again."""
    outcome = _prun(code, PRUN_SENT + tail) if tool == "prun" else _pchain(code, PCHAIN_SENT + tail)

    assert classify(outcome).kind is Kind.IN_DOUBT


def test_a_page_of_html_becomes_a_line_of_words() -> None:
    page = "<html>\n<body><h1>502 Bad Gateway</h1>\n<p>nginx &amp; co</p></body></html>"
    outcome = _pchain(1, f"{PCHAIN_SENT}ERROR : {page}\n", "workflow submit failed with 255")

    assert "502 Bad Gateway" in classify(outcome).text
    assert "<" not in classify(outcome).text
