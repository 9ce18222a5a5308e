"""A workflow as it is found on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.core.documents import Document
from orchestrator.panda.port import PackedFile
from schemas.workflow import Workflow


@dataclass(frozen=True, slots=True)
class Definition:
    """A workflow, and the folder with its job scripts."""

    workflow: Workflow
    folder: Path
    #: What it was read from, for the lines of what is said about it.
    document: Document | None = None
    #: Files that jobs get beside those of the folder.
    extra: Mapping[str, PackedFile] = field(default_factory=dict)
    #: What is not as in the files that it was made of, each with its file and line.
    remarks: Sequence[str] = ()
