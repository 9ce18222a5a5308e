"""What a workflow says of retries: read with its mistakes, put together for each step, kept, and said in words."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestrator.core.documents import Document, DocumentError
from orchestrator.core.retry_policy import in_words, merged, policy_of
from orchestrator.core.scatter import parts
from orchestrator.core.workflow import read
from orchestrator.core.workflow_remarks import Weight, remarks
from schemas.failure_class import FailureClass
from schemas.retry import RetryPolicy, StepRetry
from schemas.workflow import Workflow

BASE = """\
name: calo
inputs: {raw: "{scope}:{name}"}
retry: GENERAL
steps:
  - name: combine
    command: [./combine.py]
    inputs: [raw]
    outputs: ["*.prdf"]
    panda: {memory: 2000}
  - name: reco
    command: [./reco.py]
    inputs: [combine]
    scatter: {variable: segment, values: ["0", "1"]}
    retry: OWN
"""


def written(general: str, own: str = "null") -> Document:
    return Document(BASE.replace("GENERAL", general).replace("OWN", own), "workflow.yaml")


def policy(workflow: Workflow) -> RetryPolicy | None:
    return policy_of(workflow, parts(workflow.steps, {}))


def steps(general: str, own: str = "null") -> dict[str, StepRetry]:
    found = policy(read(written(general, own)))
    assert found is not None
    return found.steps


def refused(general: str, own: str = "null") -> list[str]:
    with pytest.raises(DocumentError) as error:
        read(written(general, own))
    return str(error.value).splitlines()


def test_nothing_is_retried_unless_attempts_say_so() -> None:
    for general in ("null", "{}", "{classes: [site]}", "{attempts: 0}"):
        assert policy(read(written(general))) is None


def test_what_is_not_said_has_its_default() -> None:
    """What passes by itself; of memory only if it may grow."""
    plain, growing = steps("{attempts: 2}")["combine"], steps("{attempts: 2, memory: 1.5}")["combine"]

    usual = (FailureClass.TRANSIENT, FailureClass.SITE, FailureClass.STORAGE)
    assert (plain.attempts, plain.classes, plain.memory, plain.after) == (2, usual, None, timedelta(minutes=5))
    assert growing.classes == (*usual, FailureClass.MEMORY)


def test_a_step_says_only_what_is_otherwise() -> None:
    """Also that it is never retried, or that its memory does not grow."""
    general = "{attempts: 2, memory: 1.5, most_memory: 8000, after: 1h}"
    own = steps(general, "{attempts: 3, classes: [payload]}")["reco_1"]
    none = steps(general, "{attempts: 0}")
    still = steps(general, "{memory: null}")["reco_1"]

    assert own.attempts == 3
    assert (own.classes, own.after) == ((FailureClass.PAYLOAD,), timedelta(hours=1))
    assert [each.attempts for each in none.values()] == [2, 0, 0]
    assert FailureClass.MEMORY not in still.classes


def test_what_is_kept_names_every_step_with_what_it_reads_and_was_given() -> None:
    """The parts of a scattered step too; what was kept is read back as it was."""
    workflow = read(written("{attempts: 1, memory: 2}"))
    kept = policy(workflow)

    assert kept is not None
    assert list(kept.steps) == ["combine", "reco_1", "reco_2"]
    assert (kept.steps["combine"].given, kept.steps["combine"].reads) == (2000, ())
    assert (kept.steps["reco_2"].given, kept.steps["reco_2"].reads) == (None, ("combine",))
    assert RetryPolicy.model_validate_json(kept.model_dump_json()) == kept


@pytest.mark.parametrize(
    ("general", "own", "expected"),
    [
        ("{attempts: -1}", "null", "workflow.yaml:3: retry.attempts: expected 0 or more; found -1"),
        ("{attempts: 50}", "null", "workflow.yaml:3: retry.attempts: expected 20 or less; found 50"),
        ("{attempts: 1, memory: 1}", "null", "workflow.yaml:3: retry.memory: 1 is no factor"),
        ("{attempts: 1, memory: 0.5}", "null", "workflow.yaml:3: retry.memory: 0.5 is no factor"),
        ("{attempts: 1, memory: 4000}", "null", "workflow.yaml:3: retry.memory: 4000 is no factor"),
        ("{attempts: 1, memory: .nan}", "null", "workflow.yaml:3: retry.memory: nan is no factor"),
        ("{attempts: 1, classes: []}", "null", "workflow.yaml:3: retry.classes: without any class nothing"),
        ("{attempts: 1, classes: [site, site]}", "null", "workflow.yaml:3: retry.classes: site stands there twice"),
        ("{attempts: 1, classes: [memory]}", "null", "workflow.yaml:3: retry.classes: what failed of memory needs"),
        ("{attempts: 1, classes: [site], memory: 2}", "null", "workflow.yaml:3: retry.memory: it grows for failures"),
        ("{attempts: 1, most_memory: 2000}", "null", "workflow.yaml:3: retry.most_memory: it bounds how memory"),
        ("{attempts: 1, classes: [sites]}", "null", "workflow.yaml:3: retry.classes.0: expected 'payload', "),
        ("{attempts: 1, after: soon}", "null", "workflow.yaml:3: retry.after: 'soon' is not a length of time"),
        ("{atempts: 1}", "null", "workflow.yaml:3: retry.atempts: there is no such field; did you mean attempts?"),
        ("{attempts: 1}", "{memory: 1}", "workflow.yaml:14: steps.1.retry.memory: 1 is no factor"),
        ("{attempts: 1}", "{classes: [memory]}", "workflow.yaml:14: steps.1.retry.classes: what failed of memory"),
        (
            "{attempts: 1, classes: [memory], memory: 2}",
            "{memory: null}",
            "workflow.yaml:14: steps.1.retry.memory: what failed of memory needs",
        ),
        (
            "{attempts: 1, memory: 2, most_memory: 2000}",
            "null",
            "workflow.yaml:9: steps.0.panda.memory: it begins with 2000 MB, and most_memory lets it have no more",
        ),
    ],
)
def test_nonsense_is_refused_with_its_line(general: str, own: str, expected: str) -> None:
    (said,) = refused(general, own)

    assert said.startswith(expected), said


def test_what_the_workflow_says_is_not_held_against_a_step() -> None:
    """A step may take fewer classes, though memory grows elsewhere."""
    assert steps("{attempts: 1, memory: 2, most_memory: 4000}", "{classes: [site]}")["reco_1"].classes == ("site",)


@pytest.mark.parametrize(
    ("general", "own", "expected"),
    [
        ("{classes: [site]}", "null", [("retry",)]),
        ("{classes: [site]}", "{attempts: 1}", []),
        ("{attempts: 1}", "{attempts: 0}", []),
        ("{attempts: 1}", "{attempts: 0, after: 1h}", [("steps", 1, "retry")]),
        ("{attempts: 1, classes: [ours]}", "null", [("retry", "classes")]),
    ],
)
def test_what_is_probably_not_meant_is_warned_of(general: str, own: str, expected: list[tuple[str | int, ...]]) -> None:
    said = [each.place for each in remarks(read(written(general, own))) if each.weight is Weight.WARNING]

    assert said == expected


def test_that_memory_counts_on_panda_alone_is_noted() -> None:
    places = [each.place for each in remarks(read(written("{attempts: 1, memory: 2}", "{memory: 3}")))]

    assert ("retry", "memory") in places
    assert ("steps", 1, "retry", "memory") in places


def test_a_policy_is_said_in_words() -> None:
    workflow = read(written("{attempts: 2, memory: 1.5, most_memory: 8000}", "{attempts: 0}"))

    assert in_words(merged(workflow.retry, None)) == (
        "2 times, 5m later, of transient, site, storage, memory; memory x 1.5, 8000 MB at most"
    )
    assert in_words(merged(workflow.retry, workflow.steps[1].retry)) == "never"
