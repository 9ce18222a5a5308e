"""Which transient datasets a command is about, and how bytes and reasons are shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Final

import typer

from orchestrator.cli.session import Exit, fail
from orchestrator.store.port import NotFound
from orchestrator.store.transients import Transients
from schemas.did import Did
from schemas.transient import Transient, TransientId, TransientState

#: Rows that are read at a time.
_PAGE: Final = 1000

#: Characters of a reason in a table: `transient show` has all of it.
_LONGEST: Final = 100


def reason(text: str) -> str:
    """What `--reason` was given. Raises BadParameter: it says nothing."""
    if not text.strip():
        raise typer.BadParameter("--reason must say why: it is all that others will find in the journal")
    return text.strip()


Because = Annotated[str, typer.Option("--reason", parser=reason, metavar="TEXT", help="Why, for the journal.")]
Word = Annotated[str, typer.Argument(metavar="ID|SCOPE:NAME", help="Its number, or the dataset.", show_default=False)]
Words = Annotated[
    list[str] | None, typer.Argument(metavar="[ID|SCOPE:NAME]...", help="Numbers, or datasets.", show_default=False)
]


def did_of(word: str) -> Did:
    """Raises BadParameter."""
    try:
        return Did.parse(word)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def meant(transients: Transients, word: str) -> Transient:
    """The one of that number; or of that dataset the newest life, rather one that is not gone. Raises NotFound."""
    if (number := _number(word)) is not None:
        return transients.get(TransientId(number))
    lives = transients.find(did_of(word))
    if not lives:
        raise NotFound(f"no policy has matched {word} at a survey yet; `muleteer transient list` shows which there are")
    return next((life for life in lives if life.state is not TransientState.GONE), lives[0])


def _number(word: str) -> int | None:
    try:
        return int(word) if word.isdecimal() and word.isascii() else None
    except ValueError:  # thousands of digits
        return None


def all_in(transients: Transients, states: Sequence[TransientState]) -> Iterable[Transient]:
    """All that are in one of these states, by their number."""
    after = 0
    while page := transients.list(states=states, after=after, limit=_PAGE):
        yield from page
        after = page[-1].id


def some(transients: Transients, words: Sequence[str] | None, *, all_: bool, state: TransientState) -> list[Transient]:
    """Those that are named, each once; or all in a state. Ends the command if there is none."""
    if bool(words) == all_:
        raise typer.BadParameter("name them by number or as scope:name, or say --all")
    if words:
        return list({each.id: each for each in (meant(transients, word) for word in words)}.values())
    found = list(all_in(transients, [state]))
    if not found:
        fail(Exit.NOT_FOUND, f"nothing is {state}")
    return found


def datasets(count: int) -> str:
    """A number of datasets, in words."""
    return f"{count:,} dataset{'' if count == 1 else 's'}"


def short(text: str | None) -> str | None:
    """As much of a reason as a table can have."""
    return text if text is None or len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
