"""One file of shrek's: its blocks, each value as it is written, and the line of each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from io import StringIO
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticSerializationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from orchestrator.core.documents import Document, DocumentError

Place = tuple[int | str, ...]


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)


class InputDataSet(_Block):
    """What a job reads. What stands under `unread` never counted in shrek either."""

    name: str = Field(min_length=1)
    datasets: str | None = None
    comment: str | None = None
    match: str | None = None
    nFilesPerJob: int | None = Field(None, ge=1)
    nEventsPerFile: int | None = Field(None, ge=1)
    reusable: bool = False
    altname: str | None = None
    nSkip: int | None = None
    nFiles: str | None = None
    local: bool | None = None
    localFiles: tuple[str, ...] | None = None

    @property
    def unread(self) -> list[str]:
        return [key for key in ("altname", "nSkip", "nFiles", "local", "localFiles") if getattr(self, key)]


class OutputDataSet(_Block):
    """What a job makes."""

    name: str = Field(min_length=1)
    comment: str | None = None
    merge: bool = False
    filelist: tuple[str, ...] = ()


class Repository(_Block):
    """Something to be cloned or downloaded."""

    url: str
    action: str | None = None


class Resource(_Block):
    """Files that a job finds in its working directory."""

    file: str | None = None
    directory: str | None = None
    repository: Repository | None = None


class Blocks(_Block):
    """A whole file."""

    Parameters: dict[str, str | int | float | bool | None] | None = None
    InputDataSets: tuple[InputDataSet, ...] = ()
    SecondaryDataSets: tuple[InputDataSet, ...] = ()
    OutputDataSets: tuple[OutputDataSet, ...] = ()
    Resources: tuple[Resource, ...] = ()
    Initialize: str | None = None
    JobCommands: str | None = None
    Finalize: str | None = None
    LocalInit: str | None = None
    InitLocal: str | None = None
    LocalFinalize: str | None = None


#: The names of the blocks, by which a file is known as one of shrek's.
BLOCKS: Final = tuple(Blocks.model_fields)

#: The blocks whose text a job runs, with the word for them in the job's metadata.
SCRIPTS: Final = {"Initialize": "init", "JobCommands": "command_exec", "Finalize": "finish"}
#: The blocks that were meant for the machine that submits.
LOCAL: Final = {"LocalInit": "init", "InitLocal": "init", "LocalFinalize": "finalize"}


@dataclass
class ShrekFile:
    """One file, and what is found about it."""

    document: Document
    blocks: Blocks
    #: The parameters as they are written; what is true or empty as shrek wrote it: True, None.
    parameters: Mapping[str, str]
    remarks: list[str] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)

    @property
    def source(self) -> str:
        return self.document.source

    @property
    def is_job(self) -> bool:
        """A file without parameters only names datasets."""
        return self.blocks.Parameters is not None

    @property
    def name(self) -> str:
        """The job's name, as shrek knew it."""
        return self.parameters.get("name", "")

    def remark(self, place: Place, message: str) -> None:
        self.remarks.append(self.document.at(place, message))

    def mistake(self, place: Place, message: str) -> None:
        self.mistakes.append(self.document.at(place, message))


def read_file(text: str, source: str) -> ShrekFile:
    """Raises DocumentError, with the line of every mistake in the form of the blocks."""
    document = Document(text, source)
    blocks = document.read(Blocks)
    try:
        blocks.model_dump_json()
    except PydanticSerializationError:
        raise DocumentError(f"{source}: it holds a half character (\\ud800 to \\udfff), which no file can") from None
    written, seen = _scalars(text, "base"), _scalars(text, "safe")
    values = {key: written.get(key, str(value)) for key, value in (blocks.Parameters or {}).items()}
    file = ShrekFile(document, blocks, {key: _text(value, seen.get(key, value)) for key, value in values.items()})
    _check_form(file)
    for key, value in file.parameters.items():
        if isinstance(seen.get(key), int | float) and str(seen[key]) != value:
            file.remark(("Parameters", key), f"is {value!r} here, as it is written; shrek took it for {seen[key]}")
        elif value != values[key].capitalize() and value != values[key]:
            file.remark(("Parameters", key), f"is {value!r}, as in shrek; quote it if {values[key]!r} is meant")
    return file


def _scalars(text: str, kind: str) -> Mapping[str, Any]:
    """The parameters as one of YAML's readers takes them: `base` all as text, `safe` as shrek's reader did."""
    reader = YAML(typ=kind, pure=True)
    if kind == "safe":
        reader.version = (1, 1)
    try:
        found = reader.load(StringIO(text))["Parameters"]
    except (YAMLError, ValueError, KeyError, TypeError):
        return {}  # what the older YAML does not read, shrek did not read either
    return {str(key): value for key, value in found.items()} if isinstance(found, dict) else {}


def _text(written: str, seen: Any) -> str:
    return str(seen) if isinstance(seen, bool) or seen is None else written


def _check_form(file: ShrekFile) -> None:
    blocks = file.blocks
    if blocks.Parameters is None:
        given = [name for name in (*SCRIPTS, "OutputDataSets", "Resources") if getattr(blocks, name)]
        if given:
            file.mistake((given[0],), "a file without Parameters only names datasets: a job needs Parameters.name")
        elif not blocks.InputDataSets:
            file.mistake((), "it has neither Parameters nor InputDataSets: it is no job, and names no dataset")
    elif not file.name or file.name == "None":
        file.mistake(("Parameters",), "name is missing: the job's name")
    elif not any((getattr(blocks, name) or "").strip() for name in SCRIPTS):
        file.mistake((), "the job has nothing to run: give it JobCommands")
    for block in ("InputDataSets", "SecondaryDataSets"):
        for number, each in enumerate(getattr(blocks, block)):
            for key in each.unread:
                file.remark((block, number, key), "is left out, as it was in shrek, which read it and did nothing")
    for number, output in enumerate(blocks.OutputDataSets):
        if output.merge:
            what = "is left out, as it was in shrek; say panda: {mergeOutput: true} of the step to have it"
            file.remark(("OutputDataSets", number, "merge"), what)
    for number, resource in enumerate(blocks.Resources):
        if resource.repository is not None:
            what = "is left out, as it was in shrek: clone it into a folder, and name that with directory"
            file.remark(("Resources", number, "repository"), what)


def nearest(word: str, known: list[str]) -> str:
    """What may have been meant, as the end of a sentence."""
    near = get_close_matches(word, known, 1)
    return f"did you mean {near[0]}?" if near else f"there are: {', '.join(known) or 'none'}"
