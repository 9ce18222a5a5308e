"""The submission directory, byte for byte."""

from __future__ import annotations

import ast
import json
import random
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.panda.packing import job, limits, package, submit
from orchestrator.panda.port import EngineRefused, Package, PackedFile, Submission
from schemas.workflow import Queue
from tests.unit.panda.samples import SOURCE, after, chain, reads, site, step, submission

#: What somebody might put into a message to see what happens.
EVIL = 'x\'; touch /tmp/harm; $(reboot) `id` "%IN" ${IFS}\n| é\u2028 \\ %{SECDS1} * #'


def pack(told: Submission, source: Package = SOURCE, **fields: Any) -> Package:
    return package.pack(told, source, site(**fields), "panda")


def plan(packed: Package) -> Any:
    return json.loads(packed[package.SUBMIT_FILE].content)


def test_a_package_has_all_that_is_sent() -> None:
    packed = pack(chain())

    assert {path for path in packed if "/" not in path} == {
        *("README.md", "input.yaml", "run.sh", "submit", "workflow.cwl"),
    }
    assert {path for path in packed if path.startswith("muleteer/") and path.count("/") == 1} == {
        *("muleteer/job.py", "muleteer/launch.json", "muleteer/submit.json"),
    }
    assert "muleteer/steps/sorry.json" in packed


def test_the_same_submission_gives_the_same_bytes() -> None:
    one, other = pack(chain()), pack(chain(), dict(reversed([*SOURCE.items()])))

    assert list(one.items()) == list(other.items())


def test_one_step_has_no_chain() -> None:
    packed = pack(submission())

    assert "workflow.cwl" not in packed and plan(packed)["chain"] is None
    assert package.step_arguments(packed, "combine")[-1] == "--noBuild"


def test_what_was_packed_is_what_is_submitted() -> None:
    packed = pack(chain())

    assert package.chain_arguments(packed)[:2] == ("--cwl", "workflow.cwl")
    assert package.step_arguments(packed, "dst", parent_task=17)[-2:] == ("--parentTaskID", "17")


def test_the_submission_can_be_read_back() -> None:
    told = submission(
        step(
            "combine", reads("raw", match="a*"), script="echo\n", environment={"A": EVIL}, start=0.5, queue=Queue.HIGH
        ),
        step("dst", "combine", panda={"memory": 17, "excludedSite": ("A",)}, image="a/b:1", site="B"),
        parameters={"run": EVIL},
        file_lists={"list": ("/a", "/b")},
        setup="setup.sh",
        description=EVIL,
    )
    packed = pack(told, {**SOURCE, "setup.sh": PackedFile(b"")}, queues={"high": "BIG"})

    assert package.submission_of(packed) == told


@given(st.dictionaries(st.sampled_from("abc"), st.text(st.characters(exclude_characters="\0", codec="utf-8"))))
def test_no_value_gets_into_what_a_shell_or_the_client_reads(values: dict[str, str]) -> None:
    """They differ in JSON files that are only read by programs, and in the page for people."""
    told = submission(
        step("combine", "raw", command=("./run.sh", *values.values()), environment=values),
        step("dst", "combine", script="true"),
        parameters=values,
        environment=values,
    )
    harmless = pack(submission(step("combine", "raw"), step("dst", "combine", script="true")))
    packed = pack(told)

    different = {path for path in packed if packed[path] != harmless[path]}
    assert different <= {
        *("README.md", "muleteer/launch.json", "muleteer/steps/combine.json", "muleteer/steps/dst.json"),
    }


def test_a_package_holds_nothing_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("eyJsecret")
    monkeypatch.setenv("PANDA_AUTH_ID_TOKEN", "eyJsecret")

    packed = pack(chain(), token_file=tmp_path / "token")

    assert not any(b"eyJsecret" in file.content or bytes(tmp_path) in file.content for file in packed.values())


def test_the_programs_that_are_shipped_run_on_python_3_6() -> None:
    packed = pack(submission())

    for path, module in (("muleteer/job.py", job), ("submit", submit)):
        assert packed[path].content == Path(str(module.__file__)).read_bytes()
        ast.parse(packed[path].content, feature_version=(3, 6))
    assert packed["submit"].executable and packed["submit"].content.startswith(b"#!/usr/bin/env python3\n")


def test_a_page_of_the_workflows_own_stays_where_it_is() -> None:
    packed = pack(submission(), {**SOURCE, "README.md": PackedFile(b"mine")})

    assert packed["README.md"].content == b"mine"
    assert packed["muleteer/README.md"].content.startswith(b"# rn00021615-CALOR\n")


def test_the_page_says_what_it_is_and_what_is_made() -> None:
    page = pack(chain())["README.md"].content.decode()

    assert "| run | 00021615 |" in page and "./submit --step combine" in page
    assert "| dst | combine, calibration |" in page and "user.shrek.rn00021615-CALOR_001_dst_0" in page


