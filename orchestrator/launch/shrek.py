"""shrek's files on disk: a folder of them launched as it is, or written as a workflow of its own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.core.shrek import PRELUDE, Imported, ShrekError, Wanted, convert, is_shrek
from orchestrator.core.templates import fields
from orchestrator.core.workflow import WorkflowError
from orchestrator.launch.definition import Definition
from orchestrator.launch.folders import files_in
from orchestrator.panda.port import PackedFile

_HERE: Final = Path(__file__).parent
_SCHEMAS: Final = Path(".muleteer")
_SCHEMA: Final = "workflow.schema.json"
_WORKFLOW: Final = "workflow.yaml"
#: Shell functions of the user's own, which every job sources.
_PLUGINS: Final = "plugins"


@dataclass(frozen=True, slots=True)
class Found:
    """shrek's files, read: the workflow, and what jobs get."""

    imported: Imported
    #: By their paths within the package.
    files: Mapping[str, PackedFile]
    #: Lists of input files, by their paths within the workflow's folder; jobs do not get them.
    lists: Mapping[str, bytes]


def holds(folder: Path) -> bool:
    """Whether a folder holds files of shrek's, and no workflow of ours."""
    return not (folder / _WORKFLOW).exists() and any(map(_looks_like, _yaml_in(folder)))


def read_folder(folder: Path) -> Definition:
    """The workflow of all of shrek's files in a folder, read afresh; it is called as the folder is.

    Raises:
        WorkflowError: with the file and the line of every mistake.
    """
    try:
        found = read(_yaml_in(folder), name=folder.name, roots=[folder], plugins=folder / _PLUGINS)
    except OSError as error:
        raise WorkflowError(f"{folder} cannot be read: {error}") from None
    # jobs get what was made of the files, and what the files name
    workflow = found.imported.workflow.model_copy(update={"resources": ()})
    return Definition(workflow, folder, extra=found.files, remarks=found.imported.remarks)


def chosen(paths: Sequence[Path]) -> list[Path]:
    """The files that were meant: a folder stands for all YAML files in it. Raises WorkflowError."""
    found = [path for each in paths for path in (_yaml_in(each) if each.is_dir() else [each])]
    if not found:
        raise WorkflowError(f"there is no YAML file in {', '.join(map(str, paths))}")
    return found


def read(
    paths: Sequence[Path],
    *,
    name: str,
    roots: Sequence[Path],
    plugins: Path,
    given: Mapping[str, str | None] | None = None,
) -> Found:
    """Read shrek's files and what they name.

    Args:
        name: the workflow's.
        roots: where paths in the files are seen from; the first that has such a file counts.
        plugins: a folder of shell functions that every job sources; it need not be there.
        given: what shrek had on its command line, by name; None for no value.

    Raises:
        WorkflowError: with the file and the line of every mistake.
        OSError: a folder cannot be read.
    """
    try:
        texts = {str(path): _text(path) for path in paths}
        present = {path.name for root in roots for path in root.iterdir() if path.is_file()}
        imported = convert(texts, name=name, given=given, present=present)
    except ShrekError as error:
        raise WorkflowError(str(error)) from None
    files = {path: PackedFile(text.encode(), executable=True) for path, text in imported.scripts.items()}
    files[PRELUDE] = PackedFile((_HERE / PRELUDE).read_bytes())
    if plugins.is_dir():
        files |= {f"{_PLUGINS}/{path}": _packed(file) for path, file in files_in(plugins).inside.items()}
    files |= _resources(imported.resources, roots)
    return Found(imported, files, dict(_lists(imported, roots)))


