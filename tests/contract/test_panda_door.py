"""The door to PanDA against a stand-in server: our questions and commands, and submissions by the unmodified client.

The stand-in answers as captured from a real server; `tests/contract/test_panda_standin.py` shows that.
"""

from __future__ import annotations

import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.clock import utc_now
from orchestrator.panda.client.api import JobError, PandaApi
from orchestrator.panda.client.sending import Sender
from orchestrator.panda.client.token import Token
from orchestrator.panda.client.verdict import Tool
from orchestrator.panda.port import (
    EngineError,
    EngineInDoubt,
    EngineRefused,
    EngineUnavailable,
    UnknownSubmission,
)
from schemas.site import Site
from tests.services.panda import PandaServer, make_token

TOKEN = make_token()
CWL = """\
cwlVersion: v1.0
class: Workflow
inputs: []
outputs:
  outDS:
    type: string
    outputSource: bottom/outDS
steps:
  top:
    run: prun
    in:
      opt_exec:
        default: "python3 job.py top"
      opt_args:
        default: "--outputs seed.txt --nJobs 3 --avoidVP"
    out: [outDS]
  bottom:
    run: prun
    in:
      opt_inDS: top/outDS
      opt_exec:
        default: "python3 job.py bottom"
      opt_args:
        default: "--outputs r.txt --nFilesPerJob 5 --avoidVP"
    out: [outDS]
"""
_numbers = count(1)
_http = httpx.Client(verify=False)


@pytest.fixture(scope="module")
def shared() -> Iterator[PandaServer]:
    with PandaServer() as server:
        yield server


@pytest.fixture
def panda(shared: PandaServer) -> Iterator[PandaServer]:
    """The stand-in, without the faults of other tests. Tests use names of their own."""
    shared.clear_faults()
    yield shared
    shared.clear_faults()
    shared.configure(refine_after=0, hold_workflows=False, command_seconds=0)


def _site(panda: PandaServer, **more: Any) -> Site:
    pages = {"job": "https://monitor.example.org/job/{id}/"}
    given = {"name": "standin", "url": panda.url, "url_ssl": panda.url, "vo": "sphenix", "prefix": "user.shrek"}
    return Site.model_validate({**given, "submit_timeout": "60s", "monitor": pages, **more})


def _token(text: str = TOKEN) -> Token:
    return Token(None, {"PANDA_AUTH_ID_TOKEN": text})


@pytest.fixture
def api(panda: PandaServer) -> Iterator[PandaApi]:
    api = PandaApi(_site(panda), _token(), pause=lambda seconds: None)
    yield api
    api.close()


@pytest.fixture
def sender(panda: PandaServer) -> Sender:
    return Sender(_site(panda), _token(), grace=0.5)


@pytest.fixture
def name() -> str:
    """A name that no other test has."""
    return f"user.shrek.door{next(_numbers)}"


def _task(panda: PandaServer, name: str) -> int:
    """A task, made without the client."""
    parameters = {"taskName": name, "uniqueTaskName": True, "vo": "sphenix", "prodSourceLabel": "test", "nFiles": 4}
    headers = {"Authorization": f"Bearer {TOKEN}", "Origin": "sphenix", "Accept": "application/json"}
    answer = _http.post(
        f"{panda.url}/api/v1/task/submit", json={"task_parameters": parameters, "parent_tid": None}, headers=headers
    )
    return int(answer.json()["data"])


def _package(directory: Path, name: str, cwl: str = CWL) -> Path:
    """A submission directory. Its content is unlike any other, so that the client has to upload it."""
    directory.mkdir()
    (directory / "workflow.cwl").write_text(f"# {name}\n{cwl}")
    (directory / "input.yaml").write_text("{}\n")
    (directory / "job.py").write_text(f"# {name}\n")
    # The client must import Python's own module of this name.
    (directory / "json.py").write_text("raise SystemExit('a job script ran in the client')\n")
    return directory


