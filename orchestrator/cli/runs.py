"""What people say of runs, for rules to ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from orchestrator.cli.session import Exit, Home, Json, fail, opened, person
from orchestrator.cli.terminal import out, print_json, print_table
from orchestrator.clock import utc_now
from orchestrator.core.runs import RunsError, read_range

app = typer.Typer(no_args_is_help=True, help="Flags of detector runs; a rule asks for them with `run_flags`.")

#: A range of more runs is a slip of the keyboard.
_MOST = 100_000

Flag = Annotated[str, typer.Argument(help="For example QA, full, special.")]
Runs = Annotated[list[str], typer.Argument(help="Runs, and ranges such as 59641..59650.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the journal.")]


@app.command("flag")
def flag(flag: Flag, runs: Runs, reason: Reason, home: Home = None, json_: Json = False) -> None:
    """Give runs a flag. Pending messages of these runs are judged again at once."""
    numbers = _numbers(runs)
    with opened(home, reading=True) as muleteer:
        new = muleteer.store.run_flags.set(numbers, _word(flag), who=person(), reason=reason, now=utc_now())
    _report(new, numbers, json_, f"now {flag}", "already")


@app.command("unflag")
def unflag(flag: Flag, runs: Runs, reason: Reason, home: Home = None, json_: Json = False) -> None:
    """Take a flag from runs. Pending messages of these runs are judged again at once."""
    numbers = _numbers(runs)
    with opened(home, reading=True) as muleteer:
        old = muleteer.store.run_flags.unset(numbers, flag, who=person(), reason=reason, now=utc_now())
    _report(old, numbers, json_, f"no longer {flag}", "not before either")


@app.command("list")
def list_(
    run: Annotated[int | None, typer.Option("--run", help="Of this run alone.")] = None,
    home: Home = None,
    json_: Json = False,
) -> None:
    """List the flags of runs."""
    with opened(home, reading=True) as muleteer:
        found = muleteer.store.run_flags.list(run)
    if json_:
        print_json(found)
        return
    rows = [(each.run, each.flag, each.at, each.who, each.reason) for each in found]
    print_table(("run", "flag", "at", "who", "reason"), rows, empty="No run has a flag.")


def _report(changed: Sequence[int], asked: Sequence[int], json_: bool, now: str, as_before: str) -> None:
    if json_:
        print_json({"changed": changed, "unchanged": sorted(set(asked) - set(changed))})
        return
    rest = len(set(asked)) - len(changed)
    out.print(f"{len(changed)} runs: {now}" + (f"; {rest}: {as_before}" if rest else ""))


def _word(flag: str) -> str:
    if not flag or len(flag) > 100 or not flag.isprintable() or flag.startswith("!") or " " in flag:
        fail(Exit.USAGE, f"{flag!r} is no flag: one word of up to 100 letters, without a ! in front")
    return flag


def _numbers(words: Sequence[str]) -> list[int]:
    numbers: list[int] = []
    for word in words:
        try:
            first, last = read_range(word)
        except RunsError as error:
            fail(Exit.USAGE, str(error))
        if last - first >= _MOST:
            fail(Exit.USAGE, f"{word} are more than {_MOST:,} runs at once: is that meant? Then take them in parts")
        numbers += range(first, last + 1)
    return numbers
