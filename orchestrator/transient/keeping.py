"""Keeps what is left of a dataset that is leaving, while something speaks against its leaving."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

import structlog

from orchestrator.core.transient.calls import GiveLife, Hold, KeepAlive, Keeping
from orchestrator.rucio.port import Catalog, CatalogError, CatalogUnavailable
from orchestrator.transient.holding import Holder
from orchestrator.transient.memory import Memory
from schemas.transient import Transient

log = structlog.get_logger()


class Keeper:
    """Each call may be made twice. Whatever speaks against going on does not speak against these."""

    def __init__(
        self,
        catalog: Catalog,
        holder: Holder,
        *,
        memory: Memory,
        is_here: Callable[[Transient], bool],
        before: Callable[[Transient], None],
    ) -> None:
        """`is_here`: the catalog has the dataset, in this life of it. `before` raises if another one works on it."""
        self._catalog = catalog
        self._holder = holder
        self._memory = memory
        self._is_here = is_here
        self._before = before

    def make(self, call: Keeping, transient: Transient) -> str | None:
        """Returns what the catalog refuses, in words: that keeps no other call from being made.

        Raises:
            CatalogUnavailable; whatever `before` raises.
        """
        self._before(transient)
        try:
            self._make(call, transient)
        except CatalogUnavailable:
            raise
        except CatalogError as error:
            why = " ".join(str(error).split())
            log.warning("transient.not_kept", transient=transient.id, did=str(transient.did), call=call, reason=why)
            return _refused(call, why)
        return None

    def _make(self, call: Keeping, transient: Transient) -> None:
        there = self._is_here(transient)
        match call:
            case KeepAlive():
                if there:
                    self._catalog.set_lifetime(transient.did, None)
                    log.warning("transient.kept_alive", transient=transient.id, did=str(transient.did))
            case GiveLife(id_):
                self._catalog.set_rule_lifetime(id_, None)
                log.warning("transient.given_life", transient=transient.id, did=str(transient.did), rule=id_)
            case Hold(rse, each):
                self._holder.hold(transient, rse, there=there, each=each, before=lambda: self._before(transient))
                self._memory.secured[transient.id, rse] = (transient.went_on, there)
                self._memory.held.pop((transient.id, rse), None)  # it may be us who hold it now
                log.warning("transient.held_back", transient=transient.id, did=str(transient.did), rse=rse)
            case _:
                assert_never(call)


def _refused(call: Keeping, why: str) -> str | None:
    match call:
        case KeepAlive():
            return f"the catalog may erase it: {why}"
        case GiveLife():
            return None  # it is held all the same, or it is said that it is not
        case Hold(rse):
            return f"not held at {rse}: {why}"
        case _:
            assert_never(call)
