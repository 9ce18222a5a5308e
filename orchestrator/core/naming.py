"""Names that are derived, so that the same thing always gets the same name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

from orchestrator.core.templates import fill
from schemas.did import Did
from schemas.dispatch import DispatchId

#: A name that a workflow gives. Whether PanDA takes it, with all that is put around it, is checked when it is packed.
_LONGEST: Final = 120

#: A name that is derived leaves room, of PanDA's 132, for a prefix, a step of forty characters and `.log/`.
_LONGEST_DERIVED: Final = 64


def launch_key(workflow: str, dispatch_id: DispatchId, round_: int = 0) -> str:
    """The key of a launch that a dispatch asked for: one launch for each of its rounds, however often it is tried.

    A new round begins only when a person wants another launch beside the one that has ended.
    """
    return f"{workflow}/dispatch-{dispatch_id}" + (f"/round-{round_}" if round_ else "")


def launch_name(workflow: str, did: Did | None, key: str) -> str:
    """A launch's name on its engine: readable, with 64 bits of its key, so that two keys do not share one."""
    digest = blake2b(key.encode(), digest_size=8).hexdigest()
    words = f"{workflow}.{did.name if did else 'manual'}"
    return re.sub(r"[^A-Za-z0-9._-]+", "_", words)[: _LONGEST_DERIVED - 17].strip(".-_") + f".{digest}"


_ROUND: Final = re.compile(r"/round-(\d+)\Z")

#: What a round adds to a name: `-r12`.
_ROOM_FOR_ROUND: Final = 5


class NameRefused(ValueError):
    """A workflow's launch_name gives no usable name. The text shows the template, the name and what is allowed."""


def given_name(template: str, values: Mapping[str, str], round_: int = 0) -> str:
    """The name that a workflow wants for a launch; what suits neither PanDA nor file systems becomes `_`.

    Each round that a person asked for has a name of its own.

    Raises:
        TemplateError: the template cannot be filled in.
        NameRefused: nothing is left of the name, or it is too long.
    """
    filled = fill(template, values)
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", filled).strip(".-_")
    if not name:
        raise NameRefused(f"launch_name {template!r} gives {filled!r}, of which no letter and no digit can be used")
    if len(name) > _LONGEST - _ROOM_FOR_ROUND:
        raise NameRefused(
            f"launch_name {template!r} gives {name!r}, which has {len(name)} characters; "
            f"{_LONGEST - _ROOM_FOR_ROUND} are allowed"
        )
    return f"{name}-r{round_}" if round_ else name


def key_of_name(workflow: str, name: str, round_: int = 0) -> str:
    """The key of a launch that its name makes the only one. `name` is that of the first round."""
    return f"{workflow}/{name}" + (f"/round-{round_}" if round_ else "")


def round_of(key: str) -> int:
    """Which round of its dispatch the launch with this key belongs to."""
    found = _ROUND.search(key)
    return int(found[1]) if found is not None else 0


def first_key(key: str) -> str:
    """The key of the first round: what all that repeat one launch have in common."""
    return _ROUND.sub("", key)


def run_of(parameters: Mapping[str, str]) -> int | None:
    """The detector's run that a launch is about: its parameter `run`, if that is a number."""
    text = parameters.get("run", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else None


def is_given(key: str, name: str) -> bool:
    """Whether the launch's name is what its workflow wants, and not derived from its dispatch."""
    _, _, first, *_ = (*key.split("/"), "", "", "")
    round_ = round_of(key)
    return name == (f"{first}-r{round_}" if round_ else first)
