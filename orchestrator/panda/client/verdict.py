"""What a call of PanDA's client came to. Pure: from its exit code, its output and its dump to one verdict.

The client's exit code says little: `pchain` ends with 0 when it was refused, and so does an answer without a number.
Only a whole number of a request or a task is success. What was asked before the workflow itself was handed in
changes nothing at PanDA, so a failure there is no doubt; the client says so before it hands the workflow in.
Whatever is left is doubt.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

Tool = Literal["prun", "pchain"]


class Kind(StrEnum):
    #: It was taken and has a number.
    TAKEN = "taken"
    #: It was there already, under this name.
    FOUND = "found"
    #: A check that found nothing wrong.
    GOOD = "good"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    IN_DOUBT = "in_doubt"


@dataclass(frozen=True, slots=True)
class Verdict:
    kind: Kind
    #: For people: what happened.
    text: str
    #: The request (pchain) or the task (prun).
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one call of the client ended."""

    tool: Tool
    #: The dataset name that was asked for.
    name: str
    #: Negative: the signal that ended it. None: it had no time to end.
    exit_code: int | None
    output: str
    #: What it wrote to its dump file, decoded; None if there is nothing, or nothing whole.
    dump: Any = None
    check: bool = False
    timed_out: bool = False
    #: Whether `output` is all that it printed.
    complete: bool = True


#: The client prints this, and then sends the request that makes a task or a workflow.
_HANDING_IN = "INFO : submit "
_DUPLICATE = re.compile(r"jediTaskID=(\d+) is (?:in the \S+ state|already queued) for outDS=(\S+?)/?\. ")
_TOKEN_REFUSED = re.compile(r"^(?:ERROR : )*(ERROR : Token authentication failed.*)$", re.MULTILINE)
_UPLOAD_TOKEN_REFUSED = re.compile(r"(Token authentication failed.*)")
_NO_TOKEN = "SSL secure connection is required"
_FORBIDDEN = re.compile(r"(ERROR : method \S+ is forbidden)")
_COMPLAINT = re.compile(
    r"error|failure|failed|unknown|unresolved|not found|exception|invalid|missing|empty", re.IGNORECASE
)
#: In the log of a workflow that was not accepted: the part that starts workflows had been asked already.
_WORKFLOW_STARTED = re.compile(
    r"\bsubmit workflow\b|failed to submit the workflow|request_id=(?!None\b)|Rest exception"
    r"|main execution failed with (?:-|1[2-9]\d|2\d\d)"
)
_PCHAIN_OPTIONS = re.compile(r"^ERROR : (?:argument |invalid output )", re.MULTILINE)
_CLIENTS_WORDS = re.compile(r"^NoneType: None$|_internal failed : |failed with 255$|^Traceback |^File \"|^\^+$")
_STAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)? : ")
_LONGEST = 1500

_USAGE, _CONFIG, _UPLOAD, _ARCHIVE, _AUTHENTICATION = 2, 10, 50, 60, 255


def classify(outcome: Outcome) -> Verdict:
    """Say what it came to."""
    if outcome.check:
        return _checked(outcome)
    if (number := _number(outcome)) is not None:
        return Verdict(Kind.TAKEN, _taken(outcome, number), number)
    _, marker, after = outcome.output.partition(_HANDING_IN)
    if not marker and outcome.complete and (before := _before(outcome)):
        return before
    return _answered(outcome, after) or _doubt(outcome)


def _entry(outcome: Outcome) -> dict[str, Any]:
    """The one result in the dump: pchain writes it as it is, prun as a list of one."""
    dump = outcome.dump
    if isinstance(dump, list) and len(dump) == 1:
        dump = dump[0]
    return dump if isinstance(dump, dict) else {}


def _number(outcome: Outcome) -> int | None:
    """The number that was given. True, False and anything else that Python takes for a number are none."""
    entry = _entry(outcome)
    number = entry.get("requestID" if outcome.tool == "pchain" else "jediTaskID")
    code = entry.get("returnCode")
    return number if type(number) is int and number > 0 and type(code) is int and code == 0 else None


def _taken(outcome: Outcome, number: int) -> str:
    if "reactivation accepted" in str(_entry(outcome).get("returnOut")):
        return f"task {number} had this name and had ended: PanDA runs it again"
    return f"taken as {'request' if outcome.tool == 'pchain' else 'task'} {number}"


def _answered(outcome: Outcome, after: str) -> Verdict | None:
    """What the server's answer to the request itself says, if it says anything for certain."""
    said = str(_entry(outcome).get("returnOut") or "")
    if message := _rest(said, "task submission failed. "):
        return _task_refused(outcome, message)
    if message := _rest(said, "workflow submit failed. "):
        return _token(message) or (None if "cannot put request" in message else _refused(message))
    if said.startswith("workflow submission failed with "):
        return _workflow_refused(_server_log(after))
    if said.endswith(" failed with 255"):
        return _forbidden(after, _TOKEN_REFUSED)
    return None


def _task_refused(outcome: Outcome, message: str) -> Verdict | None:
    found = _DUPLICATE.search(message)
    if found and found[2] == outcome.name.rstrip("/"):
        number = int(found[1])
        return Verdict(Kind.FOUND, f"it was there already as task {number}, which is followed now", number)
    if "failed to register task" in message:  # the server's database gave up, perhaps only on telling so
        return None
    return _token(message) or _refused(message)


def _workflow_refused(log: str) -> Verdict | None:
    """The description was read and refused; None if it may have been good and only its start failed."""
    if "request_id=None" not in log or _WORKFLOW_STARTED.search(log):
        return None
    return _refused(complaints(log))


