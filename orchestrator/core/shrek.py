"""shrek's YAML, one file for each job, as one workflow: what flows where is found by the names of the datasets."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from orchestrator.core import workflow_mistakes
from orchestrator.core.documents import DocumentError, written
from orchestrator.core.mistakes import mistakes_in
from orchestrator.core.scatter import variable_of
from orchestrator.core.shrek_blocks import BLOCKS, LOCAL, Place, ShrekFile, read_file
from orchestrator.core.shrek_datasets import VARIABLE, Dataset, datasets, word_of
from orchestrator.core.shrek_jobs import Around, Job, Wanted, translate
from orchestrator.core.shrek_scripts import PRELUDE
from orchestrator.core.workflow import ordered
from schemas.workflow import Workflow

__all__ = ["PRELUDE", "Imported", "ShrekError", "Wanted", "convert", "is_shrek"]

_BLOCK: Final = re.compile(rf"^({'|'.join(BLOCKS)})\s*:", re.MULTILINE)


class ShrekError(ValueError):
    """The files do not make a workflow. The text has one line for each mistake: file, line, what, what to do."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A workflow made of shrek's files, and what belongs to it."""

    workflow: Workflow
    #: The same as plain values, in the order in which a person would write them.
    document: Mapping[str, Any]
    #: The script of each job, by its path.
    scripts: Mapping[str, str]
    #: What each job wants beside it.
    resources: Sequence[Wanted]
    #: Texts that shrek meant for the machine that submits; nothing runs them. By their paths.
    by_hand: Mapping[str, str]
    #: What is not as it was, each with its file and line.
    remarks: Sequence[str]

    def text(self, resources: Sequence[str]) -> str:
        """The workflow's document; `resources` are the patterns of what jobs get."""
        document = dict(self.document)
        steps = document.pop("steps")
        return written({**document, "resources": list(resources), "steps": steps})


def is_shrek(text: str) -> bool:
    """Whether a text looks like one of shrek's files."""
    return _BLOCK.search(text) is not None


def convert(
    texts: Mapping[str, str],
    *,
    name: str,
    given: Mapping[str, str | None] | None = None,
    present: Collection[str] = (),
) -> Imported:
    """Make one workflow of shrek's files.

    Args:
        texts: by the name that mistakes are to call them.
        name: the workflow's.
        given: what shrek had on its command line as --key=value: defaults of parameters; None for no default.
        present: the files in the folder, by which a list of files is told from a name for one.

    Raises:
        ShrekError: with every mistake.
    """
    given = given or {}
    files = list(_read(texts))
    steps = _named_steps(files)
    there = datasets(files, steps)
    sources = {**{each: word for each, (word, _, _) in there.items()}, **_made(files, steps)}
    jobs = [
        translate(file, step, Around(sources, given, present))
        for file, step in zip([file for file in files if file.is_job], steps, strict=True)
    ]
    _refuse([line for file in files for line in file.mistakes] + list(_unused(files, given)))
    used = {source for job in jobs for source in job.reads}
    read = [entry for entry in there.values() if entry[0] in used]
    document = _document(name, files, jobs, read, given)
    workflow = _checked(document, files, jobs)
    written_steps = {job.step: job.document for job in jobs}
    document["steps"] = [written_steps[step.name] for step in ordered(workflow)]
    by_hand = dict(_by_hand(jobs))
    _remark_on_ends(jobs)
    _remark_on_optional(jobs, workflow)
    return Imported(
        workflow=workflow,
        document=document,
        scripts={job.script_file: job.script for job in jobs},
        resources=[wanted for job in jobs for wanted in job.resources],
        by_hand=by_hand,
        remarks=[line for file in files for line in file.remarks],
    )


def _read(texts: Mapping[str, str]) -> Iterator[ShrekFile]:
    files, mistakes = list[ShrekFile](), list[str]()
    for source, text in sorted(texts.items()):
        try:
            files.append(read_file(text, source))
        except DocumentError as error:
            mistakes.append(str(error))
    # what is wrong with the others is worth knowing too, but not what follows from a file that is missing
    _refuse([*mistakes, *(line for file in files for line in file.mistakes)])
    if not any(file.is_job for file in files):
        raise ShrekError(f"there is no job in {', '.join(texts) or 'no file'}: a job has Parameters with a name")
    yield from files


def _refuse(mistakes: Sequence[str]) -> None:
    if mistakes:
        raise ShrekError("\n".join(mistakes))


def _named_steps(files: Sequence[ShrekFile]) -> list[str]:
    """The name of each job's step."""
    found = dict[str, ShrekFile]()
    for file in files:
        if not file.is_job:
            continue
        step = word_of(file.name)
        if step in found:
            file.mistake(("Parameters", "name"), f"the job of {found[step].source} is called {step} too: rename one")
        elif step != file.name:
            file.remark(("Parameters", "name"), f"the step is called {step}: letters, digits and _, 40 at most")
        found.setdefault(step if step not in found else f"{step}_{len(found)}", file)
    return list(found)


