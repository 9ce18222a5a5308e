"""A policy, compiled: which datasets it matches, and what their successors are called; and what is wrong with one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import combinations
from typing import Any, Final

from orchestrator.core import completeness
from orchestrator.core.clauses import scope_test
from orchestrator.core.conditions import Condition, ConditionError
from orchestrator.core.mistakes import Mistake
from orchestrator.core.patterns import Pattern, PatternError
from orchestrator.core.runs import Runs, RunsError, read_range, read_run_file
from orchestrator.core.templates import TemplateError, fields, fill
from orchestrator.core.transient import maps
from schemas.checks import Checks
from schemas.did import Did
from schemas.durations import format_duration
from schemas.transient import PolicyVersion, Refusal, TransientPolicy

#: Nobody takes back what leaves so soon.
_HARDLY: Final = timedelta(minutes=1)

#: What a database keeps of a run; a run with more digits is none.
_LAST_RUN: Final = 2**63 - 1
_DIGITS: Final = len(str(_LAST_RUN))

#: What every template may use beside the pattern's groups.
_KNOWN: Final = frozenset({"scope", "name"})

#: Where programs ask for a policy by its name, this asks for something else.
_HISTORY: Final = "history"

#: The beginning of a named group.
_GROUP: Final = re.compile(r"(?<!\\)\(\?P?<(\w+)>")


class CompiledPolicy:
    """A policy that can be asked. Immutable: safe in every thread."""

    def __init__(self, version: PolicyVersion) -> None:
        """Raises PatternError, ConditionError, TemplateError or RunsError; `mistakes_in` tells of them before."""
        policy = version.policy
        self.version = version
        self.policy = policy
        self.name = policy.name
        self._pattern = Pattern(policy.pattern)
        self._in_scope = scope_test(policy.scope)
        self._conditions = [(key, Condition(items)) for key, items in policy.where.items()]
        self._asked = sorted(fields(policy.successor.dataset))
        if policy.keep.runs.include_file is not None:
            raise RunsError(f"policy {policy.name}: keep.runs.include_file has not been read into it")
        #: Runs that stay.
        self.kept_runs = Runs.read(policy.keep.runs.include)

    @property
    def asks_metadata(self) -> bool:
        """Whether the catalog's metadata are needed."""
        return bool(self._conditions)

    def wants(self, scope: str) -> bool:
        """Whether datasets of this scope may be meant."""
        return self._in_scope(scope)

    def values(self, did: Did) -> Mapping[str, str] | None:
        """What the pattern captures, with `scope` and `name`; None if the policy does not match the dataset.

        Whether its conditions hold is another question: `metadata_refusal`.
        """
        if not self._in_scope(did.scope):
            return None
        captured = self._pattern.captures(did.name)
        return None if captured is None else {"scope": did.scope, "name": did.name, **captured}

    def metadata_refusal(self, metadata: Mapping[str, Any]) -> Refusal | None:
        """Which condition of `where` does not hold."""
        for key, condition in self._conditions:
            if not condition.holds(metadata.get(key)):
                found = metadata.get(key)
                return Refusal("where", f"{key} is {'not set' if found is None else found}, not {condition.text}")
        return None

    def successor(self, values: Mapping[str, str]) -> Did | Refusal:
        """The successor's name, or why there is none."""
        template = self.policy.successor.dataset
        empty = [name for name in self._asked if not values.get(name)]
        if empty:
            return Refusal("successor", f"{template!r}: nothing was captured for {', '.join(empty)}")
        try:
            return Did.parse(fill(template, values))
        except ValueError as error:  # a template's mistakes are of this kind
            return Refusal("successor", f"its name cannot be made: {error}")

    def run(self, values: Mapping[str, str]) -> int | None:
        """The run in the dataset's name, if the pattern captures `run` and it is a number that a run can have."""
        word = values.get("run", "")
        digits = word.lstrip("0")
        if not (word.isdecimal() and word.isascii()) or len(digits) > _DIGITS:
            return None
        number = int(digits or "0")
        return number if number <= _LAST_RUN else None


def refused_as_a_whole(version: PolicyVersion, looked_at: int, matches: int) -> str | None:
    """Why the policy releases nothing at all, whatever can be proved of its datasets; None if it may.

    Args:
        looked_at: all datasets in its scopes.
        matches: those of them that it matches.
    """
    policy = version.policy
    if version.ended_at is not None:
        return f"version {version.version} of it is not in force any more"
    if not policy.enabled:
        return f"it is disabled: muleteer transient policies enable {policy.name}"
    confirmed = version.confirmed or 0
    if matches > policy.fraction * looked_at and matches > confirmed:
        said = f"; {confirmed:,} were confirmed" if version.confirmed is not None else ""
        return (
            f"it matches {matches:,} of {looked_at:,} datasets in its scopes, more than {100 * policy.fraction:g} %"
            f"{said}: if that is meant, muleteer transient policies confirm {policy.name} --matches {matches}"
        )
    return None


def with_kept_runs(policy: TransientPolicy, text: str) -> TransientPolicy:
    """The policy with the text of its `keep.runs.include_file` read into it. Raises RunsError, naming the line."""
    runs = policy.keep.runs
    read = runs.model_copy(update={"include": (*runs.include, *read_run_file(text)), "include_file": None})
    return policy.model_copy(update={"keep": policy.keep.model_copy(update={"runs": read})})