def _before(outcome: Outcome) -> Verdict | None:
    """What went wrong before the workflow was handed in; None if there is no sign that it was before."""
    code, output = outcome.exit_code, outcome.output
    if code == _USAGE and (usage := re.findall(r"^\S+: error: .+$", output, re.MULTILINE)):
        return _refused(f"the client does not take these options: {usage[-1]}")
    if code == _CONFIG:
        return _refused(f"the client refused the options: {_errors(output)}")
    if code == _UPLOAD or "ERROR : Failed with " in output:
        return _upload(output)
    if code == _ARCHIVE:
        return _unavailable(f"the package could not be put together: {_errors(output)}")
    if (
        outcome.tool == "pchain"
        and code == 1
        and re.search(r"^ERROR : (argument|invalid output)", output, re.MULTILINE)
    ):
        return _refused(f"the client refused the options: {_errors(output)}")
    if "Traceback (most recent call last)" in output:
        return _forbidden(output, _UPLOAD_TOKEN_REFUSED) or _unavailable(f"the client broke off: {_last(output)}")
    if code == _AUTHENTICATION and output.strip():
        return _unavailable(f"the client could not say who we are: {_errors(output)}")
    if (outcome.timed_out or (code or 0) < 0) and "INFO : " in output:
        return _unavailable(f"{_end(outcome)} before the workflow was handed in; it was at: {_last(output)}")
    return None


def _upload(output: str) -> Verdict:
    if "Exceeded size limit" in output:
        return _refused(f"the package is too large: {_errors(output)}")
    return _forbidden(output, _UPLOAD_TOKEN_REFUSED) or _unavailable(
        f"the package could not be uploaded, nothing was started: {_errors(output)}"
    )


def _checked(outcome: Outcome) -> Verdict:
    """A check changes nothing, so it is never in doubt."""
    output = outcome.output
    if outcome.tool == "prun" and outcome.exit_code == 0 and _entry(outcome).get("returnCode") == 0:
        return Verdict(Kind.GOOD, "the client takes it")
    if outcome.tool == "pchain" and "successfully verified workflow description" in output:
        return Verdict(Kind.GOOD, "the server can read the workflow")
    if "workflow description is corrupted" in output:
        return _refused(complaints(_server_log(output)))
    return (
        _before(outcome)
        or _forbidden(output, _UPLOAD_TOKEN_REFUSED)
        or _unavailable(f"it could not be checked: {_end(outcome)}: {_errors(output)}")
    )


def _doubt(outcome: Outcome) -> Verdict:
    said = str(_entry(outcome).get("returnOut") or "") or _last(outcome.output)
    words = "; ".join(_distinct([_short(said), _unclear(outcome.output.partition(_HANDING_IN)[2])]))
    return Verdict(Kind.IN_DOUBT, f"{_end(outcome)} and there is no clear answer, so it is looked up: {words}")


def _unclear(after: str) -> str:
    """What came in place of an answer, without what the client says around it."""
    lines = [line.removeprefix("ERROR : ").strip() for line in after.splitlines()[1:]]
    return _short("; ".join(_distinct([line for line in lines if line and not _CLIENTS_WORDS.search(line)][:4])))


def _end(outcome: Outcome) -> str:
    if outcome.timed_out:
        return "it took too long and was ended"
    if outcome.exit_code is not None and outcome.exit_code < 0:
        return f"the client was ended by signal {-outcome.exit_code}"
    return f"the client ended with {outcome.exit_code}"


def _token(message: str) -> Verdict | None:
    return _unavailable(f"PanDA sees no token: {_short(message)}") if _NO_TOKEN in message else None


def _forbidden(text: str, token_refused: re.Pattern[str]) -> Verdict | None:
    """What a 403 says: such a request was not handled at all."""
    if found := token_refused.search(text):
        return _unavailable(
            f"PanDA did not accept the token, nothing was started: {_short(found[1])}; look at its expiry and at vo "
            "in the site's profile"
        )
    if found := _FORBIDDEN.search(text):
        return _refused(f"this PanDA server does not know what the client asks: {found[1]}")
    return None


def _refused(text: str) -> Verdict:
    return Verdict(Kind.REFUSED, _short(text))


def _unavailable(text: str) -> Verdict:
    return Verdict(Kind.UNAVAILABLE, text)


def _rest(text: str, beginning: str) -> str:
    return text.removeprefix(beginning) if text.startswith(beginning) else ""


def _server_log(output: str) -> str:
    """What the server wrote while it read the workflow, as the client shows it."""
    log = output.partition("messages from the server")[2]
    return re.split(r"^ERROR : workflow ", log, maxsplit=1, flags=re.MULTILINE)[0]


def complaints(log: str) -> str:
    """The lines of the server's log that say what is wrong with a workflow; its last ones if none does."""
    lines = [_STAMP.sub("", line).strip() for line in log.splitlines()]
    lines = [line for line in lines if line and "\tDEBUG\t" not in line and not line.startswith(("is_OK=", "INFO :"))]
    return _short("; ".join(_distinct([line for line in lines if _COMPLAINT.search(line)] or lines[-3:])))


def _errors(output: str) -> str:
    """What the client printed of its errors, or else the end of what it printed."""
    lines = output.splitlines()
    found = [line for line in lines if line.startswith(("ERROR", "[Errno")) or "error" in line.lower()]
    return _short("; ".join(_distinct(found[-4:]))) if found else _last(output)


def _last(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return _short(lines[-1]) if lines else "it printed nothing"


def _distinct(lines: Sequence[str]) -> list[str]:
    return [line for line in dict.fromkeys(lines) if line]


def _short(text: str) -> str:
    """Words for people: no tags of a web page, on one line, and not without end."""
    words = " ".join(html.unescape(re.sub(r"<[^<>]*>", " ", text)).split())
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}..."
