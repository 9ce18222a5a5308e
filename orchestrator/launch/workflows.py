"""Find workflows, and read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.core.documents import Document, DocumentError
from orchestrator.core.workflow import WorkflowError, check
from schemas.workflow import Workflow

FILE_NAME = "workflow.yaml"


@dataclass(frozen=True, slots=True)
class Definition:
    """A workflow, and the folder with its job scripts."""

    workflow: Workflow
    folder: Path


class Workflows:
    """The workflows in some folders; a name found in an earlier folder hides the same name in a later one."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders

    def get(self, name: str) -> Definition:
        """Read one, afresh each time: an edit counts from the next launch on.

        Raises:
            WorkflowError: it does not exist, or does not fit; each mistake with its file and line.
        """
        for folder in self._folders:
            path = folder / name / FILE_NAME
            if path.is_file():
                return _read(name, path)
        places = ", ".join(str(folder) for folder in self._folders)
        raise WorkflowError(
            f"there is no workflow {name!r} in {places}; there are: {', '.join(sorted(set(self.names()))) or 'none'}"
        )

    def names(self) -> Iterator[str]:
        for folder in self._folders:
            yield from (path.parent.name for path in folder.glob(f"*/{FILE_NAME}"))


def _read(name: str, path: Path) -> Definition:
    try:
        workflow = Document(path.read_text(encoding="utf-8"), str(path)).read(Workflow)
    except (OSError, UnicodeDecodeError) as error:
        raise WorkflowError(f"{path} cannot be read: {error}") from None
    except DocumentError as error:
        raise WorkflowError(str(error)) from None
    if workflow.name != name:
        raise WorkflowError(f"{path}: name: it is {workflow.name!r}, but its folder is {name!r}")
    for step in workflow.steps:
        program = step.command[0]
        if program.startswith("./") and not (path.parent / program).is_file():
            raise WorkflowError(f"{path}: step {step.name}: there is no file {path.parent / program}")
    check(workflow)
    return Definition(workflow, path.parent)
