"""The files of a workflow's folder: which of them jobs get, and whether those that the document names are there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from orchestrator.core.globs import matches
from orchestrator.core.mistakes import Mistake
from orchestrator.core.templates import fields
from schemas.workflow import Step, Workflow

#: What muleteer and the engines add to a package lies in this folder of it.
RESERVED = "muleteer"


@dataclass(frozen=True, slots=True)
class Files:
    """A folder's files by their path within it, and the links that lead out of it."""

    inside: Mapping[str, Path]
    outside: Mapping[str, Path]

    def shipped(self, workflow: Workflow) -> list[str]:
        """The paths that jobs get."""
        return [path for path in self.inside if any(matches(path, pattern) for pattern in workflow.resources)]


def files_in(folder: Path) -> Files:
    """All files in order of their paths, but none that is hidden or that Python made for itself. Raises OSError."""
    inside, outside = dict[str, Path](), dict[str, Path]()
    root = folder.resolve()
    for path in _walk(root, folder, ()):
        relative = path.relative_to(folder).as_posix()
        (inside if path.resolve().is_relative_to(root) else outside)[relative] = path
    return Files(dict(sorted(inside.items())), dict(sorted(outside.items())))


def _walk(root: Path, folder: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    """`above` are the folders on the way to this one: a link to one of them would go round for ever."""
    here = folder.resolve()
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or entry.name == "__pycache__":
            continue
        target = entry.resolve()
        if not entry.is_dir() or not target.is_relative_to(root):
            yield entry
        elif target not in (*above, here):
            yield from _walk(root, entry, (*above, here))


def mistakes_with(workflow: Workflow, files: Files) -> Iterator[Mistake]:
    """What the document says of files and the folder does not keep."""
    shipped = set(files.shipped(workflow))
    for number, pattern in enumerate(workflow.resources):
        if led_out := [path for path in files.outside if matches(path, pattern)]:
            yield (
                ("resources", number),
                f"{led_out[0]} leads out of the folder: put the file itself here",
            )
        elif not any(matches(path, pattern) for path in files.inside):
            yield ("resources", number), f"{pattern!r} matches no file of the folder"
    if reserved := [path for path in shipped if PurePosixPath(path).parts[0] == RESERVED]:
        yield ("resources",), f"{min(reserved)}: the folder {RESERVED}/ is muleteer's own: give yours another name"
    if workflow.setup is not None:
        yield from _of_one(("setup",), workflow.setup, files, shipped)
    for name, each in workflow.inputs.items():
        if each.file_list is not None and not fields(each.file_list) and _path(each.file_list) not in files.inside:
            yield ("inputs", name, "file_list"), f"there is no file {each.file_list} in the folder"
    for number, step in enumerate(workflow.steps):
        yield from _of_program(number, step, files, shipped)


def _of_program(number: int, step: Step, files: Files, shipped: set[str]) -> Iterator[Mistake]:
    program = step.command[0] if step.command else ""
    if "/" not in program or program.startswith("/") or fields(program):
        return
    place = ("steps", number, "command", 0)
    missing = list(_of_one(place, program, files, shipped))
    yield from missing
    if not missing and not os.access(files.inside[_path(program)], os.X_OK):
        yield place, f"{program} is not executable: chmod +x it"


def _of_one(place: tuple[int | str, ...], path: str, files: Files, shipped: set[str]) -> Iterator[Mistake]:
    if _path(path) not in files.inside:
        yield place, f"there is no file {path} in the folder"
    elif _path(path) not in shipped:
        yield place, f"{path} is in the folder, but resources leaves it out, so jobs would not have it"


def _path(path: str) -> str:
    return PurePosixPath(path).as_posix()
