"""The arguments of `prun` for one step, and what of them a chain says too.

What reaches `--exec`, the only text that becomes a shell's on the worker node, is fixed words and the step's name:
values travel in files of the package.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

from orchestrator.panda.client import address
from orchestrator.panda.packing import naming, outputs
from orchestrator.panda.packing.streams import Stream, secondaries, streams_of
from orchestrator.panda.port import EngineRefused, Submission, SubmissionStep
from schemas.panda import PandaOptions
from schemas.site import Site

#: The program that PanDA's job runs, within the package.
JOB: Final = "muleteer/job.py"

#: Above this many megabytes for each core prun asks a person whether that is meant, on the server too.
_MUCH_MEMORY: Final = 4000
_HOUR: Final = timedelta(hours=1)

_IMAGE: Final = re.compile(r"[A-Za-z0-9/][A-Za-z0-9/._:@+-]*")
_MERGE: Final = re.compile(r"[A-Za-z0-9./_][A-Za-z0-9./_ %=:-]*")

#: Options that are said as they are called; the others are below.
_NUMBERS: Final = (
    "nJobs",
    "nFiles",
    "nSkipFiles",
    "nFilesPerJob",
    "maxNFilesPerJob",
    "nGBPerJob",
    "nEventsPerJob",
    "nEventsPerFile",
    "nEvents",
    "nCore",
    "memory",
    "maxWalltime",
    "cpuTimePerEvent",
    "outDiskCount",
    "maxAttempt",
    "priority",
    "architecture",
    "mergeScript",
    "nGBPerMergeJob",
)
_FLAGS: Final = ("forceStaged", "avoidVP", "mergeOutput", "disableAutoRetry", "noLoopingCheck", "noEmail")
#: The only numbers of cores that prun takes.
_CORES: Final = (1, 8)
#: prun can split a task by one of these alone.
_SPLITS: Final = (("nFilesPerJob", "nGBPerJob"), ("nEventsPerJob", "nGBPerJob"))


def environment(site: Site) -> dict[str, str]:
    """The variables that panda-client needs, without the token."""
    variables = {
        "PANDA_AUTH": "oidc",
        "PANDA_AUTH_VO": address.origin(site),
        # without it the client asks the DNS for names of its own
        "PANDA_BEHIND_REAL_LB": "1",
        # the client puts the names of its older calls right behind these
        "PANDACACHE_URL": f"{address.server(address.cache(site))}/server/panda",
        "PANDA_URL": f"{address.server(site.url)}/server/panda",
        "PANDA_URL_SSL": f"{address.server(site.url_ssl)}/server/panda",
    }
    if site.ca_directory is not None:
        variables["X509_CERT_DIR"] = str(site.ca_directory)
    return variables


def arguments(
    submission: Submission,
    step: SubmissionStep,
    site: Site,
    *,
    extra_files: Sequence[str] = (),
    parent_task: int | None = None,
) -> tuple[str, ...]:
    """The arguments of prun that make this step's task.

    Args:
        extra_files: files of the package that are sent only if they are named.
        parent_task: the jediTaskID of the step that makes its input, if that is still at work.

    Raises:
        EngineRefused: prun would not take it.
    """
    words = ["--exec", command(step), "--outDS", naming.task_names(site, submission)[step.name]]
    words += identity(site)
    streams = streams_of(submission, step)
    for stream in streams:
        if stream.name == "IN" and not stream.files:
            words += ["--inDS", _dataset(stream, submission, site)]
    words += [f"--notExpand{what}" for what, first in (("InDS", True), ("SecDSs", False)) if _made(streams, first)]
    words += options(submission, step, site, [_dataset(stream, submission, site) for stream in secondaries(streams)])
    words += ["--noBuild"] if site.no_build else []
    if step.image is not None:
        words += ["--containerImage", image(step)]
    if extra_files:
        words += ["--extFile", ",".join(extra_files)]
    if parent_task is not None:
        words += ["--parentTaskID", str(parent_task)]
    return tuple(words)


def command(step: SubmissionStep) -> str:
    """What a job runs: fixed words. PanDA puts the number of the job in place of %RNDM."""
    return f"python3 {JOB} {step.name} %RNDM:0"


def identity(site: Site) -> list[str]:
    """As whom we submit."""
    words = ["--vo", site.vo, "--prodSourceLabel", site.prod_source_label]
    words += ["--workingGroup", site.working_group] if site.working_group is not None else []
    return words + (["--official"] if site.official else [])


def options(submission: Submission, step: SubmissionStep, site: Site, beside: Sequence[str]) -> list[str]:
    """What prun is told of a step, alone or in a chain; `beside` are the names of its secondary datasets.

    Raises EngineRefused.
    """
    streams = streams_of(submission, step)
    _check_options(step)
    words = ["--outputs", outputs.option(step)] if step.outputs else []
    words += _inputs(step, streams, beside)
    words += _told(step)
    place = site_of(step, site)
    if place is not None:
        words += ["--site", place]
    elif any(stream.name == "IN" and stream.files for stream in streams):
        raise EngineRefused(f"step {step.name}: it reads a list of files, so it needs a site: name one with site")
    return words


def site_of(step: SubmissionStep, site: Site) -> str | None:
    """Where a step runs: its own site, that of its class of queue, or the profile's. Raises EngineRefused."""
    if step.site is not None:
        return step.site
    if step.queue is None:
        return site.site
    if step.queue not in site.queues:
        known = ", ".join(sorted(site.queues)) or "none"
        raise EngineRefused(
            f"step {step.name}: site {site.name} has no queue {step.queue}; it has: {known}: add it to the profile"
        )
    return site.queues[step.queue]


