"""Jobs tell how far they are: the programs that they are given, over real HTTP, to the service that takes it in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from orchestrator.launch.callback import Address, Heard, key_of, token_of
from orchestrator.monitor.jobs import Jobs, alone
from orchestrator.panda.packing import package, telling
from orchestrator.panda.port import PackedFile, Reference, Tracked
from orchestrator.store.store import Store
from schemas.job import REPORTS, JobHeard
from schemas.launch import Command
from tests.contract.test_store_launches import made
from tests.services.ports import free_port
from tests.unit.making import NOW
from tests.unit.panda.samples import site, step, submission

KEY = b"k" * 32
TOKEN = token_of(KEY, "a")


@dataclass
class Service:
    """One that takes reports in, and what it has kept of the launch `a`."""

    store: Store
    jobs: Jobs
    url: str
    #: What the clock of its limits says.
    seconds: list[float]

    def heard(self) -> list[JobHeard]:
        launch = self.store.launches.named("a")
        assert launch is not None
        return list(self.store.job_reports.of(launch.id))

    def post(self, body: object, token: str | None = TOKEN) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.post(self.url, content=content, headers=headers)


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Its address."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    while thread.is_alive() and not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def service(store: Store) -> Iterator[Service]:
    made(store, "a")
    seconds = [0.0]
    jobs = Jobs(store, lambda launch: token_of(KEY, launch), lambda: NOW, lambda: seconds[0])
    with serving(alone(jobs)) as url:
        yield Service(store, jobs, url + REPORTS, seconds)


GOOD: dict[str, Any] = {"launch": "a", "step": "reco", "job": "7", "what": "running"}


def variables(url: str | None, **more: str) -> dict[str, str]:
    """The environment of a job."""
    told = {} if url is None else {"MULETEER_CALLBACK_URL": url, "MULETEER_CALLBACK_TOKEN": TOKEN}
    job = {"MULETEER_LAUNCH": "a", "MULETEER_STEP": "reco", "MULETEER_JOB": "71", "MULETEER_JOB_INDEX": "007"}
    return {"PATH": os.environ["PATH"], **job, **told, **more}


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """The folder with the programs, as a package brings it."""
    package.write(telling.programs(), tmp_path / "package")
    return tmp_path / "package" / telling.FOLDER


def shell(script: str, environment: Mapping[str, str], directory: Path) -> subprocess.CompletedProcess[str]:
    command = ["sh", "-c", script]
    return subprocess.run(
        command, env=environment, cwd=directory, capture_output=True, text=True, timeout=30, input="of the job\n"
    )


@pytest.mark.parametrize("sourced", [False, True])
@pytest.mark.parametrize("curl", [True, False])
def test_a_shell_script_tells_how_far_it_is(
    service: Service, tools: Path, tmp_path: Path, sourced: bool, curl: bool
) -> None:
    """As a command or a function, with curl or without; under `set -eu`, and the job's own input stays its own."""
    path = f"{tools}:{os.environ['PATH']}"
    if not curl:
        few = tmp_path / "few"
        few.mkdir()
        for name in ("sh", "tr", "cut", "uname"):
            (few / name).symlink_to(str(shutil.which(name)))
        (few / "python3").symlink_to(sys.executable)
        path = f"{tools}:{few}"
    source = ". muleteer_report\n" if sourced else ""
    script = f"set -eu\n{source}muleteer_report running --done 012 --of 40 --bad x\nread line; echo $line"

    done = shell(script, variables(service.url, PATH=path, MULETEER_TOOLS=str(tools)), tmp_path)

    assert (done.returncode, done.stdout, done.stderr) == (0, "of the job\n", "")
    (job,) = service.heard()
    assert (job.job, job.step, job.index, job.what, job.done, job.of) == ("71", "reco", 7, "running", 12, 40)
    assert service.jobs.answered == {204: 1}


def test_a_python_script_tells_how_far_it_is(service: Service, tools: Path, tmp_path: Path) -> None:
    """By the module beside the command."""
    script = (
        "import os, sys; sys.path.append(os.environ['MULETEER_TOOLS'])\n"
        "from muleteer_report import report; report('running', done=3, of=10); report('finished', code=-9)"
    )
    environment = variables(service.url, MULETEER_TOOLS=str(tools))

    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)

    assert (done.stdout, done.stderr) == ("", "")
    (job,) = service.heard()
    assert (job.what, job.done, job.of, job.code) == ("finished", 3, 10, -9)


