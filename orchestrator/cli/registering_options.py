"""The options that say which files are registered, into what, and how."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain, islice
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from orchestrator.core.mistakes import mistakes_in
from orchestrator.core.registering import Mistold, Told
from orchestrator.register.manifests import Format
from orchestrator.register.sources import Sources
from orchestrator.settings import RegistrationSettings
from schemas.did import Did
from schemas.durations import parse_duration
from schemas.registration import ManifestEntry


def parsed(text: str) -> Did:
    """A DID of a command line. Raises BadParameter."""
    try:
        return Did.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _span(text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Dataset = Annotated[Did, typer.Argument(parser=parsed, metavar="SCOPE:NAME", help="The dataset.")]
Datasets = Annotated[list[Did], typer.Argument(parser=parsed, metavar="SCOPE:NAME...", help="The datasets.")]
Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="FILE...", help="Files, folders, patterns, URLs; - reads a manifest from standard input."),
]
Manifests = Annotated[
    list[Path] | None,
    typer.Option("--from", metavar="MANIFEST", help="A file that lists files; may be repeated."),
]
Written = Annotated[Format | None, typer.Option("--format", help="Of manifests, if neither name nor content tells.")]
RseName = Annotated[str | None, typer.Option("--rse", help="Where the files lie; else where the catalog registers.")]
Ways = Annotated[
    list[str] | None,
    typer.Option("--containers", metavar="/A/B/C", help="Containers above it, outermost first; may be repeated."),
]
Pairs = Annotated[
    list[str] | None, typer.Option("--metadata", metavar="KEY=VALUE", help="For a new dataset; may be repeated.")
]
Lifetime = Annotated[
    timedelta | None,
    typer.Option("--lifetime", parser=_span, metavar="SPAN", help="Then the catalog erases the dataset: 30d."),
]
Simulate = Annotated[bool, typer.Option("--simulate", help="Only say what would be done, file by file.")]
Why = Annotated[str | None, typer.Option("--reason", help="Why, for the record.")]
Verify = Annotated[bool, typer.Option("--verify", help="Read files whose sums are known too, and compare.")]
KnownSums = Annotated[
    Path | None,
    typer.Option("--known-sums", exists=True, dir_okay=False, help="Sums that need no computing: a list, or SQLite."),
]
Threads = Annotated[int | None, typer.Option("--threads", min=1, max=256, help="Files read at the same time.")]
Hidden = Annotated[bool, typer.Option("--hidden", help="Also what begins with a dot.")]
OnlyThese = Annotated[
    bool, typer.Option("--only-these", help="This list replaces earlier ones: what is not on it is let go.")
]


def _writable(path: Path | None) -> Path | None:
    """Raises BadParameter: no file can be written there."""
    if path is not None and not os.access(path if path.exists() else path.parent, os.W_OK):
        raise typer.BadParameter(f"{path} cannot be written")
    return path


Report = Annotated[
    Path | None,
    typer.Option("--report", dir_okay=False, callback=_writable, help="Write what came of it there as well, as JSON."),
]


@dataclass(frozen=True)
class Asked:
    """Where files are told of."""

    words: Sequence[str]
    manifests: Sequence[Path]
    format: Format | None
    hidden: bool = False

    def tellings(self, settings: RegistrationSettings) -> Iterator[Told | Mistold]:
        """Every file, in the order in which it is told. Raises BadParameter: none is."""
        if not self.words and not self.manifests:
            raise typer.BadParameter("say which files: names, folders, patterns, --from MANIFEST, or - for a manifest")
        sources = Sources(Path.cwd(), hidden=self.hidden, follow_links=settings.follow_links)
        named = [sources.from_words([word]) for word in self.words if word != "-"]
        listed = [sources.from_manifest(str(path), self.format) for path in self.manifests]
        piped = [sources.from_stream(sys.stdin.buffer, "standard input", self.format)] if "-" in self.words else []
        return chain.from_iterable([*named, *listed, *piped])


def known_of_one(tellings: Iterator[Told | Mistold], known: Mapping[str, str | None]) -> Iterator[Told | Mistold]:
    """The tellings, with more known of the one file that they are about.

    Raises BadParameter: there are more, or what is known cannot be.
    """
    said = {key: value for key, value in known.items() if value is not None}
    if not said:
        return tellings
    found = list(islice(tellings, 2))
    if len(found) > 1:
        raise typer.BadParameter(f"{' and '.join(known)} are about one file, and there are more")
    return iter([_with(each, said) if isinstance(each, Told) else each for each in found])


def _with(told: Told, known: Mapping[str, str]) -> Told:
    try:
        return Told(ManifestEntry.model_validate({**told.entry.model_dump(), **known}), told.place)
    except ValidationError as error:
        mistakes = mistakes_in(error, ManifestEntry, known)
        raise typer.BadParameter("; ".join(f"{place[-1]}: {text}" for place, text in mistakes)) from None


def pairs_of(words: Sequence[str] | None) -> dict[str, str | int | float | bool]:
    """KEY=VALUE, a number or a truth value as such. Raises BadParameter."""
    found: dict[str, str | int | float | bool] = {}
    for word in words or ():
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"{word!r} is not KEY=VALUE")
        found[key] = _value(value)
    return found


def _value(text: str) -> str | int | float | bool:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if str(number) == text else text
    return text