def _arguments(tool: Tool, name: str) -> list[str]:
    own = {
        "pchain": ["--cwl", "workflow.cwl", "--yaml", "input.yaml"],
        "prun": ["--exec", "python3 job.py", "--outputs", "o.txt", "--noBuild", "--nJobs", "1", "--site", "X"],
    }
    return [*own[tool], "--outDS", name, "--vo", "sphenix", "--prodSourceLabel", "test"]


def _started(panda: PandaServer, tool: Tool, name: str) -> int:
    return len(panda.workflows(name)) if tool == "pchain" else len(panda.tasks(f"{name}/"))


# --- questions


def test_a_handshake_says_who_we_are_and_until_when(api: PandaApi) -> None:
    said = api.handshake(utc_now())

    assert "knows us as Shrek Producer (shrek) of sphenix, sphenix/production, speaking for sphenix" in said
    assert "UTC, which is in 23h" in said
    assert api.requests_made == 2


def test_a_task_as_it_goes_on(panda: PandaServer, api: PandaApi, name: str) -> None:
    number = _task(panda, name)
    panda.advance(number, "running", files=10, finished=4, failed=1, error="<b>out of memory</b>")

    task = api.task(number)

    assert task is not None
    assert (task.id, task.name, task.status, task.user) == (number, name, "running", "Shrek Producer")
    assert (task.n_files, task.n_files_finished, task.n_files_failed) == (10, 4, 1)
    assert task.error == "<b>out of memory</b>"
    assert abs(utc_now() - task.modified_at) < timedelta(seconds=30)


def test_a_task_that_jedi_does_not_know_yet_is_none(panda: PandaServer, api: PandaApi, name: str) -> None:
    panda.configure(refine_after=None)
    number = _task(panda, name)

    assert api.task(number) is None
    assert api.tasks(ids=[number]) == ()
    panda.refine(number)
    assert api.task(number) is not None


def test_tasks_by_name_by_pattern_by_number_and_since(panda: PandaServer, api: PandaApi, name: str) -> None:
    first, second = _task(panda, f"{name}_000_top"), _task(panda, f"{name}_001_end")
    _task(panda, f"{name}x")
    time.sleep(1.1)
    began = utc_now()
    time.sleep(1.1)
    panda.advance(second, "running")

    def ids(**question: Any) -> list[int]:
        return sorted(task.id for task in api.tasks(**question))

    assert ids(name=f"{name}_001_end") == [second]
    assert ids(name=f"{name}_002") == []
    assert ids(name_regex=rf"^{name.replace('.', '[.]')}(_|/|$)") == [first, second]
    assert ids(name_regex="_001_end", since=began) == ids(name=f"{name}_001_end")
    assert ids(ids=[first, second, 999]) == [first, second]
    assert ids(ids=[first, second], since=began) == [second]
    assert second in ids(since=began)
    assert first not in ids(since=began)


def test_no_task_is_missed_however_many_there_are(api: PandaApi, panda: PandaServer, name: str) -> None:
    """The server gives any so many in no order; all of them changed within a moment."""
    made = {_task(panda, f"{name}_{number}") for number in range(520)}
    before = api.requests_made

    found = {task.id for task in api.tasks(since=utc_now() - timedelta(minutes=5))}

    assert made <= found
    assert api.requests_made - before == 2, "a full answer is asked for again, larger"
    last = f"{name}_519"
    assert [task.name for task in api.tasks(name_regex=f"^{last}$")] == [last]


def test_requests_of_idds(panda: PandaServer, api: PandaApi, sender: Sender, tmp_path: Path, name: str) -> None:
    panda.configure(hold_workflows=True)
    number = sender.send("pchain", _arguments("pchain", name), _package(tmp_path / "p", name)).number
    assert number is not None
    assert {row.workload_id for row in api.requests(number)} <= {None}
    panda.configure(hold_workflows=False)

    rows = {row.transform_name: row for row in api.requests(number)}

    assert rows[f"{name}_000_top"].workload_id == panda.task(f"{name}_000_top").id
    assert {row.request_id for row in rows.values()} == {number}
    assert {row.status for row in rows.values()} == {"Transforming"}
    assert set(rows.values()) <= set(api.requests())
    assert api.requests(987654) == ()