def image(step: SubmissionStep) -> str:
    """The step's container image. Raises EngineRefused if it is no name of one."""
    if step.image is None or not _IMAGE.fullmatch(step.image):
        raise EngineRefused(f"step {step.name}: {step.image!r} is no name of a container image")
    return step.image


def _made(streams: Sequence[Stream], first: bool) -> bool:
    """Whether the primary input, or any of the others, is made by a step."""
    return any(stream.parent is not None and stream.name and (stream.name == "IN") is first for stream in streams)


def _dataset(stream: Stream, submission: Submission, site: Site) -> str:
    if stream.parent is None:
        return str(stream.dataset)
    return naming.output(naming.task_names(site, submission)[stream.parent]) + "/"


def _inputs(step: SubmissionStep, streams: Sequence[Stream], beside: Sequence[str]) -> list[str]:
    words: list[str] = []
    for stream in streams:
        if stream.name == "IN" and stream.files:
            words += ["--pfnList", file_list(step)]
        elif stream.name == "IN" and stream.input.match is not None:
            words += _pair("match", stream.input.match)
    others = secondaries(streams)
    if len(set(beside)) < len(beside):
        raise EngineRefused(f"step {step.name}: two of its secondary inputs are the same dataset: {', '.join(beside)}")
    if others:
        # not with colons, which datasets of the catalog have in their names
        items = (_secondary(stream, name) for stream, name in zip(others, beside, strict=True))
        words += ["--secondaryDSs", ",".join(items)]
    reusable = [stream.name for stream in others if stream.name and stream.input.reusable]
    words += ["--reusableSecondary", ",".join(reusable)] if reusable else []
    lists = [f"{stream.name}:{stream.listing}" for stream in streams if stream.name is not None]
    return words + (["--writeInputToTxt", ",".join(lists)] if lists else [])


def file_list(step: SubmissionStep) -> str:
    """The file of the package with the paths that PanDA splits among the step's jobs."""
    return f"muleteer/steps/{step.name}.pfn"


def _secondary(stream: Stream, dataset: str) -> str:
    parts = [str(stream.name), str(stream.input.files_per_job or 1), dataset]
    if stream.input.match is not None:
        # here prun makes no regular expression of it, as it does for the primary input
        parts.append(stream.input.match.replace(".", "[.]").replace("*", ".*"))
    return "#".join(parts)


def _told(step: SubmissionStep) -> list[str]:
    """The step's own options, only those that were said."""
    told = step.panda
    words: list[str] = []
    for name, value in _values(step).items():
        words += _pair(name, str(value))
    words += [f"--{flag}" for flag in _FLAGS if getattr(told, flag)]
    words += ["--excludedSite", ",".join(told.excludedSite)] if told.excludedSite else []
    words += ["--expertOnly_skipScout"] if told.skipScout else []
    words += ["-y"] if (told.memory or 0) > _MUCH_MEMORY else []
    if step.outputs and set(step.outputs) == set(told.allowNoOutput):
        words += ["--allowNoOutput", ".*"]
    return words


def _values(step: SubmissionStep) -> Mapping[str, int | str]:
    said = {name: getattr(step.panda, name) for name in _NUMBERS}
    if said["maxWalltime"] is None and step.timeout is not None:
        said["maxWalltime"] = -(-step.timeout // _HOUR)
    return {name: value for name, value in said.items() if value is not None}


def _pair(name: str, value: str) -> list[str]:
    return [f"--{name}={value}"] if value.startswith("-") else [f"--{name}", value]


def _check_options(step: SubmissionStep) -> None:
    told: PandaOptions = step.panda
    for one, other in _SPLITS:
        if getattr(told, one) is not None and getattr(told, other) is not None:
            raise EngineRefused(f"step {step.name}: prun takes {one} or {other}, not both")
    if told.nCore is not None and told.nCore not in _CORES:
        raise EngineRefused(f"step {step.name}: nCore is {told.nCore}, and prun takes {_CORES[0]} or {_CORES[1]}")
    if told.mergeScript is not None and not _MERGE.fullmatch(told.mergeScript):
        raise EngineRefused(
            f"step {step.name}: mergeScript {told.mergeScript!r} is read by a shell: it may hold letters, digits, "
            "blanks and . / _ % = : - only; put the rest into a script"
        )
    unknown = [pattern for pattern in told.allowNoOutput if pattern not in step.outputs]
    if unknown:
        raise EngineRefused(
            f"step {step.name}: allowNoOutput names {unknown[0]!r}, which is none of its outputs; "
            f"they are: {', '.join(step.outputs) or 'none'}"
        )
