"""Names that are derived, so that the same thing always gets the same name."""

from __future__ import annotations

import re
from hashlib import blake2b

from schemas.did import Did
from schemas.dispatch import DispatchId

#: Long enough for a run, a type and a tag; PanDA and file systems both allow it.
_LONGEST = 120


def launch_key(workflow: str, dispatch_id: DispatchId, round_: int = 0) -> str:
    """The key of a launch that a dispatch asked for: one launch for each of its rounds, however often it is tried.

    A new round begins only when a person wants another launch beside the one that has ended.
    """
    return f"{workflow}/dispatch-{dispatch_id}" + (f"/round-{round_}" if round_ else "")


def launch_name(workflow: str, did: Did | None, key: str) -> str:
    """A launch's name on its engine: readable, with 64 bits of its key, so that two keys do not share one."""
    digest = blake2b(key.encode(), digest_size=8).hexdigest()
    words = f"{workflow}.{did.name if did else 'manual'}"
    return re.sub(r"[^A-Za-z0-9._-]+", "_", words)[: _LONGEST - 17].strip(".-_") + f".{digest}"
