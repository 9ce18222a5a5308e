"""A workflow as a drawing in layers: every arrow points down, few of them cross, and the same one looks the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Literal

from schemas.workflow import Step, Workflow

Kind = Literal["input", "step", "output"]

#: Longer lines are cut, so that one long name does not make the whole drawing wide.
_LONGEST: Final = 48

#: How often the order within layers is gone through, and positions.
_SWEEPS: Final = 12


@dataclass(frozen=True, slots=True)
class Node:
    """A box. Its first line is what it is called."""

    kind: Kind
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """Boxes by key, and arrows between keys; `dashed` ones count only if something fails."""

    nodes: Mapping[str, Node]
    arrows: tuple[tuple[str, str], ...]
    dashed: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Layers:
    """Keys in layers from top to bottom, each layer from left to right.

    An arrow over several layers passes through bends, which are keys without a box; `links` lead from one layer to the
    next.
    """

    rows: tuple[tuple[str, ...], ...]
    links: tuple[tuple[str, str], ...]
    #: For each arrow the keys that it passes, both ends included.
    ways: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)


def graph_of(workflow: Workflow) -> Graph:
    """Inputs, steps and the datasets of outputs, and what flows between them."""
    nodes = {
        f"in {name}": Node("input", (name, _cut(each.dataset or each.file_list or "")))
        for name, each in workflow.inputs.items()
    }
    nodes |= {f"step {step.name}": Node("step", tuple(map(_cut, _lines(step)))) for step in workflow.steps}
    nodes |= {f"out {each.dataset}": Node("output", (_cut(each.dataset),)) for each in workflow.outputs}
    arrows = [(_key(workflow, each), f"step {step.name}") for step in workflow.steps for each in step.reads]
    arrows += [(f"step {each.step}", f"out {each.dataset}") for each in workflow.outputs]
    dashed = {(_key(workflow, step.reads[0]), f"step {step.name}") for step in workflow.steps if step.when == "failed"}
    return Graph(nodes, tuple(dict.fromkeys(arrows)), frozenset(dashed))


def _key(workflow: Workflow, name: str) -> str:
    return f"in {name}" if name in workflow.inputs else f"step {name}"


def _lines(step: Step) -> Iterator[str]:
    yield step.name
    yield step.command[0] if step.command else "script"
    if step.scatter is not None:
        values = step.scatter.values
        yield f"for each {step.scatter.variable} of {values if isinstance(values, str) else len(values)}"
    if step.when == "failed":
        yield f"only if {step.reads[0]} fails"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def layered(graph: Graph) -> Layers:
    """Put the boxes into layers, and order each layer so that few arrows cross. The graph has no cycle."""
    depths = _depths(graph)
    rows: list[list[str]] = [[] for _ in range(max(depths.values(), default=-1) + 1)]
    for key in graph.nodes:
        rows[depths[key]].append(key)
    ways = dict[tuple[str, str], tuple[str, ...]]()
    for start, end in graph.arrows:
        bends = [f"bend {start} > {end} {depth}" for depth in range(depths[start] + 1, depths[end])]
        for depth, bend in enumerate(bends, start=depths[start] + 1):
            rows[depth].append(bend)
        ways[start, end] = (start, *bends, end)
    links = tuple(dict.fromkeys(link for way in ways.values() for link in pairwise(way)))
    return Layers(_untangled(rows, links), links, ways)


def _depths(graph: Graph) -> Mapping[str, int]:
    """The longest way to each; what comes from nowhere stands just above what reads it."""
    depths = dict.fromkeys(graph.nodes, 0)
    for _ in graph.nodes:
        before = dict(depths)
        for start, end in graph.arrows:
            depths[end] = max(depths[end], depths[start] + 1)
        if depths == before:
            break
    ends = {end for _, end in graph.arrows}
    for key in graph.nodes:
        below = [depths[end] for start, end in graph.arrows if start == key]
        if key not in ends and below:
            depths[key] = min(below) - 1
    return depths


def _untangled(rows: Sequence[Sequence[str]], links: Sequence[tuple[str, str]]) -> tuple[tuple[str, ...], ...]:
    above, below = _neighbours(links)
    best = now = [list(row) for row in rows]
    fewest = crossings(best, links)
    for sweep in range(_SWEEPS):
        if fewest == 0:
            break
        downward = sweep % 2 == 0
        now = [list(row) for row in now]
        order = range(1, len(now)) if downward else range(len(now) - 2, -1, -1)
        for depth in order:
            fixed = {key: place for place, key in enumerate(now[depth - 1 if downward else depth + 1])}
            near = above if downward else below
            middles = {key: _middle(key, near.get(key, ()), fixed, now[depth]) for key in now[depth]}
            now[depth].sort(key=lambda key: middles[key])
        if (count := crossings(now, links)) < fewest:
            best, fewest = now, count
    return tuple(map(tuple, best))


def _middle(key: str, near: Sequence[str], fixed: Mapping[str, int], row: Sequence[str]) -> float:
    return sum(fixed[each] for each in near) / len(near) if near else float(row.index(key))


def _neighbours(links: Sequence[tuple[str, str]]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """What lies above and below each key."""
    above, below = dict[str, list[str]](), dict[str, list[str]]()
    for start, end in links:
        above.setdefault(end, []).append(start)
        below.setdefault(start, []).append(end)
    return above, below


def crossings(rows: Sequence[Sequence[str]], links: Sequence[tuple[str, str]]) -> int:
    """How many pairs of links cross."""
    places = {key: (depth, place) for depth, row in enumerate(rows) for place, key in enumerate(row)}
    count = 0
    for depth in range(len(rows) - 1):
        ends = sorted((places[start][1], places[end][1]) for start, end in links if places[start][0] == depth)
        seen: list[int] = []
        for _, end in ends:
            count += sum(other > end for other in seen)
            seen.append(end)
    return count


def placed(layers: Layers, widths: Mapping[str, float], gap: float) -> dict[str, float]:
    """The middle of each key from left to right, in the units of the widths: near its neighbours, none overlapping."""
    middles = dict[str, float]()
    for row in layers.rows:
        middles |= zip(row, _offsets(row, widths, gap), strict=True)
    above, below = _neighbours(layers.links)
    for sweep in range(_SWEEPS):
        near = (above, below)[sweep % 2]
        for row in layers.rows if sweep % 2 == 0 else reversed(layers.rows):
            wanted = [_mean([middles[each] for each in near.get(key, ())], middles[key]) for key in row]
            middles |= zip(row, _apart(wanted, _offsets(row, widths, gap)), strict=True)
    left = min((middle - widths[key] / 2 for key, middle in middles.items()), default=0.0)
    return {key: middle - left for key, middle in middles.items()}


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _offsets(row: Sequence[str], widths: Mapping[str, float], gap: float) -> list[float]:
    """Middles as near to each other as they may be, the first at 0."""
    found = [0.0] if row else []
    for left, right in pairwise(row):
        found.append(found[-1] + widths[left] / 2 + gap + widths[right] / 2)
    return found


def _apart(wanted: Sequence[float], offsets: Sequence[float]) -> list[float]:
    """The places nearest to those wanted, by least squares, that keep the order and the distances.

    Pools of neighbours that would overlap are moved together.
    """
    pools: list[tuple[float, int]] = []
    for want, offset in zip(wanted, offsets, strict=True):
        total, size = want - offset, 1
        while pools and pools[-1][0] / pools[-1][1] > total / size:
            former, members = pools.pop()
            total, size = total + former, size + members
        pools.append((total, size))
    moved = [total / size for total, size in pools for _ in range(size)]
    return [move + offset for move, offset in zip(moved, offsets, strict=True)]
