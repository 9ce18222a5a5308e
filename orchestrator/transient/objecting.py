"""What speaks against going on with a dataset that is leaving: whatever has come up since it began to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final

from orchestrator.clock import Clock
from orchestrator.core.gates import EVERYTHING, Subject
from orchestrator.core.transient.facts import Entry, RuleOn, Some
from orchestrator.core.transient.lasting import ends_with, going, only
from orchestrator.core.transient.protection import Guard
from orchestrator.core.transient.words import ended, said
from orchestrator.rucio.port import Catalog
from orchestrator.store.store import Store
from orchestrator.store.transient_recalling import RECALLED
from orchestrator.transient.asking import Asker
from orchestrator.transient.looking import Findings
from orchestrator.transient.resting import Resting
from orchestrator.transient.ruling import Ruling
from orchestrator.transient.settling import ERASED, TAKEN_OUT, Remains, made_later
from orchestrator.transient.sighting import Sighting
from schemas.did import Did
from schemas.gate import Kind
from schemas.transient import Release, Transient, TransientState

#: Files that are named.
_TOLD: Final = 3

#: What nobody may go on against.
_STOPS: Final = frozenset({EVERYTHING, Subject(Kind.TRANSIENT)})


class Objector:
    """Looks afresh each time. Nothing is changed."""

    def __init__(
        self,
        catalog: Catalog,
        store: Store,
        *,
        asker: Asker,
        findings: Findings,
        sighting: Sighting,
        guard: Callable[[Collection[Did]], Guard],
        clock: Clock,
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._asker = asker
        self._ruling = Ruling(catalog)
        self._resting = Resting(catalog, store, asker=asker, findings=findings, sighting=sighting, ruling=self._ruling)
        self._guard = guard
        self._clock = clock

    def all(
        self, transient: Transient, entry: Entry | None, rules: Sequence[RuleOn], remains: Remains
    ) -> Iterator[str]:
        """All else that can be said against it, beside what `at_once` tells. Raises CatalogError, ValueError.

        Args:
            entry: None if the dataset is there no more, in this life of it.
        """
        release = transient.release
        assert release is not None
        yield from (refusal.text for refusal in self._guard([]).rules(rules))
        if remains.shared:
            yield f"files of it are in something else: {', '.join(remains.shared)}"
        kept = self._resting.kept_at(release, sorted({copy.did for copy in remains.copies}))
        if without := [did.name for did, rses in kept.items() if not rses]:
            named = Some(len(without), without[:_TOLD])
            yield f"files have no copy at {release.keeps} that can be read: {named}"
        yield from (f"at {release.keeps} {each}" for each in going(rules, Counter(kept.values())))
        if entry is not None:
            yield from self._of_content(release, entry, remains.listed)
        yield from self._resting.successor(release, remains)

    def just_before(self, transient: Transient) -> Iterator[str]:
        """What can be asked again before each call that cannot be undone. One request. Raises CatalogError."""
        assert transient.release is not None
        yield from self.at_once(transient)
        yield from self._resting.successor_at_once(transient.release)

    def before_it_is_let_go(self, transient: Transient, entry: Entry, listed: Collection[Did]) -> Iterator[str]:
        """What has come up since it was looked at and would go with the dataset: rules, and files put into it.

        It takes a request for its files, and those of `Ruling.on`. Raises CatalogError.

        Args:
            listed: the files of which a copy was to leave.
        """
        assert transient.release is not None
        yield from self.of_rules(transient)
        yield from self._of_content(transient.release, entry, listed)

    def of_rules(self, transient: Transient) -> Iterator[str]:
        """The replication rules on it and above that keep it. Raises CatalogError."""
        yield from (refusal.text for refusal in self._guard([]).rules(self._ruling.on(transient.did)))

    def at_once(self, transient: Transient) -> Iterator[str]:
        """What can be told without the catalog: a stop, what people keep, what our own work needs."""
        did, now = transient.did, self._clock()
        for each in self._store.suspensions.all():
            if Subject(each.kind, each.name) in _STOPS:
                yield f"{Subject(each.kind, each.name).words} stands still: {each.reason}"
        fresh = self._store.transients.get(transient.id)
        if fresh.state is not TransientState.LEAVING:
            yield f"it is {fresh.state} by now"
        yield from (each.text for each in fresh.refusals if each.check == RECALLED)
        if fresh.extended_until is not None and fresh.extended_until > now:
            yield f"it is to stay until {fresh.extended_until:%Y-%m-%d %H:%M} UTC"
        yield from self._guard([did]).kept(did, now)
        readers = self._store.transient_readers
        if (use := readers.in_use([did]).get(did)) is not None:
            yield use
        yield from (f"{said(maker)} makes it" for maker in readers.makers([did]).get(did, ()) if not ended(maker))
        if rests := self._store.transients.resting_on([did]).get(did):
            yield f"it is what is left of {', '.join(rests)}"

    def against(self, transient: Transient, files: Sequence[Did]) -> Mapping[Did, str]:
        """Why copies of these files must not be let go of now, by file; empty if they may. Raises CatalogError.

        It is asked just before that is done: what was found when it was last looked at may be some time ago. A thousand
        files take some four requests, and where copies are to stay those of `Ruling.on` more.
        """
        found = dict[Did, str]()
        for did, known in self._catalog.metadata(files).items():
            if made_later(known.get("created_at"), transient.leaving_at):
                found[did] = "it was registered anew"
        parents = self._catalog.parents(files)
        # after that: if it is there still, in this life, then it was so when it was told what each file is in
        entry = self._asker.entry(transient.did)
        own = transient.did if entry is not None and entry.born_at == transient.born_at else None
        for did, above in parents.items():
            if others := [other for other in above if other != own]:
                found[did] = f"it is in {others[0]} too"
            elif own is not None and not above:
                found[did] = TAKEN_OUT
        return found | self._not_kept(transient, files, there=own is not None)

    def _not_kept(self, transient: Transient, files: Sequence[Did], *, there: bool) -> dict[Did, str]:
        """Of files whose copies are to stay somewhere: why nothing would be left of them, or not for long."""
        release = transient.release
        assert release is not None
        if release.keeps is None:
            return {}
        if not there:
            return dict.fromkeys(files, ERASED)
        rules, found = self._ruling.on(transient.did), dict[Did, str]()
        for did, rses in self._resting.kept_at(release, files).items():
            if not rses:
                found[did] = f"it has no copy at {release.keeps} that can be read"
            elif (rule := ends_with(rules, rses)) is not None:
                found[did] = f"at {release.keeps} it has {only(rule)}"
        return found

    def _of_content(self, release: Release, entry: Entry, listed: Collection[Did]) -> Iterator[str]:
        if release.closed_at is not None and not entry.closed:
            yield "it was opened again"
        elif release.closed_at is not None and entry.closed_at != release.closed_at:
            yield "it was opened and closed again"
        files = self._catalog.files(entry.did)
        without = release.files - len(listed)  # files that had no copy in the first place
        new = [file.did.name for file in files if file.did not in listed]
        if len(new) > without:
            yield f"files were put into it since: {', '.join(new[:3])}"
