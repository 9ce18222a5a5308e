"""What a job's parameters told PanDA's client, and when it is to run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from orchestrator.core.mistakes import said
from orchestrator.core.shrek_blocks import Place, ShrekFile
from schemas.panda import PandaOptions

#: Parameters that PanDA's client gets as options too.
_OPTIONS: Final = (
    "nJobs",
    "nFiles",
    "nSkipFiles",
    "nFilesPerJob",
    "nGBPerJob",
    "maxAttempt",
    "memory",
    "maxWalltime",
    "nEventsPerJob",
    "maxNFilesPerJob",
    "cpuTimePerEvent",
)
#: What shrek took for nothing.
NOTHING: Final = frozenset({"", "0", "None", "False"})
#: Parameters that were options and have no counterpart.
_GONE: Final = {
    "processingType": "PanDA's client does not know the option any more",
    "dumpTaskParams": "`muleteer workflow build` writes all that is sent",
    "writeInputToTxt": "every job gets lists of its inputs in files: $MULETEER_INPUT_<NAME>",
}
_IF_FAILED: Final = re.compile(r"\s*\$\(\s*!\s*self\.opt_inDS\s*\)\s*")
_IF_FINISHED: Final = re.compile(r"\s*\$\(\s*self\.opt_inDS\s*\)\s*")


def options(file: ShrekFile, given: Mapping[str, str | None]) -> dict[str, Any]:
    """The options of the step, as they are called there; what is no number yet must have been given beforehand."""
    found = dict[str, Any]()
    for key, written in file.parameters.items():
        place: Place = ("Parameters", key)
        value = given.get(written.removeprefix("$").strip("{}"))
        text = written if value is None else value
        if text in NOTHING:
            continue
        if key in _OPTIONS:
            problem = _problem(key, text)
            if problem is not None:
                file.mistake(
                    place,
                    f"{problem}: no launch can give it, so write it here, or say --param {text}=... when you import",
                )
                continue
            found[key] = text if key == "nGBPerJob" else int(text)
            if value is not None:
                file.remark(place, f"is {text} for PanDA from now on, as it was given for {written}")
        elif key in _GONE:
            file.remark(place, f"is no option any more: {_GONE[key]}")
        elif key == "merge":
            found |= {"mergeOutput": True, "mergeScript": text}
        elif key == "stage":
            found |= _staged(file, text)
    return found


def _staged(file: ShrekFile, text: str) -> dict[str, Any]:
    """The server refuses --stage, and does not know --forceStagedSecondary any more."""
    if text in ("primary", "all"):
        file.remark(("Parameters", "stage"), "has become panda: {forceStaged: true}; secondaries cannot be staged")
        return {"forceStaged": True}
    file.remark(("Parameters", "stage"), "is left out: PanDA's server refuses it; forceStaged is for the primary input")
    return {}


def _problem(key: str, text: str) -> str | None:
    try:
        PandaOptions.model_validate({key: text})
    except ValidationError as error:
        return said(dict(error.errors(include_url=False)[0]))
    return None


def when(file: ShrekFile) -> str | None:
    """The word of the workflow for it; None for when all that it reads has finished."""
    text = file.parameters.get("when")
    if text is None or _IF_FINISHED.fullmatch(text):
        return None
    if _IF_FAILED.fullmatch(text):
        return "failed"
    what = "has no counterpart: a step runs when all that it reads has finished, or, with $(!self.opt_inDS), when its"
    file.mistake(("Parameters", "when"), f"{text!r} {what} first input has failed")
    return None
