"""What the embedded engine makes of a submission: the runner's plan, or in words why it can never run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Final

from orchestrator.panda.embedded import runner
from orchestrator.panda.embedded.runner import InputPlan, Plan, StepPlan
from orchestrator.panda.plain import with_submission
from orchestrator.panda.port import EngineRefused, Package, Submission, SubmissionStep
from schemas.workflow import StepInput

#: What a submission may be called: the name of its directory.
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,199}")

_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


def pack(submission: Submission, source: Package) -> Package:
    """The workflow's own files and the submission. Raises EngineRefused if it can never run."""
    package = with_submission(source, submission)
    if problem := problem_of(submission, package):
        raise EngineRefused(f"{submission.name!r} cannot be run: {problem}")
    return package


def plan_of(submission: Submission, files: Mapping[str, list[str]], environment: Mapping[str, str]) -> Plan:
    """The plan of a submission that has no problem; `files` are those of its inputs, by name."""
    return Plan(
        name=submission.name,
        workflow=submission.workflow,
        parameters=dict(submission.parameters),
        environment={**environment, **submission.environment},
        setup=submission.setup,
        inputs=dict(files),
        steps=[
            StepPlan(
                name=step.name,
                command=list(step.command),
                inputs=[InputPlan(source=each.source, match=each.match) for each in step.inputs],
                outputs=list(step.outputs),
                optional=list(step.panda.allowNoOutput),
                timeout=step.timeout.total_seconds() if step.timeout else None,
                environment=dict(step.environment),
                when_failed=step.when == "failed",
            )
            for step in submission.steps
        ],
    )


def problem_of(submission: Submission, package: Package) -> str | None:
    """Why this submission can never run, in words; None if it can."""
    if not NAME.fullmatch(submission.name):
        return (
            "its name must be 1 to 200 letters, digits, `.`, `_`, `:`, `+` and `-`, and begin with one of the first two"
        )
    if wrong := [path for path in package if not _stays_inside(path)]:
        return f"its package has a file {wrong[0]!r}: every file must lie within it"
    inputs = {*submission.inputs, *submission.file_lists}
    steps = set[str]()
    for step in submission.steps:
        if problem := _step_problem(step, inputs, steps):
            return f"step {step.name!r} {problem}"
        steps.add(step.name)
    for prefix, names in (("INPUT", inputs | steps), ("PARAM", set(submission.parameters))):
        if len({runner.variable(prefix, name) for name in names}) < len(names):
            return f"two of {', '.join(sorted(names))} would have the same environment variable: rename one"
    if bad := [name for name in sorted(inputs | steps) if not _WORD.fullmatch(name)]:
        return f"{bad[0]!r} is no name for an input or a step: use letters, digits and `_`"
    return None


def _step_problem(step: SubmissionStep, inputs: set[str], steps: set[str]) -> str | None:
    if step.name in inputs | steps:
        return "has a name that is already taken by an input or an earlier step"
    if bool(step.command) == (step.script is not None):
        return "has both a command and a script" if step.command else "has no command"
    if missing := [name for name in step.reads if name not in inputs | steps]:
        return f"reads {missing[0]!r}, which is neither an input nor an earlier step"
    if step.when == "failed" and not (step.reads and step.reads[0] in steps):
        return "runs when its first input has failed, so that must be an earlier step"
    return _patterns_problem(step.inputs, step.outputs)


def _patterns_problem(inputs: Sequence[StepInput], outputs: Sequence[str]) -> str | None:
    for pattern in outputs:
        if not _stays_inside(pattern):
            return f"has the output pattern {pattern!r}: it must stay within the step's directory"
    if twice := [
        each.source for each in inputs if each.match is None and [one.source for one in inputs].count(each.source) > 1
    ]:
        return f"reads {twice[0]!r} twice: say match of each"
    return None


def _stays_inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and ".." not in parts and "\0" not in path
