"""Register what a finished launch made, and close its datasets; for engines that do not do it themselves."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from orchestrator.panda.port import Engine, Reference
from orchestrator.rucio.local import describe_file
from orchestrator.rucio.port import Catalog, CatalogError, DatasetState, DidExists, FileDiffers, FileEntry
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
        files = [_described(path, did) for path in self._engine.outputs(reference, step)]
        if self._catalog.dataset(did).state is DatasetState.OPEN:
            self._catalog.attach(did, files)
            self._catalog.close(did)
        there = self._catalog.files(did)
        self._demand_same(did, files, there)
        return len(there)

    def _demand_same(self, did: Did, made: Sequence[FileEntry], there: Sequence[FileEntry]) -> None:
        """Closed already is well only if it was closed by us: a crash between closing and noting it."""
        if {_content(file) for file in made} != {_content(file) for file in there}:
            raise FileDiffers(
                f"{did} is closed and holds other files than this launch made "
                f"({len(there)} there, {len(made)} made): erase it, or give the output another name"
            )


def _described(path: Path, did: Did) -> FileEntry:
    try:
        return describe_file(path, did.scope)
    except OSError as error:
        raise CatalogError(f"{path} cannot be read: {error.strerror}") from None


def _content(file: FileEntry) -> tuple[Did, int, str]:
    return file.did, file.bytes, file.adler32
