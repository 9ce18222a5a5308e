"""The page of a package for people: what it is, what is in it, and how to submit it by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orchestrator.panda.packing import naming
from orchestrator.panda.port import Submission, SubmissionStep
from schemas.site import Site


def text(submission: Submission, site: Site) -> str:
    """Markdown."""
    return "\n".join(_lines(submission, site)) + "\n"


def _lines(submission: Submission, site: Site) -> Iterator[str]:
    names = naming.task_names(site, submission)
    yield f"# {submission.name}"
    yield ""
    yield f"The workflow {submission.workflow}, ready for PanDA at {site.name} ({site.instance})."
    if submission.description:
        yield f"{_cell(submission.description)}"
    yield ""
    yield from _table("## Parameters", ("parameter", "value"), submission.parameters)
    inputs = {name: str(did) for name, did in submission.inputs.items()}
    inputs |= {name: f"{len(files)} files by a list" for name, files in submission.file_lists.items()}
    yield from _table("## Inputs", ("input", "what"), inputs)
    yield "## Steps"
    yield ""
    yield "| step | reads | task | its outputs |"
    yield "|---|---|---|---|"
    for step in submission.steps:
        yield _row(step, names[step.name])
    yield ""
    yield from _by_hand(submission)


def _table(title: str, heads: tuple[str, str], rows: Mapping[str, str]) -> Iterator[str]:
    if rows:
        yield title
        yield ""
        yield f"| {heads[0]} | {heads[1]} |"
        yield "|---|---|"
        for name, value in rows.items():
            yield f"| {_cell(name)} | {_cell(value)} |"
        yield ""


def _row(step: SubmissionStep, task: str) -> str:
    reads = ", ".join(step.reads) + (" (if it fails)" if step.when == "failed" else "")
    outputs = f"`{naming.output(task)}`" if step.outputs else ""
    return f"| {step.name} | {_cell(reads)} | `{task}` | {outputs} |"


def _cell(value: str) -> str:
    return " ".join(value.replace("|", "\\|").split())


def _by_hand(submission: Submission) -> Iterator[str]:
    yield "## By hand"
    yield ""
    yield "A name can be used once on PanDA. If muleteer has launched this, it is there already; if not, you can submit"
    yield "it. You need panda-client, and a token: set `OIDC_AUTH_TOKEN_FILE` to a file that holds it."
    yield ""
    yield "```"
    yield "./submit --list          # the steps, and what would be run"
    yield "./submit --check         # have it checked, and submit nothing"
    yield "./submit                 # submit it; prints the number of the request or task"
    yield f"./submit --step {submission.steps[0].name}  # one step alone"
    yield "```"
    yield ""
    yield "`muleteer/launch.json` says all of it, `muleteer/steps/` what each job runs, `muleteer/job.py` how."
