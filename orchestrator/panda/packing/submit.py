#!/usr/bin/env python3
"""Submit this workflow to PanDA by hand, as muleteer does it. `./submit --help` tells how.

What is run stands in `muleteer/submit.json`. panda-client has to be installed, and a token has to be at hand.
"""

import sys

if __name__ == "__main__" and not getattr(sys.flags, "safe_path", False):
    del sys.path[0]  # this directory, whose job scripts may be called like a module of Python's

import argparse
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).absolute().parent
#: Where the client finds a token, in its order.
TOKENS = ("PANDA_AUTH_ID_TOKEN", "OIDC_AUTH_TOKEN_FILE", "OIDC_AUTH_ID_TOKEN")
VERIFIED = "successfully verified workflow description"
#: The working directory is left out of the search for modules: job scripts may be called like a module of Python's.
RUN = "import sys; sys.path = [each for each in sys.path if each]; from pandaclient.{} import main; sys.exit(main())"
SCRIPTS = {"prun": "PrunScript", "pchain": "PchainScript"}


def main() -> int:
    asked = _asked()
    plan = json.loads((HERE / "muleteer" / "submit.json").read_text(encoding="utf-8"))
    if asked.list:
        return _list(plan)
    tool, arguments = _chosen(plan, asked.step)
    if asked.check:
        arguments = [*arguments, "--check" if tool == "pchain" else "--noSubmit"]
    return _submit(tool, arguments, _environment(plan), asked.check)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./submit", description="Submit this workflow to PanDA.")
    parser.add_argument("--check", action="store_true", help="have it checked, and submit nothing")
    parser.add_argument("--step", help="submit this step alone; the datasets that it reads have to be there")
    parser.add_argument("--list", action="store_true", help="show the steps, and what would be run")
    return parser.parse_args()


def _say(text: str) -> None:
    sys.stdout.flush()
    sys.stderr.write(f"submit: {text}\n")


def _list(plan: "dict[str, Any]") -> int:
    lines = [f"{name}: prun {_shown(arguments)}" for name, arguments in plan["steps"].items()]
    if plan["chain"] is not None:
        lines.append(f"all: pchain {_shown(plan['chain'])}")
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def _shown(arguments: "list[str]") -> str:
    return " ".join(shlex.quote(argument) for argument in arguments)


def _chosen(plan: "dict[str, Any]", step: "str | None") -> "tuple[str, list[str]]":
    """The tool and its arguments for one step, or for all. Ends the program if there is no such step."""
    if step is None and plan["chain"] is not None:
        return "pchain", plan["chain"]
    name = next(iter(plan["steps"])) if step is None else step
    if name not in plan["steps"]:
        _say(f"there is no step {name!r}; there are: {', '.join(plan['steps'])}")
        sys.exit(2)
    return "prun", plan["steps"][name]


def _environment(plan: "dict[str, Any]") -> "dict[str, str]":
    """The variables for the client. Ends the program if there is no token."""
    variables = dict(os.environ)
    for name, value in plan["environment"].items():
        if variables.get(name, value) != value:
            _say(f"{name} is {variables[name]} here; for this workflow it is {value}")
        variables[name] = value
    root = Path(variables.setdefault("PANDA_CONFIG_ROOT", str(Path("~/.pathena").expanduser())))
    if not variables.get("PANDA_AUTH_ID_TOKEN") and variables.get("OIDC_AUTH_TOKEN_FILE"):
        # the client would print a token that ends with a line break
        variables["PANDA_AUTH_ID_TOKEN"] = _token(Path(variables["OIDC_AUTH_TOKEN_FILE"]))
    if not any(variables.get(name) for name in TOKENS) and not (root / ".token").exists():
        _say(
            "there is no token. Set OIDC_AUTH_TOKEN_FILE to a file that holds one (chmod 600 it), or "
            f"PANDA_AUTH_ID_TOKEN to the token itself, or let the client keep one in {root / '.token'}"
        )
        sys.exit(2)
    return variables


def _token(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        _say(f"the token cannot be read: OIDC_AUTH_TOKEN_FILE: {error}")
        sys.exit(2)


def _client(tool: str) -> "list[str]":
    """How the tool is called here. Ends the program if panda-client is not installed."""
    wrapper = shutil.which(tool)
    if "PANDA_SYS" in os.environ and wrapper is not None:
        return [wrapper]
    if importlib.util.find_spec("pandaclient") is None:
        _say(f"panda-client is not installed for {sys.executable}: pip install panda-client")
        sys.exit(2)
    return [sys.executable, "-u", "-c", RUN.format(SCRIPTS[tool])]


def _submit(tool: str, arguments: "list[str]", variables: "dict[str, str]", check: bool) -> int:
    with tempfile.TemporaryDirectory() as directory:
        answer = Path(directory) / "answer.json"
        code, printed = _run([*_client(tool), *arguments, "--dumpJson", str(answer)], variables)
        if check:
            good = VERIFIED in printed if tool == "pchain" else code == 0
            _say("it is well" if good else "it is not well: see above")
            return 0 if good else 1
        number = _number(tool, answer)
    if number is None:
        _say("it was not submitted, or no answer came: see above, and look for it on PanDA before you try again")
        return 1
    sys.stdout.write(f"{'request' if tool == 'pchain' else 'task'} {number}\n")
    return 0


def _run(command: "list[str]", variables: "dict[str, str]") -> "tuple[int, str]":
    """Run it here, show what it prints, and give its exit code and that text."""
    process = subprocess.Popen(
        command,
        cwd=str(HERE),
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    printed = []
    for line in process.stdout or ():
        printed.append(line.decode("utf-8", "replace"))
        sys.stderr.write(printed[-1])
    return process.wait(), "".join(printed)


def _number(tool: str, answer: Path) -> "int | None":
    """The request's or the task's number; the client's exit code says nothing."""
    try:
        content = json.loads(answer.read_text(encoding="utf-8"))
        number = content["requestID"] if tool == "pchain" else content[0]["jediTaskID"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return number if type(number) is int else None


if __name__ == "__main__":
    sys.exit(main())
