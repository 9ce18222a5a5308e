"""A workflow's graph as SVG: needs no font of ours, no script, and no colour to be understood."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from orchestrator.core.graph import Graph, Layers, Node, layered, placed

#: All in pixels. Letters are of one width, and stretched to it where a font has another.
_LETTER: Final = 7.8
_LINE: Final = 17.0
_PAD: Final = 12.0
_GAP: Final = 28.0
_FLOOR: Final = 46.0
_EDGE: Final = 16.0

_FILLS: Final = {"input": "#eef3f9", "step": "#ffffff", "output": "#eef7ee"}
_STROKES: Final = {"input": "#4a6785", "step": "#222222", "output": "#3f7a3f"}


def svg(graph: Graph, title: str) -> str:
    """The drawing as the text of a file."""
    layers = layered(graph)
    widths = {key: _width(graph.nodes.get(key)) for row in layers.rows for key in row}
    middles = placed(layers, widths, _GAP)
    tops, bottom = _tops(graph, layers)
    wide = max((middles[key] + widths[key] / 2 for key in middles), default=0.0) + 2 * _EDGE
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide:.0f}" height="{bottom + 2 * _EDGE:.0f}" '
        f'viewBox="{-_EDGE:g} {-_EDGE:g} {wide:.0f} {bottom + 2 * _EDGE:.0f}" role="img">',
        f"<title>{escape(title)}</title>",
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0,1 L9,5 L0,9 z" fill="#555555"/></marker></defs>',
        f'<rect x="{-_EDGE:g}" y="{-_EDGE:g}" width="100%" height="100%" fill="#ffffff"/>',
        '<g fill="none" stroke="#555555" stroke-width="1.3">',
        *_arrows(graph, layers, middles, tops),
        "</g>",
        '<g font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="13" text-anchor="middle">',
    ]
    for key, node in graph.nodes.items():
        lines += _box(node, middles[key], tops[key], widths[key])
    return "\n".join([*lines, "</g>", "</svg>"]) + "\n"


def _width(node: Node | None) -> float:
    """A bend takes a little room too, so that arrows keep off boxes."""
    return 8.0 if node is None else max(map(len, node.lines)) * _LETTER + 2 * _PAD


def _height(node: Node) -> float:
    return len(node.lines) * _LINE + _PAD


def _tops(graph: Graph, layers: Layers) -> tuple[Mapping[str, float], float]:
    """The upper edge of each key, boxes in the middle of their layer; and where the drawing ends."""
    tops, floor = dict[str, float](), 0.0
    for row in layers.rows:
        high = max(_height(graph.nodes[key]) for key in row if key in graph.nodes)
        for key in row:
            tops[key] = floor + (high - _height(graph.nodes[key])) / 2 if key in graph.nodes else floor + high / 2
        floor += high + _FLOOR
    return tops, max(floor - _FLOOR, 0.0)


def _arrows(graph: Graph, layers: Layers, middles: Mapping[str, float], tops: Mapping[str, float]) -> Iterator[str]:
    for (start, end), way in layers.ways.items():
        x, y = middles[start], tops[start] + _height(graph.nodes[start])
        path = f"M{x:.1f},{y:.1f}"
        for key in way[1:]:
            goal = (_entry(layers, middles, end, way) if key == end else middles[key], tops[key])
            half = (y + goal[1]) / 2
            path += f" C{x:.1f},{half:.1f} {goal[0]:.1f},{half:.1f} {goal[0]:.1f},{goal[1]:.1f}"
            x, y = goal
        dashed = ' stroke-dasharray="5 4"' if (start, end) in graph.dashed else ""
        yield f'<path d="{path}"{dashed} marker-end="url(#tip)"/>'


def _entry(layers: Layers, middles: Mapping[str, float], end: str, way: tuple[str, ...]) -> float:
    """Arrows into one box end beside each other, in the order from which they come."""
    coming = sorted(
        {each[-2] for (_, other), each in layers.ways.items() if other == end}, key=lambda key: middles[key]
    )
    return middles[end] + (coming.index(way[-2]) - (len(coming) - 1) / 2) * min(14.0, 60.0 / len(coming))


def _box(node: Node, middle: float, top: float, width: float) -> Iterator[str]:
    round_ = 3 if node.kind == "step" else 14
    yield (
        f'<rect x="{middle - width / 2:.1f}" y="{top:.1f}" width="{width:.1f}" height="{_height(node):.1f}" '
        f'rx="{round_}" fill="{_FILLS[node.kind]}" stroke="{_STROKES[node.kind]}" stroke-width="1.3"/>'
    )
    for number, line in enumerate(node.lines):
        style = ' font-weight="bold"' if number == 0 and node.kind == "step" else ' fill="#333333"'
        fit = f'textLength="{len(line) * _LETTER:.1f}" lengthAdjust="spacingAndGlyphs"'
        y = top + _PAD / 2 + (number + 0.76) * _LINE
        yield f"<text x={quoteattr(f'{middle:.1f}')} y={quoteattr(f'{y:.1f}')} {fit}{style}>{escape(line)}</text>"
