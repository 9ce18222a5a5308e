"""What errors of jobs mean: the table that comes with the product, and what a home puts before it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from orchestrator.core.documents import DocumentError
from orchestrator.core.failures import Table, failure_of_launch, failures_of_steps, read_entries
from orchestrator.launch import failure_table
from orchestrator.launch.failure_table import read_table
from orchestrator.panda.packing import job as program
from orchestrator.settings import ConfigurationError
from schemas.failure import Complaint, Entry, FailedJob, FailureClass, Remedy, Source
from schemas.launch import Launch, LaunchState, StepProgress, StepState
from tests.unit.making import NOW, ROOT

OURS = Path(failure_table.__file__).with_name("failures.yaml")
ENTRIES = read_entries(OURS.read_text(), str(OURS))

#: What is really said, by the class that it belongs to.
SAID = {
    (Source.LAUNCH, "'calo' cannot be run: there is no such script"): FailureClass.OURS,
    (Source.STEP, "it was not handed in: unknown input parameter"): FailureClass.OURS,
    (Source.STEP, "it was ended because it took longer than 5 s"): FailureClass.TIME,
    (Source.STEP, "it ended well but made no file matching *.root"): FailureClass.PAYLOAD,
    (
        Source.STEP,
        "it could not be started: its input raw is incomplete: /data/a is not there",
    ): FailureClass.STORAGE,
    (Source.STEP, "it could not be started: none of the 3 files of its input raw matches *.prdf"): FailureClass.STORAGE,
    (Source.STEP, "it could not be started: run.sh is not in the workflow's folder"): FailureClass.OURS,
    (Source.STEP, "killed while it ran"): FailureClass.OURS,
    (Source.STEP, "it was stopped"): FailureClass.OURS,
    (Source.PAYLOAD, "terminate called after throwing an instance of 'std::bad_alloc'"): FailureClass.MEMORY,
    (Source.PAYLOAD, "OSError: [Errno 28] No space left on device"): FailureClass.SITE,
    (Source.STEP, "no master input files. input dataset is empty"): FailureClass.STORAGE,
    (Source.STEP, "insufficient inputs are ready. 0 files available, 1*1 files required"): FailureClass.STORAGE,
    (Source.STEP, "dataset group.sphenix:RAW was not found"): FailureClass.STORAGE,
    (Source.STEP, "unknown input dataset group.sphenix:RAW"): FailureClass.STORAGE,
    (Source.STEP, "brokerage failed: no candidates"): FailureClass.SITE,
    (Source.STEP, "all of 5 scout jobs failed"): FailureClass.PAYLOAD,
    (Source.STEP, "the task timed out"): FailureClass.TIME,
    (Source.STEP, "parent task 30000001 is broken"): FailureClass.OURS,
    (
        Source.STEP,
        "it ended as finished, but none of its 10 files was processed: there is no output",
    ): FailureClass.PAYLOAD,
}


def job(*complaints: Complaint) -> FailedJob:
    return FailedJob(step="reco", complaints=complaints)


def said(source: Source, code: int | None = None, text: str = "-") -> FailedJob:
    return job(Complaint(source, code, text))


def entry(class_: str, means: str = "it means this", **fields: object) -> Entry:
    return Entry.model_validate({"class": class_, "means": means, "action": "do this", **fields})


def place(failed: FailedJob) -> int | None:
    return Table(ENTRIES).meaning(failed).entry


# What comes with the product.


def test_no_code_of_an_entry_is_hidden_by_one_before_it() -> None:
    """Each code of each entry, from each source, leads to that entry: nothing in the table is written in vain."""
    general = {number for number, each in enumerate(ENTRIES) if each.code == ((1, 255),)}
    wrong = [
        (number, source, code)
        for number, each in enumerate(ENTRIES)
        if number not in general
        for source in each.source
        for first, last in each.code
        for code in range(first, last + 1)
        if place(said(source, code)) != number
    ]

    assert wrong == []
    assert place(said(Source.TRANSFORMATION, 3)) in general


@pytest.mark.parametrize(("source", "text"), SAID, ids=lambda value: str(value)[:40])
def test_what_is_said_is_classed(source: Source, text: str) -> None:
    """Words as the engines, PanDA and programs use them."""
    assert Table(ENTRIES).meaning(said(source, None, text)).class_ is SAID[source, text]


def test_every_entry_with_words_fits_something_that_is_said() -> None:
    """No pattern is written in vain."""
    reached = {place(said(source, None, text)) for source, text in SAID}
    worded = {number for number, each in enumerate(ENTRIES) if each.text is not None}

    assert worded <= reached


def test_every_part_of_panda_may_say_something_new() -> None:
    """What the parts of PanDA say about themselves is classed, whatever the code; a pilot's new code is unknown."""
    table = Table(ENTRIES)
    classes = {source: table.meaning(said(source, 987)).class_ for source in Source if source is not Source.LAUNCH}

    assert {source for source, class_ in classes.items() if class_ is FailureClass.UNKNOWN} == {
        Source.PILOT,
        Source.PAYLOAD,
        Source.TRANSFORMATION,
        Source.STEP,
    }