def write(found: Found, directory: Path, schema: str) -> None:
    """Write a workflow's folder, all of it or nothing; `schema` is the JSON Schema of its document, for editors.

    Raises:
        WorkflowError: there is something already: nothing is ever overwritten.
        OSError: it cannot be written.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise WorkflowError(
            f"{directory} is there already, and not empty: name another directory, or clear it yourself"
        )
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=directory.parent) as place:
        fresh = Path(place) / directory.name
        for path, file in _written(found, schema).items():
            target = fresh / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.content)
            target.chmod(0o755 if file.executable else 0o644)
        fresh.replace(directory)


def _written(found: Found, schema: str) -> dict[str, PackedFile]:
    resources = sorted({path.partition("/")[0] for path in found.files})
    text = f"# yaml-language-server: $schema={_SCHEMAS / _SCHEMA}\n{found.imported.text(resources)}"
    return {
        **found.files,
        **{path: PackedFile(content) for path, content in found.lists.items()},
        **{path: PackedFile(text.encode(), executable=True) for path, text in found.imported.by_hand.items()},
        str(_SCHEMAS / _SCHEMA): PackedFile(schema.encode()),
        _WORKFLOW: PackedFile(text.encode()),
    }


def _yaml_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.y*ml") if path.suffix in (".yaml", ".yml") and path.is_file())


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise WorkflowError(f"{path}: it is no text in UTF-8: {error}") from None


def _looks_like(path: Path) -> bool:
    try:
        return is_shrek(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return False


def _packed(path: Path) -> PackedFile:
    try:
        return PackedFile(path.read_bytes(), os.access(path, os.X_OK))
    except OSError as error:
        raise WorkflowError(f"{path} cannot be read: {error.strerror}") from None


def _resources(all_wanted: Sequence[Wanted], roots: Sequence[Path]) -> dict[str, PackedFile]:
    """What jobs want beside them, by its paths within the package."""
    found, mistakes = dict[str, PackedFile](), list[str]()
    for wanted in all_wanted:
        try:
            found |= _resource(wanted, roots, found)
        except WorkflowError as error:
            mistakes.append(str(error))
    if mistakes:
        raise WorkflowError("\n".join(mistakes))
    return found


def _resource(wanted: Wanted, roots: Sequence[Path], known: Mapping[str, PackedFile]) -> dict[str, PackedFile]:
    found = dict[str, PackedFile]()
    matching = next(filter(None, (_matching(wanted, root) for root in roots)), [])
    for inner, file in (entry for each in matching for entry in _inside(each, wanted)):
        path, packed = f"{wanted.folder}/{inner}", _packed(file)
        if {**known, **found}.get(path, packed) != packed:
            raise WorkflowError(f"{wanted.where}another resource is called {inner} too: rename one of them")
        found[path] = packed
    if not found:
        kind = "directory" if wanted.directory else "file"
        places = " or ".join(map(str, roots))
        raise WorkflowError(f"{wanted.where}{wanted.pattern!r} matches no {kind}, seen from {places}")
    return found


def _matching(wanted: Wanted, root: Path) -> list[Path]:
    pattern = Path(wanted.pattern)
    start, relative = (Path(pattern.anchor), pattern.relative_to(pattern.anchor)) if pattern.anchor else (root, pattern)
    try:
        found = sorted(start.glob(str(relative)))
    except ValueError as error:
        raise WorkflowError(f"{wanted.where}{wanted.pattern!r}: {error}") from None
    return [path for path in found if path.is_dir() or not wanted.directory]


def _inside(path: Path, wanted: Wanted) -> Iterator[tuple[str, Path]]:
    """A file by its name, or what a directory holds; nothing that is hidden."""
    if path.name.startswith(".") or path.name == "__pycache__":
        return
    if not path.is_dir():
        yield path.name, path
        return
    files = files_in(path)
    if files.outside:
        raise WorkflowError(f"{wanted.where}{path / min(files.outside)} leads out of {path}: put the file itself there")
    yield from ((f"{path.name}/{inner}", file) for inner, file in files.inside.items())


def _lists(imported: Imported, roots: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    """The lists of input files whose names are known already."""
    for each in imported.workflow.inputs.values():
        if each.file_list is None or fields(each.file_list):
            continue
        path = next((root / each.file_list for root in roots if (root / each.file_list).is_file()), None)
        if path is None:
            places = " or ".join(map(str, roots))
            raise WorkflowError(f"the list of files {each.file_list} (pfnList) is not there, seen from {places}")
        yield each.file_list, path.read_bytes()
