"""Whether datasets are complete: what was asked, against what the catalog has. Findings come one by one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from orchestrator.core.mistakes import Mistake
from orchestrator.core.patterns import Pattern, PatternError
from orchestrator.core.templates import fill_within
from schemas.checks import Checks, DatasetChecks, Finding, Numbering, Requirement
from schemas.did import Did

#: Missing numbers of one sequence that are listed one by one; the rest is summed up.
_LISTED: Final = 1000


class CheckedDataset(NamedTuple):
    """What the catalog says of a dataset."""

    did: Did
    closed: bool
    #: How many files are in it.
    length: int


class CheckedFile(NamedTuple):
    """What the catalog says of a file."""

    did: Did
    bytes: int
    #: Names of the sums, and `guid`, that it lacks.
    lacks: Sequence[str]
    #: Copies where they were asked for; None if nobody asked.
    copies: int | None = None


#: Fields of a requirement that are templates. Patterns are not: their braces count something.
_TEMPLATES: Final = ("dataset", "replicas", "members", "same_runs_as")


def templates_in(requirement: Requirement) -> Mapping[str, str | tuple[str, ...]]:
    """The fields of a requirement that are templates, as far as they are said."""
    return {name: text for name in _TEMPLATES if (text := getattr(requirement, name))}


def filled(requirement: Requirement, values: Mapping[str, str]) -> Requirement:
    """The requirement with its templates filled in. Raises TemplateError."""
    texts = {name: fill_within(each, values) for name, each in templates_in(requirement).items()}
    return requirement.model_copy(
        update={name: tuple(each) if isinstance(each, list) else each for name, each in texts.items()}
    )


def mistakes_in(checks: Checks) -> Iterator[Mistake]:
    """What is wrong with checks of the right shape: the field, and the mistake in words."""
    for place, text, group in (
        (("names",), checks.names, None),
        (("numbered", "pattern"), None if checks.numbered is None else checks.numbered.pattern, "n"),
        (("run",), checks.run, "run"),
    ):
        if text is None:
            continue
        try:
            pattern = Pattern(text)
        except PatternError as error:
            yield place, str(error)
            continue
        if group is not None and group not in pattern.groups:
            yield place, f"{text!r} has no group {group}: write (?P<{group}>\\d+) where the number stands"
    other = checks.same_runs_as
    if other is not None and "{" not in other:
        try:
            Did.parse(other)
        except ValueError as error:
            yield ("same_runs_as",), str(error)


# Of one dataset.


def of_dataset(checks: DatasetChecks, dataset: CheckedDataset) -> Iterator[Finding]:
    """What does not hold of a dataset as a whole."""
    did = str(dataset.did)
    if checks.closed and not dataset.closed:
        yield Finding("closed", did, None, "it is open")
    if checks.filled and dataset.length == 0:
        yield Finding("filled", did, None, "there is no file in it")
    if checks.files is not None and dataset.length != checks.files:
        yield Finding("files", did, None, f"it has {dataset.length:,} files, not {checks.files:,}")


def of_files(checks: DatasetChecks, dataset: Did, files: Iterable[CheckedFile]) -> Iterator[Finding]:
    """What does not hold of the files in a dataset. Each is looked at once."""
    names = None if checks.names is None else Pattern(checks.names)
    numbers = None if checks.numbered is None else _Numbers(checks.numbered)
    did = str(dataset)
    for file in files:
        for check, text in _of_file(checks, file, names):
            yield Finding(check, did, str(file.did), text)
        strange = None if numbers is None else numbers.take(file.did)
        if strange is not None:
            yield Finding("numbered", did, str(file.did), strange)
    if numbers is not None:
        # of no file: what is found is that there is none
        yield from (Finding("numbered", did, None, text) for text in numbers.gaps())


def _of_file(checks: DatasetChecks, file: CheckedFile, names: Pattern | None) -> Iterator[tuple[str, str]]:
    if names is not None and not names.matches(file.did.name):
        yield "names", f"its name does not match {names.text}"
    if checks.min_bytes is not None and file.bytes < checks.min_bytes:
        yield "min_bytes", f"it has {file.bytes:,} bytes, fewer than {checks.min_bytes:,}"
    if checks.replicas is not None and not file.copies:
        yield "replicas", f"there is no copy at {checks.replicas} that can be read"
    lacks = [each for each in checks.checksums if each in file.lacks]
    if lacks:
        yield "checksums", f"the catalog has no {' and no '.join(lacks)} of it"


class _Numbers:
    """The numbers in the names of files, by what else tells the names apart."""

    def __init__(self, numbering: Numbering) -> None:
        self._numbering = numbering
        self._pattern = Pattern(numbering.pattern)
        #: For each sequence the file of each number.
        self._taken: dict[tuple[tuple[str, str], ...], dict[int, Did]] = {}

    def take(self, file: Did) -> str | None:
        """Note a file; in words why it has no place in a sequence."""
        captured = self._pattern.captures(file.name)
        if captured is None:
            return f"its name does not match {self._pattern.text}"
        word = captured.pop("n")
        if not (word.isdecimal() and word.isascii()):
            return f"{word!r} in its name is no number"
        number = int(word)
        taken = self._taken.setdefault(tuple(captured.items()), {})
        other = taken.setdefault(number, file)
        if other != file:
            return f"it has number {number}, and so has {other}"
        first, last = self._numbering.first, self._numbering.last
        if number < first or (last is not None and number > last):
            return f"its number {number} is not from {first} to {'any' if last is None else last}"
        return None

    def gaps(self) -> Iterator[str]:
        """Each number that is missing, in words."""
        if not self._taken and self._numbering.last is not None:
            self._taken[()] = {}
        for key, taken in sorted(self._taken.items()):
            which = "".join(f", {name} {value}" for name, value in key)
            yield from (f"{text}{which}" for text in self._gaps(taken))

    def _gaps(self, taken: Collection[int]) -> Iterator[str]:
        first = self._numbering.first
        last = self._numbering.last if self._numbering.last is not None else max(taken, default=first)
        missing = last - first + 1 - sum(first <= number <= last for number in taken)
        listed, number = 0, first
        while listed < min(missing, _LISTED):
            if number not in taken:
                listed += 1
                yield f"number {number} is missing"
            number += 1
        if missing > listed:
            yield f"{missing - listed:,} more numbers from {number} to {last} are missing"


# Of a collection.


def of_members(checks: Checks, collection: Did, members: Sequence[Did]) -> Iterator[Finding]:
    """Which of the expected members are not in a collection."""
    names = {member.name for member in members} | {str(member) for member in members}
    for glob in checks.members:
        if not any(fnmatchcase(name, glob) for name in names):
            yield Finding("members", str(collection), None, f"no dataset of it fits {glob}")


def of_runs(checks: Checks, collection: Did, members: Iterable[Did], others: Iterable[Did]) -> Iterator[Finding]:
    """Which runs one collection has and the other has not."""
    pattern = Pattern(checks.run, search=True)
    ours, theirs = _runs_in(pattern, members), _runs_in(pattern, others)
    for run in sorted(theirs - ours):
        text = f"run {run} is in {checks.same_runs_as} and not here"
        yield Finding("same_runs_as", str(collection), None, text)
    for run in sorted(ours - theirs):
        yield Finding("same_runs_as", str(collection), None, f"run {run} is here and not in {checks.same_runs_as}")


def _runs_in(pattern: Pattern, datasets: Iterable[Did]) -> set[int]:
    words = (captured["run"] for did in datasets if (captured := pattern.captures(did.name)) is not None)
    return {int(word) for word in words if word.isdecimal() and word.isascii()}
