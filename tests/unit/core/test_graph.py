"""Drawings of workflows: layers, few crossings, texts that fit, and the same drawing every time."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import Any
from xml.etree import ElementTree

import pytest

from orchestrator.core.graph import Graph, Node, crossings, graph_of, layered, placed
from orchestrator.core.graph_svg import svg
from orchestrator.core.graph_text import text
from schemas.workflow import Workflow

_SVG = "{http://www.w3.org/2000/svg}"


def workflow(*steps: dict[str, Any]) -> Workflow:
    document = {
        "name": "drawn",
        "inputs": {"raw": "{scope}:{name}"},
        "steps": [{"command": [f"./{step['name']}.py"], **step} for step in steps],
        "outputs": [{"dataset": "{scope}:all", "step": "merge"}],
    }
    return Workflow.model_validate(document)


def diamond() -> Workflow:
    return workflow(
        {"name": "left", "inputs": ["raw"]},
        {"name": "right", "inputs": ["raw"], "scatter": {"variable": "part", "values": ["a", "b"]}},
        {"name": "merge", "inputs": ["left", "right"]},
        {"name": "alarm", "inputs": ["merge"], "when": "failed"},
    )


def tangle(seed: int, steps: int = 14) -> Graph:
    """Any graph without a cycle."""
    chance = random.Random(seed)
    names = [f"n{number}" for number in range(steps)]
    arrows = [(names[above], names[below]) for above, below in combinations(range(steps), 2) if chance.random() < 0.2]
    nodes = {name: Node("step", (name * chance.randint(1, 6), "x" * chance.randint(1, 30))) for name in names}
    return Graph(nodes, tuple(arrows))


def test_a_workflow_becomes_boxes_and_arrows() -> None:
    """Inputs, steps and output datasets are boxes; what runs on failure has a dashed arrow and says so."""
    graph = graph_of(diamond())

    assert graph.nodes["in raw"].lines == ("raw", "{scope}:{name}")
    assert graph.nodes["step right"].lines == ("right", "./right.py", "for each part of 2")
    assert graph.nodes["step alarm"].lines == ("alarm", "./alarm.py", "only if merge fails")
    assert ("step merge", "out {scope}:all") in graph.arrows
    assert graph.dashed == {("step merge", "step alarm")}


def test_every_arrow_leads_down() -> None:
    """Each box stands below all that it reads, on the longest way to it."""
    layers = layered(graph_of(diamond()))

    assert layers.rows == (
        ("in raw",),
        ("step left", "step right"),
        ("step merge",),
        ("step alarm", "out {scope}:all"),
    )


def test_an_input_stands_just_above_what_reads_it() -> None:
    """What is read late does not begin at the top."""
    chain = Graph({name: Node("step", (name,)) for name in "abcx"}, (("a", "b"), ("b", "c"), ("x", "c")))

    assert layered(chain).rows == (("a",), ("b", "x"), ("c",))


@pytest.mark.parametrize("seed", range(12))
def test_any_graph_is_layered(seed: int) -> None:
    """Links lead to the next layer alone, every way begins and ends where its arrow does, every key stands once."""
    graph = tangle(seed)

    layers = layered(graph)

    depth = {key: number for number, row in enumerate(layers.rows) for key in row}
    assert all(depth[end] == depth[start] + 1 for start, end in layers.links)
    assert all((way[0], way[-1]) == arrow for arrow, way in layers.ways.items())
    assert set(layers.ways) == set(graph.arrows)
    assert sum(map(len, layers.rows)) == len(depth)
    assert graph.nodes.keys() <= depth.keys()


def test_lines_that_need_not_cross_do_not() -> None:
    """Two chains that were written the wrong way round are untangled."""
    graph = Graph({name: Node("step", (name,)) for name in "abdc"}, (("a", "c"), ("b", "d")))

    layers = layered(graph)

    assert crossings((("a", "b"), ("d", "c")), layers.links) == 1
    assert crossings(layers.rows, layers.links) == 0


@pytest.mark.parametrize("seed", range(12))
def test_boxes_do_not_overlap(seed: int) -> None:
    """Within a layer the gap is kept, whatever the boxes are drawn towards, and nothing is left of the edge."""
    layers = layered(tangle(seed))
    widths = {key: 10.0 + len(key) for row in layers.rows for key in row}

    middles = placed(layers, widths, 5.0)

    for row in layers.rows:
        for left, right in pairwise(row):
            assert middles[right] - middles[left] >= (widths[left] + widths[right]) / 2 + 5.0 - 1e-6
    assert min(middles[key] - widths[key] / 2 for key in middles) >= -1e-6


@pytest.mark.parametrize("seed", range(12))
def test_texts_fit_into_their_boxes_in_svg(seed: int) -> None:
    """Every text is within a box, and every box within the picture."""
    picture = ElementTree.fromstring(svg(tangle(seed), "a <graph> & more"))

    wide, high = float(picture.attrib["width"]), float(picture.attrib["height"])
    paper, *boxes = [
        tuple(float(each.attrib[name].rstrip("%")) for name in ("x", "y", "width", "height"))
        for each in picture.iter(f"{_SVG}rect")
    ]
    edge = -paper[0]
    assert all(x >= 0 and y >= 0 and x + w <= wide - 2 * edge + 1 and y + h <= high - 2 * edge for x, y, w, h in boxes)
    for each in picture.iter(f"{_SVG}text"):
        middle, y, long = (float(each.attrib[name]) for name in ("x", "y", "textLength"))
        assert any(
            x <= middle - long / 2 and middle + long / 2 <= x + w and top <= y <= top + h for x, top, w, h in boxes
        )


def test_svg_says_what_it_shows() -> None:
    """The title is there for those who hear it, strange letters do no harm, and failure is a dashed line."""
    drawn = svg(graph_of(diamond()), "workflow <calo> & co")

    picture = ElementTree.fromstring(drawn)
    assert picture.findtext(f"{_SVG}title") == "workflow <calo> & co"
    assert drawn.count("stroke-dasharray") == 1
    assert "<script" not in drawn


def test_the_terminal_shows_what_flows_where() -> None:
    """Fan-out, fan-in and a branch, in letters; no line ends with a blank."""
    assert text(graph_of(diamond())).splitlines() == DRAWN.splitlines()[1:]


@pytest.mark.parametrize("seed", range(60))
def test_every_line_in_the_terminal_can_be_followed(seed: int) -> None:
    """From each tip up the lines lead to one box, and the boxes that are found are those of the graph's arrows."""
    graph = tangle(seed)

    reader = Reader(text(graph), graph)

    assert sorted(reader.arrows()) == sorted(graph.arrows)
    assert not any(line.endswith(" ") for line in reader.lines)


