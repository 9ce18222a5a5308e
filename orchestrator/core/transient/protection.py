"""What stays, whatever a policy says."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from fnmatch import translate
from functools import lru_cache
from glob import escape
from typing import Final

from orchestrator.core.clauses import scope_test
from orchestrator.core.transient.facts import Facts, Proof, RuleOn, Unknown
from orchestrator.core.transient.words import ended, moment, said, unknown
from schemas.did import Did
from schemas.transient import Keep, Refusal

#: So long stays what a person has taken back or called back, whatever a policy says: time to say what becomes of it.
STAYS: Final = timedelta(days=7)


class NotUnderstood(ValueError):
    """What must stay cannot be understood, so nothing may leave."""


class Guard:
    """What settings and people have said must stay. Immutable: safe in every thread."""

    def __init__(
        self,
        *,
        never: Iterable[str] = (),
        keeps: Iterable[Keep] = (),
        raw_scopes: Sequence[str] = (),
        accounts: Collection[str] = (),
        of: Iterable[Did] | None = None,
    ) -> None:
        """
        Args:
            never: `scope:name` as globs, from the settings.
            keeps: as the store has them; those that were lifted or are over do not count.
            raw_scopes: globs of scopes out of which nothing leaves.
            accounts: whose replication rules do not keep a dataset here: the catalog's account and settings.accounts.
            of: the datasets to which `keeps` was narrowed: of no other it can be told what keeps it. Any, unless it is
                said.

        Raises:
            NotUnderstood: something that is to stay.
        """
        self._never = [(each, _glob(each)) for each in never]
        self._keeps: list[tuple[Keep, re.Pattern[str]]] = []
        #: Those of one dataset each, by its name: there may be thousands.
        self._alone: dict[str, list[Keep]] = {}
        for keep in keeps:
            demand_glob(keep.which)
            if (name := alone(keep.which)) is not None:
                self._alone.setdefault(name, []).append(keep)
            else:
                self._keeps.append((keep, _glob(keep.which)))
        self._of = None if of is None else frozenset(of)
        self._raw = scope_test(raw_scopes) if raw_scopes else None
        self._accounts = frozenset(accounts)

    def protections(self, facts: Facts, *, open_too: bool, now: datetime) -> list[Refusal]:
        """All that protects the dataset, as far as it can be told without a look at its files and rules.

        Args:
            open_too: the policy lets open datasets leave.

        Raises NotUnderstood: this guard was made for others.
        """
        entry = facts.entry
        found = [*self._kept(entry.did, now)]
        if not entry.closed and not open_too:
            found.append(Refusal("open", "it is open: what makes it may not have ended"))
        if facts.extended_until is not None and facts.extended_until > now:
            found.append(Refusal("extended", f"it is to stay until {moment(facts.extended_until)}"))
        return found + list(_of_our_own(facts))

    def kept(self, did: Did, now: datetime) -> Iterator[str]:
        """Each reason why a person, a rule or the settings keep the dataset, in words.

        Raises NotUnderstood: this guard was made for others.
        """
        return (refusal.text for refusal in self._kept(did, now))

    def _kept(self, did: Did, now: datetime) -> Iterator[Refusal]:
        if self._of is not None and did not in self._of:
            raise NotUnderstood(f"what keeps {did} is not known: it was asked for other datasets")
        for text, fits in self._never:
            if fits.match(str(did)):
                yield Refusal("never", f"{text} never leaves ([transient] never)")
        fitting = [*self._alone.get(str(did), ()), *(keep for keep, fits in self._keeps if fits.match(str(did)))]
        for keep in fitting:
            if keep.lifted_at is None and (keep.until is None or keep.until > now):
                until = "" if keep.until is None else f" until {moment(keep.until)}"
                yield Refusal("never", f"{keep.who} keeps {keep.which}{until}: {keep.why}")
        if self._raw is not None and self._raw(did.scope):
            yield Refusal("raw", f"{did.scope} is a scope of raw data ([transient] raw_scopes)")

    def rules(self, rules: Sequence[RuleOn] | Unknown) -> list[Refusal]:
        """The replication rules that keep a dataset: locked ones, and those of accounts that are none of ours."""
        if isinstance(rules, Unknown):
            return [unknown("what replication rules are on it", rules)]
        return [refusal for rule in rules if (refusal := self._of_rule(rule)) is not None]

    def deep(self, proof: Proof) -> list[Refusal]:
        """What protects it, as found by a look at its files, its rules, and what it is in."""
        found = self.rules(proof.rules)
        if isinstance(proof.shared, Unknown):
            found.append(unknown("what else its files are in", proof.shared))
        elif proof.shared.count:
            are = "is" if proof.shared.count == 1 else "are"
            text = f"{proof.shared.count:,} of its files {are} in something else too: {proof.shared}"
            found.append(Refusal("shared", text))
        return found

    def _of_rule(self, rule: RuleOn) -> Refusal | None:
        said = f"replication rule {rule.id} of {rule.account} ({rule.rse_expression}) on {rule.on}"
        # when it ends does not count: somebody may prolong it until it has ended
        if rule.locked:
            return Refusal("locked", f"{said} is locked")
        if rule.account not in self._accounts:
            return Refusal("foreign_rule", f"{said} is another account's ([transient] accounts names those that agree)")
        return None


def _of_our_own(facts: Facts) -> Iterator[Refusal]:
    """What muleteer itself has to do with the dataset."""
    if isinstance(facts.in_use, Unknown):
        yield unknown("whether it is read", facts.in_use)
    elif facts.in_use is not None:
        yield Refusal("read", facts.in_use)
    if isinstance(facts.makers, Unknown):
        yield unknown("which launches make it", facts.makers)
    else:
        yield from (Refusal("making", f"{said(maker)} makes it") for maker in facts.makers if not ended(maker))
    if isinstance(facts.rests, Unknown):
        yield unknown("what rests on it", facts.rests)
    elif facts.rests:
        yield Refusal("proof", f"it is what is left of {', '.join(facts.rests)}, which leaves")
    if len(facts.policies) > 1:
        names = ", ".join(sorted(facts.policies))
        yield Refusal("ambiguous", f"more than one policy matches it: {names}; make them exclude each other")


def exactly(did: Did) -> str:
    """The glob that fits this dataset alone."""
    return escape(str(did))


def alone(which: str) -> str | None:
    """The one `scope:name` that fits the glob, as `exactly` has written it; None: others may fit as well."""
    if _WILD.search(_ESCAPED.sub("", which)) is not None:
        return None
    return _ESCAPED.sub(r"\1", which)


def demand_glob(which: str) -> None:
    """Raises NotUnderstood unless it is `scope:name`, each a glob."""
    scope, colon, name = which.partition(":")
    if not (scope and colon and name):
        raise NotUnderstood(
            f"{which!r} does not say what stays: write scope:name, for example group.sphenix:*-00012345"
        )


_WILD: Final = re.compile(r"[*?[]")

#: One of these in brackets: it stands for itself.
_ESCAPED: Final = re.compile(r"\[([*?[])\]")


@lru_cache(maxsize=1 << 16)
def _glob(which: str) -> re.Pattern[str]:
    """A scope has no `:` in it, nor has a name: the whole of both can be one glob."""
    demand_glob(which)
    return re.compile(translate(which))
