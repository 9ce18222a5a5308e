"""A list of files is written into our record, and compared with the lists before it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from orchestrator.clock import Clock
from orchestrator.core.registering import Mistold
from orchestrator.register.comparing import counted, some
from orchestrator.register.noting import Tell
from orchestrator.store.registration_calls import Begun, Caller, Wanting
from orchestrator.store.registrations import Registrations
from schemas.registration import RegisteredFile, Registration

_WHO: Final = "register"


@dataclass(frozen=True, slots=True)
class ReadList:
    """What is wrong with a list that was read."""

    #: What keeps the dataset open whatever becomes of its files.
    wrong: Sequence[str] = ()
    #: What was on it, and is no file that can be registered.
    mistold: Sequence[Mistold] = ()


class Lists:
    """Writes lists down, so many files at a time."""

    def __init__(
        self,
        record: Registrations,
        *,
        clock: Clock,
        at_once: int,
        new_guid: Callable[[], str],
        stop_if_told: Callable[[], None],
        tell: Tell,
    ) -> None:
        """`stop_if_told` raises Stopped."""
        self._record = record
        self._clock = clock
        self._at_once = at_once
        self._new_guid = new_guid
        self._stop_if_told = stop_if_told
        self._tell = tell

    def write_down(self, begun: Begun, files: Iterable[RegisteredFile | Mistold]) -> ReadList:
        """Returns what is wrong with it: what was no file, and what is wanted and not on it."""
        mistold: list[Mistold] = []
        remaining, planned = iter(files), 0
        while batch := list(islice(remaining, self._at_once)):
            self._stop_if_told()
            mistold += [each for each in batch if isinstance(each, Mistold) and not each.harmless]
            known = [each for each in batch if isinstance(each, RegisteredFile)]
            self._record.plan(begun.registration, known, self._new_guid)
            planned += len(known)
            self._tell("listed", planned, planned)
        wanting = self._record.listed(begun, whole=not mistold, who=_WHO, now=self._clock())
        wrong = []
        if mistold:
            wrong.append(f"of the list {len(mistold)} could not be read: {some([str(each) for each in mistold])}")
        if wanting.count:
            wrong.append(_wanted_still(wanting, begun.at_work))
        return ReadList(wrong, mistold)


def _wanted_still(wanting: Wanting, at_work: Caller | None) -> str:
    """What to do about files of an earlier list: whoever brought that may be at work still."""
    wait = "" if at_work is None else f"{at_work} began to fill it too: wait for that if it is still at work, else "
    return (
        f"{counted(wanting.count)} wanted still from an earlier list, and not on this one: "
        f"{some(wanting.some, wanting.count)}; {wait}name those too, or say --only-these if this list replaces it"
    )


def called_since(found: Registration, begun: Begun) -> Caller | None:
    """Who has called the registration since then, if somebody has: what became of it is his doing too."""
    return Caller(found.who, found.updated_at) if found.calls > begun.registration.calls else None