@pytest.mark.parametrize(
    ("code", "class_"),
    [
        (program.NO_STEP, FailureClass.OURS),
        (program.NO_INPUT, FailureClass.STORAGE),
        (program.NO_COMMAND, FailureClass.OURS),
        (program.NO_OUTPUT, FailureClass.PAYLOAD),
        (program.TOO_LONG, FailureClass.TIME),
        (137, FailureClass.MEMORY),
        (139, FailureClass.PAYLOAD),
        (143, FailureClass.SITE),
        (1, FailureClass.PAYLOAD),
    ],
)
@pytest.mark.parametrize("source", [Source.PAYLOAD, Source.TRANSFORMATION])
def test_exit_codes_go_before_the_pilot_s_general_code(source: Source, code: int, class_: FailureClass) -> None:
    """The pilot says 1305 of whatever the program did; the exit code says more, so the meaning is read from that."""
    general = Complaint(Source.PILOT, 1305, "Failed to execute payload")
    meaning = Table(ENTRIES).meaning(job(general, Complaint(source, code, f"exit code {code}")))

    assert (meaning.class_, meaning.complaint.code) == (class_, code)


def test_memory_goes_before_how_the_program_ended() -> None:
    """Out of memory is what a program's crash means, if the pilot saw it or the program said it."""
    table = Table(ENTRIES)
    seen = job(Complaint(Source.PILOT, 1212, "-"), Complaint(Source.TRANSFORMATION, 134, "-"))
    told = job(Complaint(Source.PILOT, 1305, "Failed to execute payload: std::bad_alloc"))

    assert [table.meaning(each).remedy for each in (seen, told)] == [Remedy.MORE_MEMORY] * 2


def test_what_nobody_has_described_says_how_to_describe_it() -> None:
    """With the source and the code to be written down."""
    meaning = Table(ENTRIES).meaning(job(Complaint(Source.PILOT, 1999, "?"), Complaint(Source.PILOT, None, "!")))

    assert (meaning.class_, meaning.entry) == (FailureClass.UNKNOWN, None)
    assert "failures.yaml" in meaning.action
    assert "source: pilot, code: 1999" in meaning.action
    assert Table([]).meaning(job()).class_ is FailureClass.UNKNOWN


# The table as such.


def test_the_first_entry_that_fits_counts() -> None:
    """The order of the table decides, not that of the complaints."""
    table = Table([entry("site", code=2), entry("payload", code=[1, 2]), entry("memory", code=1)])

    both = table.meaning(job(Complaint(Source.PILOT, 1, "a"), Complaint(Source.DATA, 2, "b")))
    assert (both.class_, both.complaint.source) == (FailureClass.SITE, Source.DATA)
    assert table.meaning(said(Source.PILOT, 1)).class_ is FailureClass.PAYLOAD


def test_all_that_an_entry_asks_must_be_of_one_complaint() -> None:
    """A source, a code and a text: not the code of one and the text of another."""
    table = Table([entry("site", source="pilot", code="10..12", text="disk")])

    assert table.meaning(said(Source.PILOT, 12, "the disk is full")).class_ is FailureClass.SITE
    for other in (
        said(Source.DATA, 12, "disk"),
        said(Source.PILOT, 13, "disk"),
        said(Source.PILOT, None, "disk"),
        said(Source.PILOT, 12, "tape"),
        job(Complaint(Source.PILOT, 12, "tape"), Complaint(Source.DATA, 1, "disk")),
    ):
        assert table.meaning(other).class_ is FailureClass.UNKNOWN


def test_what_comes_with_the_product_is_as_its_schema_says() -> None:
    """An editor that knows the schema accepts it."""
    schema = json.loads((ROOT / "schemas" / "json" / "failures.schema.json").read_text())

    Draft202012Validator(schema).validate(YAML(typ="safe").load(OURS))


# What a home says.


