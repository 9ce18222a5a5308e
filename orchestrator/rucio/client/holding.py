"""What a Rucio server has above DIDs, and which replication rules hold their copies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final

from rucio.common.exception import DuplicateRule, ReplicaIsLocked, ReplicaNotFound, RucioException, RuleNotFound

from orchestrator.rucio.client.ahead import asked_ahead, pool_of
from orchestrator.rucio.client.calls import Calls
from orchestrator.rucio.client.reading import Reading
from orchestrator.rucio.client.rows import chunks, readable, rule_of, seconds, wire
from orchestrator.rucio.client.rses import Rses
from orchestrator.rucio.client.session import Client
from orchestrator.rucio.port import CatalogError, CatalogUnavailable, DidNotFound, ReplicationRule, RuleLocked
from schemas.did import Did

#: Copies that are marked with one request: the server takes them one by one.
_MARKED: Final = 250
#: DIDs that one thread asks about before it gives what it has.
_BATCH: Final = 20

_WHICH = re.compile(r"Replica (\S+?):(\S+) on RSE ")


class Holding:
    """Rules and what is marked for deletion. Threads may share it. Raises CatalogError, as the port says."""

    def __init__(self, calls: Calls, reading: Reading, rses: Rses, account: str) -> None:
        self._calls = calls
        self._reading = reading
        self._rses = rses
        self._account = account

    def rules(self, dids: Iterable[Did]) -> dict[Did, Sequence[ReplicationRule]]:
        there = list(self._reading.rows(dids))
        with pool_of("rules") as pool:
            found = asked_ahead(pool, self._rules_on_some, chunks(there, _BATCH))
            return {did: rules for did, rules in found if rules is not None}

    def _rules_on_some(self, dids: Iterable[Did]) -> list[tuple[Did, Sequence[ReplicationRule] | None]]:
        return [(did, self._rules_on(did)) for did in dids]

    def _rules_on(self, did: Did) -> Sequence[ReplicationRule] | None:
        """None if it was erased meanwhile."""
        try:
            rows = self._calls.ask(f"rules on {did}", lambda client: list(client.list_did_rules(*did)))
        except DidNotFound:
            return None
        return readable(lambda: [rule_of(row) for row in rows])

    def add_rule(self, did: Did, rse: str, lifetime: timedelta | None) -> None:
        """Copies that leave with it leave at once: without that a server keeps them until it needs the room."""
        place = self._rses.get(rse)
        ours = self._ours(did, place.name)
        options = {"lifetime": seconds(lifetime), "purge_replicas": lifetime is not None}
        if ours is None:
            add = partial(_add_rule, did=did, rse=place.name, account=self._account, options=options)
            if self._calls.ask(f"a rule on {did} at {place.name}", add):
                return
            ours = self._ours(did, place.name)  # somebody was quicker, or a try of ours that was not answered
        if ours is not None and not ours.locked and lifetime is None and ours.expires_at is None:
            return  # to change a rule takes an admin, to have one does not
        if ours is None or not self._end(ours, options):
            raise CatalogUnavailable(f"a rule on {did} at {place.name} ended while it was to be changed: try again")

    def _ours(self, did: Did, rse: str) -> ReplicationRule | None:
        """Raises DidNotFound."""
        rules = self.rules([did]).get(did)
        if rules is None:
            raise DidNotFound(f"there is no {did}: it was never made, or it was erased")
        wanted = (self._account, rse, 1)
        return next((each for each in rules if (each.account, each.rse_expression, each.copies) == wanted), None)

    def set_rule_lifetime(self, rule_id: str, lifetime: timedelta | None) -> None:
        row = self._calls.ask(f"rule {rule_id}", partial(_rule, rule_id=rule_id))
        if row is not None and self._end(readable(lambda: rule_of(row)), {"lifetime": seconds(lifetime)}):
            return
        if lifetime is None:
            raise CatalogError(f"there is no replication rule {rule_id}: it has ended")

    def _end(self, rule: ReplicationRule, options: dict[str, Any]) -> bool:
        """Whether there is such a rule. The server would change one that is locked, and then never end it."""
        if rule.locked:
            raise RuleLocked(f"rule {rule.id} on {rule.did} is locked: whoever locked it ({rule.account}) unlocks it")
        what = f"rule {rule.id} on {rule.did}"
        return self._calls.ask(what, partial(_update_rule, rule_id=rule.id, options=options))

    def set_tombstones(self, files: Iterable[Did], rse: str) -> list[Did]:
        place = self._rses.get(rse)
        held: list[Did] = []
        for chunk in chunks(dict.fromkeys(files)):
            rows = self._reading.rows(chunk)
            # of a dataset the server would tell the copies of all its files
            known = [did for did in chunk if did in rows and rows[did]["did_type"] == "FILE"]
            there = self._reading.copies_at(known, place.name)
            for some in chunks((did for did in known if did in there), _MARKED):
                mark = partial(mark_copies, dids=some, rse=place.name)
                held += self._calls.ask(f"copies of {some[0]} and others at {place.name}", mark)
        return held


def _rule(client: Client, rule_id: str) -> dict[str, Any] | None:
    try:
        row: dict[str, Any] = client.get_replication_rule(rule_id)
    except RuleNotFound:
        return None
    return row


def _add_rule(client: Client, did: Did, rse: str, account: str, options: dict[str, Any]) -> bool:
    """Whether there was none like it.

    Also where nothing may be written just now: copies that are there can be held there.
    """
    try:
        client.add_replication_rule([wire(did)], 1, rse, account=account, ignore_availability=True, **options)
    except DuplicateRule:
        return False
    return True


def _update_rule(client: Client, rule_id: str, options: dict[str, Any]) -> bool:
    """Whether there is such a rule."""
    try:
        client.update_replication_rule(rule_id, options)
    except RuleNotFound:
        return False
    return True


def mark_copies(client: Client, dids: Sequence[Did], rse: str) -> list[Did]:
    """Those that a rule holds. The server stops at the first of them, and what went before stays marked."""
    held: list[Did] = []
    rest = list(dids)
    while rest:
        try:
            client.set_tombstone([{**wire(did), "rse": rse} for did in rest])
            break
        except (ReplicaIsLocked, ReplicaNotFound) as error:
            at = _named(rest, error)
            if at is None:  # it does not say which: then one after the other
                return held + [did for did in rest if _is_held(client, did, rse)]
            held += [rest[at]] if isinstance(error, ReplicaIsLocked) else []
            rest = rest[at + 1 :]
    return held


def _is_held(client: Client, did: Did, rse: str) -> bool:
    try:
        client.set_tombstone([{**wire(did), "rse": rse}])
    except ReplicaIsLocked:
        return True
    except ReplicaNotFound:
        pass
    return False


def _named(dids: Sequence[Did], error: RucioException) -> int | None:
    """Which of them the server speaks of."""
    found = _WHICH.search(str(error))
    did = Did(found[1], found[2]) if found else None
    return dids.index(did) if did in dids else None
