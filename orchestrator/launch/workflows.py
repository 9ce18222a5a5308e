"""Find workflows, and read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from orchestrator.core.documents import Document, DocumentError
from orchestrator.core.workflow import WorkflowError, read
from orchestrator.launch import shrek
from orchestrator.launch.definition import Definition
from orchestrator.launch.folders import Files, files_in, mistakes_with

__all__ = ["FILE_NAME", "Definition", "Workflows", "read_file"]

FILE_NAME = "workflow.yaml"


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
                definition = read_file(path)
                if definition.workflow.name != name:
                    mistake = f"it is {definition.workflow.name!r}, but its folder is {name!r}"
                    raise WorkflowError(_at(definition, ("name",), mistake))
                return definition
            if shrek.holds(path.parent):
                return shrek.read_folder(path.parent)
        places = ", ".join(str(folder) for folder in self._folders)
        raise WorkflowError(
            f"there is no workflow {name!r} in {places}; there are: {', '.join(sorted(set(self.names()))) or 'none'}"
        )

    def names(self) -> Iterator[str]:
        for folder in self._folders:
            yield from (path.parent.name for path in folder.glob(f"*/{FILE_NAME}"))
            yield from (path.name for path in folder.glob("*") if path.is_dir() and shrek.holds(path))


def read_file(path: Path) -> Definition:
    """Read a workflow's document and look at the files that it names.

    Raises WorkflowError, with the file and the line of every mistake.
    """
    try:
        document = Document(path.read_text(encoding="utf-8"), str(path))
        workflow = read(document)
        files: Files = files_in(path.parent)
    except (OSError, UnicodeDecodeError) as error:
        raise WorkflowError(f"{path} cannot be read: {error}") from None
    except DocumentError as error:
        raise WorkflowError(str(error)) from None
    if mistakes := list(mistakes_with(workflow, files)):
        raise WorkflowError(document.all(mistakes))
    return Definition(workflow, path.parent, document)


def _at(definition: Definition, place: Sequence[int | str], message: str) -> str:
    assert definition.document is not None
    return definition.document.at(place, message)
