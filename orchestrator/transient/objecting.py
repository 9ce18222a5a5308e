"""What speaks against going on with a dataset that is leaving: whatever has come up since it began to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from orchestrator.clock import Clock
from orchestrator.core.gates import EVERYTHING, Subject
from orchestrator.core.transient.facts import Entry, RuleOn
from orchestrator.core.transient.protection import Guard
from orchestrator.core.transient.words import ended, said
from orchestrator.rucio.port import Catalog
from orchestrator.store.store import Store
from orchestrator.store.transient_recalling import RECALLED
from orchestrator.transient.asking import Asker
from orchestrator.transient.looking import Findings, contents_of
from orchestrator.transient.settling import AT_ONCE, Remains, made_later
from orchestrator.transient.sighting import Sighting
from schemas.did import Did
from schemas.gate import Kind
from schemas.transient import Release, Transient, TransientState

#: Where a successor stands on which nothing can rest.
_LEAVES: Final = frozenset({TransientState.RELEASED, TransientState.LEAVING, TransientState.GONE})

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
        guard: Callable[[], Guard],
        clock: Clock,
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._asker = asker
        self._findings = findings
        self._sighting = sighting
        self._guard = guard
        self._clock = clock

    def all(
        self, transient: Transient, entry: Entry | None, rules: Sequence[RuleOn], remains: Remains
    ) -> Iterator[str]:
        """All that can be said against it. Raises CatalogError, ValueError.

        Args:
            entry: None if the dataset is there no more, in this life of it.
        """
        release = transient.release
        assert release is not None
        yield from self.at_once(transient)
        yield from (refusal.text for refusal in self._guard().rules(rules))
        if remains.shared:
            yield f"files of it are in something else: {', '.join(remains.shared)}"
        if without := self._without_kept_copy(release, sorted({copy.did for copy in remains.copies})):
            more = f" and {len(without) - _TOLD:,} more" if len(without) > _TOLD else ""
            named = ", ".join(did.name for did in without[:_TOLD])
            yield f"files have no copy at {release.keeps} that can be read: {named}{more}"
        if entry is not None:
            yield from self._of_content(release, entry, remains)
        yield from self._of_successor(release, remains)

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
        yield from self._guard().kept(did, now)
        readers = self._store.transient_readers
        if (use := readers.in_use([did]).get(did)) is not None:
            yield use
        yield from (f"{said(maker)} makes it" for maker in readers.makers([did]).get(did, ()) if not ended(maker))
        if rests := self._store.transients.resting_on([did]).get(did):
            yield f"it is what is left of {', '.join(rests)}"

    def against(self, transient: Transient, files: Sequence[Did]) -> Mapping[Did, str]:
        """Why copies of these files must not be let go of now, by file; empty if they may. Raises CatalogError.

        It is asked just before that is done: what was found when it was last looked at may be some time ago.
        """
        assert transient.release is not None
        lack = self._without_kept_copy(transient.release, files)
        found = {did: f"it has no copy at {transient.release.keeps} that can be read" for did in lack}
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
        return found

    def _without_kept_copy(self, release: Release, files: Sequence[Did]) -> list[Did]:
        """Files without a copy that can be read where copies are to stay."""
        if release.keeps is None:
            return []
        lack: list[Did] = []
        for start in range(0, len(files), AT_ONCE):
            page = files[start : start + AT_ONCE]
            copies = self._catalog.replicas(page, release.keeps)
            lack += [did for did in page if not copies.get(did)]
        return lack

    def _of_content(self, release: Release, entry: Entry, remains: Remains) -> Iterator[str]:
        if release.closed_at is not None and not entry.closed:
            yield "it was opened again"
        elif release.closed_at is not None and entry.closed_at != release.closed_at:
            yield "it was opened and closed again"
        files = self._catalog.files(entry.did)
        without = release.files - len(remains.listed)  # files that had no copy in the first place
        new = [file.did.name for file in files if file.did not in remains.listed]
        if len(new) > without:
            yield f"files were put into it since: {', '.join(new[:3])}"

    def _of_successor(self, release: Release, remains: Remains) -> Iterator[str]:
        did = Did.parse(release.successor)
        entry = self._asker.entry(did)
        if entry is None or entry.born_at != release.successor_born_at:
            yield f"its successor {did} is gone"
            return
        if not entry.closed or entry.closed_at != release.successor_closed_at:
            yield f"its successor {did} was opened since"
        if entry.expires_at is not None:
            yield f"its successor {did} is to be erased itself"
        if contents_of(self._catalog.files(did)).digest != release.successor_content:
            yield f"its successor {did} has other files since"
        lives = self._store.transients.lives([did]).get(did, ())
        if state := next(
            (each.state for each in lives if each.born_at == entry.born_at and each.state in _LEAVES), None
        ):
            yield f"its successor {did} is {state} itself"
        newest = max(
            self._store.transient_readers.makers([did]).get(did, ()), key=lambda each: each.launch, default=None
        )
        if newest is not None and not ended(newest):
            yield f"{said(newest)} makes its successor {did}"
        policy = self._store.transient_policies.version(release.policy, release.version).policy
        for finding in self._findings(did, policy.successor.require):
            yield f"its successor is not complete: {finding.file or finding.did}: {finding.text}"
            return
        if (same := self._sighting.beside(remains.copies, did).same).count:
            yield f"its successor lies on the same files: {same}"
