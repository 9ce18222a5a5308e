"""Read a YAML document into a model, and say of every mistake on which line it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString, SingleQuotedScalarString

from orchestrator.core.mistakes import Mistake, mistakes_in

M = TypeVar("M", bound=BaseModel)


class DocumentError(ValueError):
    """The document does not fit. The text has one line for each mistake: where, which field, what is allowed."""


class Document:
    """A YAML text, with the line of each of its parts."""

    def __init__(self, text: str, source: str) -> None:
        """`source` names the text in messages, for example its path. Raises DocumentError if it is not YAML 1.2."""
        self.source = source
        reader = YAML(typ="rt", pure=True)  # the round-trip reader is the one that remembers lines
        try:
            self._content = reader.load(StringIO(text))
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f"{mark.line + 1}:" if mark is not None else ""
            # of a key that stands there twice, not both values
            problem = str(error.problem or error.context).partition(" with value ")[0]
            raise DocumentError(f"{source}:{line} {problem}") from None
        except (YAMLError, ValueError, RecursionError) as error:
            raise DocumentError(f"{source}: {error}") from None

    def read(self, model: type[M]) -> M:
        """Raises DocumentError."""
        content = _plain(self._content)
        try:
            return model.model_validate(content)
        except ValidationError as error:
            raise DocumentError(self.all(mistakes_in(error, model, content))) from None

    def all(self, mistakes: Iterable[Mistake]) -> str:
        """One line for each mistake, in the order of the text."""
        return "\n".join(self.at(*mistake) for mistake in sorted(mistakes, key=lambda each: self._find(each[0])[1]))

    def at(self, place: Sequence[int | str], message: str) -> str:
        """A message with the file, the line and the field that it is about."""
        parts, line = self._find(place)
        field = ".".join(map(str, parts))
        return f"{self.source}:{line}: {field + ': ' if field else ''}{message}"

    def _find(self, place: Sequence[int | str]) -> tuple[Sequence[int | str], int]:
        """A place as the text spells it out, and the line of the deepest part of it, from 1."""
        node, line, parts = self._content, 1, list[int | str]()
        for depth, part in enumerate(place, start=1):
            if isinstance(node, CommentedMap) and part in node:
                # what a merge key brought stands on the line of the merge
                line, node = _line_of(node, part, line), node[part]
            elif isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node):
                line, node = node.lc.item(part)[0] + 1, node[part]
            elif isinstance(part, int) or depth < len(place):
                continue  # a model may have wrapped a single value into a list
            parts.append(part)
        return parts, line


def _line_of(node: CommentedMap, key: int | str, line: int) -> int:
    marks = node.lc.data or {}
    return int(marks[key][0]) + 1 if key in marks else line


def _plain(node: Any) -> Any:
    """The same values without the reader's own types; text stays text and numbers stay numbers."""
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    if isinstance(node, bool) or node is None:
        return node
    for kind in (int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return str(node)


def written(value: Mapping[str, Any]) -> str:
    """The YAML text of nested plain values, as a person would write it; reading it gives the same values."""
    writer = YAML(typ="rt", pure=True)
    writer.indent(mapping=2, sequence=4, offset=2)
    writer.width = _NO_FOLDING
    text = StringIO()
    writer.dump(_dressed(value), text)
    return text.getvalue()


#: Longer lines than this are never written: a pattern that goes over two lines cannot be read.
_NO_FOLDING = 1_000_000

#: Lists of plain values stand on one line up to this length.
_ONE_LINE = 90

#: What can be written without quotes and is read as text: words, and what begins with a number, as 5m does.
_BARE = re.compile(r"([A-Za-z_./]|[1-9]\d* ?[a-df-z])([\w./@+ -]*[\w./@+-])?", re.ASCII)

#: Words that are read as something else.
_NOT_TEXT = frozenset({"true", "false", "null", "nan", "inf"})


def _dressed(value: Any) -> Any:
    """The same values with the marks that say how they are written."""
    if isinstance(value, Mapping):
        return CommentedMap((_dressed_text(key, key=True), _dressed(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        items = CommentedSeq(_dressed(item) for item in value)
        plain = not any(isinstance(item, Mapping | list | tuple) or "\n" in str(item) for item in value)
        if plain and sum(len(str(item)) + 2 for item in value) <= _ONE_LINE:
            items.fa.set_flow_style()
        return items
    return _dressed_text(value) if isinstance(value, str) else value


def _dressed_text(text: str, *, key: bool = False) -> Any:
    if not text.replace("\n", "").isprintable():
        return DoubleQuotedScalarString(text)
    if "\n" in text:
        return DoubleQuotedScalarString(text) if key or text[0] in " \n" else LiteralScalarString(text)
    if _BARE.fullmatch(text) and text.lower().lstrip("./") not in _NOT_TEXT:
        return text
    return SingleQuotedScalarString(text)
