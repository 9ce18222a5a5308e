"""Read a YAML document into a model, and say of every mistake on which line it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

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
            raise DocumentError(f"{source}:{line} {error.problem or error.context}") from None
        except (YAMLError, ValueError, RecursionError) as error:
            raise DocumentError(f"{source}: {error}") from None

    def read(self, model: type[M]) -> M:
        """Raises DocumentError."""
        try:
            return model.model_validate(_plain(self._content))
        except ValidationError as error:
            problems = error.errors(include_url=False, include_input=False)
            raise DocumentError("\n".join(self.at(each["loc"], said(each)) for each in problems)) from None

    def at(self, place: Sequence[int | str], message: str) -> str:
        """A message with the file, the line and the field that it is about."""
        field = ".".join(str(part) for part in place)
        return f"{self.source}:{self._line(place)}: {field + ': ' if field else ''}{message}"

    def _line(self, place: Sequence[int | str]) -> int:
        """The line of the deepest part of `place` that the document has, from 1."""
        node, line = self._content, 1
        for part in place:
            if isinstance(node, CommentedMap) and part in node:
                line, node = node.lc.key(part)[0] + 1, node[part]
            elif isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node):
                line, node = node.lc.item(part)[0] + 1, node[part]
            # a model may have wrapped a single value into a list, or named a part that the text does not spell out
        return line


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


_WORDS = {
    "extra_forbidden": "there is no such field",
    "missing": "it is missing",
    "dict_type": "expected fields with values (name: value)",
    "model_type": "expected fields with values (name: value)",
    "tuple_type": "expected a list: [one, two]",
    "list_type": "expected a list: [one, two]",
    "string_type": "expected a text",
    "too_short": "expected at least one",
}


def said(problem: Mapping[str, Any]) -> str:
    """One of pydantic's findings, in words for whoever wrote the document."""
    return _WORDS.get(problem["type"], str(problem["msg"]).removeprefix("Value error, "))