def test_the_documented_entries_are_read() -> None:
    """The example of the page on failures is a `failures.yaml`."""
    page = (ROOT / "docs" / "how-to" / "why-jobs-failed.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    table = Table(read_entries(example, "example"))

    assert table.meaning(said(Source.PAYLOAD, 75)).class_ is FailureClass.STORAGE
    assert table.meaning(said(Source.STEP, None, "calibration 2023p001 has expired")).class_ is FailureClass.OURS


def test_what_the_home_says_goes_before_what_comes_with_the_product(tmp_path: Path) -> None:
    """It replaces what is there, adds what is new, and leaves the rest."""
    (tmp_path / "failures.yaml").write_text(
        "failures:\n"
        "  - {source: pilot, code: 1212, class: ours, means: our leak, action: mend it}\n"
        "  - {text: 'calibration .* expired', class: ours, means: old constants, action: renew them, remedy: retry}\n"
    )
    table = read_table(tmp_path)

    assert table.meaning(said(Source.PILOT, 1212)).means == "our leak"
    assert table.meaning(said(Source.PAYLOAD, 1, "calibration 7 expired")).means == "old constants"
    assert table.meaning(said(Source.PILOT, 1235)).class_ is FailureClass.MEMORY
    assert len(table.entries) == len(ENTRIES) + 2


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{source: pilott, class: site, means: a, action: b}", "2: failures.0.source: expected 'pilot'"),
        ("{code: 1..x, class: site, means: a, action: b}", "2: failures.0.code: '1..x' is neither a code"),
        ("{code: 9..3, class: site, means: a, action: b}", "2: failures.0: 9..3 is no range of codes"),
        ("{code: [true], class: site, means: a, action: b}", "2: failures.0.code.0: True is neither a code"),
        ("{class: site, means: a, action: b}", "2: failures.0: it would fit every error"),
        (
            "{code: 1, clas: site, means: a, action: b}",
            "2: failures.0.clas: there is no such field; did you mean class",
        ),
        ("{text: '(?=x)', class: site, means: a, action: b}", "2: failures.0.text: pattern '(?=x)'"),
        ("{text: x, class: site, means: '', action: b}", "2: failures.0.means: expected a text that is not empty"),
    ],
)
def test_mistakes_are_said_with_file_and_line(tmp_path: Path, line: str, why: str) -> None:
    """And nothing of the file counts."""
    (tmp_path / "failures.yaml").write_text(f"failures:\n  - {line}\n")

    with pytest.raises(ConfigurationError) as error:
        read_table(tmp_path)
    assert f"{tmp_path}/failures.yaml:{why}" in str(error.value)


def test_a_mistake_in_one_entry_is_said_of_that_one() -> None:
    text = "failures:\n  - {text: a, class: site, means: a, action: b}\n  - text: (\n    class: site\n    means: a\n"
    with pytest.raises(DocumentError, match=r"^f:3: failures\.1\.text: "):
        read_entries(text + "    action: b\n", "f")


# Steps and launches that failed as a whole.


def test_a_step_that_failed_says_its_words_and_its_exit_code() -> None:
    """The end of the log belongs to the program; a signal is said as a shell says it."""
    progress = StepProgress(
        name="reco",
        state=StepState.FAILED,
        exit_code=-9,
        reason="it was ended by SIGKILL; its log ends with:\nevent 7\nevent 8",
        log="/somewhere/log.txt",
        ended_at=NOW,
    )

    (failed,) = failures_of_steps([progress])
    assert failed.complaints == (
        Complaint(Source.STEP, None, "it was ended by SIGKILL"),
        Complaint(Source.PAYLOAD, 137, "event 7\nevent 8"),
    )
    assert (failed.step, failed.log, failed.at) == ("reco", "/somewhere/log.txt", NOW)


def test_only_what_went_wrong_is_told() -> None:
    """Not what waits or runs, but what PanDA will not go on with by itself."""
    steps = [
        StepProgress(name="done", state=StepState.FINISHED, reason="7 of 10 files"),
        StepProgress(name="waits", state=StepState.WAITING, reason="not run: it reads x, which did not finish"),
        StepProgress(name="runs", state=StepState.RUNNING),
        StepProgress(name="stuck", state=StepState.RUNNING, task_status="exhausted", reason="scouts failed"),
        StepProgress(name="killed", state=StepState.KILLED),
    ]

    assert [each.step for each in failures_of_steps(steps)] == ["stuck", "killed"]


def test_a_launch_that_was_never_sent_says_why() -> None:
    """One that the engine has is told of by the engine."""
    launch = Launch(
        id=1, dispatch_id=None, key="k", name="n", workflow="calo", parameters={}, inputs={}, outputs={},
        engine="e", reference=None, state=LaunchState.FAILED, reason="no such dataset", steps=(),
        created_at=NOW, updated_at=datetime(2026, 11, 23, tzinfo=UTC),
    )  # fmt: skip

    failed = failure_of_launch(launch)
    assert failed is not None
    assert (failed.complaints[0].text, failed.at) == ("no such dataset", launch.updated_at)
    assert failure_of_launch(launch.model_copy(update={"reference": "task:1"})) is None
    assert failure_of_launch(launch.model_copy(update={"state": LaunchState.PREPARED})) is None
