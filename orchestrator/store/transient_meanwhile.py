"""What has come up about datasets since they were proved, and keeps them from being released, or from leaving."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from orchestrator.core.transient.protection import Guard
from orchestrator.store.transient_keeps import keeps_on
from orchestrator.store.transient_readers import in_use
from orchestrator.store.transient_versions import against_version
from schemas.did import Did


class Proved(NamedTuple):
    """A dataset that was proved, and under which version of its policy."""

    did: Did
    policy: str
    version: int
    extended_until: datetime | None


def come_up(connection: Connection, proved: Sequence[Proved], now: datetime) -> dict[Did, str]:
    """Why these may not go on, in words: the first thing that was found. It holds to the end of the transaction."""
    dids = [each.did for each in proved]
    versions = sorted({(each.policy, each.version) for each in proved})
    against = {version: against_version(connection, *version) for version in versions}
    guard, used = Guard(keeps=keeps_on(connection, dids, now), of=dids), in_use(connection, dids)
    found: dict[Did, str] = {}
    for did, policy, version, until in proved:
        stays = f"it is to stay until {until:%Y-%m-%d %H:%M} UTC" if until is not None and until > now else None
        why = stays or against[policy, version] or next(guard.kept(did, now), None) or used.get(did)
        if why is not None:
            found[did] = why
    return found
