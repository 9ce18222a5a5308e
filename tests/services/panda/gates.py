"""Gates: what a step of a workflow waits for. See model.Work for their form."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from .model import FINAL, PROCESSED
from .step import Corrupted

Gate = list[Any]


def holds(gate: Gate | None, status_of: Callable[[int], str | None]) -> bool:
    """Whether a gate is open; `status_of` tells the status of a node's task, None as long as JEDI knows of none."""
    if gate is None:
        return True
    if gate[0] in ("and", "or"):
        parts = (holds(part, status_of) for part in gate[1:])
        return all(parts) if gate[0] == "and" else any(parts)
    status = status_of(gate[1])
    if gate[0] == "started":
        return status is not None
    return status in (PROCESSED if gate[0] == "processed" else FINAL - PROCESSED)


def all_of(gates: list[Gate]) -> Gate:
    """A gate that is open when all of these are."""
    return gates[0] if len(gates) == 1 else ["and", *gates]


def condition(text: str, nodes: Callable[[str, int | None], list[int]]) -> tuple[Gate, set[str]]:
    """The gate of `when`, and the inputs that it takes away.

    `$(self.opt_inDS)` is "processed", `$(!self.opt_inDS)` is "failed", `self.opt_inDS[1]` is the second of a list;
    with && || (). `nodes` tells what is behind an input. Raises Corrupted for anything else.
    """
    expression = re.sub(r"\$\((.+)\)", r"\1", text)
    tokens = [token.replace(" ", "") for token in re.findall(r"\(|\)|&&|\|\||!? *self\.[^ ()&|!]+|[^ ]+", expression)]
    alone = re.fullmatch(r"!self\.(\w+)", tokens[0]) if len(tokens) == 1 else None
    gate = _joined(tokens, nodes)
    if tokens:
        raise Corrupted(f'failed to run with unknown token "{tokens[0]}"')
    return gate, {alone[1]} if alone else set()


def _joined(tokens: list[str], nodes: Callable[[str, int | None], list[int]]) -> Gate:
    left = _single(tokens, nodes)
    while tokens and tokens[0] in ("&&", "||"):
        left = ["and" if tokens.pop(0) == "&&" else "or", left, _single(tokens, nodes)]
    return left


def _single(tokens: list[str], nodes: Callable[[str, int | None], list[int]]) -> Gate:
    token = tokens.pop(0) if tokens else ""
    if token == "(":
        inner = _joined(tokens, nodes)
        if not tokens or tokens.pop(0) != ")":
            raise Corrupted('failed to run with unknown token "("')
        return inner
    found = re.fullmatch(r"(!?)self\.(\w+)(?:\[(\d+)\])?", token)
    if found is None:
        raise Corrupted(f'failed to run with unknown token "{token}"')
    numbers = nodes(found[2], int(found[3]) if found[3] else None)
    if not numbers:
        raise Corrupted(f"failed to run with unresolved parameter {found[2]} in the condition string")
    return all_of([["failed" if found[1] else "processed", number] for number in numbers])
