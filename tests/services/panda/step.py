"""One step of a workflow: its placeholders, its `prun` line read by panda-client's own parser, its parameters."""

from __future__ import annotations

import copy
import importlib
import re
import shlex
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from .model import Params

_IN_DS = {"opt_inDS", "opt_inDsType", "opt_args", "opt_exec", "opt_containerImage"}
#: The inputs that steps of each kind may have.
OPTIONS: dict[str, set[str]] = {
    "prun": _IN_DS | {"opt_secondaryDSs", "opt_secondaryDsTypes", "opt_useAthenaPackages"},
    "junction": _IN_DS,
    "reana": _IN_DS,
    "phpo": {"opt_trainingDS", "opt_trainingDsType", "opt_args"},
    "gitlab": {"opt_inDS", "opt_args", "opt_api", "opt_projectID", "opt_ref", "opt_triggerToken", "opt_accessToken"}
    | {"opt_site", "opt_input_location"},
}


class Corrupted(Exception):
    """A description that the server refuses; the text is a line of its log.

    `exited`: prun's parser ended the process that reads descriptions, whose own log is lost with it.
    """

    def __init__(self, text: str, fatal: bool = True, exited: bool = False) -> None:
        super().__init__(text)
        self.fatal, self.exited = fatal and not exited, exited


@dataclass
class Leaf:
    """One step that becomes a task. `inputs` are resolved, `output_types` known once its parameters are made."""

    number: int
    name: str
    kind: str
    inputs: dict[str, Any]
    parents: set[int]
    gate: list[Any] | None
    suppressed: set[str]
    dataset: str = ""
    globals: dict[str, Any] | None = None
    output_types: list[str] = field(default_factory=list)

    def shown_inputs(self) -> dict[str, Any]:
        """The inputs without those that a condition takes away."""
        return {name: value for name, value in self.inputs.items() if name not in self.suppressed}

    def dump(self) -> str:
        lines = [f"ID:{self.number} Name:{self.name} Type:{self.kind}", f"  Parent:{_joined(sorted(self.parents))}"]
        lines += ["  Input:", *(f"     {name}: {value}" for name, value in self.inputs.items())]
        return "\n".join([*lines, "  Output:", f"     {self.dataset}", ""])


def _joined(items: Any) -> str:
    return ",".join(str(item) for item in items)


class _Parser:
    """The parser of prun's command line, of the client that is installed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parser = importlib.import_module("pandaclient.PrunArgs").build_parser()
        self._parser.prog = "prun"
        self._parser.error = self._refuse

    def _refuse(self, message: str) -> None:
        usage = self._parser.format_usage()
        raise Corrupted(f"main execution failed with 2:{usage}prun: error: {message}", exited=True)

    def parse(self, arguments: list[str]) -> Any:
        with self._lock:
            return self._parser.parse_args(arguments)


_parser = _Parser()


def resolve_secondaries(leaf: Leaf, leaves: Mapping[int, Leaf]) -> None:
    """Put the names of secondary datasets for `%{SECDSn}` into the command and the options.

    A name from a parent gets the first output of the parent, unless opt_secondaryDsTypes says another.
    """
    if "opt_secondaryDSs" not in leaf.inputs:
        return
    names = leaf.inputs["opt_secondaryDSs"] or []
    kinds = leaf.inputs.get("opt_secondaryDsTypes")
    if kinds is None:
        kinds = [_first_output(name, leaf, leaves) for name in names]
    for place, (name, kind) in enumerate(zip(names, kinds, strict=False), 1):
        if kind and "*" in kind:
            kind = kind.replace("*", "XYZ") + ".tgz"
        _replace(leaf, f"%{{SECDS{place}}}", f"{name}_{kind}/" if kind else f"{name}/")


def _first_output(dataset: str, leaf: Leaf, leaves: Mapping[int, Leaf]) -> str | None:
    """The type of the first output of the parent that makes this dataset; None if no parent does."""
    for number in leaf.parents:
        if leaves[number].dataset == dataset:
            return _output_types(leaves[number])[0]
    return None


def _replace(leaf: Leaf, placeholder: str, value: str, names: tuple[str, ...] = ("opt_exec", "opt_args")) -> None:
    for name in names:
        if name not in leaf.inputs:
            raise Corrupted(f"failed to run with '{name}'")
        leaf.inputs[name] = str(leaf.inputs[name] or "").replace(placeholder, value)


def _output_types(leaf: Leaf) -> list[str]:
    """What the names of a leaf's outputs end with."""
    if not leaf.output_types:
        found = re.search(r"--outputs(?: +|=)(\S+)", str(leaf.inputs.get("opt_args") or ""))
        leaf.output_types = [kind for _, kind, _ in _outputs(found[1].strip("'\"") if found else "")] or ["dummy"]
    return leaf.output_types


