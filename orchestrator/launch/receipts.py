"""What was sent, read back from the store; and what came of sending it, written down."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from orchestrator.core.commanding import Hold
from orchestrator.panda.port import PackedFile, Receipt, Reference, Tracked
from orchestrator.store.launch_commands import LaunchCommands
from orchestrator.store.launches import Launches
from schemas.launch import Launch, LaunchId, SubmissionRecord


def sent_of(launches: Launches, id_: LaunchId) -> dict[str, PackedFile]:
    """The package of a launch as the engine takes it; empty if none was kept. Raises StoreError."""
    return {path: PackedFile(file.content, file.executable) for path, file in launches.package(id_).items()}


def tracked(launches: Launches, launch: Launch, commands: LaunchCommands | None = None) -> Tracked:
    """A launch that an engine has, as it is asked about; with `commands`, so that it may begin further steps."""
    return Tracked(
        name=launch.name,
        reference=Reference(launch.reference or ""),
        steps=launch.steps,
        submitted_at=launch.submitted_at or launch.created_at,
        package=partial(sent_of, launches, launch.id),
        hold=Hold if commands is None else partial(commands.hold, launch.id),
    )


class Tries:
    """Writes down every try at handing something over, whatever came of it."""

    def __init__(self, launches: Launches) -> None:
        self._launches = launches

    def note(self, id_: LaunchId, *receipts: Receipt | None) -> Sequence[SubmissionRecord]:
        """One row for each receipt. An engine that can say nothing gives none."""
        return [self._launches.note_try(_record(id_, receipt)) for receipt in receipts if receipt is not None]


def _record(id_: LaunchId, receipt: Receipt) -> SubmissionRecord:
    return SubmissionRecord(
        launch_id=id_,
        number=1,
        step=receipt.step,
        command=receipt.command,
        client=receipt.client,
        started_at=receipt.started_at,
        ended_at=receipt.ended_at,
        exit_code=receipt.exit_code,
        output=receipt.output,
        answer=receipt.answer,
        verdict=receipt.verdict,
    )
