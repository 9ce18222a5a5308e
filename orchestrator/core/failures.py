"""What the errors of failed jobs mean, by a table of entries of which the first that fits counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from orchestrator.core.documents import Document, DocumentError
from orchestrator.core.patterns import Pattern, PatternError
from schemas.failure import Complaint, Entry, FailedJob, FailureClass, FailureFile, Remedy, Source
from schemas.launch import Launch, LaunchState, StepProgress, StepState

#: What stands between what happened to a step and the end of its log.
_LOG: Final = "; its log ends with:\n"

#: Jobs that fail alike say the same words: so many of them are remembered.
_REMEMBERED: Final = 4096

#: What PanDA calls a task that runs no further until somebody does something about it.
_EXHAUSTED: Final = "exhausted"


class Meaning(NamedTuple):
    """What the errors of one job mean."""

    class_: FailureClass
    means: str
    action: str
    remedy: Remedy | None
    #: What it was read from.
    complaint: Complaint
    #: The entry's place in the table; None if no entry fits.
    entry: int | None


class Table:
    """What errors mean."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        """Raises PatternError; entries that were read by `read_entries` are good."""
        self.entries = entries
        self._patterns = [None if entry.text is None else Pattern(entry.text, search=True) for entry in entries]
        self._looked_up = lru_cache(_REMEMBERED)(self._look_up)
        self._candidates = lru_cache(_REMEMBERED)(self._look_for_candidates)

    def meaning(self, job: FailedJob) -> Meaning:
        """By the first entry that fits any of its complaints."""
        return self._looked_up(job.complaints)

    def _look_up(self, complaints: tuple[Complaint, ...]) -> Meaning:
        found = [
            (number, place) for place, complaint in enumerate(complaints) for number in self._first_fitting(complaint)
        ]
        if not found:
            return _unknown(complaints)
        number, place = min(found)
        entry = self.entries[number]
        return Meaning(entry.class_, entry.means, entry.action, entry.remedy, complaints[place], number)

    def _first_fitting(self, complaint: Complaint) -> Iterator[int]:
        """The place of the first entry that fits, if one does."""
        for number in self._candidates(complaint.source, complaint.code):
            pattern = self._patterns[number]
            if pattern is None or pattern.matches(complaint.text):
                yield number
                return

    def _look_for_candidates(self, source: Source, code: int | None) -> list[int]:
        """The places of the entries that fit but for their text."""
        return [
            number
            for number, entry in enumerate(self.entries)
            if (not entry.source or source in entry.source) and (not entry.code or _within(code, entry.code))
        ]


def read_entries(text: str, source: str) -> tuple[Entry, ...]:
    """The entries of a `failures.yaml`; `source` names it in messages.

    Raises DocumentError: each mistake with its file and line.
    """
    document = Document(text, source)
    entries = document.read(FailureFile).failures
    wrong = [(("failures", number, "text"), why) for number, entry in enumerate(entries) for why in _refused(entry)]
    if wrong:
        raise DocumentError(document.all(wrong))
    return entries


def failures_of_steps(steps: Sequence[StepProgress]) -> list[FailedJob]:
    """Steps that went wrong as a whole, as failed jobs: what is known where an engine has nothing finer to tell."""
    return [_failed_step(step) for step in steps if _went_wrong(step)]


def failure_of_launch(launch: Launch) -> FailedJob | None:
    """A launch that never reached its engine, as a failed job; None if that is not how it ended."""
    if launch.state is not LaunchState.FAILED or launch.reference is not None:
        return None
    complaint = Complaint(Source.LAUNCH, None, launch.reason or "it does not say why")
    return FailedJob(step=None, complaints=(complaint,), at=launch.updated_at)


def _within(code: int | None, ranges: Sequence[tuple[int, int]]) -> bool:
    return code is not None and any(first <= code <= last for first, last in ranges)


def _unknown(complaints: Sequence[Complaint]) -> Meaning:
    coded = [complaint for complaint in complaints if complaint.code is not None]
    complaint = next(iter([*coded, *complaints]), Complaint(Source.STEP, None, "nobody says why"))
    code = "" if complaint.code is None else f", code: {complaint.code}"
    return Meaning(
        FailureClass.UNKNOWN,
        "No entry of the table fits.",
        f"Look in the log; then say in the home's failures.yaml what it means (source: {complaint.source}{code}).",
        None,
        complaint,
        None,
    )


def _refused(entry: Entry) -> Iterator[str]:
    try:
        Pattern(entry.text or "", search=True)
    except PatternError as error:
        yield str(error)


def _went_wrong(step: StepProgress) -> bool:
    if step.state in (StepState.FAILED, StepState.KILLED):
        return True
    return step.task_status == _EXHAUSTED and step.reason is not None


def _failed_step(step: StepProgress) -> FailedJob:
    said, _, log = (step.reason or "it does not say why").partition(_LOG)
    complaints = [Complaint(Source.STEP, None, said)]
    if step.exit_code:
        # below 0 it is the signal that ended it; a shell says it so
        code = step.exit_code if step.exit_code > 0 else 128 - step.exit_code
        complaints.append(Complaint(Source.PAYLOAD, code, log or f"exit code {code}"))
    return FailedJob(
        step=step.name, task=step.task, complaints=tuple(complaints), log=step.log, at=step.ended_at or step.started_at
    )
