"""The datasets that are there before the workflow begins: what the files call them, and which they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from orchestrator.core.shrek_blocks import Place, ShrekFile
from orchestrator.core.shrek_values import Name, NeedsShell, Part, When, parts, template

#: What can be a variable of the shell.
VARIABLE: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)

#: What stands before the name of a dataset that is a user's or a group's: the first two words are its scope.
_OWNED: Final = ("user", "group")


def word_of(text: str) -> str:
    """A name like it that a workflow's steps and inputs can have."""
    word = re.sub(r"[^A-Za-z0-9_]", "_", text)
    return (word if word[:1].isalpha() else f"in_{word}")[:40]


#: What the workflow calls an input, the template of its dataset, and the names that a launch gives for it.
Dataset = tuple[str, str, list[str]]


def datasets(files: Sequence[ShrekFile], steps: Sequence[str]) -> dict[str, Dataset]:
    """The datasets that are there before the workflow, by the names that the files have for them."""
    found = dict[str, Dataset]()
    for file in files:
        for block in ("InputDataSets", "SecondaryDataSets"):
            for number, each in enumerate(getattr(file.blocks, block)):
                if each.datasets is None:
                    continue
                place: Place = (block, number, "datasets")
                dataset = _dataset(file, place, each.datasets)
                word = word_of(each.name)
                entry = (f"{word[:37]}_in" if word in steps else word, *dataset)
                known = found.setdefault(each.name, entry)
                if known != entry:
                    file.mistake(place, f"{each.name} is {known[1]} elsewhere: give each dataset its own name")
                elif any(other[0] == entry[0] for name, other in found.items() if name != each.name):
                    file.mistake((block, number, "name"), f"another input would be called {entry[0]} too: rename one")
    return found


def _dataset(file: ShrekFile, place: Place, text: str) -> tuple[str, list[str]]:
    """The template of a DID, and the names that a launch gives."""
    if VARIABLE.fullmatch(text):
        text = f"${text}"  # as shrek took a word that was given on its command line
    try:
        # what is not known when the launch begins is of no use here, so that every name is the launch's
        found: list[Part] = [
            part if isinstance(part, str) else Name(part.name, When.LAUNCH) for part in parts(text, {}, frozenset())
        ]
    except NeedsShell as error:
        file.mistake(place, str(error))
        return "", []
    if text.endswith("/"):
        found[-1] = str(found[-1]).removesuffix("/")
        file.remark(place, "the slash at its end, which says that it is a container, is left out")
    names = [part.name for part in found if isinstance(part, Name)]
    filled = template(found)
    if "," in text:
        file.mistake(place, "an input is one dataset: make a container of them, or give each an input of its own")
    elif ":" not in text and not (names and len([part for part in found if part]) == 1):
        filled = f"{_scope(file, place, filled)}:{filled}"
    return filled, [name for name in names if name != "scope"]


def _scope(file: ShrekFile, place: Place, name: str) -> str:
    words = name.split(".")
    scope = ".".join(words[: 2 if words[0] in _OWNED else 1])
    if "{" in scope or scope == name:
        file.mistake(place, f"{name!r} has no scope: write scope:name")
    else:
        file.remark(place, f"has no scope: {scope} is taken, as the name begins")
    return scope
