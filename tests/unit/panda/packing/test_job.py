"""The program that PanDA's jobs run, as they run it: a process of its own in the unpacked package."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.panda.packing import job, package
from orchestrator.panda.port import PackedFile, Submission
from tests.unit.panda.samples import reads, site, step, submission

#: Says what it was given, byte for byte.
TELL = f"""#!{sys.executable}
import json, os, sys
told = {{"argv": [os.fsencode(a).hex() for a in sys.argv[1:]],
         "environment": {{k.hex(): v.hex() for k, v in os.environb.items()}},
         "here": sorted(os.listdir(".")), "cwd": os.getcwd()}}
json.dump(told, open("told.json", "w"))
"""


@dataclass
class Node:
    """A worker node's directory with the package in it."""

    directory: Path

    def unpack(self, told: Submission, **files: str) -> None:
        source = {"run.sh": PackedFile(TELL.encode(), executable=True)}
        source |= {name.replace("_", "."): PackedFile(text.encode(), True) for name, text in files.items()}
        package.write(package.pack(told, source, site(), "panda"), self.directory)

    def bring(self, stream: str, *names: str, between: str = ",") -> None:
        """What PanDA's wrapper does before the job: the files, and a list of them."""
        for name in names:
            if "://" not in name:
                (self.directory / name).write_text(f"content of {name}")
        (self.directory / "muleteer" / f"{stream}.list").write_text(between.join(names))

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "muleteer/job.py", *arguments],
            cwd=self.directory,
            env={"PATH": os.environ["PATH"], **variables},
            capture_output=True,
            text=True,
            timeout=60,
        )

    @property
    def told(self) -> Any:
        return json.loads((self.directory / "told.json").read_text())

    def environment(self) -> Mapping[str, str]:
        items = self.told["environment"].items()
        return {bytes.fromhex(name).decode(): bytes.fromhex(value).decode() for name, value in items}


def gone(written: Path) -> bool:
    """Whether the process whose number was written has ended; its parent may have yet to hear of it."""
    try:
        return psutil.Process(int(written.read_text())).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path / "work")


def test_the_command_has_the_surroundings_of_the_embedded_engine(node: Node) -> None:
    told = submission(
        step("dst", "raw", outputs=("told.json",), environment={"MINE": "{}"}), environment={"ALL": "1", "MINE": "0"}
    )
    node.unpack(told)
    node.bring("IN", "a.prdf", "b.prdf")

    done = node.run("dst", "17", HOME="/nonexistent")

    assert (done.returncode, done.stderr) == (0, "")
    environment = node.environment()
    assert environment["MULETEER_PARAM_RUN"] == "00021615"
    assert environment["MULETEER_LAUNCH"] == "rn00021615-CALOR"
    assert environment["MULETEER_WORKFLOW"] == "calorimeter" and environment["MULETEER_STEP"] == "dst"
    assert (environment["ALL"], environment["MINE"]) == ("1", "{}")
    assert environment["MULETEER_JOB_INDEX"] == "17" and environment["HOME"] == "/nonexistent"
    assert environment["PWD"] == node.told["cwd"] == str(node.directory)
    listed = Path(environment["MULETEER_INPUT_RAW"]).read_text().splitlines()
    assert listed == [str(node.directory / name) for name in ("a.prdf", "b.prdf")]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    words=st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20), max_size=4),
    value=st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20) | st.sampled_from(["'\"$;\n`"]),
    locale=st.sampled_from(["C", "POSIX", "C.UTF-8"]),
)
def test_any_value_arrives_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, words: list[str], value: str, locale: str
) -> None:
    node = Node(tmp_path_factory.mktemp("node") / "work")
    told = submission(
        step("dst", outputs=("told.json",), command=("./run.sh", *words), environment={"MINE": value}),
        parameters={"value": value},
    )
    node.unpack(told)

    assert node.run("dst", LC_ALL=locale, PYTHONUTF8="0", PYTHONCOERCECLOCALE="0").returncode == 0

    assert [bytes.fromhex(word).decode() for word in node.told["argv"]] == words
    assert node.environment()["MULETEER_PARAM_VALUE"] == node.environment()["MINE"] == value