class Reader:
    """Reads a drawing as a person does: from a tip upward, over crossings straight on."""

    left, right, up = "─┐┘┬┴┤┼", "─┌└┬┴├┼", "└┘┴├┤┼"

    def __init__(self, drawn: str, graph: Graph) -> None:
        self.lines = drawn.splitlines()
        #: The first and last column, and the first and last row, of each box.
        self.boxes = {key: self._box(node) for key, node in graph.nodes.items()}

    def _box(self, node: Node) -> tuple[int, int, int, int]:
        first, second = (re.compile(rf"│ +{re.escape(line)} +│") for line in node.lines)
        for row, line in enumerate(self.lines[:-1]):
            for found in first.finditer(line):
                if second.match(self.lines[row + 1], found.start()):
                    return found.start(), found.end() - 1, row - 1, row + 2
        raise AssertionError(f"{node} is not there as a whole")

    def at(self, row: int, column: int) -> str:
        return self.lines[row][column] if 0 <= column < len(self.lines[row]) else " "

    def arrows(self) -> Iterator[tuple[str, str]]:
        for row, line in enumerate(self.lines):
            for found in re.finditer("▼", line):
                yield self.source(row - 1, found.start()), self.box_at(row + 1, found.start(), 2)

    def box_at(self, row: int, column: int, edge: int) -> str:
        (key,) = [key for key, box in self.boxes.items() if box[0] < column < box[1] and box[edge] == row]
        return key

    def source(self, row: int, column: int) -> str:
        while self.at(row, column) == "│":
            row -= 1
        if any(box[0] < column < box[1] and box[3] == row for box in self.boxes.values()):
            return self.box_at(row, column, 3)
        (above,) = [each for each in self.along(row, column) if self.at(row, each) in self.up]
        return self.source(row - 1, above)

    def along(self, row: int, start: int) -> Iterator[int]:
        """The columns of a line across, on both sides of one of them."""
        yield start
        for step, onward, back in ((-1, self.left, self.right), (1, self.right, self.left)):
            column = start
            while self.at(row, column) in (onward if column == start else onward + "│"):
                column += step
                if self.at(row, column) not in back + "│":
                    break
                if self.at(row, column) != "│":
                    yield column


def test_a_graph_is_drawn_the_same_every_time() -> None:
    """A drawing that is kept beside a workflow changes only if the workflow does."""
    assert svg(tangle(3), "t") == svg(tangle(3), "t")
    assert text(tangle(3)) == text(tangle(3))


DRAWN = """
              ╭────────────────╮
              │      raw       │
              │ {scope}:{name} │
              ╰────────┬───────╯
                 ┌─────┤
                 ▼     ▼
      ┌───────────┐   ┌────────────────────┐
      │   left    │   │       right        │
      │ ./left.py │   │     ./right.py     │
      └─────┬─────┘   │ for each part of 2 │
            │         └──────────┬─────────┘
            └────┐               │
                 │          ┌────┘
                 ▼          ▼
                ┌────────────┐
                │   merge    │
                │ ./merge.py │
                └──────┬─────┘
                     ┌─┴───┐
                     ▼     ▼
┌─────────────────────┐   ╭─────────────╮
│        alarm        │   │ {scope}:all │
│     ./alarm.py      │   ╰─────────────╯
│ only if merge fails │
└─────────────────────┘
"""