def test_jobs_say_what_went_wrong_and_where_to_look(panda: PandaServer, api: PandaApi, name: str) -> None:
    number = _task(panda, name)
    failed = {"jobStatus": "failed", "pilotErrorCode": 1305, "pilotErrorDiag": "out of memory", "computingSite": "BNL"}
    panda.advance(number, "running", jobs=[failed, {"jobStatus": "finished"}])

    jobs = api.jobs(number)
    bad = api.jobs(number, unsuccessful_only=True)

    assert [job.status for job in jobs] == ["failed", "finished"]
    assert [job.id for job in bad] == [jobs[0].id]
    assert bad[0].errors == (JobError("pilot", 1305, "out of memory"),)
    assert (bad[0].site, jobs[1].errors) == ("BNL", ())
    assert bad[0].log == f"https://monitor.example.org/job/{bad[0].id}/"


# --- commands


def test_commands_are_answered_in_words(panda: PandaServer, api: PandaApi, name: str) -> None:
    number = _task(panda, name)

    with pytest.raises(EngineRefused, match="retry command is not accepted if the task is in defined status"):
        api.retry(number)
    assert f"command=finish is registered for task ID {number}" in api.finish(number)
    panda.advance(number, "failed")
    assert api.retry(number, {"ramCount": "4000", "site": "BNL"})
    assert "4000" in str(panda.task(number).commands), "new parameters reach the server"
    assert "'4000'" not in str(panda.task(number).commands), "as numbers"
    assert f"command=kill is registered for task ID {number}" in api.kill(number)
    with pytest.raises(EngineError, match="999"):
        api.kill(999)


def test_what_needs_the_production_role_says_so(panda: PandaServer, api: PandaApi, name: str) -> None:
    number = _task(panda, name)
    entitled = PandaApi(_site(panda, production_role=True), _token())
    for command in (api.pause, api.resume, api.increase_attempts):
        with pytest.raises(EngineRefused, match="role required; set production_role"):
            command(number)

    assert f"command=pause is registered for task ID {number}" in entitled.pause(number)
    entitled.close()


def test_a_request_is_aborted_and_an_unknown_one_is_unknown(
    panda: PandaServer, api: PandaApi, sender: Sender, tmp_path: Path, name: str
) -> None:
    number = sender.send("pchain", _arguments("pchain", name), _package(tmp_path / "p", name)).number
    assert number is not None

    assert "registered" in api.abort(number)
    with pytest.raises(UnknownSubmission, match="987654"):
        api.abort(987654)
    with pytest.raises(UnknownSubmission, match="jediTaskID=999 not found"):
        api.reload(999)


# --- trouble

FAULTS = ("500", "503", "404", "html", "cut", "empty", "drop", "lost")


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize(
    ("function", "question"),
    [
        ("task/get_detailed_info", lambda api: api.task(1)),
        ("task/get_tasks_detailed_info_since", lambda api: api.tasks(name="x")),
        ("relay_idds_command", lambda api: api.requests(987654)),
    ],
)
def test_a_question_is_asked_again_a_few_times(
    panda: PandaServer, api: PandaApi, function: str, question: Callable[[PandaApi], object], kind: str
) -> None:
    panda.fault(function, kind)
    assert question(api) in (None, ())
    assert api.requests_made == 2

    panda.fault(function, kind, times=None)
    with pytest.raises(EngineUnavailable, match="did not answer"):
        question(api)
    assert api.requests_made == 5


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize(
    ("function", "command"),
    [("task/kill", lambda api, number: api.kill(number)), ("relay_idds_command", lambda api, number: api.abort(1))],
)
def test_a_command_is_sent_once_and_a_lost_answer_is_doubt(
    panda: PandaServer, api: PandaApi, name: str, function: str, command: Callable[[PandaApi, int], str], kind: str
) -> None:
    number = _task(panda, name)
    panda.fault(function, kind, times=None)
    before = panda.calls[function]

    with pytest.raises(EngineInDoubt, match="may have been done or not"):
        command(api, number)

    assert panda.calls[function] == before + 1


