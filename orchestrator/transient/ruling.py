"""What holds the copies of a dataset: replication rules, on it and above."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from orchestrator.core.transient.facts import RuleOn
from orchestrator.core.transient.lasting import Places
from orchestrator.rucio.port import Catalog, CatalogError, DidNotFound, Replica, RseNotFound
from schemas.did import Did

#: How deep containers may be nested; a catalog that has lost its senses could nest them for ever.
_DEEPEST: Final = 20


class Ruling:
    """Asks the catalog. Nothing is changed. Each method may raise CatalogError."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def on(self, did: Did) -> list[RuleOn]:
        """The replication rules on it, and on every container that it is in.

        It takes a request for each level above, one for each place, and one for each RSE expression.
        """
        places = [did, *self.above(did)]
        found = self._catalog.rules(places)
        fitting = dict[str, frozenset[str] | None]()
        rules = list[RuleOn]()
        for place in places:
            if place not in found:
                raise DidNotFound(f"{place} vanished while its replication rules were asked for")
            for rule in found[place]:
                expression = rule.rse_expression
                if expression not in fitting:
                    fitting[expression] = self._fitting(did, expression)
                rules.append(
                    RuleOn(rule.id, place, rule.account, expression, rule.locked, rule.expires_at, fitting[expression])
                )
        return rules

    def above(self, did: Did) -> Sequence[Did]:
        """Every container that it is in, however far above."""
        found, level = dict[Did, None](), [did]
        for _ in range(_DEEPEST):
            parents = self._catalog.parents(level)
            level = [each for below in level for each in parents.get(below, ()) if each not in found]
            found.update(dict.fromkeys(level))
            if not level:
                return list(found)
        raise CatalogError(f"{did} is in containers that are nested more than {_DEEPEST} deep")

    def _fitting(self, did: Did, expression: str) -> frozenset[str] | None:
        """The RSEs of its copies that an expression fits; None if it cannot be told."""
        try:
            copies = self._catalog.replicas([did], expression, readable=False)
        except RseNotFound:
            return None
        return frozenset(copy.rse for each in copies.values() for copy in each)

    def places(self, did: Did, expression: str) -> Places:
        """At which RSEs that the expression fits the files of a dataset have copies that can be read."""
        return placed(self._catalog.replicas([did], expression).values())


def placed(copies: Iterable[Sequence[Replica]]) -> Places:
    """The copies of some files, by the RSEs where each file has them."""
    return Counter(frozenset(copy.rse for copy in each) for each in copies)