# What is wrong with policies.


def mistakes_in(policy: TransientPolicy) -> Iterator[Mistake]:
    """What is wrong with a policy of the right shape: the field, and the mistake in words."""
    yield from _mistakes_in_name_of(policy)
    yield from _mistakes_in_scope(policy)
    if not policy.lifetime:
        yield ("lifetime",), "0s: expected a length of time, for example 14d"
    for key, items in policy.where.items():
        for position, item in enumerate(items):
            try:
                Condition([item])
            except ConditionError as error:
                yield ("where", key, position), str(error)
    try:
        pattern = Pattern(policy.pattern)
    except PatternError as error:
        yield ("pattern",), str(error)
    else:
        yield from _mistakes_in_groups(pattern)
        yield from _mistakes_in_name(policy, pattern)
        yield from _mistakes_in_kept(policy, pattern)
    for place, what in completeness.mistakes_in(Checks.model_validate(policy.successor.require.model_dump())):
        yield ("successor", "require", *place), what
    if policy.successor.maps is not None:
        for place, what in maps.mistakes_in(policy.successor.maps):
            yield ("successor", "maps", *place), what


def _mistakes_in_name_of(policy: TransientPolicy) -> Iterator[Mistake]:
    if policy.name == _HISTORY:
        yield ("name",), f"{policy.name!r} stands for the history of all policies: call it something else"


def _mistakes_in_scope(policy: TransientPolicy) -> Iterator[Mistake]:
    if all(glob.startswith("!") for glob in policy.scope):
        yield ("scope",), "only what it is not: name the scopes in which datasets are transient"


def _mistakes_in_groups(pattern: Pattern) -> Iterator[Mistake]:
    """What RE2 lets pass, and would surprise."""
    named = _GROUP.findall(pattern.text)
    for name in pattern.groups:
        if named.count(name) > 1:
            yield ("pattern",), f"two groups are named {name!r}, and only the first would count: name each once"
        if name in _KNOWN:
            yield ("pattern",), f"the group {name!r} would hide the dataset's own {name}: call it something else"


def _mistakes_in_name(policy: TransientPolicy, pattern: Pattern) -> Iterator[Mistake]:
    """What is wrong with the template of the successor's name."""
    place, template = ("successor", "dataset"), policy.successor.dataset
    known = _KNOWN | set(pattern.groups)
    try:
        asked = fields(template)
    except TemplateError as error:
        yield place, str(error)
        return
    unknown = sorted(asked - known)
    if unknown:
        yield (
            place,
            f"there is no value {', '.join(unknown)}: the pattern does not capture it; there are: "
            f"{', '.join(sorted(known))}",
        )
        return
    scope, colon, name = template.partition(":")
    if not (scope and colon and name):
        yield place, f"{template!r} is not a DID: write scope:name, for example {{scope}}:DST_SEED-{{run}}"
    elif name == "{name}" and (scope == "{scope}" or scope in policy.scope):
        yield place, f"{template!r} is the dataset itself: name the one that was made of it"
    elif not asked:
        yield place, f"{template!r} is the same for every dataset: what was made of one dataset has its run in its name"


def _mistakes_in_kept(policy: TransientPolicy, pattern: Pattern) -> Iterator[Mistake]:
    keep = policy.keep
    for position, item in enumerate(keep.runs.include):
        try:
            read_range(item)
        except RunsError as error:
            yield ("keep", "runs", "include", position), str(error)
    if keep.runs.include_file is not None:
        yield ("keep", "runs", "include_file"), "the file has not been read: write the runs into `include`"
    for field, asks in (("last_runs", keep.last_runs), ("runs", keep.runs.include)):
        if asks and "run" not in pattern.groups:
            yield ("keep", field), r"the pattern captures no run: write (?P<run>\d{8}) where it stands"


def remarks_on(policies: Sequence[TransientPolicy]) -> Iterator[str]:
    """What is probably not meant, where it can be told from the policies alone."""
    for one, other in combinations(policies, 2):
        if one.pattern == other.pattern and set(one.scope) == set(other.scope) and one.where == other.where:
            yield (
                f"{one.name} and {other.name} match the same datasets: neither will release any of them; take one out"
            )
        elif one.pattern == other.pattern:
            yield (
                f"{one.name} and {other.name} have the same pattern: a dataset that both match is released by neither"
            )
    for policy in policies:
        if policy.enabled and policy.automatic and policy.fraction == 1:
            yield f"{policy.name} is automatic, and may match everything in its scopes: lower its `fraction`"
        if policy.undo is not None and policy.undo < _HARDLY:
            yield f"{policy.name} lets {format_duration(policy.undo)} to take a release back: is that meant?"
        if policy.open and not (policy.successor.same_count or policy.successor.maps):
            yield f"{policy.name} lets open datasets leave, which may still grow: say `same_count` or `maps`"


def remarks_on_switching(disabled: Iterable[PolicyVersion]) -> Iterator[str]:
    """Of each version that was disabled, and in whose place an enabled one comes: who disabled it, and why."""
    for version in disabled:
        why = "" if version.reason is None else f": {version.reason}"
        said = f"{version.policy.name} was disabled by {version.author} at {version.at:%Y-%m-%d %H:%M} UTC{why}"
        yield f"{said}; this switches it on again"