def test_nothing_goes_out_when_no_address_is_set(tools: Path, tmp_path: Path) -> None:
    """No program is even started: curl would leave a trace."""
    fake = tmp_path / "curl"
    fake.write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    fake.chmod(0o755)
    path = f"{tools}:{tmp_path}:{os.environ['PATH']}"

    quiet = shell("muleteer_report started", variables(None, PATH=path), tmp_path)
    before = (tmp_path / "called").exists()
    shell("muleteer_report started", variables("http://127.0.0.1:9/", PATH=path), tmp_path)

    assert (quiet.returncode, quiet.stdout, quiet.stderr, before) == (0, "", "", False)
    assert (tmp_path / "called").exists()


def test_a_service_that_is_away_fails_no_job(tools: Path, tmp_path: Path) -> None:
    """Nor does a slip of the pen, in a script that ends at the first failure."""
    environment = variables("http://127.0.0.1:9/", PATH=f"{tools}:{os.environ['PATH']}")
    del environment["MULETEER_LAUNCH"], environment["MULETEER_JOB"], environment["MULETEER_JOB_INDEX"]
    calls = ("running --done 3", "", "running --done", "nonsense --of x", "finished --code -1")
    script = "set -eu\n. muleteer_report\n" + "".join(f"muleteer_report {call}\n" for call in calls)

    done = shell(f"{script}echo on", environment, tmp_path)

    assert (done.returncode, done.stdout, done.stderr) == (0, "on\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("script", ["muleteer_report started", 'python3 "$MULETEER_TOOLS/muleteer_report.py" started'])
def test_a_service_that_does_not_answer_costs_a_job_a_few_seconds(tools: Path, tmp_path: Path, script: str) -> None:
    """It takes the call and says nothing; the job goes on as if nothing were wrong."""
    import socket

    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        began = time.monotonic()
        path = f"{tools}:{os.environ['PATH']}"
        done = shell(f"set -e; {script}; echo on", variables(url, PATH=path, MULETEER_TOOLS=str(tools)), tmp_path)

    assert (done.returncode, done.stdout, done.stderr) == (0, "on\n", "")
    assert 3 < time.monotonic() - began < 12


def test_no_value_of_a_job_reaches_the_shell_or_the_report_as_it_is(
    service: Service, tools: Path, tmp_path: Path
) -> None:
    """What could end a text of JSON or of curl's configuration is left out."""
    environment = variables(service.url, PATH=f"{tools}:{os.environ['PATH']}")
    environment["MULETEER_JOB"] = '7"; $(touch bad)\nurl = "http://127.0.0.1:9/'

    shell("muleteer_report running --done '1,\"of\":2'", environment, tmp_path)

    (job,) = service.heard()
    assert (job.job, job.done) == ("7touchbadurlhttp:127.0.0.1:9", None)
    assert not (tmp_path / "bad").exists()


def test_the_token_is_not_among_the_arguments_of_processes(tools: Path, tmp_path: Path) -> None:
    """Whoever lists processes on the node sees no token."""
    fake = tmp_path / "curl"
    fake.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\ncat > {tmp_path}/input\n')
    fake.chmod(0o755)
    path = f"{tools}:{tmp_path}:{os.environ['PATH']}"

    shell("muleteer_report started", variables("http://127.0.0.1:9/", PATH=path), tmp_path)

    assert TOKEN not in (tmp_path / "arguments").read_text()
    assert TOKEN in (tmp_path / "input").read_text()


def test_pandas_job_tells_that_it_began_and_how_it_ended(service: Service, tmp_path: Path) -> None:
    """By itself, when the package that was sent has the address; the script may tell more meanwhile."""
    run = "#!/bin/sh\nmuleteer_report running --done 2 --of 5\nexit 7\n"
    told = submission(step("reco", command=("./run.sh",)), name="a")
    packed = package.pack(told, {"run.sh": PackedFile(run.encode(), True)}, site(), "panda")
    sent = Address(service.url, KEY, timedelta(0)).put_to("a", packed)
    package.write(sent, tmp_path / "node")
    command = [sys.executable, "muleteer/job.py", "reco", "4"]
    environment = {"PATH": os.environ["PATH"], "PandaID": "4711"}

    done = subprocess.run(command, cwd=tmp_path / "node", env=environment, capture_output=True, timeout=30)

    assert done.returncode == 7
    (job,) = service.heard()
    assert (job.job, job.index, job.what, job.code, job.done, job.of) == ("4711", 4, "finished", 7, 2, 5)
    assert service.jobs.answered == {204: 3}


@pytest.mark.parametrize(
    ("body", "token", "status"),
    [
        (GOOD, None, 401),
        (GOOD, token_of(KEY, "b"), 401),
        (GOOD, token_of(b"x" * 32, "a"), 401),
        (GOOD, "ünsinn".encode().decode("latin-1"), 401),
        ({**GOOD, "launch": "b"}, token_of(KEY, "b"), 404),
        ({**GOOD, "step": "gone"}, TOKEN, 404),
        (b"\xff\x00{", TOKEN, 422),
        (b"[]", TOKEN, 422),
        ({**GOOD, "what": "killed"}, TOKEN, 422),
        ({**GOOD, "state": "finished"}, TOKEN, 422),
        ({**GOOD, "done": -1}, TOKEN, 422),
        ({**GOOD, "done": 10**30}, TOKEN, 422),
        ({**GOOD, "done": "1"}, TOKEN, 422),
        ({**GOOD, "job": "a\x00b"}, TOKEN, 422),
        ({**GOOD, "job": "\x1b[2J"}, TOKEN, 422),
        ({**GOOD, "code": 1}, TOKEN, 422),
        ({**GOOD, "host": "x" * 5000}, TOKEN, 413),
    ],
)
def test_what_is_no_report_is_refused_and_counted(
    service: Service, body: object, token: str | None, status: int
) -> None:
    """A status below 500, and nothing is kept."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {} if token is None else {b"Authorization": f"Bearer {token}".encode()}

    answer = httpx.post(service.url, content=content, headers=headers)

    assert answer.status_code == status
    assert answer.json()["error"]
    assert service.jobs.answered == {status: 1}
    assert service.heard() == []


def test_a_body_without_a_length_is_not_read(service: Service) -> None:
    """However long it goes on."""
    answer = httpx.post(service.url, content=iter([b"x" * 1000] * 10), headers={"Authorization": f"Bearer {TOKEN}"})

    assert answer.status_code == 413


def test_whoever_tells_too_often_is_refused_for_a_while(service: Service) -> None:
    """200 at once and 20 each second for each launch; another launch has reports of its own."""
    made(service.store, "b")
    statuses = [service.post(GOOD).status_code for _ in range(202)]
    other = service.post({**GOOD, "launch": "b"}, token_of(KEY, "b")).status_code
    service.seconds[0] = 0.1
    later = [service.post(GOOD).status_code for _ in range(3)]

    assert (statuses, other) == ([204] * 200 + [429] * 2, 204)
    assert later == [204, 204, 429]


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    """Two who ask at once get the same; another home has another."""
    with closing(_Threads(lambda: key_of(tmp_path))) as threads:
        keys = threads.results()

    assert len(set(keys)) == 1
    assert (tmp_path / "callback.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "other").mkdir()
    assert key_of(tmp_path / "other") != keys[0]
    assert [path.name for path in tmp_path.glob(".callback*")] == []


class _Threads:
    """The same done by eight threads at once."""

    def __init__(self, what: Any) -> None:
        self._found: list[Any] = []
        barrier = threading.Barrier(8)

        def run() -> None:
            barrier.wait()
            self._found.append(what())

        self._threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in self._threads:
            thread.start()

    def results(self) -> list[Any]:
        self.close()
        return self._found

    def close(self) -> None:
        for thread in self._threads:
            thread.join()


@dataclass
class _StepByStep:
    """An engine that reads the package whenever it sends the next step."""

    read: list[Mapping[str, PackedFile]]
    name: str = "stepwise"
    identity: str = "stepwise:1"
    registers_outputs: bool = True
    retries_steps: bool = True

    def submit(self, name: str, package: Mapping[str, PackedFile]) -> str:
        self.read.append(package)
        return name

    def look(self, tracked: list[Tracked]) -> dict[str, str]:
        self.read += [each.package() for each in tracked]
        return {}

    def command(self, tracked: Tracked, *_: object) -> str:
        self.read.append(tracked.package())
        return "done"


def test_the_address_goes_with_all_that_is_sent_and_stays_in_nothing_that_is_kept() -> None:
    """Also with steps that are sent later; the package itself is as it was."""
    kept = {"run.sh": PackedFile(b"x")}
    engine: Any = _StepByStep([])
    heard = Heard(engine, Address("https://x.example", KEY, timedelta(minutes=5)))
    tracked = Tracked("a", Reference("1"), (), NOW, lambda: kept)

    heard.submit("a", kept)
    heard.look([tracked])
    heard.command(tracked, Command.RETRY, None, {})

    told = {"launch": "a", "url": "https://x.example", "token": TOKEN, "beat": 300.0}
    assert [json.loads(each[telling.ADDRESS].content) for each in engine.read] == [told] * 3
    assert set(kept) == {"run.sh"}
