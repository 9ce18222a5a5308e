"""Files that people give: policies of transient datasets, and plans of what is to be released."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from orchestrator.cli.session import Exit, fail
from orchestrator.core.documents import Document, DocumentError, written
from orchestrator.core.mistakes import Mistake
from orchestrator.core.runs import RunsError
from orchestrator.core.transient.policies import mistakes_in, with_kept_runs
from schemas.transient import Plan, TransientPolicy, TransientPolicyFile

#: Mistakes in a plan that are named; nobody writes one by hand.
_SHOWN = 3


def read_policies(path: Path) -> Sequence[TransientPolicy]:
    """The policies of a file, or of all `*.yaml` and `*.yml` files in a folder.

    Ends the command with every mistake, its file, line and field.
    """
    if not path.exists():
        fail(Exit.NOT_FOUND, f"there is no {path}")
    files = sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml")) if path.is_dir() else [path]
    if not files:
        fail(Exit.REFUSED, f"{path}: there is no .yaml file in this folder")
    reading = _Reading()
    for file in files:
        reading.read(file)
    if reading.mistakes:
        fail(Exit.REFUSED, "\n".join(reading.mistakes))
    return list(reading.policies.values())


class _Reading:
    """Several files, read as one set of policies."""

    def __init__(self) -> None:
        self.policies: dict[str, TransientPolicy] = {}
        #: Where each of them was found first.
        self._homes: dict[str, Path] = {}
        self.mistakes: list[str] = []

    def read(self, file: Path) -> None:
        try:
            document = Document(file.read_text(encoding="utf-8"), str(file))
            read = document.read(TransientPolicyFile).policies
        except (OSError, UnicodeDecodeError) as error:
            self.mistakes.append(f"{file}: cannot be read: {error}")
            return
        except DocumentError as error:
            self.mistakes.append(str(error))
            return
        wrong: list[Mistake] = []
        for position, each in enumerate(read):
            policy, mistakes = _with_runs(each, file.parent)
            mistakes += [*self._met_before(policy), *mistakes_in(policy)]
            wrong += [(("policies", position, *place), what) for place, what in mistakes]
            self.policies.setdefault(policy.name, policy)
            self._homes.setdefault(policy.name, file)
        if wrong:
            self.mistakes.append(document.all(wrong))

    def _met_before(self, policy: TransientPolicy) -> Iterator[Mistake]:
        if policy.name in self.policies:
            where = self._homes[policy.name]
            yield ("name",), f"the policy {policy.name!r} is defined in {where} too: give each its own name"


def _with_runs(policy: TransientPolicy, folder: Path) -> tuple[TransientPolicy, list[Mistake]]:
    """The policy with its file of runs read into it, and what is wrong with that."""
    file = policy.keep.runs.include_file
    if file is None:
        return policy, []
    path = folder / file
    try:
        read = with_kept_runs(policy, path.read_text(encoding="utf-8"))
        if read.keep.runs.include == policy.keep.runs.include:
            raise RunsError("there is no run in it, so nothing would be kept")
        return read, []
    except (OSError, UnicodeDecodeError, RunsError) as error:
        said = getattr(error, "strerror", None) or error
        runs = policy.keep.runs.model_copy(update={"include_file": None})
        without = policy.model_copy(update={"keep": policy.keep.model_copy(update={"runs": runs})})
        return without, [(("keep", "runs", "include_file"), f"{path}: {said}")]


def policies_text(policies: Sequence[TransientPolicy]) -> str:
    """The policies as a file that `read_policies` takes, written as a person would."""
    return written({"policies": [policy.as_written() for policy in policies]})


def read_plan(path: Path) -> Plan:
    """What `transient plan --out` wrote. Ends the command if it is anything else."""
    try:
        return Plan.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        fail(Exit.NOT_FOUND, f"there is no {path}: `muleteer transient plan --out {path}` makes one")
    except (OSError, UnicodeDecodeError) as error:
        fail(Exit.REFUSED, f"{path}: cannot be read: {error}")
    except ValidationError as error:
        found = [f"{'.'.join(map(str, each['loc'])) or 'the file'}: {each['msg']}" for each in error.errors()[:_SHOWN]]
        fail(Exit.REFUSED, f"{path} is not a plan of `muleteer transient plan`: {'; '.join(found)}")


def write_plan(path: Path, plan: Plan) -> None:
    """Ends the command if it cannot be written."""
    try:
        path.write_text(plan.model_dump_json(indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        fail(Exit.REFUSED, f"{path} cannot be written: {error}")
