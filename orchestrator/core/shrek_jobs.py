"""One job of shrek's as a step: its environment, its inputs and outputs, what it wants beside it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from orchestrator.core.shrek_blocks import SCRIPTS, InputDataSet, Place, ShrekFile, nearest
from orchestrator.core.shrek_options import NOTHING, options, when
from orchestrator.core.shrek_scripts import script
from orchestrator.core.shrek_values import (
    NeedsShell,
    Part,
    When,
    escaped,
    is_special,
    named,
    parts,
    read_but_not_set,
    shell_word,
    template,
)
from orchestrator.core.workflow_mistakes import stays_inside

_VARIABLE: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_OUTPUT: Final = re.compile(r"\s*(?:(\w+)\s*([:|]))?\s*(.*?)\s*", re.DOTALL)
_OUTPUT_KINDS: Final = ("required", "optional", "regex")
#: What makes a pattern more than a glob can say.
_REGEX_ONLY: Final = re.compile(r"[\\^$+(){}|]")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Files that a job wants beside it: a shell-style pattern, or a whole directory."""

    #: Where the package keeps them.
    folder: str
    pattern: str
    directory: bool
    #: The file and the line that want it.
    where: str


@dataclass(frozen=True, slots=True)
class Around:
    """What a job's translation has to know of the other files and of the launch."""

    #: The step or the input of the workflow that stands behind each name of a dataset.
    sources: Mapping[str, str]
    #: Values that were given beforehand, as on shrek's command line; None for a launch to give.
    given: Mapping[str, str | None]
    #: The files in the folder, by which a list of files is told from a name for one.
    present: Collection[str]


@dataclass
class Job:
    """A job, translated."""

    file: ShrekFile
    step: str
    #: As `workflow.yaml` has it.
    document: dict[str, Any] = field(default_factory=dict)
    script: str = ""
    resources: list[Wanted] = field(default_factory=list)
    #: Names that a launch must give, and those that only scripts read.
    required: dict[str, None] = field(default_factory=dict)
    optional: dict[str, None] = field(default_factory=dict)
    #: The list of files that it reads instead of datasets: the input's name, and the template of the path.
    file_list: tuple[str, str] | None = None

    @property
    def script_file(self) -> str:
        return f"{self.step}.sh"

    @property
    def reads(self) -> list[str]:
        """What the workflow calls its inputs."""
        return [each if isinstance(each, str) else str(each["from"]) for each in self.document.get("inputs", [])]


def translate(file: ShrekFile, step: str, around: Around) -> Job:
    """What is wrong, and what is not as it was, is noted in the file."""
    job = Job(file, step)
    panda: dict[str, Any] = {"maxAttempt": 1, **options(file, around.given), "avoidVP": True, "skipScout": True}
    environment, late = _environment(job, around)
    inputs = _inputs(job, around, panda)
    outputs, optional = _outputs(file)
    if optional:
        panda["allowNoOutput"] = optional
    condition = when(file)
    job.document = {
        "name": step,
        "command": [f"./{job.script_file}"],
        **({"inputs": inputs} if inputs else {}),
        **({"outputs": [escaped(pattern) for pattern in outputs]} if outputs else {}),
        **({"when": condition} if condition else {}),
        "environment": environment,
        "panda": panda,
    }
    job.resources = list(_resources(file, step, around))
    unset = [name for text in _texts(file) for name in read_but_not_set(text) if name not in file.parameters]
    job.optional = dict.fromkeys(unset)
    folder = job.resources[0].folder if job.resources else None
    job.script = script(file, job.reads, optional=job.optional, resources=folder, late=late)
    return job


def _texts(file: ShrekFile) -> list[str]:
    return [getattr(file.blocks, block) or "" for block in SCRIPTS]


def _environment(job: Job, around: Around) -> tuple[dict[str, str], list[str]]:
    """The variables by their templates, and the lines of the script that set those which only the job can know."""
    file, late = job.file, list[str]()
    known: dict[str, tuple[Part, ...]] = {"name": (job.file.name,)}
    environment: dict[str, str] = {}
    for key, text in file.parameters.items():
        place: Place = ("Parameters", key)
        if key == "when":
            continue
        if not _VARIABLE.fullmatch(key):
            file.remark(place, "is no name for a variable of the shell, so the job does not see it, as in shrek")
            continue
        try:
            # what is described runs nothing
            found = (text,) if key == "comment" else parts(text, known, frozenset(around.given))
        except NeedsShell as error:
            file.mistake(place, str(error))
            continue
        if key != "comment" and is_special(text):
            file.remark(place, "is taken as it is written, quotes and all; in shrek a shell read it")
        known[key] = found
        job.required |= dict.fromkeys(name for name in named(found, When.LAUNCH) if name != "launch")
        if named(found, When.JOB):
            late.append(f"export {key}={shell_word(found)}")
        else:
            environment[key] = template(found)
    return environment, late


