"""Failed jobs summed up: those that are alike as one, with the command that does something about them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, NamedTuple

from orchestrator.core.commanding import FITS
from orchestrator.core.failures import Meaning, Table
from orchestrator.core.states import LAUNCH_ENDED
from schemas.failure import FailedJob, FailureGroup, Remedy
from schemas.launch import Command, Launch, LaunchState

#: Of errors that are told apart by their words alone, so many letters count.
_WORDS: Final = 80
#: More memory is asked for in steps of so many megabytes.
_MEMORY_STEP: Final = 500
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


class By(StrEnum):
    """What is told apart, beside the class and the code."""

    STEP = "step"
    SITE = "site"
    LAUNCH = "launch"


class Failed(NamedTuple):
    """A failed job and its launch."""

    launch: Launch
    job: FailedJob


def summed_up(failed: Sequence[Failed], table: Table, by: By = By.STEP) -> list[FailureGroup]:
    """Groups of jobs that failed alike, the largest first."""
    groups: dict[tuple[object, ...], list[Failed]] = defaultdict(list)
    for each in failed:
        groups[_key(each, table.meaning(each.job), by)].append(each)
    found = [_group(members, table.meaning(members[0].job)) for members in groups.values()]
    return sorted(found, key=lambda group: (-group.jobs, group.class_, group.launches, group.steps))


def _key(each: Failed, meaning: Meaning, by: By) -> tuple[object, ...]:
    apart = {By.STEP: each.job.step, By.SITE: each.job.site, By.LAUNCH: each.launch.id}[by]
    complaint = meaning.complaint
    # numbers in words are those of files and nodes
    words = re.sub(r"\d+", "#", complaint.text)[:_WORDS] if meaning.entry is None and complaint.code is None else ""
    return meaning.class_, meaning.entry, complaint.source, complaint.code, words, apart


def _group(members: Sequence[Failed], meaning: Meaning) -> FailureGroup:
    launches = {each.launch.id: each.launch for each in members}
    moments = [each.job.at for each in members if each.job.at is not None]
    newest = max(members, key=lambda each: each.job.at or _LONG_AGO)
    return FailureGroup(
        class_=meaning.class_,
        source=meaning.complaint.source,
        code=meaning.complaint.code,
        means=meaning.means,
        action=meaning.action,
        jobs=len(members),
        launches=tuple(sorted(launches)),
        steps=tuple(dict.fromkeys(each.job.step for each in members if each.job.step is not None)),
        sites=dict(Counter(each.job.site for each in members if each.job.site is not None).most_common()),
        example=newest.job,
        example_launch=newest.launch.id,
        first=min(moments, default=None),
        last=max(moments, default=None),
        command=_command(members, [launches[id_] for id_ in sorted(launches)], meaning),
    )


def _command(members: Sequence[Failed], launches: Sequence[Launch], meaning: Meaning) -> tuple[str, ...]:
    match meaning.remedy:
        case Remedy.RETRY:
            return _retry(members, launches, meaning, ())
        case Remedy.MORE_MEMORY:
            given = max((each.job.memory or 0 for each in members), default=0)
            more = ("--memory", str(_more(given)))
            return _retry(members, launches, meaning, more) if given else ()
        case Remedy.REDISPATCH:
            return _redispatch(launches, meaning)
        case None:
            return ()


def _retry(
    members: Sequence[Failed], launches: Sequence[Launch], meaning: Meaning, more: tuple[str, ...]
) -> tuple[str, ...]:
    ids = [str(each.id) for each in launches if each.reference and each.state in FITS[Command.RETRY]]
    steps = {each.job.step for each in members}
    step = ("--step", str(next(iter(steps)))) if len(steps) == 1 else ()
    return ("launches", "retry", *ids, *step, *more, "--reason", _reason(meaning)) if ids else ()


def _redispatch(launches: Sequence[Launch], meaning: Meaning) -> tuple[str, ...]:
    over = [each for each in launches if each.state in LAUNCH_ENDED and each.state is not LaunchState.FINISHED]
    ids = dict.fromkeys(str(each.dispatch_id) for each in over if each.dispatch_id is not None)
    return ("dispatches", "redispatch", *ids, "--reason", _reason(meaning)) if ids else ()


def _more(megabytes: int) -> int:
    """Twice as much, rounded up."""
    return -(-2 * megabytes // _MEMORY_STEP) * _MEMORY_STEP


def _reason(meaning: Meaning) -> str:
    complaint = meaning.complaint
    return f"{meaning.class_}: {complaint.source}" + ("" if complaint.code is None else f" {complaint.code}")
