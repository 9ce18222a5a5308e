"""What the window asks of those who let transient datasets leave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from schemas.transient import Plan, PolicyVersion, Transient, TransientId


class TransientDesk(Protocol):
    """Every method may raise CatalogError, StoreError, and ValueError: what must stay cannot be understood."""

    def plan(self, *, who: str, only: Sequence[str] | None = None, most: int | None = None) -> Plan:
        """What could be released now. Nothing is changed. Raises NotAllowed: there is no such policy."""

    def release(self, plan: Plan, *, who: str, why: str) -> list[Transient]:
        """Carry out a plan: all of it, or nothing. Raises NotAllowed, with all that is not as it was planned."""

    def confirm(self, name: str, matches: int, *, who: str, why: str) -> PolicyVersion:
        """Confirm that a policy may match so many datasets. Raises NotFound; NotAllowed: it matches another number."""

    def recall(self, id_: TransientId, *, who: str, why: str) -> Transient:
        """Call back what is leaving, as far as it is there still. Raises NotFound, NotAllowed."""