def _made(files: Sequence[ShrekFile], steps: Sequence[str]) -> dict[str, str]:
    """The step that makes each dataset, by the dataset's name."""
    found = dict[str, str]()
    for file, step in zip([file for file in files if file.is_job], steps, strict=True):
        for number, output in enumerate(file.blocks.OutputDataSets):
            place: Place = ("OutputDataSets", number, "name")
            if (other := found.setdefault(output.name, step)) != step:
                file.mistake(place, f"{other} makes {output.name} too: give each its own")
            elif number:
                what = "what a job makes is one dataset: who reads a part of it says which with match"
                file.remark(place, what)
    return found


def _unused(files: Sequence[ShrekFile], given: Mapping[str, str | None]) -> Iterator[str]:
    """Names that can be no parameter's must be values of the files."""
    values = {value for file in files for value in file.parameters.values()}
    for name in given:
        if not VARIABLE.fullmatch(name) and name not in values:
            yield f"{name} is no name for a parameter, and no value under Parameters: letters, digits and _ make one"


def _document(
    name: str,
    files: Sequence[ShrekFile],
    jobs: Sequence[Job],
    there: Sequence[Dataset],
    given: Mapping[str, str | None],
) -> dict[str, Any]:
    required = {
        **{name: None for _, _, names in there for name in names},
        **{name: None for job in jobs for name in job.required},
        **{name: None for name in given if VARIABLE.fullmatch(name)},
    }
    parameters: dict[str, Any] = {
        each: {} if given.get(each) is None else {"default": given[each]} for each in required
    }
    for each in _only_read(jobs, parameters):
        parameters[each] = {"description": "read by a script; not set if it is empty", "default": ""}
    inputs: dict[str, Any] = {word: dataset for word, dataset, _ in there}
    inputs |= {job.file_list[0]: {"file_list": job.file_list[1]} for job in jobs if job.file_list}
    sources = ", ".join(file.source.rpartition("/")[2] for file in files)
    return {
        "name": name,
        "description": f"Made from shrek's {sources}",
        **({"parameters": parameters} if parameters else {}),
        **({"inputs": inputs} if inputs else {}),
        **({"environment": {each: f"{{{each}}}" for each in parameters}} if parameters else {}),
        "steps": [job.document for job in jobs],
    }


def _only_read(jobs: Sequence[Job], known: Collection[str]) -> list[str]:
    """What scripts read, and no file sets: shrek's users gave it on the command line, or left it out."""
    found = {variable_of(name): name for name in known}
    for job in jobs:
        for name in job.optional:
            if name not in workflow_mistakes.DATASET_VARIABLES:
                # of names that differ only in their letters' case, a launch can give one
                found.setdefault(variable_of(name), name)
    return [name for name in found.values() if name not in known]


def _checked(document: Mapping[str, Any], files: Sequence[ShrekFile], jobs: Sequence[Job]) -> Workflow:
    """The workflow, if it can run; otherwise each mistake is said of the file that it comes from."""
    try:
        workflow = Workflow.model_validate(document)
    except ValidationError as error:
        found = list(mistakes_in(error, Workflow, document))
    else:
        found = list(workflow_mistakes.mistakes(workflow))
        if not found:
            return workflow
    raise ShrekError("\n".join(_said(place, message, files, jobs) for place, message in found))


def _said(place: Place, message: str, files: Sequence[ShrekFile], jobs: Sequence[Job]) -> str:
    if place[:1] == ("steps",) and len(place) > 1:
        job = jobs[int(place[1])]
        return job.file.document.at(("Parameters", "name"), f"the step {job.step}: {message}")
    return f"{files[0].source}: {'.'.join(map(str, place))}: {message}"


def _by_hand(jobs: Sequence[Job]) -> Iterator[tuple[str, str]]:
    """Whatever a file says for the machine that submits: nothing of ours runs it."""
    for job in jobs:
        for block, word in LOCAL.items():
            if text := getattr(job.file.blocks, block):
                path = f"by-hand/{job.step}-{word}.sh"
                what = (
                    f"nothing runs it, as nothing did in shrek: its text is kept as {path}, for an actor `run` of yours"
                )
                job.file.remark((block,), what)
                yield path, f"#!/usr/bin/env bash\n{text.removesuffix(chr(10))}\n"


def _remark_on_ends(jobs: Sequence[Job]) -> None:
    read = {source for job in jobs for source in job.reads if "when" not in job.document}
    for job in jobs:
        if job.step not in read and job.document.get("outputs"):
            what = f"the workflow ends here: name a dataset under outputs that is to hold what {job.step} makes"
            job.file.remark(("OutputDataSets",), what)


def _remark_on_optional(jobs: Sequence[Job], workflow: Workflow) -> None:
    for job in jobs:
        names = [name for name in job.optional if name in workflow.parameters and not workflow.parameters[name].default]
        if names:
            what = f"its script reads {', '.join(names)}, which the file does not set: a launch can give it as --param"
            job.file.remark(("Parameters", "name"), what)