def _inputs(job: Job, around: Around, panda: dict[str, Any]) -> list[Any]:
    """As the document has them; the primary input's options go to PanDA's."""
    file, blocks = job.file, job.file.blocks
    listed: list[tuple[Place, InputDataSet]] = [
        ((block, number), each)
        for block in ("InputDataSets", "SecondaryDataSets")
        for number, each in enumerate(getattr(blocks, block))
    ]
    if (text := file.parameters.get("pfnList", "None")) not in NOTHING:
        if listed:
            file.mistake(("Parameters", "pfnList"), "is given, and so are datasets: a job reads one or the other")
        return [_file_list(job, text, around)]
    if blocks.SecondaryDataSets:
        first = len(blocks.InputDataSets) + 1
        file.remark(("SecondaryDataSets",), f"shrek left them out; here they are inputs like others, from IN{first} on")
    found = list[Any]()
    for number, (place, each) in enumerate(listed):
        source = around.sources.get(each.name)
        if source is None:
            what = f"no job makes {each.name}, and it has no datasets: {nearest(each.name, sorted(around.sources))}"
            file.mistake((*place, "name"), what)
        elif source in [other["from"] for other in found]:
            file.mistake((*place, "name"), f"the job reads {each.name} already")
        else:
            found.append(_input(file, place, each, source, panda if number == 0 else None))
    return [each["from"] if len(each) == 1 else each for each in found]


def _input(
    file: ShrekFile, place: Place, each: InputDataSet, source: str, panda: dict[str, Any] | None
) -> dict[str, Any]:
    document: dict[str, Any] = {"from": source}
    if each.match is not None:
        document["match"] = escaped(each.match)
    if panda is None:
        if each.nEventsPerFile is not None:
            file.remark((*place, "nEventsPerFile"), "is left out, as in shrek: it is for the primary input")
        document |= {"files_per_job": each.nFilesPerJob or 1}
        return document | ({"reusable": True} if each.reusable else {})
    for key in ("nFilesPerJob", "nEventsPerFile"):
        if (value := getattr(each, key)) is not None:
            if panda.get(key, value) != value:
                file.remark((*place, key), f"goes before {panda[key]} under Parameters, as in shrek")
            panda[key] = value
    if each.reusable:
        file.remark((*place, "reusable"), "is left out: the primary input is what jobs are split by")
    return document


def _file_list(job: Job, text: str, around: Around) -> str:
    """A list of files: its path in the folder, or a name for it that a launch gives."""
    job.file.remark(
        ("Parameters", "pfnList"),
        "the list has to hold whole paths or addresses, which the jobs' machines can read; shrek copied the files",
    )
    name = text.removeprefix("$").strip("{}")
    is_name = _VARIABLE.fullmatch(name) and (name != text or name in around.given or text not in around.present)
    source = f"{job.step[:34]}_files"
    job.file_list = (source, f"{{{name}}}" if is_name else escaped(text))
    if is_name:
        job.required[name] = None
    elif not stays_inside(text):
        job.file.mistake(("Parameters", "pfnList"), f"{text!r}: put the list into the folder, and name it from there")
    return source


def _outputs(file: ShrekFile) -> tuple[list[str], list[str]]:
    """The patterns, and those of them that a job need not make."""
    found, optional = list[str](), list[str]()
    for number, output in enumerate(file.blocks.OutputDataSets):
        for position, line in enumerate(output.filelist):
            place: Place = ("OutputDataSets", number, "filelist", position)
            match = _OUTPUT.fullmatch(line)
            kind, pattern = (match[1], match[3]) if match is not None else (None, line)
            if kind is not None and kind not in _OUTPUT_KINDS:
                what = f"there is no {kind!r}; {nearest(kind, list(_OUTPUT_KINDS))}"
                file.mistake(place, what)
            elif not pattern:
                file.mistake(place, "names no file")
            elif pattern not in found:
                found.append(_glob(file, place, pattern) if kind == "regex" else pattern)
                optional += [pattern] if kind == "optional" else []
    if not found:
        file.remark(("OutputDataSets",) if file.blocks.OutputDataSets else (), "the job names no file that it makes")
    return found, optional


def _glob(file: ShrekFile, place: Place, pattern: str) -> str:
    """What was called a regex is nearly always a glob: `calor_emcal*` was never to match `calor_emcall`."""
    plain = pattern.removeprefix("^").removesuffix("$").replace("\\.", ".").replace(".*", "*")
    if _REGEX_ONLY.search(plain):
        file.mistake(place, f"{pattern!r} cannot be said as a shell-style pattern: write one, with * ? and [abc]")
    elif plain != pattern:
        file.remark(place, f"is the shell-style pattern {plain!r} here")
    return plain


def _resources(file: ShrekFile, step: str, around: Around) -> Iterator[Wanted]:
    for number, resource in enumerate(file.blocks.Resources):
        for key in ("file", "directory"):
            text = getattr(resource, key)
            if text is None:
                continue
            place: Place = ("Resources", number, key)
            path = around.given.get(text.removeprefix("$").strip("{}")) or text
            if path.startswith("~") or "$" in path:
                file.mistake(place, f"{path!r} depends on who submits: write the path out")
            if key == "directory":
                file.remark(place, "shrek left it out; here jobs get it")
            yield Wanted(f"__{step}", path, key == "directory", file.document.at(place, ""))
