"""The script that a job's commands become: their text as it is, between lines that set up what shrek promised."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from orchestrator.core.scatter import variable_of
from orchestrator.core.shrek_blocks import SCRIPTS, ShrekFile
from orchestrator.core.shrek_values import shell_word

#: The shell file that every script sources first; it lies beside them.
PRELUDE: Final = "muleteer-shrek.sh"


def script(
    file: ShrekFile,
    sources: Sequence[str],
    *,
    optional: Iterable[str] = (),
    resources: str | None = None,
    late: Sequence[str] = (),
) -> str:
    """The script; no value that a launch gives stands in it.

    Args:
        sources: what the workflow calls each of the job's inputs.
        optional: variables that are to be unset if they are empty.
        resources: the folder of the package with what the job wants beside it.
        late: lines that set what only the job can know.
    """
    listed = [*file.blocks.InputDataSets, *file.blocks.SecondaryDataSets]
    lines = ["#!/usr/bin/env bash", f"# The job {_one_line(file.name)} of {_one_line(file.source.rpartition('/')[2])}."]
    lines += [f"# IN{number}: {_one_line(each.comment)}" for number, each in enumerate(listed, 1) if each.comment]
    lines += [f"source ./{PRELUDE} || exit"]
    lines += [f"shrek_optional {' '.join(optional)}"] if optional else []
    for number, source in enumerate(sources):
        variable = variable_of(source).replace("_PARAM_", "_INPUT_", 1)
        if listed:
            lines.append(f'shrek_input {shell_word((listed[number].name,))} "${variable}"')
        else:
            lines.append(f'shrek_input "pfnlist_$pfnList" "${variable}" "$pfnList"')
    lines += [f"shrek_resources {resources}"] if resources else []
    lines += ['set -- "${shrek_arguments[@]}"', *late]
    lines += ['for shrek_plugin in plugins/*.sh; do [ -f "$shrek_plugin" ] && source "$shrek_plugin"; done']
    for block, word in SCRIPTS.items():
        if text := getattr(file.blocks, block):
            lines += [f'addmetadata shrek_{word}_start "$(date)"', text.removesuffix("\n")]
            lines += [f'addmetadata shrek_{word}_end "$(date)"']
    lines += ['addmetadata shrek_end_time "$(date)"', 'exit "${shrek_status_code:-0}"', ""]
    return "\n".join(lines)


def _one_line(text: str) -> str:
    return " ".join(text.split())
