"""What we pack, in the hands of others: the unmodified panda-client, the stand-in server, and a worker node's shell.

A package is submitted by its own `./submit`, which runs the client; jobs are run as PanDA's wrapper runs them, out of
the sandbox that the client has uploaded.
"""

from __future__ import annotations

import ast
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from orchestrator.panda.packing import package
from orchestrator.panda.port import Package, PackedFile, Submission
from schemas.site import Site
from tests.services.panda import PandaServer, Task, make_token
from tests.unit.panda.samples import SOURCE, chain, reads, site, step, submission

EVIL = 'x\'; touch harm; $(touch harm) `touch harm` "%IN" ${IFS}\n| \u00e9 %{SECDS1} %RNDM:3'
DATASET = "user.shrek.rn00021615-CALOR_{}_0/"


@pytest.fixture
def panda() -> Iterator[PandaServer]:
    with PandaServer() as server:
        yield server


def here(panda: PandaServer, **fields: Any) -> Site:
    return site(url=panda.url, url_ssl=panda.url, **fields)


def packed(told: Submission, panda: PandaServer, to: Path, source: Package = SOURCE, **fields: Any) -> Path:
    package.write(package.pack(told, source, here(panda, **fields), "panda"), to)
    return to


def by_hand(directory: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`./submit` by somebody who has the token in a file, as editors leave files."""
    token = directory.parent / "token"
    token.write_text(make_token() + "\n")
    kept = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(directory.parent)}
    return subprocess.run(
        ["./submit", *arguments],
        cwd=directory,
        env={**kept, "OIDC_AUTH_TOKEN_FILE": str(token), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def datasets(task: Task, kind: str) -> dict[str, str]:
    """What a task reads or makes: datasets by template."""
    return {
        str(item["value"]): str(item["dataset"])
        for item in task.params["jobParameters"]
        if item.get("param_type") == kind
    }


def test_a_chain_is_submitted_by_hand_and_its_tasks_read_what_they_should(panda: PandaServer, tmp_path: Path) -> None:
    directory = packed(chain(), panda, tmp_path / "package")

    done = by_hand(directory)
    for name in ("combine", "dst"):
        panda.advance(f"user.shrek.rn00021615-CALOR_00{0 if name == 'combine' else 1}_{name}", "done")

    assert done.returncode == 0, done.stderr
    (request,) = panda.workflows("user.shrek.rn00021615-CALOR")
    assert done.stdout == f"request {request.id}\n"
    links = panda.task("user.shrek.rn00021615-CALOR_002_links")
    assert datasets(links, "input") == {
        '-i "${IN/T}"': DATASET.format("001_dst"),
        "${IN2}": DATASET.format("000_combine"),
        "${IN3}": "group.sphenix:CALIBRATIONS-2023p001",
    }
    assert datasets(links, "output") == {"regex|^(.*[.]root)(?!.)": DATASET.format("002_links")}


def test_a_step_for_failures_becomes_a_task_only_then_and_reads_nothing(panda: PandaServer, tmp_path: Path) -> None:
    by_hand(packed(chain(), panda, tmp_path / "package"))
    panda.advance("user.shrek.rn00021615-CALOR_000_combine", "done")
    assert not panda.tasks("user.shrek.rn00021615-CALOR_003_sorry")

    panda.advance("user.shrek.rn00021615-CALOR_001_dst", "failed")

    assert datasets(panda.task("user.shrek.rn00021615-CALOR_003_sorry"), "input") == {}


def test_each_step_by_itself_makes_and_reads_the_same_datasets_as_the_chain(panda: PandaServer, tmp_path: Path) -> None:
    directory = packed(chain(), panda, tmp_path / "package")
    by_hand(directory)
    for number, name in enumerate(("combine", "dst")):
        panda.advance(f"user.shrek.rn00021615-CALOR_{number:03d}_{name}", "done")
    in_chain = {task.name: task for task in panda.tasks()}

    for name in ("combine", "dst", "links"):
        done = by_hand(directory, "--step", name)
        assert done.returncode == 0 and done.stdout.startswith("task 3"), done.stderr

    for name, task in in_chain.items():
        alone = panda.task(f"{name}/")
        assert datasets(alone, "output") == datasets(task, "output")
        assert datasets(alone, "input") == datasets(task, "input")
        assert alone.params["log"] == task.params["log"]


def test_a_check_submits_nothing_and_says_whether_it_is_well(panda: PandaServer, tmp_path: Path) -> None:
    directory = packed(chain(), panda, tmp_path / "package")

    good = by_hand(directory, "--check")
    (directory / "workflow.cwl").write_text((directory / "workflow.cwl").read_text().replace("--outputs", "--stage"))
    bad = by_hand(directory, "--check")

    assert good.returncode == 0 and "it is well" in good.stderr, good.stderr
    assert bad.returncode == 1 and "it is not well" in bad.stderr
    assert not panda.workflows() and not panda.tasks()


def test_a_step_can_be_checked_by_itself(panda: PandaServer, tmp_path: Path) -> None:
    done = by_hand(packed(submission(), panda, tmp_path / "package"), "--check")

    assert done.returncode == 0 and "it is well" in done.stderr
    assert not panda.tasks() and not panda.calls["task/submit"]


def test_a_name_that_was_used_already_is_no_success(panda: PandaServer, tmp_path: Path) -> None:
    directory = packed(submission(), panda, tmp_path / "package")

    assert by_hand(directory).stdout.startswith("task ")
    again = by_hand(directory)

    assert again.returncode == 1 and again.stdout == "" and "it was not submitted, or no answer came" in again.stderr


def test_without_a_token_nothing_is_asked_of_the_server(panda: PandaServer, tmp_path: Path) -> None:
    done = by_hand(packed(chain(), panda, tmp_path / "package"), OIDC_AUTH_TOKEN_FILE="")

    assert done.returncode == 2 and "there is no token. Set OIDC_AUTH_TOKEN_FILE" in done.stderr
    assert not panda.calls


def test_the_token_is_never_shown(panda: PandaServer, tmp_path: Path) -> None:
    """The client shows a token that ends with a line break, as this one does in its file."""
    done = by_hand(packed(chain(), panda, tmp_path / "package"))

    assert done.returncode == 0 and make_token().split(".")[0] not in done.stdout + done.stderr


def test_steps_are_listed_without_a_token(panda: PandaServer, tmp_path: Path) -> None:
    done = by_hand(packed(chain(), panda, tmp_path / "package"), "--list", OIDC_AUTH_TOKEN_FILE="")

    assert done.returncode == 0
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == ["combine", "dst", "links", "sorry", "all"]


def test_a_step_that_does_not_exist_is_refused_with_those_that_do(panda: PandaServer, tmp_path: Path) -> None:
    done = by_hand(packed(chain(), panda, tmp_path / "package"), "--step", "nothing")

    assert done.returncode == 2 and "there are: combine, dst, links, sorry" in done.stderr


def test_job_scripts_may_be_called_like_modules_of_python(panda: PandaServer, tmp_path: Path) -> None:
    shadows = {f"{name}.py": PackedFile(b"raise SystemExit(99)\n") for name in ("json", "tempfile", "httpx", "random")}

    done = by_hand(packed(submission(), panda, tmp_path / "package", {**SOURCE, **shadows}))

    assert done.returncode == 0, done.stderr


def test_official_datasets_are_taken_by_the_client(panda: PandaServer, tmp_path: Path) -> None:
    directory = packed(chain(), panda, tmp_path / "package", official=True, prefix="group.sphenix")

    assert by_hand(directory).returncode == 0
    assert len(panda.workflows("group.sphenix.rn00021615-CALOR")) == 1


def test_the_longest_name_that_we_allow_is_allowed_by_the_client(panda: PandaServer, tmp_path: Path) -> None:
    longest = "r" * (132 - len("user.shrek._000_combine.log/"))

    done = by_hand(packed(submission(name=longest), panda, tmp_path / "package"))

    assert done.returncode == 0, done.stderr


def test_a_list_of_files_reaches_the_server_in_a_chain(panda: PandaServer, tmp_path: Path) -> None:
    files = tuple(f"/d/{number:06d}-{'x' * 60}.prdf" for number in range(20_000))
    told = submission(step("combine", "list"), step("dst", "combine"), file_lists={"list": files})

    done = by_hand(packed(told, panda, tmp_path / "package"))

    assert done.returncode == 0, done.stderr
    assert panda.task("user.shrek.rn00021615-CALOR_000_combine").params["pfnList"] == list(files)


def test_prun_is_told_every_option_without_a_question(panda: PandaServer, tmp_path: Path) -> None:
    options = {"memory": 6000, "nCore": 8, "maxAttempt": 3, "nFilesPerJob": 12, "cpuTimePerEvent": 75000}
    more = {"skipScout": True, "avoidVP": True, "forceStaged": True, "disableAutoRetry": True, "outDiskCount": 7}
    told = submission(step("combine", "raw", panda={**options, **more}))

    done = by_hand(packed(told, panda, tmp_path / "package"))

    assert done.returncode == 0, done.stderr
    params = panda.tasks()[0].params
    assert (params["ramCount"], params["coreCount"], params["maxAttempt"]) == (6000, 8, 3)
    assert (params["nFilesPerJob"], params["cpuTime"], params["outDiskCount"]) == (12, 75000, 7)
    assert params["skipScout"] and params["avoidVP"] and params["useLocalIO"] and params["disableAutoRetry"]


class WorkerNode:
    """Runs jobs of a task as PanDA's wrapper does: unpacks the sandbox, writes the lists of files, and has a shell
    run what `-p` says."""

    def __init__(self, panda: PandaServer, task: Task, directory: Path) -> None:
        self.directory = directory
        self._task = task
        archive = next(word.split()[1] for word in self._constants() if word.startswith("-a "))
        with tarfile.open(fileobj=io.BytesIO(panda.state.cache[archive].content)) as tar:
            tar.extractall(directory, filter="data")

    def _constants(self) -> list[str]:
        return [str(item["value"]) for item in self._task.params["jobParameters"]]

    def outputs(self) -> list[str]:
        """The files that match what the shell makes of `-o`."""
        said = next(word for word in self._constants() if word.startswith("-o "))
        shown = subprocess.run(["sh", "-c", f"printf %s {said[3:]}"], capture_output=True, text=True, check=True)
        (expression,) = ast.literal_eval(shown.stdout)
        found = re.compile(expression.removeprefix("regex|"))
        return sorted(path.name for path in self.directory.iterdir() if found.search(path.name))

    def run(self, number: int, files: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        for stream, names in files.items():
            for name in names.split(","):
                (self.directory / name).write_text(f"content of {name}\n")
            (self.directory / f"muleteer/{stream}.list").write_text(names)
        words = self._constants()
        start = words.index('-p "')
        told = "".join(words[start + 1 : words.index('"', start)]).replace("${SEQNUMBER}", str(number))
        return subprocess.run(
            ["sh", "-c", unquote(told)], cwd=self.directory, capture_output=True, text=True, timeout=60
        )


TELL = f"""#!{sys.executable}
import json, os, sys
files = [line.rstrip("\\n") for line in open(os.environ["MULETEER_INPUT_RAW"])]
told = {{"argv": sys.argv[1:], "value": os.environ["MULETEER_PARAM_VALUE"], "read": [open(f).read() for f in files],
        "job": os.environ["MULETEER_JOB_INDEX"]}}
json.dump(told, open("told-" + os.environ["MULETEER_JOB_INDEX"] + ".json", "w"))
"""


def test_a_job_out_of_the_uploaded_sandbox_gets_every_value_as_it_was(panda: PandaServer, tmp_path: Path) -> None:
    """Through the client, the server's task and the node's shell, and no shell on the way has read a value."""
    told = submission(
        step("tell", "raw", reads("calibration"), command=("./tell.py", EVIL), outputs=("told-*.json",)),
        parameters={"value": EVIL},
    )
    source = {"tell.py": PackedFile(TELL.encode(), executable=True), "told-old.json": PackedFile(b"{}")}
    assert by_hand(packed(told, panda, tmp_path / "package", source)).returncode == 0

    node = WorkerNode(panda, panda.tasks()[0], tmp_path / "node")
    done = node.run(7, {"IN": "a.prdf,b.prdf", "IN2": "c.txt"})

    assert done.returncode == 0, done.stderr
    assert json.loads((node.directory / "told-7.json").read_text()) == {
        "argv": [EVIL],
        "value": EVIL,
        "read": ["content of a.prdf\n", "content of b.prdf\n"],
        "job": "7",
    }
    assert node.outputs() == ["told-7.json"]
    assert not list(tmp_path.rglob("harm"))


def test_files_that_the_client_would_leave_out_are_in_the_sandbox(panda: PandaServer, tmp_path: Path) -> None:
    large = PackedFile(os.urandom(1024 * 1024 + 1))
    source = {**SOURCE, "a.root": PackedFile(b"root"), "lib/b.so": PackedFile(b"so"), "c.dat": large}
    told = submission(step("combine", "raw", outputs=("x",)))
    assert by_hand(packed(told, panda, tmp_path / "package", source)).returncode == 0

    node = WorkerNode(panda, panda.tasks()[0], tmp_path / "node")

    assert all((node.directory / path).read_bytes() == file.content for path, file in source.items())
    assert os.access(node.directory / "run.sh", os.X_OK)