def test_patience_has_an_end(panda: PandaServer) -> None:
    hasty = PandaApi(_site(panda), _token(), read=0.2, pause=lambda seconds: None)
    panda.fault("system/is_alive", "hang", times=None, seconds=1.0)

    with pytest.raises(EngineUnavailable, match="took too long"):
        hasty.alive()
    assert hasty.requests_made == 3
    hasty.close()


def test_a_server_that_is_away_was_sent_nothing() -> None:
    with PandaServer() as server:
        site = _site(server)
    api = PandaApi(site, _token(), pause=lambda seconds: None)

    with pytest.raises(EngineUnavailable, match="out of reach, task/kill was not sent"):
        api.kill(1)
    with pytest.raises(EngineUnavailable, match="did not answer"):
        api.task(1)
    api.close()


@pytest.mark.parametrize(
    ("vo", "token", "words"),
    [
        ("epic", TOKEN, "does not accept our token for 'epic'.*Unknown vo : epic"),
        ("sphenix", make_token(groups=["other"]), "Not a member of the sphenix group"),
    ],
)
def test_a_token_that_is_not_accepted_is_no_passing_trouble(
    panda: PandaServer, vo: str, token: str, words: str, tmp_path: Path, name: str
) -> None:
    """It is asked once, and the answer says what to look at; the client's submission says so too."""
    site = _site(panda, vo=vo)
    api = PandaApi(site, _token(token))

    with pytest.raises(EngineUnavailable, match=words):
        api.task(1)
    assert api.requests_made == 1
    with pytest.raises(EngineUnavailable, match="did not accept the token, nothing was started"):
        Sender(site, _token(token)).send("prun", _arguments("prun", name), _package(tmp_path / "p", name))
    api.close()


def test_nothing_is_sent_with_an_expired_token(panda: PandaServer, tmp_path: Path, name: str) -> None:
    stale = _token(make_token(expires=timedelta(seconds=-1)))
    before = dict(panda.calls)

    with pytest.raises(EngineUnavailable, match="expired on"):
        PandaApi(_site(panda), stale).task(1)
    with pytest.raises(EngineUnavailable, match="expired on"):
        Sender(_site(panda), stale).send("prun", _arguments("prun", name), _package(tmp_path / "p", name))

    assert dict(panda.calls) == before


def test_threads_share_one_client(panda: PandaServer, api: PandaApi, name: str) -> None:
    number = _task(panda, name)
    found: list[object] = []

    def ask() -> None:
        found.extend(api.task(number) for _ in range(10))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 80
    assert None not in found
    assert api.requests_made == 80


def test_https_is_trusted_by_the_sites_ca_alone(tmp_path: Path) -> None:
    """The system's own certificates count for nothing, as with the client."""
    with PandaServer() as server:
        url = f"https://localhost:{server.url.rpartition(':')[2]}"
        empty = tmp_path / "empty"
        empty.mkdir()
        without = PandaApi(_site(server, url_ssl=url), _token())
        with pytest.raises(EngineUnavailable, match="set ca_directory"):
            without.alive()
    (tmp_path / "cas").mkdir()
    certificate, key = tmp_path / "cas" / "ca.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    _openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, *subject)
    _openssl("rehash", tmp_path / "cas")
    with _secured(certificate, key) as port:
        url = f"https://localhost:{port}"
        for directory, words in ((empty, "signed by nobody in the site's ca_directory"), (tmp_path / "cas", "404")):
            site = Site(name="s", url=url, url_ssl=url, vo="sphenix", prefix="user.shrek", ca_directory=directory)
            api = PandaApi(site, _token(), pause=lambda seconds: None)
            with pytest.raises(EngineUnavailable, match=words):
                api.alive()
            api.close()


