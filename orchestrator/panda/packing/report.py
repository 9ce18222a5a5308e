"""Tell muleteer how far this job is. Python 3.6 and its standard library are enough.

    sys.path.append(os.environ["MULETEER_TOOLS"])
    from muleteer_report import report

    report("running", done=3, of=10)

Or as a program: `muleteer_report.py started|running|finished [--done N] [--of M] [--code EXIT_CODE]`. It never fails,
prints nothing, takes a few seconds at most, and does nothing if no address is set.
"""

import json
import os
import re
import sys
import threading
import urllib.request
from contextlib import suppress
from typing import Any

#: Seconds.
PATIENCE = 5.0


def report(what: str, done: "int | None" = None, of: "int | None" = None, code: "int | None" = None) -> None:
    """Say `started`, `running` or `finished`; of the counts and the exit code what there is."""
    said = {
        "what": what,
        "launch": os.environ.get("MULETEER_LAUNCH"),
        "step": os.environ.get("MULETEER_STEP"),
        "job": os.environ.get("MULETEER_JOB") or "1",
        "host": re.sub(r"[^A-Za-z0-9_.:@+-]", "", os.uname().nodename)[:100],
        "index": _number(os.environ.get("MULETEER_JOB_INDEX")),
        "done": done,
        "of": of,
        "code": code,
    }  # type: dict[str, Any]
    send({name: value for name, value in said.items() if value is not None})


def send(said: "dict[str, Any]") -> None:
    """Send it, and wait a little: not even a name server that does not answer keeps the job."""
    if os.environ.get("MULETEER_CALLBACK_URL") and os.environ.get("MULETEER_CALLBACK_TOKEN"):
        thread = threading.Thread(target=_send, args=(said,), daemon=True)
        thread.start()
        thread.join(PATIENCE)


def _send(said: "dict[str, Any]") -> None:
    with suppress(Exception):  # whatever it is: the job is more important
        request = urllib.request.Request(
            os.environ["MULETEER_CALLBACK_URL"],
            json.dumps(said).encode(),
            {
                "Authorization": "Bearer " + os.environ["MULETEER_CALLBACK_TOKEN"],
                "Content-Type": "application/json",
            },
        )
        urllib.request.urlopen(request, timeout=PATIENCE).close()


def _number(text: "str | None") -> "int | None":
    return int(text) if text is not None and re.match("[0-9]{1,15}$", text) else None


def main(arguments: "list[str]") -> None:
    if arguments[:1] == ["--body"]:
        send(json.loads(arguments[1]))
        return
    options = {arguments[at][2:]: _number(arguments[at + 1]) for at in range(1, len(arguments) - 1, 2)}
    if arguments:
        report(arguments[0], options.get("done"), options.get("of"), options.get("code"))


if __name__ == "__main__":
    with suppress(Exception):
        main(sys.argv[1:])
