"""Workflow descriptions in CWL, read and refused as the real server does it, and turned into works with gates.

It is the server's subset: `run` names prun (or another of its commands) or a sub-workflow; steps take `opt_*`
inputs from literals, root inputs and outputs of steps; `scatter` and `when` work. Nodes are numbered in topological
order, and the task of node N is named `<outDS>_<NNN>_<step>`.
"""

from __future__ import annotations

import copy
import gzip
import io
import posixpath
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from .gates import Gate, all_of, condition
from .model import Work
from .report import Report
from .step import OPTIONS, Corrupted, Leaf, params_of, resolve_secondaries

COMMANDS = ("prun", "phpo", "junction", "reana", "gitlab")


class Description:
    """The sandbox of a request, unpacked in memory, and what the request says about it."""

    def __init__(self, sandbox: bytes, order: dict[str, Any]) -> None:
        self.order = order
        self.out_ds: str = order["outDS"]
        try:
            with tarfile.open(fileobj=io.BytesIO(gzip.decompress(sandbox))) as tar:
                self._files = {
                    posixpath.normpath(member.name): content.read()
                    for member in tar
                    if member.isfile() and (content := tar.extractfile(member)) is not None
                }
        except (OSError, EOFError, tarfile.TarError):
            raise Corrupted(f"failed to extract {order['sandbox']}") from None

    def text(self, name: str) -> str:
        """A file of the sandbox. Raises Corrupted without one."""
        content = self._files.get(posixpath.normpath(name))
        if content is None:
            raise Corrupted(f"failed to run with [Errno 2] No such file or directory: '{name}'")
        return content.decode(errors="replace")

    def load(self, name: str) -> dict[str, Any]:
        """A YAML file of the sandbox. Raises Corrupted if it is none, or no map."""
        try:
            value = YAML(typ="safe", pure=True).load(self.text(name))
        except YAMLError as error:
            raise Corrupted(f"failed to run with {error}") from None
        if not isinstance(value, dict | None):
            raise Corrupted(f"failed to run with {name} is not a map")
        return value or {}


@dataclass
class Made:
    """What one step became: all its leaves, those whose outputs are its own, and whether it is a leaf itself."""

    leaves: list[Leaf] = field(default_factory=list)
    tails: list[Leaf] = field(default_factory=list)
    simple: bool = True


@dataclass
class Scope:
    """One CWL file being read: its root values and what its steps have become so far."""

    file: str
    root: dict[str, Any]
    inner: bool
    made: dict[str, Made] = field(default_factory=dict)


def read(description: Description, report: Report) -> list[Work]:
    """The works of a request. Raises Corrupted with what the server's log says of a bad one."""
    report.say("parse workflow")
    if description.order["language"] != "cwl":
        raise Corrupted("{} is not supported to describe the workflow")
    reader = _Reader(description, report)
    values = description.load(description.order["workflowInputFile"])
    reader.expand(description.order["workflowSpecFile"], values, None, set())
    leaves = sorted(reader.leaves, key=lambda leaf: leaf.number)
    by_number = {leaf.number: leaf for leaf in leaves}
    for leaf in leaves:
        resolve_secondaries(leaf, by_number)
    works = [
        Work(
            leaf.number,
            leaf.dataset,
            params_of(leaf, by_number, description.order["taskParams"]["container"], description.text),
            sorted(leaf.parents),
            leaf.gate,
        )
        for leaf in leaves
    ]
    report.say("the description was internally converted as follows\n\n" + "".join(leaf.dump() for leaf in leaves))
    _verify(leaves, report)
    return works


def _verify(leaves: list[Leaf], report: Report) -> None:
    """Raises Corrupted with the last failure; the report has them all."""
    failures = [f"Verification failure in ID:{leaf.number} {text}" for leaf in leaves if (text := _failure(leaf))]
    for text in failures[:-1]:
        report.say(text)
    if failures:
        raise Corrupted(failures[-1])


def _failure(leaf: Leaf) -> str | None:
    """Why a leaf is refused."""
    for name, value in leaf.shown_inputs().items():
        if value is None:
            return f"{name} is unresolved"
    for name in ("opt_exec", "opt_args"):
        found = re.search(r"%{[A-Z]*DS(\d+|\*)}", leaf.inputs.get(name) or "")
        if found:
            return f"{found[0]} is unresolved in {name}"
    unknown = [name for name in leaf.shown_inputs() if name not in OPTIONS[leaf.kind]]
    return f"unknown input parameter {unknown[0]} for {leaf.kind}" if unknown else None