@pytest.mark.parametrize("between", [",", "\n", " , ", ",\n"])
def test_lists_of_files_are_read_however_they_are_written(node: Node, between: str) -> None:
    node.unpack(submission(step("dst", "raw", outputs=("told.json",))))
    node.bring("IN", "a.prdf", "root://door//b.prdf", between=between)

    assert node.run("dst").returncode == 0

    listed = Path(node.environment()["MULETEER_INPUT_RAW"]).read_text().splitlines()
    assert listed == [str(node.directory / "a.prdf"), "root://door//b.prdf"]


def test_files_that_lie_elsewhere_are_laid_beside_the_command(node: Node, tmp_path: Path) -> None:
    (tmp_path / "far.prdf").write_text("far")
    told = submission(
        step("dst", "near", "list", outputs=("told.json",)),
        inputs={},
        file_lists={"near": (str(tmp_path / "far.prdf"),), "list": (str(tmp_path / "far.prdf"),)},
    )
    node.unpack(told)
    (node.directory / "muleteer/IN.list").write_text(str(tmp_path / "far.prdf"))

    assert node.run("dst").returncode == 0

    assert (node.directory / "far.prdf").read_text() == "far"
    assert Path(node.environment()["MULETEER_INPUT_LIST"]).read_text() == f"{node.directory / 'far.prdf'}\n"


def test_secondary_files_have_lists_of_their_own(node: Node) -> None:
    node.unpack(submission(step("dst", "raw", reads("calibration"), outputs=("told.json",))))
    node.bring("IN", "a.prdf")
    node.bring("IN2", "c.txt")

    assert node.run("dst").returncode == 0

    assert Path(node.environment()["MULETEER_INPUT_CALIBRATION"]).read_text() == f"{node.directory / 'c.txt'}\n"


def test_a_script_is_bash_with_the_setup_sourced_before_it(node: Node) -> None:
    script = 'greet "$MULETEER_PARAM_RUN" > said.txt; [[ $# == 0 ]] || exit 9'
    node.unpack(
        submission(step("dst", outputs=("said.txt",), script=script), setup="setup.sh"),
        setup_sh='greet() { echo "hello $1, $#"; }\n[[ $# == 0 ]] || exit 8\n',
    )

    assert node.run("dst").returncode == 0

    assert (node.directory / "said.txt").read_text() == "hello 00021615, 1\n"


def test_what_a_setup_sets_lasts_for_a_command(node: Node) -> None:
    told = submission(step("dst", outputs=("told.json",), command=("./run.sh", "a b")), setup="setup.sh")
    node.unpack(told, setup_sh="export SOFTWARE=ana381\n")

    assert node.run("dst").returncode == 0

    assert node.environment()["SOFTWARE"] == "ana381"
    assert [bytes.fromhex(word).decode() for word in node.told["argv"]] == ["a b"]


def test_a_setup_that_fails_fails_the_job(node: Node) -> None:
    node.unpack(submission(step("dst", script="true", outputs=()), setup="setup.sh"), setup_sh="return 7\n")

    assert node.run("dst").returncode == 7


@pytest.mark.parametrize(("script", "code"), [("exit 3", 3), ("exit 255", 254), ("kill -9 $$", 137), ("kill $$", 143)])
def test_the_exit_code_is_passed_on(node: Node, script: str, code: int) -> None:
    """PanDA's wrapper reckons modulo 255: it would take 255 for a success."""
    node.unpack(submission(step("dst", script=script)))

    done = node.run("dst")

    assert done.returncode == code and "muleteer: the step dst ended with exit code" in done.stderr


def test_a_job_that_made_nothing_of_a_kind_fails(node: Node) -> None:
    node.unpack(submission(step("dst", script="touch a.root", outputs=("*.root", "*.json"))))

    done = node.run("dst")

    assert done.returncode == job.NO_OUTPUT
    assert done.stderr == "muleteer: the step dst ended well but made no file matching *.json\n"


