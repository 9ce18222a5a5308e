"""The program of a PanDA job of muleteer's: `python3 muleteer/job.py STEP [NUMBER]`, in the unpacked package.

It runs one step's command in the surroundings that the embedded engine gives it: the inputs in the working directory,
a list of them in $MULETEER_INPUT_<NAME>, the parameters in $MULETEER_PARAM_<NAME>. What is to be done stands in
`muleteer/steps/STEP.json`; which files this job got, PanDA has written to `muleteer/IN.list` and its like. NUMBER is
this job's among those of its task, in $MULETEER_JOB_INDEX. Python 3.6 and its standard library are enough.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

#: What goes wrong before or after the command itself, as exit codes.
NO_STEP = 80
NO_INPUT = 81
NO_COMMAND = 82
NO_OUTPUT = 83
TOO_LONG = 124

#: Seconds between asking the command to end and ending it.
GRACE = 10.0
#: Seconds between two looks whether it has ended.
LOOK = 0.05

OWN = Path("muleteer")
#: Programs of ours that the command finds on its PATH; and where to tell how far the job is, if anybody wants to know.
TOOLS = OWN / "bin"
CALLBACK = OWN / "callback.json"
#: What lay in the working directory before and has a name like an output's is put here, lest PanDA takes it for one.
ASIDE = OWN / "aside"

#: What the shell does with a setup file ($0) and what comes after it. The file must not see arguments of ours, and
#: what it sets must last; a script is sourced too, so that it has the functions and aliases.
SOURCE_FIRST = 'muleteer_command=("$@"); set --; source "$0" || exit; exec "${muleteer_command[@]}"'
SOURCE_BOTH = 'muleteer_command=("$@"); set --; source "$0" || exit; source "${muleteer_command[0]}"'


class JobFailed(Exception):
    """The job cannot go on; the text says why."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def main(arguments: "list[str]") -> int:
    """Run the step, tell how it goes, and give the exit code."""
    teller = Teller(arguments)
    teller.tell("started")
    teller.keep_telling()
    code = carry_out(arguments)
    teller.tell("finished", "--code", str(code))
    return code


def carry_out(arguments: "list[str]") -> int:
    """Run the step, and give the exit code."""
    try:
        step = read(arguments[0] if arguments else "")
        listings = {each["variable"]: listed(each) for each in step["inputs"]}
        before = {path: identity(path) for pattern in step["outputs"] for path in Path().glob(pattern)}
        code = run(command(step), environment(step, listings, arguments[1:]), step["timeout"])
        if code == 0:
            check_made(step, before)
    except JobFailed as failure:
        say(str(failure))
        return failure.code
    if code:
        say(f"the step {step['step']} ended with exit code {code}")
    # PanDA's wrapper reckons exit codes modulo 255, so that 255 would be a success
    return 254 if code == 255 else code


class Teller:
    """Tells muleteer that the job began, is alive, and has ended. It does nothing if no address came with the job.

    It takes a few seconds at most, and what goes wrong with it is nobody's concern.
    """

    def __init__(self, arguments: "list[str]") -> None:
        self.variables = dict(os.environ, **callback())
        self.beat = float(self.variables.get("MULETEER_CALLBACK_BEAT", "0"))
        if arguments:
            self.variables["MULETEER_STEP"] = arguments[0]
        if arguments[1:]:
            self.variables["MULETEER_JOB_INDEX"] = arguments[1]

    def tell(self, *words: str) -> None:
        if "MULETEER_CALLBACK_URL" in self.variables:
            with suppress(OSError, ValueError, subprocess.SubprocessError):
                command = [sys.executable, str(TOOLS / "muleteer_report.py"), *words]
                subprocess.run(command, env=self.variables, stdin=subprocess.DEVNULL, timeout=10)

    def keep_telling(self) -> None:
        if self.beat > 0:
            threading.Thread(target=self._beat, daemon=True).start()

    def _beat(self) -> None:
        while True:
            time.sleep(self.beat)
            self.tell("running")


def callback() -> "dict[str, str]":
    """Who this job is, and where to tell how far it is; less if nobody wants to know."""
    number = next((os.environ[name] for name in ("PandaID", "PANDAID") if os.environ.get(name)), None)
    job = {"MULETEER_TOOLS": str(TOOLS.absolute()), "MULETEER_JOB": number or f"{os.uname().nodename}-{os.getpid()}"}
    try:
        told = json.loads(CALLBACK.read_text(encoding="utf-8"))
        return dict(
            job,
            MULETEER_LAUNCH=str(told["launch"]),
            MULETEER_CALLBACK_URL=str(told["url"]),
            MULETEER_CALLBACK_TOKEN=str(told["token"]),
            MULETEER_CALLBACK_BEAT=str(float(told["beat"])),
        )
    except (OSError, ValueError, TypeError, LookupError):
        return job


def say(text: str) -> None:
    sys.stdout.flush()
    sys.stderr.write(f"muleteer: {text}\n")
    sys.stderr.flush()


def read(name: str) -> "dict[str, Any]":
    """What is to be done in a step."""
    path = OWN / "steps" / f"{name}.json"
    try:
        step = json.loads(path.read_text(encoding="utf-8"))  # type: dict[str, Any]
    except (OSError, ValueError) as error:
        raise JobFailed(NO_STEP, f"the step {name!r} cannot be read from {path}: {error}") from None
    return step