class _Reader:
    """Expands CWL files into numbered leaves."""

    def __init__(self, description: Description, report: Report) -> None:
        self._description, self._report = description, report
        self._number = 0
        self.leaves: list[Leaf] = []

    def expand(self, file: str, values: Mapping[str, Any], outer: Gate | None, above: set[int]) -> Made:
        """Read one file with these values for its inputs; `outer` and `above` hold back all of it."""
        document = self._description.load(file)
        inputs = _named(document.get("inputs"), "type")
        root = {name: values.get(name, item.get("default")) for name, item in inputs.items()}
        scope = Scope(file, root, inner=file != self._description.order["workflowSpecFile"])
        steps = _named(document.get("steps"), "run")
        if not steps:
            raise Corrupted("workflow is empty")
        for name in _sorted(steps):
            scope.made[name] = self._step(scope, name, steps[name], outer, above)
        wanted = {item.get("outputSource", "") for item in _named(document.get("outputs"), "outputSource").values()}
        tails = [name for name in scope.made if any(str(source).partition("/")[0] == name for source in wanted)]
        return Made(
            [leaf for made in scope.made.values() for leaf in made.leaves],
            [leaf for name in tails for leaf in scope.made[name].tails],
            simple=False,
        )

    def _step(self, scope: Scope, name: str, step: dict[str, Any], outer: Gate | None, above: set[int]) -> Made:
        run = posixpath.basename(str(step.get("run", "")))
        if not run.endswith(".cwl") and run not in COMMANDS:
            self._report.say(f"Unknown workflow {step.get('run')}")
            raise Corrupted("failed to run with 'bool' object is not iterable")
        sources = _named(step.get("in"), "source")
        inputs = {key: _value(item, scope) for key, item in sources.items()}
        before = {key: _sources(item) for key, item in sources.items()}
        gate, suppressed = self._gate(scope, step, before)
        parents = {leaf.number for made in _parents(scope, before) for leaf in made.tails}
        head = any(source in scope.root for items in before.values() for source in items)
        both = gate if outer is None else outer if gate is None else ["and", outer, gate]
        parents |= above if head else set()
        made = Made(simple=run in COMMANDS or run in ("prun.cwl", "phpo.cwl"))
        for chosen in _scattered(step.get("scatter"), inputs):
            if made.simple:
                kind = run.removesuffix(".cwl")
                leaf = Leaf(self._number, name, kind, chosen, set(parents), both, suppressed)
                leaf.dataset = f"{self._description.out_ds}_{self._number:03d}_{name}"
                leaf.globals = dict(scope.root) if scope.inner else None
                made.leaves.append(leaf)
                made.tails.append(leaf)
                self.leaves.append(leaf)
            else:
                inner = posixpath.join(posixpath.dirname(scope.file), str(step["run"]))
                sub = self.expand(inner, chosen, both, parents)
                made.leaves += sub.leaves
                made.tails += sub.tails
            self._number += 1
        return made

    def _gate(self, scope: Scope, step: dict[str, Any], before: dict[str, list[str]]) -> tuple[Gate | None, set[str]]:
        """What a step waits for, and the inputs that its condition takes away."""
        if step.get("when"):
            return condition(str(step["when"]), lambda name, place: _leaves(scope, before.get(name, []), place))
        parents = _parents(scope, before)
        if not parents:
            return None, set()
        several = len({leaf.number for made in parents for leaf in made.tails}) > 1
        run = posixpath.basename(str(step["run"]))
        waits = several or any(not made.simple for made in parents) or run in ("junction", "reana", "gitlab")
        verb = "processed" if waits else "started"
        return all_of([[verb, leaf.number] for made in parents for leaf in made.leaves]), set()


def _leaves(scope: Scope, sources: list[str], place: int | None) -> list[int]:
    """The nodes behind the sources of an input, or behind the one at a place."""
    chosen = sources if place is None else sources[place : place + 1]
    return [leaf.number for made in _parents(scope, {"": chosen}) for leaf in made.leaves]


def _parents(scope: Scope, before: dict[str, list[str]]) -> list[Made]:
    """The steps that the sources name, each once."""
    names = {source.partition("/")[0] for items in before.values() for source in items if "/" in source}
    return [made for name, made in scope.made.items() if name in names]


def _named(items: Any, bare: str) -> dict[str, dict[str, Any]]:
    """A CWL map or list of things as a map; a thing that is only a value is the value of `bare`."""
    if isinstance(items, list):
        items = {str(item.get("id", "")) if isinstance(item, dict) else str(item): item for item in items}
    if not isinstance(items, dict):
        return {}
    return {str(name): item if isinstance(item, dict) else {bare: item} for name, item in items.items()}


def _sources(item: dict[str, Any]) -> list[str]:
    source = item.get("source")
    return [] if source is None else [str(one) for one in source] if isinstance(source, list) else [str(source)]


def _value(item: dict[str, Any], scope: Scope) -> Any:
    """What an input of a step is: a root input, the dataset of a step, a literal, or None if it is not resolved."""
    values = [_resolved(source, scope) for source in _sources(item)]
    if not values:
        return item.get("default")
    if isinstance(item["source"], list):
        return None if None in values else values
    return item.get("default") if values[0] is None else values[0]


def _resolved(source: str, scope: Scope) -> Any:
    if source in scope.root:
        return scope.root[source]
    step, _, _ = source.partition("/")
    if "/" not in source or step not in scope.made:
        return None
    datasets = [leaf.dataset for leaf in scope.made[step].tails]
    return datasets[0] if len(datasets) == 1 else datasets


def _scattered(scatter: Any, inputs: dict[str, Any]) -> list[dict[str, Any]]:
    """The inputs of each copy of a step: one for each item of what it scatters over."""
    names = [scatter] if isinstance(scatter, str) else list(scatter or [])
    if not names:
        return [copy.deepcopy(inputs)]
    missing = [name for name in names if not isinstance(inputs.get(name), list)]
    if missing:
        raise Corrupted(f"failed to run with {missing[0]} is no list to scatter over")
    return [inputs | dict(zip(names, items, strict=True)) for items in zip(*(inputs[n] for n in names), strict=False)]


def _sorted(steps: dict[str, dict[str, Any]]) -> list[str]:
    """Names of steps, parents first, and in the order of the file where that leaves a choice."""
    needs = {name: {source.partition("/")[0] for source in _all_sources(steps[name])} & {*steps} for name in steps}
    done: list[str] = []
    while len(done) < len(steps):
        before = len(done)
        for name in steps:
            if name not in done and needs[name] <= {*done}:
                done.append(name)
        if len(done) == before:
            raise Corrupted("failed to run with maximum recursion depth exceeded")
    return done


def _all_sources(step: dict[str, Any]) -> list[str]:
    return [source for item in _named(step.get("in"), "source").values() for source in _sources(item)]
