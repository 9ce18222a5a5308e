"""Holds what is left of a dataset that is leaving: the catalog takes no copy that a replication rule is over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import structlog

from orchestrator.rucio.port import Catalog, DidNotFound, NotPermitted, RuleLocked
from orchestrator.transient.settling import Settler
from schemas.did import Did
from schemas.transient import Transient

log = structlog.get_logger()

#: Rules that are made between two questions whether to go on.
_AT_ONCE: Final = 1000


class Holder:
    """Makes rules of ours without an end. What is marked already may be deleted until it is held, and no longer."""

    def __init__(self, catalog: Catalog, settler: Settler) -> None:
        self._catalog = catalog
        self._settler = settler

    def hold(self, transient: Transient, rse: str, *, there: bool, each: bool, before: Callable[[], object]) -> None:
        """Hold every copy at the RSE that is there still. May be called twice.

        With a rule on the dataset only if every file has its copy there: the catalog makes those that there are not.
        Else on each file; so too if a rule of ours on the dataset ends, and our account may not change rules.
        A rule on the dataset goes with it, one on a file does not.

        Args:
            there: the catalog has the dataset still, in this life of it; else only its files can be held.
            each: on each file in any case: whoever erases datasets may have this one in hand already.
            before: is called before each page of rules, and raises if no more are to be made.

        Raises:
            CatalogError: it is not held, or only in part. All was tried, unless the catalog is away.
        """
        files = [file.did for file in self._catalog.files(transient.did)] if there else []
        copies = self._catalog.replicas([transient.did], rse, readable=False) if there else {}
        have = [did for did in files if copies.get(did)]
        listed = [copy.did for page in self._settler.left(transient, rse) for _, copy in page]
        inside = set(files)
        beside = [did for did in listed if did not in inside]  # it was taken out, or the dataset is there no more
        before()
        whole = bool(files) and len(have) == len(files) and self._hold_whole(transient.did, rse)
        self._hold_each(beside if whole and not each else [*have, *beside], rse, before)

    def _hold_whole(self, did: Did, rse: str) -> bool:
        """False: there is a rule of ours on it that ends, and may not be changed."""
        try:
            with suppress(RuleLocked):  # so it does not end
                self._catalog.add_rule(did, rse)
        except NotPermitted as error:
            log.warning("transient.not_held_whole", did=str(did), rse=rse, reason=str(error), next="file by file")
            return False
        return True

    def _hold_each(self, files: Sequence[Did], rse: str, before: Callable[[], object]) -> None:
        refused: NotPermitted | None = None
        for number, did in enumerate(files, 1):
            try:
                with suppress(RuleLocked, DidNotFound):  # it is held; it was deleted just now
                    self._catalog.add_rule(did, rse)
            except NotPermitted as error:
                refused = error
            if number % _AT_ONCE == 0:
                before()
        if refused is not None:
            raise refused
