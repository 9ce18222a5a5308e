"""The classes of failures."""

from __future__ import annotations

from enum import StrEnum


class FailureClass(StrEnum):
    """Who can do something about it."""

    #: The workflow's own programs.
    PAYLOAD = "payload"
    #: Too little memory.
    MEMORY = "memory"
    #: Too little time.
    TIME = "time"
    #: The computing site: its batch system, its nodes, its software.
    SITE = "site"
    #: Where files lie, and getting them there and back.
    STORAGE = "storage"
    #: It passes by itself.
    TRANSIENT = "transient"
    #: What we asked for: the workflow, its package, or somebody who stopped it.
    OURS = "ours"
    UNKNOWN = "unknown"
