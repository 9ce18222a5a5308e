"""Whether two patterns have a text in common. What is not understood is taken for any text: rather a yes too many.

Patterns are read into trees, trees turned into automata without end, and two automata are walked side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from typing import Final

_LAST: Final = 0x10FFFF

#: Longer repetitions count as without end, which keeps automata small.
_MOST_REPEATS: Final = 40

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Node:
    """A set of texts, as a tree: one character, or nodes in a row, as alternatives, or repeated."""

    kind: str
    ranges: Ranges = ()
    nodes: tuple[Node, ...] = ()
    least: int = 0
    #: None: without end.
    most: int | None = None


def row(*nodes: Node) -> Node:
    return Node("row", nodes=nodes)


def either(*nodes: Node) -> Node:
    return Node("either", nodes=nodes)


def repeat(node: Node, least: int, most: int | None) -> Node:
    return Node("repeat", nodes=(node,), least=least, most=most)


def text(words: str) -> Node:
    return row(*(Node("one", ((ord(sign), ord(sign)),)) for sign in words))


#: Any text at all.
ANYTHING: Final = repeat(Node("one", ((0, _LAST),)), 0, None)


def glob(pattern: str) -> Node:
    """The texts that fit a shell-style glob."""
    return read(translate(pattern).removesuffix(r"\Z"))[0]


def read(pattern: str) -> tuple[Node, Mapping[str, Node]]:
    """The whole texts that a pattern matches, and those of each named group."""
    reader = _Reader(pattern)
    try:
        return reader.read(), reader.groups
    except (_Strange, IndexError, ValueError):
        return ANYTHING, {}


def overlap(one: Node, other: Node) -> bool:
    """Whether some text is in both."""
    left, right = _Automaton(one), _Automaton(other)
    todo = [(left.first, right.first)]
    met = set(todo)
    while todo:
        here, there = todo.pop()
        if here == left.last and there == right.last:
            return True
        steps = [(to, there) for to in left.free[here]] + [(here, to) for to in right.free[there]]
        for ranges, to in left.steps[here]:
            steps += [(to, end) for others, end in right.steps[there] if _common(ranges, others)]
        new = [step for step in dict.fromkeys(steps) if step not in met]
        met.update(new)
        todo += new
    return False


def _common(one: Ranges, other: Ranges) -> bool:
    return any(first <= end and begin <= last for first, last in one for begin, end in other)


class _Automaton:
    """States by number; each with the states that are reached for free, and those that a character leads to."""

    def __init__(self, node: Node) -> None:
        self.free: list[list[int]] = []
        self.steps: list[list[tuple[Ranges, int]]] = []
        self.first = self._state()
        self.last = self._add(node, self.first)

    def _state(self) -> int:
        self.free.append([])
        self.steps.append([])
        return len(self.free) - 1

    def _add(self, node: Node, begin: int) -> int:
        """Add what the node matches after this state. Returns where it ends."""
        if node.kind == "one":
            end = self._state()
            self.steps[begin].append((node.ranges, end))
            return end
        if node.kind == "row":
            for each in node.nodes:
                begin = self._add(each, begin)
            return begin
        if node.kind == "either":
            end = self._state()
            for each in node.nodes:
                self.free[self._add(each, begin)].append(end)
            return end
        return self._repeat(node, begin)

    def _repeat(self, node: Node, begin: int) -> int:
        (inner,) = node.nodes
        for _ in range(min(node.least, _MOST_REPEATS)):
            begin = self._add(inner, begin)
        end = self._state()
        if node.most is None or node.most > _MOST_REPEATS:
            loop = self._state()
            self.free[begin].append(loop)
            self.free[self._add(inner, loop)].append(loop)
            self.free[loop].append(end)
            return end
        for _ in range(node.most - node.least):
            self.free[begin].append(end)
            begin = self._add(inner, begin)
        self.free[begin].append(end)
        return end


class _Strange(Exception):
    """Something that is not read here."""


_DIGITS: Final = ((48, 57),)
_WORD: Final = ((48, 57), (65, 90), (95, 95), (97, 122))
_BLANK: Final = ((9, 10), (12, 13), (32, 32))
_CLASSES: Final = {"d": _DIGITS, "w": _WORD, "s": _BLANK}
_CONTROLS: Final = {"n": 10, "t": 9, "r": 13, "f": 12, "v": 11, "a": 7}


def _outside(ranges: Ranges) -> Ranges:
    found, begin = [], 0
    for first, last in sorted(ranges):
        if first > begin:
            found.append((begin, first - 1))
        begin = max(begin, last + 1)
    return (*found, (begin, _LAST)) if begin <= _LAST else tuple(found)


def _both_cases(ranges: Ranges) -> Ranges:
    more: list[tuple[int, int]] = []
    for first, last in ranges:
        for low, high, shift in ((65, 90, 32), (97, 122, -32)):
            begin, end = max(first, low), min(last, high)
            if begin <= end:
                more.append((begin + shift, end + shift))
    return (*ranges, *more)


class _Reader:
    """Reads RE2's syntax, as far as people write it."""

    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._at = 0
        self._fold = False
        self._dot_all = False
        self.groups: dict[str, Node] = {}

    def read(self) -> Node:
        node = self._alternatives()
        if self._at < len(self._text):
            raise _Strange
        return node

    def _next(self, sign: str) -> bool:
        if self._text.startswith(sign, self._at):
            self._at += len(sign)
            return True
        return False

    def _alternatives(self) -> Node:
        found = [self._row()]
        while self._next("|"):
            found.append(self._row())
        return found[0] if len(found) == 1 else either(*found)

    def _row(self) -> Node:
        found: list[Node] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            found.append(self._repeated(self._one()))
        return row(*found)

    def _repeated(self, node: Node) -> Node:
        while self._at < len(self._text):
            if self._next("*"):
                node = repeat(node, 0, None)
            elif self._next("+"):
                node = repeat(node, 1, None)
            elif self._next("?"):
                node = repeat(node, 0, 1)
            elif (count := self._count()) is not None:
                node = repeat(node, *count)
            else:
                break
            self._next("?")  # as few as possible: the same texts
        return node

    def _count(self) -> tuple[int, int | None] | None:
        if not self._text.startswith("{", self._at):
            return None
        inside, _, _ = self._text[self._at + 1 :].partition("}")
        low, comma, high = inside.partition(",")
        if not low.isdecimal() or not (high.isdecimal() or not high):
            return None
        self._at += len(inside) + 2
        return int(low), (int(high) if high else None) if comma else int(low)

    def _one(self) -> Node:
        if self._next("("):
            return self._group()
        if self._next("["):
            return Node("one", self._folded(self._class()))
        if self._next("."):
            return Node("one", ((0, _LAST),) if self._dot_all else ((0, 9), (11, _LAST)))
        if self._next("^") or self._next("$"):
            return row()  # whole texts are matched; elsewhere this takes too much for possible
        if self._next("\\"):
            return self._escape()
        return Node("one", self._folded(self._character()))

    def _character(self) -> Ranges:
        sign = self._text[self._at]
        self._at += 1
        return ((ord(sign), ord(sign)),)

    def _folded(self, ranges: Ranges) -> Ranges:
        return _both_cases(ranges) if self._fold else ranges

    def _group(self) -> Node:
        name, fold, dot_all = None, self._fold, self._dot_all
        if self._next("?P<") or self._next("?<"):
            name, _, _ = self._text[self._at :].partition(">")
            self._at += len(name) + 1
        elif self._next("?"):
            closed = self._flags()
            if closed:
                return row()  # `(?i)`: for what follows
        node = self._alternatives()
        if not self._next(")"):
            raise _Strange
        self._fold, self._dot_all = fold, dot_all
        if name is not None:
            self.groups[name] = node
        return node

    def _flags(self) -> bool:
        """Read `i:` or `s-i)`. Returns whether the group was closed at once."""
        on = True
        while True:
            sign = self._text[self._at]
            self._at += 1
            if sign in ":)":
                return sign == ")"
            if sign == "-":
                on = False
            elif sign == "i":
                self._fold = on
            elif sign == "s":
                self._dot_all = on
            elif sign not in "mU":
                raise _Strange

    def _escape(self) -> Node:
        sign = self._text[self._at]
        if sign in "AzZbB":
            self._at += 1
            return row()
        return Node("one", self._folded(self._escaped()))

    def _escaped(self) -> Ranges:
        sign = self._text[self._at]
        self._at += 1
        if sign.lower() in _CLASSES:
            ranges = _CLASSES[sign.lower()]
            return ranges if sign.islower() else _outside(ranges)
        if sign in _CONTROLS:
            return ((_CONTROLS[sign], _CONTROLS[sign]),)
        if sign.isalnum():
            raise _Strange
        return ((ord(sign), ord(sign)),)

    def _class(self) -> Ranges:
        negated = self._next("^")
        found: list[tuple[int, int]] = []
        first = True
        while first or not self._next("]"):
            first = False
            if self._text.startswith("[:", self._at):
                raise _Strange
            item = self._escaped() if self._next("\\") else self._character()
            if self._text.startswith("-", self._at) and self._text[self._at + 1] != "]":
                self._at += 1
                end = self._escaped() if self._next("\\") else self._character()
                item = ((item[0][0], end[0][1]),)
            found += item
        ranges = tuple(found)
        if negated:
            return _outside(_both_cases(ranges) if self._fold else ranges)
        return ranges


def together(nodes: Sequence[Node]) -> Node:
    """What is in any of them."""
    return nodes[0] if len(nodes) == 1 else either(*nodes)
