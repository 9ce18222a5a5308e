"""Replication rules on the single files of a dataset that is leaving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestrator.core.transient.steps import ENDING
from orchestrator.rucio.port import Catalog, ReplicationRule, RseNotFound
from schemas.did import Did


@dataclass(frozen=True)
class OnFiles:
    """The rules that hold copies of some files at one RSE."""

    #: Made by us to hold the copy there, and not locked.
    ours: Sequence[ReplicationRule]
    #: Files that any other rule holds there.
    theirs: frozenset[Did]

    def lasting(self, now: datetime) -> list[ReplicationRule]:
        """Those of ours that do not end by themselves in a moment."""
        return [rule for rule in self.ours if rule.expires_at is None or rule.expires_at > now + ENDING]

    def ending(self) -> set[Did]:
        """Files with a rule of ours that ends."""
        return {rule.did for rule in self.ours if rule.expires_at is not None}


def rules_on(catalog: Catalog, files: Sequence[Did], rse: str) -> OnFiles:
    """Ask for them: of a Rucio server with one request for each file. Raises CatalogError."""
    rules = [rule for found in catalog.rules(files).values() for rule in found] if files else []
    ours = [rule for rule in rules if _made_by_us(rule, catalog.account, rse)]
    others = [rule for rule in rules if rule not in ours]
    fitting = {each: _fitting(catalog, files, each, rse) for each in {rule.rse_expression for rule in others}}
    return OnFiles(ours, frozenset(rule.did for rule in others if rule.did in fitting[rule.rse_expression]))


def _made_by_us(rule: ReplicationRule, account: str, rse: str) -> bool:
    return (rule.account, rule.rse_expression, rule.copies, rule.locked) == (account, rse, 1, False)


def _fitting(catalog: Catalog, files: Sequence[Did], expression: str, rse: str) -> set[Did]:
    """Files of which the expression fits the copy at the RSE. If that cannot be told, a rule may hold any of them."""
    try:
        copies = catalog.replicas(files, expression, readable=False)
    except RseNotFound:
        return set(files)
    return {did for did, found in copies.items() if any(copy.rse == rse for copy in found)}
