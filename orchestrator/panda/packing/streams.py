"""How the inputs of a step reach its jobs: PanDA brings datasets, and files by a list; all else is in the package."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from orchestrator.panda.port import EngineRefused, Submission, SubmissionStep
from schemas.did import Did
from schemas.workflow import StepInput

_DATASET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*:[A-Za-z0-9][A-Za-z0-9._/+-]*")
_FILE: Final = re.compile(r"[A-Za-z0-9/._][A-Za-z0-9/._:@%+=~?&-]*")
_MATCH: Final = re.compile(r"[A-Za-z0-9_.*~-]+")


@dataclass(frozen=True, slots=True)
class Stream:
    """How one input of a step reaches its jobs."""

    input: StepInput
    #: PanDA's word for it: `IN`, `IN2`; None if PanDA does not bring it.
    name: str | None
    #: Where it is a dataset of the catalog, or a step that makes one.
    dataset: Did | None = None
    parent: str | None = None
    #: Where it is a list of files: those that the step wants of them.
    files: tuple[str, ...] = ()

    @property
    def listing(self) -> str | None:
        """The file of the package in which a job finds the names of its files."""
        return None if self.name is None else f"muleteer/{self.name}.list"


def streams_of(submission: Submission, step: SubmissionStep) -> tuple[Stream, ...]:
    """How each input of a step reaches its jobs: the primary as IN, secondary datasets as IN2 and so on.

    A list of files that is not primary goes to every job as it is. A step that runs when another has failed gets
    nothing of that one. Raises EngineRefused.
    """
    if len(set(step.reads)) < len(step.reads):
        raise EngineRefused(f"step {step.name}: it reads the same input twice: {', '.join(step.reads)}")
    streams = tuple(
        _stream(submission, step, each, None if number == 1 and step.when == "failed" else number)
        for number, each in enumerate(step.inputs, 1)
    )
    by_panda = [stream for stream in streams if stream.name is not None]
    if len(by_panda) > 1 and by_panda[0].files:
        raise EngineRefused(
            f"step {step.name}: its primary input {by_panda[0].input.source} is a list of files, and PanDA brings no "
            f"dataset beside one: make {by_panda[1].input.source} the first input"
        )
    return streams


def secondaries(streams: Sequence[Stream]) -> list[Stream]:
    """Those that are datasets beside the primary one."""
    return [stream for stream in streams if stream.name not in (None, "IN")]


def _stream(submission: Submission, step: SubmissionStep, each: StepInput, number: int | None) -> Stream:
    if each.match is not None and not _MATCH.fullmatch(each.match):
        raise EngineRefused(
            f"step {step.name}: match {each.match!r} of input {each.source}: PanDA takes letters, digits and _ . * ~ -"
        )
    name = None if number is None else "IN" if number == 1 else f"IN{number}"
    if each.source in submission.file_lists:
        files = tuple(_files(submission, step, each))
        return Stream(each, name if number == 1 else None, files=files)
    if each.source in submission.inputs:
        did = submission.inputs[each.source]
        if not _DATASET.fullmatch(str(did)):
            raise EngineRefused(f"input {each.source}: PanDA takes no dataset called {str(did)!r}")
        return Stream(each, name, dataset=did)
    parent = next((other for other in submission.steps if other.name == each.source), None)
    if parent is None:
        raise EngineRefused(f"step {step.name} reads {each.source!r}, which is neither an input nor a step")
    if not parent.outputs and number is not None:
        raise EngineRefused(
            f"step {step.name} reads the files of {parent.name}, which says no outputs: name them there"
        )
    return Stream(each, name, parent=parent.name)


def _files(submission: Submission, step: SubmissionStep, each: StepInput) -> Iterator[str]:
    listed = submission.file_lists[each.source]
    wanted = re.compile(".*".join(map(re.escape, (each.match or "").split("*"))))
    found = [file for file in listed if wanted.search(file.rpartition("/")[2])]
    if not found:
        raise EngineRefused(f"step {step.name}: none of the {len(listed)} files of its input {each.source} is wanted")
    for file in found:
        if not _FILE.fullmatch(file):
            raise EngineRefused(f"input {each.source}: PanDA takes no file called {file!r}: rename it")
        yield file
