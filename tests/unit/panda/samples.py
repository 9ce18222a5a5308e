"""Submissions, sites and packages for the tests of what is sent to PanDA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from orchestrator.panda.port import Package, PackedFile, Submission, SubmissionStep
from schemas.did import Did
from schemas.panda import PandaOptions
from schemas.site import Site
from schemas.workflow import StepInput

RAW = Did("group.sphenix", "SPHENIX_RAW_EVENTS-00021615")
CALIBRATION = Did("group.sphenix", "CALIBRATIONS-2023p001")

#: A workflow's own files: the program that the steps run.
SOURCE: Package = {"run.sh": PackedFile(b"#!/bin/sh\n", executable=True)}


def site(**fields: Any) -> Site:
    """A site that a user of the stand-in server's may use."""
    told = {
        "name": "bnl",
        "url": "http://127.0.0.1:25080",
        "url_ssl": "http://127.0.0.1:25443",
        "vo": "sphenix",
        "working_group": "sphenix",
        "prod_source_label": "test",
        "prefix": "user.shrek",
        "site": "BNL_OSG_SPHENIX",
    }
    return Site.model_validate({**told, **fields})


def reads(source: str, **fields: Any) -> StepInput:
    return StepInput(source=source, **fields)


def step(
    name: str,
    *inputs: str | StepInput,
    outputs: Sequence[str] = ("*.root",),
    panda: Mapping[str, Any] | None = None,
    timeout: timedelta | None = None,
    **fields: Any,
) -> SubmissionStep:
    """A step that runs `./run.sh`, unless it is said to run something else."""
    command = () if "script" in fields else fields.pop("command", ("./run.sh",))
    return SubmissionStep(
        name,
        command,
        tuple(reads(each) if isinstance(each, str) else each for each in inputs),
        tuple(outputs),
        timeout,
        panda=PandaOptions.model_validate(panda or {}),
        **fields,
    )


def submission(*steps: SubmissionStep, name: str = "rn00021615-CALOR", **fields: Any) -> Submission:
    """Two inputs, `raw` and `calibration`; one step `combine` that reads the first unless other steps are given."""
    told = {"parameters": {"run": "00021615"}, "inputs": {"raw": RAW, "calibration": CALIBRATION}, **fields}
    return Submission(name, "calorimeter", steps=steps or (step("combine", "raw"),), **told)


def chain() -> Submission:
    """Fan-out, fan-in, secondaries, and a step that runs when another fails."""
    return submission(
        step("combine", "raw", outputs=("beam-*.prdf",)),
        step("dst", "combine", reads("calibration", reusable=True), outputs=("DST_*.root", "HIST_[0-9].json")),
        step("links", "dst", reads("combine", files_per_job=3, match="beam*.prdf"), "calibration"),
        step("sorry", "dst", when="failed", outputs=("sorry.txt",)),
    )


def after(words: Sequence[str], option: str) -> str:
    """The value that follows an option."""
    return words[words.index(option) + 1]
