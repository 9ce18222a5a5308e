"""What is judged of one step of a launch that has failed: whether its policy lets it be retried, and with what."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from orchestrator.core.commanding import MEMORY
from orchestrator.core.failures import Table
from schemas.failure import FailedJob
from schemas.failure_class import FailureClass
from schemas.launch import Command, CommandState, Launch, LaunchCommand
from schemas.retry import RetryPolicy, StepRetry

#: Who asks for what the policy decides.
WHO: Final = "policy"

#: Why what did not fail by itself is retried. Such a retry is none of those that are counted.
ALONG: Final = "it goes on with what it reads: "

#: What the journal says of a launch of which a person did not want the retry that was to come.
CALLED_OFF: Final = "the coming retry is called off"


@dataclass(frozen=True, slots=True)
class StepFailure:
    """What is judged of one step that has failed."""

    name: str
    policy: StepRetry
    jobs: Sequence[FailedJob]
    classes: Counter[FailureClass]
    #: How often the policy has had it retried.
    tried: int
    #: The most that a retry gave it.
    asked_memory: int | None


@dataclass(frozen=True, slots=True)
class Retriable:
    """A step that is to be retried, and with which parameters, in the engine's words."""

    step: StepFailure
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def why(self) -> str:
        attempt = f"retry {self.step.tried + 1} of {self.step.policy.attempts}"
        return f"{_jobs(len(self.step.jobs))} failed ({_counted(self.step.classes)}), {attempt}"


def step_failures(
    launch: Launch,
    policy: RetryPolicy,
    failed: Sequence[FailedJob],
    table: Table,
    commands: Sequence[LaunchCommand],
) -> Iterator[StepFailure]:
    """The steps that have failed, in their order."""
    jobs: dict[str | None, list[FailedJob]] = defaultdict(list)
    for job in failed:
        jobs[job.step].append(job)
    for progress in launch.steps:
        name = progress.name
        if name not in jobs:
            continue
        retries = [each for each in commands if each.command is Command.RETRY and each.step in (None, name)]
        fresh = _fresh(jobs[name], retries)
        yield StepFailure(
            name,
            policy.steps.get(name, StepRetry()),
            fresh,
            Counter(table.meaning(job).class_ for job in fresh),
            sum(_counts(each, name) for each in retries),
            max((memory for each in retries if (memory := _memory_of(each)) is not None), default=None),
        )


def _fresh(jobs: Sequence[FailedJob], retries: Sequence[LaunchCommand]) -> Sequence[FailedJob]:
    """Those that failed since the last retry; all of them if none did, or nobody knows."""
    if not retries:
        return jobs
    last = retries[-1].asked_at
    return [job for job in jobs if job.at is None or job.at > last] or jobs


def _counts(retry: LaunchCommand, step: str) -> bool:
    """Whether it is one of the policy's attempts at this step, whatever the engine said of it: it may have taken it."""
    tried = not retry.attempt_of or step in retry.attempt_of
    return retry.who == WHO and tried and not (retry.why or "").startswith(ALONG)


def _memory_of(retry: LaunchCommand) -> int | None:
    text = retry.parameters.get(MEMORY, "")
    return int(text) if retry.state is CommandState.TAKEN and text.isascii() and text.isdecimal() else None


def judged(step: StepFailure, commands: Sequence[LaunchCommand], *, gives_memory: bool) -> Retriable | str:
    """Its retry, or why there is none."""
    policy = step.policy
    allowed = set(policy.classes) & step.classes.keys()
    stopped = stopped_by(step.name, commands)
    said = f"{_jobs(len(step.jobs))} failed of {_named(step.classes)}"
    if policy.attempts == 0:
        return f"{said}, and it is never retried"
    if stopped is not None:
        return stopped
    if not allowed:
        return f"{said}, which is not retried"
    if step.tried >= policy.attempts:
        return f"{said}, after {step.tried} of {policy.attempts} retries"
    if FailureClass.MEMORY not in allowed or not gives_memory:
        return Retriable(step)
    more = _more_memory(step)
    if isinstance(more, int):
        return Retriable(step, {MEMORY: str(more)})
    # what has failed of something else may go well with as much as before
    return Retriable(step) if allowed - {FailureClass.MEMORY} else f"{said}, and {more}"


def _more_memory(step: StepFailure) -> int | str:
    """Megabytes for each core, or why there can be no more."""
    policy = step.policy
    told = max((job.memory or 0 for job in step.jobs), default=0) or policy.given or 0
    had = max(told, step.asked_memory or 0)
    if not had or policy.memory is None:
        return "nobody knows how much it had: say memory in the step's panda"
    # 1100 * 1.1 is a little above 1210
    more = math.ceil(round(had * policy.memory, 6))
    if policy.most_memory is not None:
        more = min(more, policy.most_memory)
    return more if more > had else f"it had {had} MB, and may have no more than {policy.most_memory}"


def stopped_by(step: str, commands: Sequence[LaunchCommand]) -> str | None:
    """Who had this step alone killed or finished, since it was retried last."""
    found: str | None = None
    for each in commands:
        if each.state is CommandState.REFUSED:
            continue
        if each.command is Command.RETRY and each.step in (None, step):
            found = None
        elif each.command in (Command.KILL, Command.FINISH) and each.step == step:
            found = f"{each.who} asked to {each.command} it"
    return found


def _jobs(count: int) -> str:
    return f"{count:,} job" if count == 1 else f"{count:,} jobs"


def _counted(classes: Counter[FailureClass]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in classes.most_common())


def _named(classes: Counter[FailureClass]) -> str:
    if len(classes) == 1:
        return f"class {next(iter(classes))}"
    return "classes " + ", ".join(f"{name} ({count:,})" for name, count in classes.most_common())
