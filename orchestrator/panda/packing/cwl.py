"""A submission of several steps as pchain sends it: the subset of CWL that PanDA's server reads."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from orchestrator.panda.packing import naming, prun
from orchestrator.panda.packing.streams import Stream, secondaries, streams_of
from orchestrator.panda.port import Submission, SubmissionStep
from schemas.site import Site

#: The files of a package that hold them.
WORKFLOW: Final = "workflow.cwl"
VALUES: Final = "input.yaml"


def arguments(
    submission: Submission, site: Site, *, extra_files: Sequence[str] = (), megabytes: int = 1
) -> tuple[str, ...]:
    """The arguments of pchain.

    Args:
        extra_files: files of the package that are sent to jobs only if they are named.
        megabytes: how large a file may be that the server gets.
    """
    words = ["--cwl", WORKFLOW, "--yaml", VALUES, "--outDS", naming.out_ds(site, submission.name)]
    words += [*prun.identity(site), "--workflowName", submission.name]
    words += ["--maxSizeInSandbox", str(megabytes)] if megabytes > 1 else []
    words += ["--extFile", ",".join(extra_files)] if extra_files else []
    return tuple(words)


def workflow(submission: Submission, site: Site) -> bytes:
    """The steps and what flows between them. Raises EngineRefused."""
    steps = [_step(submission, step, site) for step in submission.steps]
    features: dict[str, Any] = {}
    if any(len(step["in"].get("opt_secondaryDSs", {}).get("source", ())) > 1 for step in steps):
        features["MultipleInputFeatureRequirement"] = {}
    if any("when" in step for step in steps):
        features["InlineJavascriptRequirement"] = {}
    # lists, not maps: PanDA numbers the steps as they stand, and some readers of CWL sort the keys of a map
    document = {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        **({"requirements": features} if features else {}),
        "inputs": [{"id": name, "type": "string"} for name in _values(submission)],
        "outputs": [
            {"id": f"{name}.outDS", "type": "string", "outputSource": f"{name}/outDS"} for name in _ends(submission)
        ],
        "steps": steps,
    }
    return _written(document)


def values(submission: Submission) -> bytes:
    """The datasets of the catalog that are primary inputs."""
    return _written(_values(submission))


def _values(submission: Submission) -> Mapping[str, str]:
    return {
        _named(str(stream.input.source)): str(stream.dataset)
        for step in submission.steps
        for stream in streams_of(submission, step)
        if stream.name == "IN" and stream.dataset is not None
    }


def _named(source: str) -> str:
    """An input's name in CWL; a step's never has a dot."""
    return "in." + re.sub(r"\W", "_", source, flags=re.ASCII)


def _ends(submission: Submission) -> list[str]:
    """The steps that nothing reads."""
    read = {name for step in submission.steps for name in step.reads}
    return [step.name for step in submission.steps if step.name not in read]


def _step(submission: Submission, step: SubmissionStep, site: Site) -> dict[str, Any]:
    streams = streams_of(submission, step)
    parents = [stream.parent for stream in secondaries(streams) if stream.parent is not None]
    inputs: dict[str, Any] = {**_primary(step, streams)}
    if parents:
        inputs["opt_secondaryDSs"] = {"source": [f"{parent}/outDS" for parent in parents]}
    words = prun.options(submission, step, site, _secondaries(streams))
    inputs["opt_exec"] = {"default": prun.command(step)}
    inputs["opt_args"] = {"default": shlex.join([*words, "--noBuild"])}
    if step.image is not None:
        inputs["opt_containerImage"] = {"default": prun.image(step)}
    when = {"when": "$(!self.opt_inDS)"} if step.when == "failed" else {}
    return {"id": step.name, "run": "prun", "in": inputs, "out": ["outDS"], **when}


def _primary(step: SubmissionStep, streams: Sequence[Stream]) -> dict[str, Any]:
    for stream in streams[:1]:
        if stream.parent is not None:
            # of a step that runs on failure the server makes it the condition alone
            return {"opt_inDS": {"source": f"{stream.parent}/outDS"}}
        if stream.dataset is not None:
            return {"opt_inDS": {"source": _named(step.inputs[0].source)}}
    return {}


def _secondaries(streams: Sequence[Stream]) -> list[str]:
    """What stands for them: the server fills in the datasets that steps make; it would spoil those of the catalog."""
    names: list[str] = []
    made = 0
    for stream in secondaries(streams):
        made += stream.parent is not None
        names.append(str(stream.dataset) if stream.parent is None else f"%{{SECDS{made}}}")
    return names


def _written(document: Any) -> bytes:
    writer = YAML()
    writer.width = 1_000_000
    writer.indent(mapping=2, sequence=4, offset=2)
    text = io.StringIO()
    writer.dump(_quoted(document), text)
    return text.getvalue().encode()


def _quoted(value: Any) -> Any:
    """Every text in quotes: no reader takes `yes` or `1e3` for anything else."""
    if isinstance(value, str):
        return DoubleQuotedScalarString(value)
    if isinstance(value, Mapping):
        return {key: _quoted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_quoted(item) for item in value]
    return value
