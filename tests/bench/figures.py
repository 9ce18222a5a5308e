"""What a benchmark finds, and the table that shows it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import astuple, dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    benchmark: str
    what: str
    figure: str
    #: What it should be, in words; empty where nothing was promised.
    target: str = ""
    #: How it compares with what stands beside it in the same benchmark.
    ratio: str = ""


class Skipped(Exception):
    """This benchmark cannot run here. The text says why."""


def print_figures(figures: Iterable[Figure]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("benchmark", "what", "figure", "target", "ratio"):
        table.add_column(column, justify="right" if column in ("figure", "ratio") else "left", overflow="fold")
    for figure in figures:
        table.add_row(*astuple(figure))
    # wide when it is not a terminal, so that nothing is folded in a file or a pipe
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    console.print(table)