def test_outputs_that_may_be_missing_may_be_missing(node: Node) -> None:
    told = step("dst", script="true", outputs=("*.json",), panda={"allowNoOutput": ("*.json",)})
    node.unpack(submission(told))

    assert node.run("dst").returncode == 0


def test_what_was_there_before_is_no_output(node: Node) -> None:
    """PanDA would register the input as an output again."""
    node.unpack(submission(step("dst", "raw", script="cp in.root out.root", outputs=("*.root",))))
    node.bring("IN", "in.root")

    assert node.run("dst").returncode == 0

    assert [path.name for path in node.directory.glob("*.root")] == ["out.root"]


def test_an_input_alone_does_not_count_as_made(node: Node) -> None:
    node.unpack(submission(step("dst", "raw", script="true", outputs=("*.root",))))
    node.bring("IN", "in.root")

    assert node.run("dst").returncode == job.NO_OUTPUT


def test_a_file_that_the_command_has_written_anew_is_an_output(node: Node) -> None:
    node.unpack(
        submission(step("dst", script="echo new > manifest.txt", outputs=("manifest.txt",))), manifest_txt="old"
    )

    assert node.run("dst").returncode == 0

    assert (node.directory / "manifest.txt").read_text() == "new\n"


def test_a_step_that_takes_too_long_is_ended_with_all_it_has_started(node: Node) -> None:
    script = "sleep 300 & echo $! > child; exec sleep 300"
    node.unpack(submission(step("dst", script=script, timeout=timedelta(seconds=3))))

    done = node.run("dst")

    assert done.returncode == job.TOO_LONG and "took longer than 3 s" in done.stderr
    assert gone(node.directory / "child")


def test_a_site_that_ends_the_job_ends_the_command(node: Node) -> None:
    node.unpack(submission(step("dst", script="echo $$ > pid; exec sleep 300")))
    process = subprocess.Popen([sys.executable, "muleteer/job.py", "dst"], cwd=node.directory, stderr=subprocess.PIPE)
    written = node.directory / "pid"
    while not (written.exists() and written.read_text().strip()):
        time.sleep(0.01)

    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=30)[1].decode()

    assert process.returncode == 128 + signal.SIGTERM and "ended by SIGTERM" in said
    assert gone(written)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), job.NO_STEP, "cannot be read"),
        (("nothing",), job.NO_STEP, "the step 'nothing' cannot be read"),
        (("dst",), job.NO_INPUT, "PanDA gave no list of files for the input raw"),
    ],
)
def test_what_is_missing_is_said(node: Node, arguments: tuple[str, ...], code: int, said: str) -> None:
    node.unpack(submission(step("dst", "raw")))

    done = node.run(*arguments)

    assert done.returncode == code and said in done.stderr


def test_an_input_that_is_not_there_is_named(node: Node) -> None:
    node.unpack(submission(step("dst", "raw")))
    (node.directory / "muleteer/IN.list").write_text("gone.prdf")

    done = node.run("dst")

    assert done.returncode == job.NO_INPUT and "gone.prdf is not there" in done.stderr


def test_a_program_that_lost_its_mode_on_the_way_is_named(node: Node) -> None:
    node.unpack(submission(step("dst")))
    (node.directory / "run.sh").chmod(0o644)

    done = node.run("dst")

    assert done.returncode == job.NO_COMMAND and "./run.sh is not executable" in done.stderr


def test_a_step_that_runs_on_failure_needs_nothing_of_what_failed(node: Node) -> None:
    told = step("sorry", "dst", when="failed", script='cp "$MULETEER_INPUT_DST" empty.txt', outputs=("empty.txt",))
    node.unpack(submission(step("dst", "raw"), told))

    assert node.run("sorry").returncode == 0
    assert (node.directory / "empty.txt").read_text() == ""
