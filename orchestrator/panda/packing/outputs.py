"""A step's outputs as PanDA is told of them: one regular expression for all, so that they are one dataset."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from orchestrator.panda.port import EngineRefused, SubmissionStep

#: PanDA keeps the expression where it keeps a file's name.
_LONGEST: Final = 250

#: prun cuts at commas and colons and takes out blanks; the rest goes through a shell in double quotes on the worker
#: node. So the expression has none of these, no backslash and no dollar sign.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_~-]")
_BRACKETED: Final = ".+"
_CLASS: Final = re.compile(r"\[(!?)([A-Za-z0-9_.~-]+)\]")


def option(step: SubmissionStep) -> str:
    """The value of --outputs: `regex|^(beam-00021615-.*[.]prdf)(?!.)`. Raises EngineRefused."""
    text = f"regex|^({'|'.join(''.join(_translated(step, pattern)) for pattern in step.outputs)})(?!.)"
    if len(text) > _LONGEST:
        raise EngineRefused(
            f"step {step.name}: its outputs need {len(text)} characters as one expression, and PanDA has room for "
            f"{_LONGEST}: name them by fewer patterns"
        )
    return text


def _translated(step: SubmissionStep, pattern: str) -> Iterator[str]:
    """A shell-style pattern as a regular expression."""
    rest = pattern
    while rest:
        found = _CLASS.match(rest)
        if found is not None:
            yield f"[{'^' if found[1] else ''}{found[2]}]"
            rest = rest[found.end() :]
            continue
        yield _one(step, pattern, rest[0])
        rest = rest[1:]


def _one(step: SubmissionStep, pattern: str, character: str) -> str:
    match character:
        case "*":
            return ".*"
        case "?":
            return "."
        case "/":
            raise EngineRefused(
                f"step {step.name}: output {pattern!r}: PanDA takes files from the job's own directory only, "
                "not from one within it"
            )
    if character in _BRACKETED:
        return f"[{character}]"
    if _PLAIN.fullmatch(character):
        return character
    raise EngineRefused(
        f"step {step.name}: output {pattern!r} holds {character!r}: PanDA takes letters, digits and _ . + ~ - in "
        "names, and * ? [...] for any"
    )