def listed(each: "dict[str, Any]") -> str:
    """Lay the files of an input beside the command, and write down where they are: the path of that list."""
    wanted = each["files"] if each["listing"] is None else from_panda(each)
    files = [file if "://" in file else beside(Path(file), each["name"]) for file in wanted]
    listing = OWN / "inputs" / f"{each['variable']}.list"
    listing.parent.mkdir(exist_ok=True)
    listing.write_text("".join(f"{file}\n" for file in files), encoding="utf-8", errors="surrogateescape")
    return str(listing.absolute())


def from_panda(each: "dict[str, Any]") -> "list[str]":
    """The files that PanDA chose for this job: names with commas or line breaks between them."""
    try:
        text = Path(each["listing"]).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise JobFailed(NO_INPUT, f"PanDA gave no list of files for the input {each['name']}: {error}") from None
    return [name.strip() for name in text.replace(",", "\n").splitlines() if name.strip()]


def beside(file: Path, name: str) -> str:
    """The file's path in the working directory, to which it is linked if it lies elsewhere."""
    if not file.exists():
        raise JobFailed(NO_INPUT, f"the input {name} is incomplete: {file} is not there")
    link = Path(file.name)
    if not link.is_symlink() and not link.exists():
        link.symlink_to(file.absolute())
    elif not (link.exists() and link.samefile(file)):
        raise JobFailed(NO_INPUT, f"two files are called {link}, one of the input {name}: rename one of them")
    return str(link.absolute())


def identity(path: Path) -> "tuple[int, int, int]":
    """What changes when somebody else puts a file in its place, or writes into it."""
    found = path.lstat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def command(step: "dict[str, Any]") -> "list[str]":
    words = list(step["command"])  # type: list[str]
    if words and "/" in words[0] and not words[0].startswith("/"):
        words[0] = program(words[0])
    script = [] if words else [str(Path(step["script"]).absolute())]
    if step["setup"] is None:
        return words or ["bash", *script]
    setup = Path(step["setup"])
    if not setup.is_file():
        raise JobFailed(NO_COMMAND, f"the setup file {setup} is not in the package")
    return ["bash", "-c", SOURCE_BOTH if script else SOURCE_FIRST, str(setup.absolute()), *words, *script]


def program(name: str) -> str:
    path = Path(name)
    if not path.is_file():
        raise JobFailed(NO_COMMAND, f"{name} is not in the package")
    if not os.access(name, os.X_OK):
        raise JobFailed(NO_COMMAND, f"{name} is not executable: chmod +x it in the workflow's folder")
    return str(path.absolute())


def environment(step: "dict[str, Any]", listings: "dict[str, str]", rest: "list[str]") -> "dict[bytes, bytes]":
    """The job's own variables and the step's, as bytes: a node's locale may know no letters beyond ASCII."""
    ours = dict(callback(), **step["environment"])
    ours.update(listings)
    ours["PATH"] = os.pathsep.join([ours.get("PATH", os.environ.get("PATH", os.defpath)), str(TOOLS.absolute())])
    ours["PWD"] = str(Path.cwd())
    if rest:
        ours["MULETEER_JOB_INDEX"] = rest[0]
    return {**os.environb, **{as_bytes(name): as_bytes(value) for name, value in ours.items()}}


def as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def run(words: "list[str]", variables: "dict[bytes, bytes]", timeout: "float | None") -> int:
    """Run a command in a process group of its own; the exit code, as a shell gives it."""
    sys.stdout.flush()
    asked = []  # type: list[int]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # the site wants the job to end
        signal.signal(number, lambda number, frame: asked.append(number))
    try:
        process = subprocess.Popen(
            [as_bytes(word) for word in words], env=variables, stdin=subprocess.DEVNULL, start_new_session=True
        )
    except (OSError, ValueError) as error:
        raise JobFailed(NO_COMMAND, f"{words[0]} cannot be started: {error}") from None
    ended = wait(process, timeout, asked)
    if not ended:
        tell(process, signal.SIGTERM)
        wait(process, GRACE, [])
    tell(process, signal.SIGKILL)  # what it has left running
    code = process.wait()
    if not ended and asked:
        raise JobFailed(128 + asked[0], f"ended by {signal.Signals(asked[0]).name}")
    if not ended:
        raise JobFailed(TOO_LONG, f"the step was ended because it took longer than {timeout:g} s")
    return code if code >= 0 else 128 - code


def wait(process: "subprocess.Popen[bytes]", timeout: "float | None", asked: "list[int]") -> bool:
    """Whether it ended in time, and before anybody asked. It is not reaped: its process group still is its own."""
    deadline = float("inf") if timeout is None else time.monotonic() + timeout
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if asked or time.monotonic() >= deadline:
            return False
        time.sleep(LOOK)
    return True


def tell(process: "subprocess.Popen[bytes]", number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def check_made(step: "dict[str, Any]", before: "dict[Path, tuple[int, int, int]]") -> None:
    """Raise JobFailed if the command made nothing of a kind that it should have made."""
    old = {path for path, known in before.items() if path.is_symlink() or path.exists() if identity(path) == known}
    for pattern in step["outputs"]:
        made = [path for path in Path().glob(pattern) if path not in old and path.is_file()]
        if not made and pattern not in step["optional"]:
            raise JobFailed(NO_OUTPUT, f"the step {step['step']} ended well but made no file matching {pattern}")
    for path in sorted(old):
        ASIDE.mkdir(exist_ok=True)
        path.rename(ASIDE / path.name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
