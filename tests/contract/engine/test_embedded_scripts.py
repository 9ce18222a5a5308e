"""The embedded engine: what a script or a command is, and what lies around it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.panda.embedded.engine import LocalEngine
from orchestrator.panda.plain import submission_of
from orchestrator.panda.port import Reference, SubmissionState
from tests.contract.engine.bench import Bench, packed, step


def test_jobs_see_no_secrets(local: Bench, directory: Path, tmp_path: Path) -> None:
    """Of muleteer's own environment a job sees the path, the home and their like, and no setting or password."""
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME")},
        "MULETEER_BROKER_PASSCODE": "carrot",
        "RUCIO_PASSWORD": "carrot",
        "PANDA_AUTH_ID_TOKEN": "carrot",
    }
    engine = LocalEngine(directory, lambda did: [], environment=environment)
    local.script("one", 'env > made; tr "\\0" "\\n" < /proc/$PPID/environ >> made')

    local.send(local.submission("secrets", step("one", outputs=["made"])), engine)

    local.ended(Reference("secrets"))
    (made,) = engine.outputs(Reference("secrets"), "one")
    assert "PATH=" in made.read_text()
    assert "carrot" not in made.read_text()
    assert not [path for path in directory.rglob("*") if path.is_file() and b"carrot" in path.read_bytes()]


def test_the_scripts_are_those_of_the_submission(local: Bench) -> None:
    """Changing a workflow's scripts does not touch what was submitted before."""
    local.script("one", 'until test -e "$NOTES/go"; do sleep 0.02; done')
    local.script("two", "echo old > made")
    reference = local.submit("frozen", step("one"), step("two", inputs=["one"], outputs=["made"]))

    local.script("two", "echo new > made")
    (local.notes / "go").touch()
    local.ended(reference)

    (made,) = local.engine.outputs(reference, "two")
    assert made.read_text() == "old\n"


def test_independent_steps_run_together(local: Bench) -> None:
    """Two steps that do not read each other run at the same time."""
    local.script("one", 'touch "$NOTES/one"; until test -e "$NOTES/two"; do sleep 0.02; done')
    local.script("two", 'touch "$NOTES/two"; until test -e "$NOTES/one"; do sleep 0.02; done')

    progress = local.run("together", step("one", timeout=10), step("two", timeout=10))

    assert progress.state is SubmissionState.FINISHED


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("./absent.sh", "./absent.sh is not in the workflow's folder"),
        ("./plain.sh", "./plain.sh is not executable"),
        ("no-such-program", "could not be started"),
    ],
)
def test_a_command_that_cannot_start_says_why(local: Bench, command: str, words: str) -> None:
    """A step whose command is not there or not executable fails with a reason that says what to mend."""
    local.script("plain", "true")
    (local.folder / "plain.sh").chmod(0o644)

    progress = local.run("absent", step("one", command=[command]))

    assert progress.state is SubmissionState.FAILED
    assert progress.reason is not None
    assert words in progress.reason


def test_a_script_sees_values_in_its_environment_alone(local: Bench) -> None:
    """A script is bash with nothing filled in: what a value holds is never read as shell."""
    local.parameters["tag"] = "$(touch pwned); `id` 'x'"
    script = """set -o pipefail; words=({run} "$MULETEER_PARAM_TAG"); printf '%s|' "${words[@]}" > made"""

    local.run("script", step("one", script=script, outputs=["made"]))

    (made,) = local.engine.outputs(Reference("script"), "one")
    assert made.read_text() == "{run}|$(touch pwned); `id` 'x'|"
    assert not (made.parent / "pwned").exists()


def test_setup_is_sourced_before_a_script_and_a_command(local: Bench) -> None:
    """What the setup file exports, and for a script its functions too, is there; it sees none of the arguments."""
    local.setup = "setup.sh"
    (local.folder / "setup.sh").write_text('export GREETING="hello $#"; greet() { echo "$GREETING"; }\n')
    local.script("two", 'printf "%s|" "$GREETING" "$@" > made')

    local.run(
        "setup",
        step("one", script="greet > made", outputs=["made"]),
        step("two", command=["./two.sh", "a b", "*"], outputs=["made"]),
    )

    (one,), (two,) = (local.engine.outputs(Reference("setup"), name) for name in ("one", "two"))
    assert one.read_text() == "hello 0\n"
    assert two.read_text() == "hello 0|a b|*|"


def test_a_setup_that_fails_fails_the_step(local: Bench) -> None:
    """A step does not run in surroundings that could not be set up."""
    local.setup = "setup.sh"
    (local.folder / "setup.sh").write_text("echo no such build >&2; return 7\n")

    progress = local.run("badsetup", step("one", script='echo ran >> "$NOTES/tally"'))

    assert progress.steps[0].exit_code == 7
    assert "no such build" in str(progress.reason)
    assert local.note("tally") == []


def test_the_workflows_files_lie_beside_a_step(local: Bench) -> None:
    """A step finds the package's files in its directory, as on a worker node; they are not its outputs."""
    (local.folder / "table.csv").write_text("1,2\n")

    progress = local.run("files", step("one", script="cat table.csv > copy.csv", outputs=["*.csv"]))

    assert progress.state is SubmissionState.FINISHED, progress.reason
    made = local.engine.outputs(Reference("files"), "one")
    assert [path.name for path in made] == ["copy.csv"]


def test_a_file_of_the_package_may_be_replaced_and_is_an_output_then(local: Bench) -> None:
    """A step that puts a file of its own in the place of the package's has made it, and spoils it for nobody."""
    (local.folder / "table.csv").write_text("old\n")
    replace_it = "echo new > t; mv t table.csv"

    local.run(
        "replaced",
        step("one", script=replace_it, outputs=["table.csv"]),
        step("two", script="cp table.csv seen", outputs=["seen"]),
    )

    (one,), (two,) = (local.engine.outputs(Reference("replaced"), name) for name in ("one", "two"))
    assert (one.read_text(), two.read_text()) == ("new\n", "old\n")


def test_steps_have_variables_of_their_own(local: Bench) -> None:
    """A step's variable goes before the submission's of the same name, and no other step has it."""
    local.environment["MODE"] = "common"
    script = 'echo "$MODE" > made'

    local.run(
        "variables",
        step("one", script=script, outputs=["made"], environment={"MODE": "own"}),
        step("two", script=script, outputs=["made"]),
    )

    made = [local.engine.outputs(Reference("variables"), name)[0].read_text() for name in ("one", "two")]
    assert made == ["own\n", "common\n"]


def test_a_package_says_what_it_was_made_of(local: Bench) -> None:
    """Packing twice gives the same bytes, and a package alone is enough to run it."""
    local.script("one", "touch made")
    submission = local.submission("packed", step("one", outputs=["made"], timeout=30))

    first, second = (local.engine.pack(submission, packed(local.folder)) for _ in range(2))
    (local.folder / "one.sh").unlink()
    reference, receipt = local.engine.submit("packed", first)

    assert first == second
    assert submission_of(first) == submission
    assert local.ended(reference).state is SubmissionState.FINISHED
    assert receipt.verdict is not None
    assert receipt.ended_at >= receipt.started_at