def _openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


class _secured:
    """A server that answers each request over TLS with 404."""

    def __init__(self, certificate: Path, key: Path) -> None:
        class Nothing(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_error(404)

            def log_message(self, format: str, *words: object) -> None:
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)

        class Server(HTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Nothing)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> int:
        self._thread.start()
        return int(self._server.server_address[1])

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


# --- submissions


@pytest.mark.parametrize("tool", ["prun", "pchain"])
def test_a_submission_has_a_number_and_a_receipt(
    panda: PandaServer, sender: Sender, tmp_path: Path, tool: Tool, name: str
) -> None:
    directory = _package(tmp_path / "p", name)
    before = sorted(directory.iterdir())

    sent = sender.send(tool, _arguments(tool, name), directory)

    expected = panda.workflows(name)[0].id if tool == "pchain" else panda.task(f"{name}/").id
    assert (sent.number, sent.found, _started(panda, tool, name)) == (expected, False, 1)
    assert sent.receipt.command == (tool, *_arguments(tool, name))
    assert (sent.receipt.exit_code, sent.receipt.client) == (0, "panda-client 2.2.0")
    assert f": {expected}" in (sent.receipt.answer or "")
    assert f"taken as {'request' if tool == 'pchain' else 'task'} {expected}" == sent.receipt.verdict
    assert "INFO : submit " in sent.receipt.output, "what tells a failure before from one after"
    assert sorted(directory.iterdir()) == before, "the client leaves nothing in it"
    assert TOKEN not in str(sent)


def test_a_task_of_the_same_name_is_found_again(panda: PandaServer, sender: Sender, tmp_path: Path, name: str) -> None:
    first = sender.send("prun", _arguments("prun", name), _package(tmp_path / "1", name))
    second = sender.send("prun", _arguments("prun", name), _package(tmp_path / "2", name))
    panda.configure(refine_after=None)
    waiting = sender.send("prun", _arguments("prun", f"{name}w"), _package(tmp_path / "3", name))
    again = sender.send("prun", _arguments("prun", f"{name}w"), _package(tmp_path / "4", name))

    assert (second.number, second.found, first.found) == (first.number, True, False)
    assert (again.number, again.found) == (waiting.number, True)
    assert "was there already" in (second.receipt.verdict or "")
    assert _started(panda, "prun", name) == 1


def test_a_workflow_that_the_server_cannot_read_is_refused_with_its_reason(
    panda: PandaServer, sender: Sender, tmp_path: Path, name: str
) -> None:
    """pchain ends with 0 all the same."""
    directory = _package(tmp_path / "p", name, CWL.replace("--avoidVP", "--stage all"))

    for attempt in (sender.send, sender.check):
        with pytest.raises(EngineRefused, match="unrecognized arguments: --stage all") as refusal:
            attempt("pchain", _arguments("pchain", name), directory)
        assert refusal.value.receipt is not None
        assert refusal.value.receipt.exit_code == 0
    assert _started(panda, "pchain", name) == 0


@pytest.mark.parametrize("tool", ["prun", "pchain"])
def test_options_that_the_client_does_not_know_are_refused(
    panda: PandaServer, sender: Sender, tmp_path: Path, tool: Tool, name: str
) -> None:
    directory = _package(tmp_path / "p", name)

    with pytest.raises(EngineRefused, match="unrecognized arguments: --nonsense"):
        sender.send(tool, [*_arguments(tool, name), "--nonsense"], directory)
    with pytest.raises(EngineRefused, match=r"refused the options.*invalid output"):
        sender.send(tool, _arguments(tool, "group.sphenix.notours"), directory)


@pytest.mark.parametrize("tool", ["prun", "pchain"])
def test_a_check_starts_nothing(panda: PandaServer, sender: Sender, tmp_path: Path, tool: Tool, name: str) -> None:
    receipt = sender.check(tool, _arguments(tool, name), _package(tmp_path / "p", name))

    assert receipt.verdict in ("the server can read the workflow", "the client takes it")
    assert _started(panda, tool, name) == 0


