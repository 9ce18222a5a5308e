"""A submission as plain bytes: what a package keeps of it in `muleteer/launch.json`."""

from __future__ import annotations

import json
from typing import Final

from pydantic import TypeAdapter, ValidationError

from orchestrator.panda.packing import telling
from orchestrator.panda.port import EngineRefused, Package, PackedFile, Submission

#: Where a package holds its submission.
LAUNCH_FILE: Final = "muleteer/launch.json"

_SUBMISSIONS: Final = TypeAdapter(Submission)


def dump(submission: Submission) -> bytes:
    """JSON, the same bytes for the same submission. What has its default is left out of a step's PanDA options."""
    document = _SUBMISSIONS.dump_python(submission, mode="json")
    for step, written in zip(submission.steps, document["steps"], strict=True):
        written["panda"] = step.panda.model_dump(mode="json", exclude_defaults=True)
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def load(content: bytes) -> Submission:
    """Read it back. Raises ValueError."""
    try:
        return _SUBMISSIONS.validate_json(content)
    except ValidationError as error:
        raise ValueError(f"it is no submission: {error}") from None


def submission_of(package: Package) -> Submission:
    """The submission that a package was made of. Raises EngineRefused if it holds none."""
    try:
        return load(package[LAUNCH_FILE].content)
    except KeyError:
        raise EngineRefused(f"the package has no {LAUNCH_FILE}, so it was not packed by muleteer") from None
    except ValueError as error:
        raise EngineRefused(f"the package's {LAUNCH_FILE} cannot be read: {error}") from None


def with_submission(source: Package, submission: Submission) -> dict[str, PackedFile]:
    """A package of a workflow's own files, the submission, and the programs by which jobs tell how far they are."""
    return {**source, LAUNCH_FILE: PackedFile(dump(submission)), **telling.programs()}
