"""Register what a finished launch made, and close its datasets; for engines that do not do it themselves."""

from __future__ import annotations

from contextlib import suppress

from orchestrator.panda.port import Engine, Reference
from orchestrator.rucio.local import describe_file
from orchestrator.rucio.port import Catalog, DatasetState, DidExists
from schemas.did import Did
from schemas.launch import Launch


class Outputs:
    """Brings outputs into the catalog. Doing it twice changes nothing."""

    def __init__(self, engine: Engine, catalog: Catalog) -> None:
        self._engine = engine
        self._catalog = catalog

    def hand_over(self, launch: Launch) -> str | None:
        """Register and close every output dataset. Returns in words what was done; None if there was nothing to do.

        Raises:
            CatalogError, EngineError: try again, or see to it; what was done stays done.
        """
        if self._engine.registers_outputs or not launch.outputs or launch.reference is None:
            return None
        said = []
        for dataset, step in launch.outputs.items():
            did = Did.parse(dataset)
            count = self._register(did, step, Reference(launch.reference))
            said.append(f"{did} closed with {count} files")
        return "; ".join(said)

    def _register(self, did: Did, step: str, reference: Reference) -> int:
        with suppress(DidExists):
            self._catalog.add_dataset(did)
        if self._catalog.dataset(did).state is DatasetState.OPEN:
            files = [describe_file(path, did.scope) for path in self._engine.outputs(reference, step)]
            self._catalog.attach(did, files)
            self._catalog.close(did)
        return self._catalog.dataset(did).length
