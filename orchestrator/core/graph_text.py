"""A workflow's graph for the terminal: boxes and lines of letters, from top to bottom.

Lines never join on their way: each arrow enters its box by itself, and where two cross, the one that goes down is
drawn through. What leaves a box shares its first piece.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from orchestrator.core.graph import Graph, Layers, Node, layered, placed

_GAP: Final = 3

_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8

_SIGNS: Final = {
    _UP | _DOWN: "│",
    _LEFT | _RIGHT: "─",
    _UP | _RIGHT: "└",
    _UP | _LEFT: "┘",
    _DOWN | _RIGHT: "┌",
    _DOWN | _LEFT: "┐",
    _UP | _LEFT | _RIGHT: "┴",
    _DOWN | _LEFT | _RIGHT: "┬",
    _UP | _DOWN | _LEFT: "┤",
    _UP | _DOWN | _RIGHT: "├",
    _UP | _DOWN | _LEFT | _RIGHT: "┼",
}


def text(graph: Graph) -> str:
    """The drawing, a line of text for each row, without a blank at the end of any."""
    layers = layered(graph)
    entering = {key: sum(end == key for _, end in layers.links) for row in layers.rows for key in row}
    widths = {key: _width(graph.nodes.get(key), entering[key]) for key in entering}
    lefts = _lefts(layers, widths)
    canvas = _Canvas()
    top = 0
    leaving: dict[str, int] = {}
    for row in layers.rows:
        entries = _entries(row, layers, leaving, lefts, widths)
        top = _draw_links(canvas, top, layers.links, leaving, entries) if leaving else top
        leaving = {}
        high = max(len(graph.nodes[key].lines) + 2 for key in row if key in graph.nodes)
        for key in row:
            node = graph.nodes.get(key)
            if node is None:
                leaving[key] = next(iter(entries[key].values()))
                canvas.down(leaving[key], top, top + high, key)
            else:
                _draw_box(canvas, node, lefts[key], top, widths[key])
                leaving[key] = lefts[key] + widths[key] // 2
                if any(start == key for start, _ in layers.links):
                    canvas.put(leaving[key], top + len(node.lines) + 1, "┬")
                    canvas.down(leaving[key], top + len(node.lines) + 2, top + high, key)
        top += high
    return canvas.text()


def _width(node: Node | None, entering: int) -> int:
    """A box has room for its lines and for every arrow that enters it."""
    return 1 if node is None else max(max(map(len, node.lines)) + 4, 2 * entering + 5)


def _lefts(layers: Layers, widths: Mapping[str, int]) -> dict[str, int]:
    """The column in which each key begins."""
    middles = placed(layers, {key: float(width) for key, width in widths.items()}, _GAP)
    lefts = dict[str, int]()
    for row in layers.rows:
        free = 0
        for key in row:
            lefts[key] = max(free, math.floor(middles[key] - widths[key] / 2 + 0.5))
            free = lefts[key] + widths[key] + _GAP
    return lefts


def _entries(
    row: Sequence[str],
    layers: Layers,
    leaving: Mapping[str, int],
    lefts: dict[str, int],
    widths: Mapping[str, int],
) -> dict[str, dict[str, int]]:
    """The column by which each link enters each key: straight down if that can be, and in nobody else's way."""
    found = dict[str, dict[str, int]]()
    for key in row:
        coming = sorted((start for start, end in layers.links if end == key), key=lambda start: leaving[start])
        if widths[key] == 1:  # a bend may step aside, since there is room on both sides
            others = {column for start, column in leaving.items() if start not in coming}
            near = [lefts[key], lefts[key] - 1, lefts[key] + 1]
            columns: Sequence[int] = [next(column for column in near if column >= 0 and column not in others)]
        else:
            columns = _columns([leaving[start] for start in coming], leaving.values(), lefts[key], widths[key])
        found[key] = dict(zip(coming, columns, strict=True))
    return found