def _outputs(option: str) -> list[tuple[str, str, str]]:
    """Of `--outputs`: suffix of the dataset, type as children see it, and file name or pattern, for each."""
    made: list[tuple[str, str, str]] = []
    patterns = 0
    for item in [item for item in option.split(",") if item]:
        suffix, _, name = item.rpartition(":")
        if name.startswith("regex|"):
            if not suffix:
                suffix, patterns = str(patterns), patterns + 1
            made.append((suffix, suffix, name))
        else:
            stored = name.replace("*", "XYZ") + ".tgz" if "*" in name else name
            made.append((suffix or stored, stored, name))
    return made


def _input_datasets(leaf: Leaf, leaves: Mapping[int, Leaf]) -> list[str]:
    """The datasets of opt_inDS. As on the server, types of a list are matched by place: parents first."""
    given = leaf.shown_inputs().get("opt_inDS")
    if not given:
        return []
    names = given if isinstance(given, list) else [given]
    kinds: list[str | None]
    if chosen := leaf.inputs.get("opt_inDsType"):
        kinds = (
            chosen if isinstance(chosen, list) else [chosen.replace("*", "XYZ") + ".tgz" if "*" in chosen else chosen]
        )
    elif isinstance(given, list):
        kinds = [kind for name in names if (kind := _first_output(name, leaf, leaves))]
    else:
        kinds = [_first_output(given, leaf, leaves)]
    return [f"{name}_{kind}/" if kind else str(name) for name, kind in zip(names, kinds, strict=False)]


def params_of(leaf: Leaf, leaves: Mapping[int, Leaf], template: Params, text: Callable[[str], str]) -> Params:
    """The task parameters of a leaf; `text` reads files of the sandbox. Raises Corrupted for a bad `prun` line."""
    if leaf.kind not in ("prun", "junction"):
        raise Corrupted(f"failed to run with no {leaf.kind} on this server")
    if leaf.kind == "junction":
        leaf.inputs.setdefault("opt_args", "--outputs results.json")
    for name in ("opt_args", "opt_exec"):
        if name not in leaf.inputs:
            raise Corrupted(f"failed to run with '{name}'")
    words = shlex.split(str(leaf.inputs.get("opt_args") or ""))
    datasets = _input_datasets(leaf, leaves)
    if datasets:
        words += ["--inDS", ",".join(datasets), "--notExpandInDS", "--notExpandSecDSs"]
        words += ["--forceStaged", "--forceStagedSecondary"] if leaf.kind == "junction" else []
        for place, name in enumerate(datasets, 1):
            _replace(leaf, f"%{{DS{place}}}", name)
        _replace(leaf, "%{DS*}", ",".join(datasets))
    if leaf.globals is not None:
        for name, value in [*leaf.globals.items(), ("i", "___idds___num_run___")]:
            _replace(leaf, f"%{{{name}}}", str(value))
    words += ["--exec", leaf.inputs["opt_exec"], "--outDS", leaf.dataset]
    if image := leaf.inputs.get("opt_containerImage"):
        words += ["--containerImage", image]
    options = _parser.parse(words)
    params = copy.deepcopy(template)
    params |= {"taskName": leaf.dataset, "cliParams": " ".join(shlex.quote(word) for word in ["prun", *words])}
    params |= _from_options(options, text)
    params["jobParameters"] = _job_parameters(template, options, leaf)
    params["log"] = {**params["log"], "dataset": f"{leaf.dataset}.log/", "container": f"{leaf.dataset}.log/"}
    params["log"]["value"] = f"{leaf.dataset}.log.$JEDITASKID.${{SN}}.log.tgz"
    if not image:
        params.pop("container_name", None)
        params.pop("multiStepExec", None)
    if len(leaf.parents) == 1:
        params |= {"noWaitParent": True, "parentTaskName": leaves[min(leaf.parents)].dataset}
    if any(leaf.number in other.parents for other in leaves.values()):
        params["noEmail"] = True
    return params