@pytest.mark.parametrize("path", ["submit", "workflow.cwl", "input.yaml", "muleteer/mine.sh"])
def test_files_of_the_workflows_own_may_not_be_called_as_ours(path: str) -> None:
    with pytest.raises(EngineRefused, match=f"{path}: muleteer makes a file of that name itself"):
        pack(chain(), {**SOURCE, path: PackedFile(b"mine")})


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (".rootrc", "leaves out hidden files: rename .rootrc"),
        ("a/.git/config", "leaves out hidden files: rename .git"),
        ("it's.sh", "may have only letters"),
        ("a b.sh", "may have only letters"),
        ("-rf", "may have only letters"),
        ("a,b.root", "may have only letters"),
        ("new\nline", "may have only letters"),
        ("jobReport.json", "never sends a file of that name"),
    ],
)
def test_files_that_would_be_left_out_or_do_harm_are_refused(path: str, said: str) -> None:
    with pytest.raises(EngineRefused, match=said):
        pack(submission(), {**SOURCE, path: PackedFile(b"")})


def test_files_that_prun_leaves_out_are_named() -> None:
    large = PackedFile(b"x" * (1024 * 1024 + 1))
    few = {"a.root": PackedFile(b""), "lib/b.so": PackedFile(b""), "c.dat": large, "d.dat": PackedFile(b"x")}

    packed = pack(chain(), {**SOURCE, **few})

    assert after(package.step_arguments(packed, "dst"), "--extFile") == "a.root,c.dat,lib/b.so"
    assert after(package.chain_arguments(packed), "--extFile") == "a.root,c.dat,lib/b.so"


def test_more_than_panda_takes_is_refused_with_what_is_large() -> None:
    noise = PackedFile(random.Random(1).randbytes(11 * 1024 * 1024))

    with pytest.raises(
        EngineRefused, match=r"11\.0 MB compressed, and PanDA takes 10\.0 MB; the largest are noise.dat"
    ):
        pack(submission(), {**SOURCE, "noise.dat": noise})
    assert pack(submission(), {**SOURCE, "noise.dat": noise}, no_build=False)
    assert pack(submission(), {**SOURCE, "zeros.dat": PackedFile(bytes(11 * 1024 * 1024))})


def test_the_server_gets_lists_of_files_however_long() -> None:
    files = tuple(f"/sphenix/lustre/raw/beam-{number:08d}.prdf" for number in range(60_000))
    told = submission(step("combine", "list"), step("dst", "combine"), file_lists={"list": files})

    packed = pack(told)

    assert packed["muleteer/steps/combine.pfn"].content.decode().splitlines() == list(files)
    assert after(package.chain_arguments(packed), "--maxSizeInSandbox") == "3"


@pytest.mark.parametrize(
    ("size", "least"), [(0, 1), (1023 * 1024, 1), (1023 * 1024 + 1, 2), (1024 * 1024, 2), (2047 * 1024, 2)]
)
def test_a_file_is_sent_to_the_server_by_find_which_counts_kilobytes_that_have_begun(size: int, least: int) -> None:
    assert limits.megabytes({"a": PackedFile(bytes(size))}, ["a"]) == least


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (submission(step("x", command=("./gone.sh",))), "./gone.sh is not among the files"),
        (submission(step("x", command=("./data",))), "./data is not executable: chmod"),
        (submission(setup="gone.sh"), "the setup file gone.sh is not among the files"),
        (submission(step("x", command=("./run.sh", "a\0b"))), "its command holds a character"),
        (submission(parameters={"run": "\ud800"}), "variable MULETEER_PARAM_RUN holds a character"),
        (submission(environment={"A B": "1"}), "'A B' is no name of an environment variable"),
        (submission(parameters={"a-b": "1", "a_b": "2"}), "get the same variable MULETEER_PARAM_A_B"),
    ],
)
def test_what_no_job_could_run_is_refused(told: Submission, said: str) -> None:
    with pytest.raises(EngineRefused, match=said):
        pack(told, {**SOURCE, "data": PackedFile(b"")})


def test_a_directory_is_written_with_its_modes(tmp_path: Path) -> None:
    packed = pack(chain())

    package.write(packed, tmp_path / "new")

    written = {
        str(path.relative_to(tmp_path / "new")): path for path in (tmp_path / "new").rglob("*") if path.is_file()
    }
    assert {path: file.read_bytes() for path, file in written.items()} == {p: f.content for p, f in packed.items()}
    assert stat.S_IMODE(written["submit"].stat().st_mode) == 0o755
    assert stat.S_IMODE(written["README.md"].stat().st_mode) == 0o644


def test_a_directory_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")

    with pytest.raises(EngineRefused, match="is not empty"):
        package.write(pack(submission()), tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_no_file_is_written_outside_of_the_directory(tmp_path: Path) -> None:
    with pytest.raises(EngineRefused, match="leaves the package's directory"):
        package.write({"../out": PackedFile(b"")}, tmp_path / "in")

    assert not (tmp_path / "out").exists()
