"""Names on PanDA: of tasks and of the datasets that they make. The same on both of its engines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from orchestrator.panda.port import EngineRefused, Submission
from schemas.site import Site

#: The longest name of a dataset container, its closing slash counted, as panda-client measures it.
LONGEST: Final = 132
#: The same where a step merges its outputs: PanDA needs room for names of its own.
LONGEST_MERGED: Final = 120

#: What a step's outputs are called after its task: prun numbers outputs that are given by a pattern, and we give one.
OUTPUT: Final = "_0"
LOG: Final = ".log"

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def out_ds(site: Site, name: str) -> str:
    """What all names of a submission begin with: `group.sphenix.rn00023721-CALOR`."""
    return f"{site.prefix}.{name}"


def task_names(site: Site, submission: Submission) -> Mapping[str, str]:
    """The task of each step: `<outDS>_<NNN>_<step>`, as PanDA numbers the steps of a chain.

    A task that prun makes has a slash after it in PanDA's tables, one of a chain has none.
    """
    begin = out_ds(site, submission.name)
    return {step.name: f"{begin}_{number:03d}_{step.name}" for number, step in enumerate(submission.steps)}


def output(task_name: str) -> str:
    """The dataset container with all outputs of a task, without its closing slash."""
    return task_name + OUTPUT


def datasets(site: Site, submission: Submission) -> Mapping[str, str]:
    """The datasets that PanDA will make, `scope:name`, with the step that fills each."""
    names = task_names(site, submission)
    return {f"{scope(site)}:{output(names[step.name])}": step.name for step in submission.steps if step.outputs}


def scope(site: Site) -> str:
    """The scope of everything that is made: the first two words of the prefix."""
    return ".".join(site.prefix.split(".")[:2])


def check(site: Site, submission: Submission, *, nickname: str | None = None) -> None:
    """Say what is wrong with the names before anything is sent; `nickname` is the token's, if that is known.

    Raises EngineRefused.
    """
    _check_prefix(site, nickname)
    if not _NAME.fullmatch(submission.name):
        raise EngineRefused(
            f"the launch's name {submission.name!r} is no name on PanDA: it has to begin with a letter or a digit, and "
            "may hold letters, digits and . _ - only; change launch_name in the workflow"
        )
    merged = any(step.panda.mergeOutput or step.panda.mergeScript for step in submission.steps)
    longest = LONGEST_MERGED if merged else LONGEST
    for step, name in task_names(site, submission).items():
        container = f"{name}{LOG}/"
        if len(container) > longest:
            raise EngineRefused(
                f"step {step}: its dataset would be called {container}, which has {len(container)} characters; PanDA "
                f"allows {longest}{' where outputs are merged' if merged else ''}: "
                f"shorten launch_name or the step's name by {len(container) - longest}"
            )


def _check_prefix(site: Site, nickname: str | None) -> None:
    """As panda-client checks it: official datasets are the group's, all others the user's own."""
    kind, owner, *_ = site.prefix.split(".")
    if site.official and (kind, owner) != ("group", site.vo):
        raise EngineRefused(
            f"site {site.name}: official datasets are called group.{site.vo}..., but prefix is {site.prefix!r}: "
            "change the prefix, or take out official"
        )
    if not site.official and kind != "user":
        raise EngineRefused(
            f"site {site.name}: prefix is {site.prefix!r}, and only official datasets are the group's: "
            "say official: true, or let the prefix be user.<nickname>"
        )
    if not site.official and nickname is not None and owner != nickname:
        raise EngineRefused(
            f"site {site.name}: prefix is {site.prefix!r}, but the token is of {nickname}, "
            f"who may only make datasets called user.{nickname}...: change the prefix, or use another token"
        )