def _from_options(options: Any, text: Callable[[str], str]) -> Params:
    """The parameters that options of prun stand for."""
    params: Params = {"site": None if options.site == "AUTO" else options.site}
    if options.inDS:
        params["dsForIN"] = options.inDS
    else:
        params["noInput"] = True
    if options.pfnList:
        files = [line.strip() for line in text(options.pfnList).splitlines() if line.strip()]
        params |= {"pfnList": files, "nFiles": options.nFiles or len(files)}
    elif not options.inDS:
        params |= {"nEvents": max(1, options.nJobs), "nEventsPerJob": 1}
    same = {"nFiles": "nFiles", "nFilesPerJob": "nFilesPerJob", "nEventsPerJob": "nEventsPerJob"}
    same |= {"maxAttempt": "maxAttempt", "memory": "ramCount", "maxWalltime": "maxWalltime", "avoidVP": "avoidVP"}
    same |= {"mergeOutput": "mergeOutput", "skipScout": "skipScout", "cpuTimePerEvent": "cpuTime"}
    for option, parameter in same.items():
        value = getattr(options, option, None)
        if value and value != -1 and parameter not in params:
            params[parameter] = value
    if options.forceStaged:
        params["useLocalIO"] = 1
    return params


def _job_parameters(template: Params, options: Any, leaf: Leaf) -> list[Params]:
    """Outputs, inputs, secondaries and the command, in prun's order."""
    items: list[Params] = []
    for item in template["jobParameters"]:
        if item["value"].startswith("-p "):
            break
        items.append(item)
    prefix = ".".join(leaf.dataset.split(".")[:2])
    outputs = {}
    for suffix, stored, name in _outputs(options.outputs):
        value = name if name.startswith("regex|") else f"{prefix}.$JEDITASKID._${{SN/P}}.{stored}"
        dataset = f"{leaf.dataset}_{suffix}/"
        items.append(_template(value, "output", dataset, container=dataset, hidden=True))
        outputs[name] = value
    if outputs:
        items.append(_constant(f'-o "{outputs}"'))
    if options.inDS:
        items.append(_template('-i "${IN/T}"', "input", options.inDS, exclude=r"\.log\.tgz(\.\d+)*$"))
    elif options.pfnList:
        items.append(_constant('-i "${IN/T}"'))
    items += [_constant('-p "', padding=False), _constant(quote(str(options.jobParams)), padding=False), _constant('"')]
    streams = {"IN": "${IN/T}"} if options.inDS else {}
    for stream, number, dataset in _secondaries(options.secondaryDSs):
        items.append(_template(f"${{{stream}}}", "input", dataset, hidden=True, nFilesPerJob=number))
        streams[stream] = f"${{{stream}/T}}"
    if options.secondaryDSs:
        mapped = ", ".join(f"'{key}': {value}" for key, value in streams.items())
        items.append(_constant(f'--inMap "{{{mapped}}}"'))
    return items


def _secondaries(option: str) -> list[tuple[str, int, str]]:
    """Of `--secondaryDSs`: stream, files per job and dataset, for each."""
    found: list[tuple[str, int, str]] = []
    for item in [item for item in (option or "").split(",") if item]:
        parts = item.split("#" if "#" in item else ":")
        if not 3 <= len(parts) <= 6 or not parts[1].isdigit():
            wanted = "StreamName:nFiles:DatasetName[:Pattern[:nSkipFiles[:FileNameList]]]"
            raise Corrupted(
                f"main execution failed with 10:Wrong format {item} in --secondaryDSs. Must be {wanted}", exited=True
            )
        found.append((parts[0], int(parts[1]), parts[2]))
    return found


def _constant(value: str, **more: Any) -> Params:
    return {"type": "constant", "value": value, **more}


def _template(value: str, kind: str, dataset: str, **more: Any) -> Params:
    return {"type": "template", "value": value, "param_type": kind, "dataset": dataset, **more}
