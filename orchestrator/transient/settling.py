"""How a dataset stands that is leaving: what of it is still there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from orchestrator.rucio.port import Catalog, DidNotFound, Replica, RuleLocked
from orchestrator.store.transient_copies import GONE
from orchestrator.store.transients import Transients
from orchestrator.transient.witness import Sight, Witness
from schemas.did import Did
from schemas.transient import Copy, Transient, TransientId

#: Copies that are asked about with one call.
AT_ONCE: Final = 1000

#: Things that are named.
_TOLD: Final = 3

#: Why copies stay that were to leave.
TAKEN_OUT: Final = "somebody has taken the file out of the dataset"
ERASED: Final = "the dataset, which was to stay with other copies, was erased by other hands"


@dataclass
class Remains:
    """The copies whose fate is not settled, by RSE, and what was found beside them."""

    left: Counter[str] = field(default_factory=Counter)
    on_disk: Counter[str] = field(default_factory=Counter)
    #: Paths of a few.
    seen: dict[str, list[str]] = field(default_factory=dict)
    #: Files that something else has too, in words.
    shared: list[str] = field(default_factory=list)
    #: All files of which a copy was to leave.
    listed: set[Did] = field(default_factory=set)
    #: The copies that the catalog has still.
    copies: list[Copy] = field(default_factory=list)

    def note_seen(self, copy: Copy, path: str) -> None:
        self.on_disk[copy.rse] += 1
        seen = self.seen.setdefault(copy.rse, [])
        if len(seen) < _TOLD:
            seen.append(path)


@dataclass
class _Saved:
    """What was saved of one dataset since it began to leave, and since a call was made that lets it leave."""

    since: tuple[datetime | None, int]
    copies: set[tuple[Did, str]] = field(default_factory=set)


class Settler:
    """Goes through the copies that were to leave, and settles the fate of those that have left.

    In the catalog only one thing is done: a copy that may be marked, and that must not go now, is saved.
    """

    def __init__(self, catalog: Catalog, transients: Transients, witness: Witness) -> None:
        self._catalog = catalog
        self._transients = transients
        self._witness = witness
        #: Copies that were saved, so that it is done once; after a restart it is done again.
        self._saved: dict[TransientId, _Saved] = {}

    def remains(self, transient: Transient, *, there: bool) -> Remains:
        """What is still there. `there`: the dataset is, in this life of it. Raises CatalogError."""
        remains = Remains()
        for page in self.pages(transient.id):
            remains.listed.update(copy.did for _, copy in page)
            open_ = [(number, copy) for number, copy in page if copy.fate is None]
            if open_:
                self._settle(transient, open_, remains, there)
        return remains

    def left(self, transient: Transient, rse: str) -> Iterator[Sequence[tuple[int, Copy]]]:
        """The copies that the catalog has still at one RSE, some at a time, asked for just now. Raises CatalogError."""
        for page in self.pages(transient.id):
            wanted = [(number, copy) for number, copy in page if copy.fate is None and copy.rse == rse]
            if wanted:
                there = self._catalog.replicas([copy.did for _, copy in wanted], readable=False)
                yield [(number, copy) for number, copy in wanted if _there(there, copy) is not None]

    def save(self, transient: Transient, copy: Copy) -> None:
        """It may be marked already: a rule on the file takes the mark off, and stays."""
        saved = self._saved.get(transient.id)
        since = (transient.leaving_at, transient.went_on)
        if saved is None or saved.since != since:  # what was saved before may be marked anew
            saved = self._saved[transient.id] = _Saved(since)
        if (copy.did, copy.rse) in saved.copies:
            return
        with suppress(RuleLocked, DidNotFound):  # held by a locked one of ours, or deleted just now
            self._catalog.add_rule(copy.did, copy.rse)
        saved.copies.add((copy.did, copy.rse))

    def forget(self, id_: TransientId) -> None:
        """It has left, or is called back."""
        self._saved.pop(id_, None)

    def pages(self, id_: TransientId) -> Iterator[Sequence[tuple[int, Copy]]]:
        """All copies that were to leave, with their numbers."""
        after = -1
        while page := self._transients.copies(id_, after=after, limit=AT_ONCE):
            yield page
            after = page[-1][0]

    def _settle(self, transient: Transient, copies: Sequence[tuple[int, Copy]], remains: Remains, there: bool) -> None:
        replicas = self._catalog.replicas([copy.did for _, copy in copies], readable=False)
        still = [(number, copy, at) for number, copy in copies if (at := _there(replicas, copy)) is not None]
        fates = dict[int, str]()
        for number, copy in copies:
            if _there(replicas, copy) is not None:
                continue
            if (path := self._lies(copy.pfn)) is not None:
                remains.note_seen(copy, path)
            else:
                fates[number] = GONE
        for copy in self._sorted_out(transient, still, remains, fates, there):
            remains.left[copy.rse] += 1
            remains.copies.append(copy)
        if fates:
            self._transients.settle_copies(transient.id, fates)

    def _sorted_out(
        self,
        transient: Transient,
        still: Sequence[tuple[int, Copy, Replica]],
        remains: Remains,
        fates: dict[int, str],
        there: bool,
    ) -> Iterator[Copy]:
        """Those that are to leave still. A file that others have now stays with its copies, and these are saved."""
        dids = list(dict.fromkeys(copy.did for _, copy, _ in still))
        parents = self._catalog.parents(dids) if dids else {}
        known = self._catalog.metadata(dids) if dids else {}
        taken_out = self._taken_out(transient, parents) if there else frozenset[Did]()
        for number, copy, at in still:
            others = [did for did in parents.get(copy.did, ()) if not there or did != transient.did]
            if (anew := _anew(copy, at, known.get(copy.did, {}).get("created_at"), transient.leaving_at)) is not None:
                fates[number] = f"stays: {anew}"
                continue
            if others or copy.did in taken_out:
                self.save(transient, copy)  # others have the file, or are about to
            if copy.did in taken_out and not others:
                fates[number] = f"stays: {TAKEN_OUT}"
                continue
            if not there and transient.release is not None and transient.release.keeps is not None:
                fates[number] = f"stays: {ERASED}"
                continue
            if others and not there:
                fates[number] = f"stays: it is in {others[0]} now"
                continue
            if others:
                # as long as the dataset is there it is for a person to say: nothing more is done meanwhile
                remains.shared += [f"{copy.did.name} is in {others[0]} too"][: _TOLD - len(remains.shared)]
            yield copy

    def _taken_out(self, transient: Transient, parents: Mapping[Did, Sequence[Did]]) -> Collection[Did]:
        """Files that are in nothing any more, while the dataset is there still: it is asked for after `parents`."""
        alone = {did for did, above in parents.items() if not above}
        try:
            there = not alone or self._catalog.dataset(transient.did).created_at == transient.born_at
        except DidNotFound:
            there = False
        return alone if there else frozenset()

    def _lies(self, pfn: str) -> str | None:
        """Where a file is seen that should be gone, or cannot be looked at; None if nothing is seen."""
        match self._witness.sees(pfn):
            case Sight.THERE:
                return self._witness.where(pfn)
            case Sight.UNSEEN:
                return f"{self._witness.where(pfn)} (its disk cannot be looked at: {self._witness.why_unseen(pfn)})"
            case Sight.GONE | Sight.ELSEWHERE:
                return None


def _there(replicas: Mapping[Did, Sequence[Replica]], copy: Copy) -> Replica | None:
    """The copy, as the catalog has it still. The address may be told otherwise: the RSE has got another protocol."""
    return next((each for each in replicas.get(copy.did, ()) if each.rse == copy.rse), None)


def _anew(copy: Copy, at: Replica, made_at: object, leaving_at: datetime | None) -> str | None:
    """Why it is another copy than the one that was to leave, in words."""
    if made_later(made_at, leaving_at):
        return "a file of this name was registered anew"
    if not isinstance(made_at, datetime) and copy.pfn and at.pfn and at.pfn != copy.pfn:
        # a catalog that does not tell when a file was made keeps addresses as they were registered
        return "it was registered anew at another place"
    return None


def made_later(made_at: object, leaving_at: datetime | None) -> bool:
    """Whether a file was registered after the dataset began to leave.

    The embedded catalog does not tell of files that it had before it kept that.
    """
    return isinstance(made_at, datetime) and leaving_at is not None and made_at > leaving_at + _CLOCKS


#: So far the catalog's clock may be off.
_CLOCKS: Final = timedelta(seconds=5)
