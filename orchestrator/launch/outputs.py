"""Register what a finished launch made, and close its datasets; for engines that do not do it themselves."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.core.actor import Done, GiveUp, Registering, RegisterRequest, Retry
from orchestrator.panda.port import Engine, Reference
from orchestrator.rucio.port import CatalogError, CatalogUnavailable
from schemas.did import Did
from schemas.launch import Launch


class Outputs:
    """Brings outputs into the catalog. Doing it twice changes nothing."""

    def __init__(self, engine: Engine, registering: Registering, stopping: Callable[[], bool] = lambda: False) -> None:
        """`stopping` is asked while files are read."""
        self._engine = engine
        self._registering = registering
        self._stopping = stopping

    def hand_over(self, launch: Launch) -> str | None:
        """Register and close every output dataset. Returns in words what was done; None if there was nothing to do.

        Raises:
            CatalogError, EngineError: try again, or see to it; what was done stays done.
        """
        if self._engine.registers_outputs or not launch.outputs or launch.reference is None:
            return None
        reference = Reference(launch.reference)
        return "; ".join(self._register(launch, did, step, reference) for did, step in launch.outputs.items())

    def _register(self, launch: Launch, did: str, step: str, reference: Reference) -> str:
        request = RegisterRequest(
            dataset=Did.parse(did),
            files=tuple(str(path) for path in self._engine.outputs(reference, step)),
            who="watcher",
            why=f"launch {launch.id} ({launch.name}) made it",
        )
        match self._registering.register(request, self._stopping):
            case Done(summary):
                return summary
            case Retry(reason) | GiveUp(reason):
                raise CatalogError(reason)
            case later:
                raise CatalogUnavailable(later.reason)
