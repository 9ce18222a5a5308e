"""The values of shrek's parameters: text, and the `$names` in it, each as a whole word.

shrek wrote them into a shell script as they were; here no shell ever reads them. What a launch gives goes into
templates, and so into the environment; what only the job itself can know is set by a line of its script.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from orchestrator.core.scatter import variable_of

#: What a job knows once it runs, because the prelude sets it.
_OF_JOB: Final = re.compile(
    r"uniqueId|IN[1-9]\d*(_name|_task)?|shrek_(username|basename|status_code)|rucio_dsname|metalogger"
)
#: Variables of the machine that the job runs on.
_OF_SITE: Final = re.compile(r"_?[A-Z][A-Z0-9_]*|PanDA_\w+|_")
#: What templates call shrek's tag.
_TAG: Final = {"shrek_tag": "launch"}

_NAMED: Final = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))", re.ASCII)
_BACKSLASHED: Final = re.compile(r"\\.", re.DOTALL)
#: What a shell would have run, or worked out.
_WORKED_OUT: Final = re.compile(r"`|\$[({\[]")
#: What a shell would have taken away, or read as something else than text.
_SPECIAL: Final = re.compile(r"[\"'\\;|&<>]")


class When(Enum):
    """When a `$name` is known."""

    LAUNCH = auto()
    JOB = auto()


@dataclass(frozen=True, slots=True)
class Name:
    """A `$name` in a value."""

    name: str
    when: When


Part = str | Name


class NeedsShell(ValueError):
    """The value is one that only a shell can work out. The text is the end of a sentence."""


def is_of_job(name: str) -> bool:
    """Whether the job, or the machine that it runs on, sets a variable."""
    return bool(_OF_JOB.fullmatch(name) or _OF_SITE.fullmatch(name)) or name in _TAG


def parts(text: str, before: Mapping[str, Sequence[Part]], launch: frozenset[str]) -> tuple[Part, ...]:
    """A value taken apart, with what is known already filled in.

    Args:
        before: the values, by name, that may be named in it.
        launch: names that a launch gives, whatever they look like.

    Raises:
        NeedsShell: it holds a command, or more of the shell than `$name` and `${name}`.
    """
    found = list[Part]()
    for part in _split(text):
        if not isinstance(part, Name):
            found.append(part)
        elif part.name in before:
            found += before[part.name]
        elif part.name in _TAG:
            found.append(Name(_TAG[part.name], When.LAUNCH))
        else:
            late = is_of_job(part.name) and part.name not in launch
            found.append(Name(part.name, When.JOB if late else When.LAUNCH))
    return tuple(found)


def _split(text: str) -> Iterator[Part]:
    position = 0
    for match in re.finditer(rf"{_BACKSLASHED.pattern}|{_NAMED.pattern}", text, re.ASCII | re.DOTALL):
        yield _plain(text[position : match.start()])
        name = match[1] or match[2]
        yield match[0] if name is None else Name(name, When.LAUNCH)
        position = match.end()
    yield _plain(text[position:])


def _plain(text: str) -> str:
    if found := _WORKED_OUT.search(text):
        raise NeedsShell(
            f"holds {text[found.start() : found.start() + 20]!r}, which only a shell can work out: take it out here, "
            "and set it in Initialize, which is run by bash"
        )
    return text


def is_special(text: str) -> bool:
    """Whether a shell would not have taken the text as it stands."""
    return _SPECIAL.search(text) is not None


def named(found: Sequence[Part], when: When) -> list[str]:
    """The names in a value that are known at that time."""
    return [part.name for part in found if isinstance(part, Name) and part.when is when]


def template(found: Sequence[Part]) -> str:
    """The value as a template; it has no names that only the job knows."""
    return "".join(escaped(part) if isinstance(part, str) else f"{{{part.name}}}" for part in found)


def escaped(text: str) -> str:
    """Text that a template leaves as it is."""
    return text.replace("{", "{{").replace("}", "}}")


def shell_word(found: Sequence[Part]) -> str:
    """The value as one word for bash: text in quotes, names from the environment."""
    return "".join(_quoted(part) for part in found if part != "") or "''"


def _quoted(part: Part) -> str:
    if isinstance(part, str):
        return "'" + part.replace("'", "'\\''") + "'"
    if part.when is When.JOB:
        return f'"${{{part.name}}}"'
    return f'"${{{"MULETEER_LAUNCH" if part.name == "launch" else variable_of(part.name)}}}"'


_READ: Final = re.compile(r"(?<!\\)\$\{?[#!]?([A-Za-z_]\w*)", re.ASCII)
_COMMENT: Final = re.compile(r"^\s*#.*$", re.MULTILINE)
_SET: Final = re.compile(
    r"\b([A-Za-z_]\w*)\+?=|\bfor\s+([A-Za-z_]\w*)\b|\(\(\s*([A-Za-z_]\w*)|-v\s+([A-Za-z_]\w*)|\bselect\s+([A-Za-z_]\w*)",
    re.ASCII,
)
_SET_MANY: Final = re.compile(
    r"\b(?:read|readarray|mapfile|local|declare|typeset|export|readonly|getopts)\b([^\n;|&<>]*)", re.ASCII
)
_WORD: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def read_but_not_set(script: str) -> list[str]:
    """The variables that a script reads and nothing in it sets, in order: whoever starts it must have set them."""
    text = _COMMENT.sub("", script)
    own = {name for match in _SET.finditer(text) for name in match.groups() if name}
    own |= {name for match in _SET_MANY.finditer(text) for name in _WORD.findall(match[1].replace("$", " $"))}
    names = dict.fromkeys(match[1] for match in _READ.finditer(text))
    return [name for name in names if name not in own and not is_of_job(name)]
