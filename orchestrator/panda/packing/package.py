"""A submission directory for PanDA: everything that is sent, the same bytes for the same submission.

Values live in JSON files. What a shell reads, here, on the server or on a worker node, is fixed words, and names that
were found to be plain.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from orchestrator.panda import plain
from orchestrator.panda.packing import cwl, limits, naming, prun, readme
from orchestrator.panda.packing.streams import streams_of
from orchestrator.panda.plain import submission_of
from orchestrator.panda.port import EngineRefused, Package, PackedFile, Submission, SubmissionStep
from schemas.site import Site

__all__ = ["chain_arguments", "pack", "step_arguments", "submission_of", "write"]

Kind = Literal["panda", "panda-stepwise"]

#: What is run to submit it.
SUBMIT_FILE: Final = "muleteer/submit.json"

_HERE: Final = Path(__file__).parent
_README: Final = "README.md"
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def pack(submission: Submission, source: Package, site: Site, engine: Kind) -> Package:
    """The submission directory: the workflow's own files, and all that PanDA, its jobs and people need beside them.

    Raises EngineRefused: it could never run, or is over the limits of PanDA or its client.
    """
    naming.check(site, submission)
    for step in submission.steps:
        _check_step(submission, step, source)
    files = plain.with_submission(source, submission)
    for step in submission.steps:
        files |= _of_step(submission, step)
    files[prun.JOB] = PackedFile((_HERE / "job.py").read_bytes())
    files["submit"] = PackedFile((_HERE / "submit.py").read_bytes(), executable=True)
    if len(submission.steps) > 1:
        files[cwl.WORKFLOW] = PackedFile(cwl.workflow(submission, site))
        files[cwl.VALUES] = PackedFile(cwl.values(submission))
    # the workflow's own page stays where it is
    page = f"muleteer/{_README}" if _README in source else _README
    files[page] = PackedFile(readme.text(submission, site).encode())
    files[SUBMIT_FILE] = _json(_plan(submission, site, engine, files))
    _check_own(source, files)
    limits.check_paths(files)
    limits.check_size(files, built=not site.no_build and len(submission.steps) == 1)
    return dict(sorted(files.items()))


def chain_arguments(package: Package) -> tuple[str, ...]:
    """The arguments of pchain for all of it, as they were packed."""
    return tuple(json.loads(package[SUBMIT_FILE].content)["chain"])


def step_arguments(package: Package, step: str, *, parent_task: int | None = None) -> tuple[str, ...]:
    """The arguments of prun for one step, as they were packed.

    `parent_task` is the jediTaskID of the step that makes its input, if that is still at work.
    """
    words = tuple(json.loads(package[SUBMIT_FILE].content)["steps"][step])
    return words if parent_task is None else (*words, "--parentTaskID", str(parent_task))


def write(package: Package, directory: Path) -> None:
    """Write the files into a directory that does not exist yet, or is empty.

    Raises:
        EngineRefused: there is something already, or a path leaves the directory.
        OSError: it cannot be written.
    """
    if directory.exists() and any(directory.iterdir()):
        raise EngineRefused(f"{directory} is not empty: name another directory, or clear it yourself")
    for path, file in package.items():
        if path.startswith("/") or ".." in path.split("/"):
            raise EngineRefused(f"{path!r} leaves the package's directory")
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)
        target.chmod(0o755 if file.executable else 0o644)


def _of_step(submission: Submission, step: SubmissionStep) -> dict[str, PackedFile]:
    """What a job of the step reads."""
    streams = streams_of(submission, step)
    script = None if step.script is None else f"muleteer/steps/{step.name}.sh"
    files = {
        f"muleteer/steps/{step.name}.json": _json(
            {
                "launch": submission.name,
                "workflow": submission.workflow,
                "step": step.name,
                "command": list(step.command),
                "script": script,
                "setup": submission.setup,
                "environment": _environment(submission, step),
                "inputs": [
                    {
                        "name": stream.input.source,
                        "variable": variable("INPUT", stream.input.source),
                        "listing": stream.listing,
                        "files": [] if stream.listing else list(stream.files),
                    }
                    for stream in streams
                ],
                "outputs": list(step.outputs),
                "optional": list(step.panda.allowNoOutput),
                "timeout": None if step.timeout is None else step.timeout.total_seconds(),
            }
        )
    }
    if script is not None:
        files[script] = PackedFile(str(step.script).encode())
    for stream in streams:
        if stream.name is not None and stream.files:
            files[prun.file_list(step)] = PackedFile("".join(f"{file}\n" for file in stream.files).encode())
    return files


def _environment(submission: Submission, step: SubmissionStep) -> dict[str, str]:
    return {
        **submission.environment,
        **step.environment,
        **{variable("PARAM", name): value for name, value in submission.parameters.items()},
        "MULETEER_LAUNCH": submission.name,
        "MULETEER_WORKFLOW": submission.workflow,
        "MULETEER_STEP": step.name,
    }


def variable(prefix: str, name: str) -> str:
    """The environment variable for a parameter or an input: `MULETEER_PARAM_RUN`."""
    return f"MULETEER_{prefix}_" + re.sub(r"\W", "_", name, flags=re.ASCII).upper()


def _plan(submission: Submission, site: Site, engine: Kind, files: Package) -> dict[str, Any]:
    """`muleteer/submit.json`: for `./submit`, and for whoever submits the package from the archive."""
    named = limits.to_be_named(files)
    chain = None
    if len(submission.steps) > 1:
        lists = [path for step in submission.steps if (path := prun.file_list(step)) in files]
        size = limits.megabytes(files, [cwl.WORKFLOW, cwl.VALUES, *lists])
        chain = list(cwl.arguments(submission, site, extra_files=named, megabytes=size))
    return {
        "name": submission.name,
        "outDS": naming.out_ds(site, submission.name),
        "engine": engine,
        "site": site.name,
        "environment": prun.environment(site),
        "chain": chain,
        "steps": {
            step.name: list(prun.arguments(submission, step, site, extra_files=named)) for step in submission.steps
        },
    }


def _json(document: Mapping[str, Any]) -> PackedFile:
    return PackedFile((json.dumps(document, indent=1) + "\n").encode())


def _check_own(source: Package, files: Package) -> None:
    taken = next((path for path in sorted(source) if path.startswith("muleteer/") or files[path] != source[path]), None)
    if taken is not None:
        raise EngineRefused(f"{taken}: muleteer makes a file of that name itself: rename it in the workflow's folder")


def _check_step(submission: Submission, step: SubmissionStep, source: Package) -> None:
    """Raises EngineRefused if a job could not even begin."""
    program = step.command[0] if step.command else ""
    if "/" in program and not program.startswith("/"):
        file = source.get(program.removeprefix("./"))
        if file is None:
            raise EngineRefused(
                f"step {step.name}: {program} is not among the files that jobs get: add it to resources"
            )
        if not file.executable:
            raise EngineRefused(f"step {step.name}: {program} is not executable: chmod +x it in the workflow's folder")
    if submission.setup is not None and submission.setup.removeprefix("./") not in source:
        raise EngineRefused(f"the setup file {submission.setup} is not among the files that jobs get")
    _check_variables(submission, step)
    for what, text in _texts(submission, step):
        if "\0" in text or not _is_unicode(text):
            raise EngineRefused(f"step {step.name}: {what} holds a character that no program can be given: {text!r}")


def _check_variables(submission: Submission, step: SubmissionStep) -> None:
    for name in (*submission.environment, *step.environment):
        if not _VARIABLE.fullmatch(name):
            raise EngineRefused(f"step {step.name}: {name!r} is no name of an environment variable")
    for prefix, names in (("PARAM", submission.parameters), ("INPUT", step.reads)):
        seen: dict[str, str] = {}
        for name in names:
            other = seen.setdefault(variable(prefix, name), name)
            if other != name:
                raise EngineRefused(
                    f"step {step.name}: {other!r} and {name!r} get the same variable {variable(prefix, name)}: "
                    "rename one of them"
                )


def _texts(submission: Submission, step: SubmissionStep) -> Iterator[tuple[str, str]]:
    yield from (("its command", word) for word in step.command)
    yield "its script", step.script or ""
    yield from ((f"variable {name}", value) for name, value in _environment(submission, step).items())


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