def _columns(wanted: Sequence[int], taken: Iterable[int], left: int, width: int) -> list[int]:
    """Columns in rising order within a box, as near as may be to those wanted, and none of another that is taken."""
    others = set(taken)
    inside = range(left + 1, left + width - 1)
    #: For each column the least distance with which the arrows so far can end there, and how.
    best: dict[int, tuple[int, list[int]]] = {left: (0, [])}
    for want in wanted:
        further = dict[int, tuple[int, list[int]]]()
        for column in inside:
            before = [best[other] for other in best if other < column]
            if before and (column == want or column not in others):
                cost, way = min(before)
                further[column] = (cost + abs(column - want), [*way, column])
        best = further
    return min(best.values())[1]


def _draw_links(
    canvas: _Canvas,
    top: int,
    links: Sequence[tuple[str, str]],
    leaving: Mapping[str, int],
    entries: Mapping[str, Mapping[str, int]],
) -> int:
    """Draw what flows from one layer to the next; gives the row below."""
    nets = {
        start: [entries[end][start] for other, end in links if other == start and end in entries] for start in leaving
    }
    bent = [start for start, columns in nets.items() if any(column != leaving[start] for column in columns)]
    tracks = {
        start: top + number
        for number, start in enumerate(sorted(bent, key=lambda each: _turn(leaving[each], nets[each])))
    }
    bottom = top + max(len(tracks), 1)
    for start, columns in nets.items():
        track = tracks.get(start, top)
        if columns:
            canvas.down(leaving[start], top, track, start)
            canvas.across(leaving[start], columns, track, start, bottom)
    for key, arrivals in entries.items():
        for column in arrivals.values():
            canvas.put(column, bottom, "│" if key.startswith("bend ") else "▼")
    return bottom + 1


def _turn(column: int, columns: Sequence[int]) -> tuple[int, int]:
    """In which order lines turn aside so that few cross: of those to the right the rightmost first, and so on."""
    right = sum(columns) > column * len(columns)
    return (0, -column) if right else (1, column)


class _Canvas:
    """Signs by row and column. Lines know which line they are: those of two do not join."""

    def __init__(self) -> None:
        self._rows: dict[int, dict[int, str]] = {}
        self._lines: dict[tuple[int, int], dict[str, int]] = {}

    def put(self, column: int, row: int, sign: str) -> None:
        self._rows.setdefault(row, {})[column] = sign

    def write(self, column: int, row: int, words: str) -> None:
        for offset, sign in enumerate(words):
            self.put(column + offset, row, sign)

    def _line(self, column: int, row: int, ways: int, line: str) -> None:
        lines = self._lines.setdefault((row, column), {})
        lines[line] = lines.get(line, 0) | ways

    def down(self, column: int, top: int, below: int, line: str) -> None:
        """From one row to before another."""
        for row in range(top, below):
            self._line(column, row, _UP | _DOWN, line)

    def across(self, start: int, columns: Sequence[int], row: int, line: str, bottom: int) -> None:
        """From above, along a row, and down to before `bottom` in each of the columns."""
        self._line(start, row, _UP, line)
        for column in columns:
            self._line(column, row, _DOWN, line)
            self.down(column, row + 1, bottom, line)
        low, high = min(start, *columns), max(start, *columns)
        for column in range(low, high + 1):
            ways = (_LEFT if column > low else 0) | (_RIGHT if column < high else 0)
            self._line(column, row, ways, line)

    def text(self) -> str:
        for (row, column), lines in self._lines.items():
            upright = [ways for ways in lines.values() if ways & (_UP | _DOWN)]
            # where two cross, the one that goes down is drawn through
            self.put(column, row, _SIGNS[upright[0] if upright else next(iter(lines.values()))])
        height = max(self._rows, default=-1) + 1
        return "\n".join(
            "".join(signs.get(column, " ") for column in range(max(signs) + 1)).rstrip()
            for signs in (self._rows.get(row, {0: " "}) for row in range(height))
        )


def _draw_box(canvas: _Canvas, node: Node, left: int, top: int, width: int) -> None:
    corners = "╭╮╰╯" if node.kind != "step" else "┌┐└┘"
    canvas.write(left, top, corners[0] + "─" * (width - 2) + corners[1])
    for number, line in enumerate(node.lines, start=1):
        canvas.write(left, top + number, f"│{line:^{width - 2}}│")
    canvas.write(left, top + len(node.lines) + 1, corners[2] + "─" * (width - 2) + corners[3])