#: Each request of a submission before the one that counts: its name, and which of that name.
BEFORE: tuple[tuple[Tool, str, int], ...] = (
    ("prun", "file_server/validate_cache_file", 1),
    ("prun", "file_server/upload_cache_file", 1),
    ("pchain", "file_server/validate_cache_file", 1),
    ("pchain", "file_server/upload_cache_file", 1),
    ("pchain", "file_server/validate_cache_file", 2),
    ("pchain", "file_server/upload_cache_file", 2),
)


@pytest.mark.parametrize("kind", ["500", "403", "html", "cut", "drop", "lost"])
@pytest.mark.parametrize(("tool", "function", "nth"), BEFORE)
def test_a_failure_before_it_was_handed_in_is_no_doubt(
    panda: PandaServer, sender: Sender, tmp_path: Path, tool: Tool, function: str, nth: int, kind: str, name: str
) -> None:
    panda.fault(function, kind, nth=nth)

    with pytest.raises(EngineUnavailable) as trouble:
        sender.send(tool, _arguments(tool, name), _package(tmp_path / "p", name))

    assert trouble.value.receipt is not None
    assert _started(panda, tool, name) == 0


@pytest.mark.parametrize("kind", ["500", "503", "403", "404", "html", "cut", "empty", "drop", "lost", "late"])
@pytest.mark.parametrize(("tool", "function"), [("prun", "task/submit"), ("pchain", "put_workflow_request")])
def test_once_it_was_handed_in_anything_but_an_answer_is_doubt(
    panda: PandaServer, sender: Sender, tmp_path: Path, tool: Tool, function: str, kind: str, name: str
) -> None:
    panda.fault(function, kind, seconds=0.2)

    with pytest.raises(EngineInDoubt, match="looked up") as doubt:
        sender.send(tool, _arguments(tool, name), _package(tmp_path / "p", name))

    assert doubt.value.receipt is not None
    time.sleep(0.4 if kind == "late" else 0.0)
    assert _started(panda, tool, name) == (1 if kind in ("cut", "empty", "lost", "late") else 0)


@pytest.mark.parametrize(
    ("tool", "function", "error"),
    [
        ("prun", "file_server/upload_cache_file", EngineUnavailable),
        ("prun", "task/submit", EngineInDoubt),
        ("pchain", "file_server/validate_cache_file", EngineUnavailable),
        ("pchain", "put_workflow_request", EngineInDoubt),
    ],
)
def test_a_server_that_hangs_is_not_waited_for_without_end(
    panda: PandaServer, tmp_path: Path, tool: Tool, function: str, error: type[EngineError], name: str
) -> None:
    hasty = Sender(_site(panda, submit_timeout="3s"), _token(), grace=0.5)
    panda.fault(function, "hang", seconds=6.0)
    began = time.monotonic()

    with pytest.raises(error, match="took too long and was ended"):
        hasty.send(tool, _arguments(tool, name), _package(tmp_path / "p", name))

    assert time.monotonic() - began < 5


def test_a_server_that_is_away_makes_no_doubt(tmp_path: Path, name: str) -> None:
    with PandaServer() as server:
        site = _site(server)
    for tool in ("prun", "pchain"):
        with pytest.raises(EngineUnavailable, match=r"nothing was started.*Connection refused"):
            Sender(site, _token()).send(tool, _arguments(tool, name), _package(tmp_path / tool, name))


def test_who_never_speaks_to_panda_does_not_wait_for_its_libraries() -> None:
    """The client is never loaded into our process, and the HTTP library only to ask something."""
    program = (
        "import sys, orchestrator.panda.client.sending, orchestrator.panda.client.api\n"
        "print({'httpx', 'pandaclient'} & {*sys.modules})"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert loaded.strip() == "set()"
