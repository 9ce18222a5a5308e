"""Replays: stored messages sent through the rules once more."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Annotated

import typer
from pydantic import ValidationError

from orchestrator.cli.filters import Event, Name, Scope, Since, Until, in_utc
from orchestrator.cli.running import Signals
from orchestrator.cli.session import Exit, Home, Json, Limit, fail, opened, person
from orchestrator.cli.terminal import err, out, plain, print_fields, print_history, print_json, print_table
from orchestrator.clock import utc_now
from orchestrator.core.runs import Runs, RunsError
from orchestrator.dispatch.replay import left_out, replayed
from orchestrator.rucio.port import CatalogUnavailable
from orchestrator.store.foreseeing import Foreseen
from orchestrator.store.replays import REFUSED
from orchestrator.wiring import Muleteer
from schemas.durations import format_duration
from schemas.event import event_name
from schemas.replay import LeftOut, Replay, ReplayId, ReplayRequest, ReplayState
from schemas.rule import Pace

app = typer.Typer(no_args_is_help=True, help="Stored messages, sent through the rules once more.")

#: How often progress is told, in seconds.
_TELL = 5.0

RuleNames = Annotated[list[str] | None, typer.Option("--rule", help="Only these rules; may be repeated.")]
RunNumbers = Annotated[
    list[str] | None, typer.Option("--runs", help="Only these runs: 59641, 59641..60000, 59641.., with commas.")
]
AsOf = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        help="The rules as they were: at a revision, or `then`: for each message when it arrived. Else as now.",
        metavar="REVISION|then",
    ),
]
PaceWords = Annotated[
    str | None, typer.Option("--pace", help="At most so many dispatches in a span of time: 50 per 10m.")
]
LiftUnique = Annotated[bool, typer.Option("--lift-unique", help="Write the dispatches without their unique keys.")]
Superseded = Annotated[bool, typer.Option("--superseded", help="Also messages that a later event has overtaken.")]
Id = Annotated[int, typer.Argument(metavar="ID", help="The replay.")]
Why = Annotated[str, typer.Option("--reason", help="Why, for the journal.")]


@app.command("start")
def start(
    home: Home = None,
    rule: RuleNames = None,
    runs: RunNumbers = None,
    since: Since = None,
    until: Until = None,
    name: Name = None,
    scope: Scope = None,
    event: Event = None,
    as_of: AsOf = None,
    pace: PaceWords = None,
    lift_unique: LiftUnique = False,
    superseded: Superseded = False,
    reason: Annotated[str | None, typer.Option("--reason", help="Why, for the journal.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be dispatched.")] = False,
    json_: Json = False,
) -> None:
    """Send stored messages through the rules once more, and write the dispatches that follow.

    What a message has started already is not started again. What rules join goes back to pending, and into their
    waiting rooms. Runs until it is done; Ctrl-C stops it, and `resume` goes on.
    """
    if not (dry_run or reason):
        raise typer.BadParameter("say why with --reason; --dry-run only tries it")
    signals = Signals()
    with opened(home, reading=True) as muleteer:
        request = ReplayRequest(
            rules=tuple(rule or ()),
            runs=_runs(runs),
            since=in_utc(since),
            until=in_utc(until),
            scope=scope,
            name=name,
            event=None if event is None else event_name(event),
            as_of=_as_of(muleteer, as_of),
            pace=_pace(pace),
            lift_unique=lift_unique,
            superseded=superseded,
        )
        omitted = left_out(muleteer.store, request)
        _tell_left_out(omitted)
        _check_rules(muleteer, request)
        if dry_run:
            found = muleteer.replayer().foresee(request, lambda: signals.asked)
            _print_foreseen(found, omitted, json_, whole=not signals.asked)
            return
        begun = muleteer.store.replays.begin(request, who=person(), reason=reason or "", now=utc_now())
        _carry_on(muleteer, begun, omitted, signals, json_)


@app.command("resume")
def resume(id_: Id, home: Home = None, reason: Why = "resumed", json_: Json = False) -> None:
    """Go on with a replay that was stopped, or whose process was killed, where it stood."""
    signals = Signals()
    with opened(home, reading=True) as muleteer:
        resumed = muleteer.store.replays.resume(ReplayId(id_), who=person(), why=reason, now=utc_now())
        omitted = left_out(muleteer.store, resumed.request)
        _tell_left_out(omitted)
        _carry_on(muleteer, resumed, omitted, signals, json_)


@app.command("stop")
def stop(id_: Id, home: Home = None, reason: Why = "stopped by hand", json_: Json = False) -> None:
    """Stop a replay that runs, in whatever process. It can be resumed."""
    with opened(home, reading=True) as muleteer:
        stopped = muleteer.store.replays.stop(ReplayId(id_), who=person(), why=reason, now=utc_now())
        _report(muleteer, stopped, json_)


@app.command("list")
def list_(home: Home = None, limit: Limit = 50, json_: Json = False) -> None:
    """List replays, newest first."""
    with opened(home, reading=True) as muleteer:
        found = muleteer.store.replays.newest(limit)
    if json_:
        print_json(found)
        return
    rows = [
        (
            each.id,
            each.state,
            f"{each.looked_at} of {each.total}",
            each.written,
            each.there,
            each.refused,
            each.updated_at,
            each.reason,
        )
        for each in found
    ]
    columns = ("id", "state", "looked at", "written", "there", "refused", "last sign of life", "reason")
    print_table(columns, rows, empty="There was no replay yet.")
    if any(each.state == ReplayState.RUNNING for each in found):
        out.print("\nOne that runs without a sign of life has lost its process: `muleteer replay resume ID` goes on.")


@app.command("show")
def show(id_: Id, home: Home = None, json_: Json = False) -> None:
    """Show a replay: what it is about, how far it is, every change."""
    with opened(home, reading=True) as muleteer:
        found = muleteer.store.replays.get(ReplayId(id_))
        changes = muleteer.store.journal.of("replay", id_)
    if json_:
        print_json({**plain(found), "journal": plain(changes)})
        return
    asked = found.request.model_dump(mode="json", exclude_defaults=True)
    print_fields(
        {
            "replay": found.id,
            "state": found.state,
            "reason": found.reason,
            "who": found.who,
            "about": ", ".join(f"{key} {value}" for key, value in asked.items()),
            "looked at": f"{found.looked_at} of {found.total} messages, to message {found.position}",
            "matched": found.matched,
            "written": found.written,
            "there": f"{found.there} whose rule had the message before",
            "refused": found.refused,
            "begun": found.created_at,
            "last": found.updated_at,
        }
    )
    print_history(changes)


def _runs(words: Sequence[str] | None) -> tuple[int | str, ...]:
    items = [item.strip() for word in words or () for item in word.split(",") if item.strip()]
    try:
        return tuple(Runs.read(items).items())
    except RunsError as error:
        raise typer.BadParameter(str(error)) from None


def _pace(text: str | None) -> Pace | None:
    try:
        return None if text is None else Pace.model_validate(text)
    except ValidationError as error:
        raise typer.BadParameter(f"--pace: {error.errors()[0]['msg']}") from None


def _as_of(muleteer: Muleteer, text: str | None) -> int | str:
    """The revision in force, one that was named, or `then`. Fails for one that never was."""
    if text == "then":
        return text
    if text is None:
        return muleteer.store.rules.revision()
    if not text.isdecimal():
        raise typer.BadParameter(f"--as-of {text}: write a revision of the rules, or then")
    muleteer.store.rules.set_at(int(text))
    return int(text)


def _check_rules(muleteer: Muleteer, request: ReplayRequest) -> None:
    """Say what cannot come of it before anything is looked at."""
    for name in request.rules:
        muleteer.store.rules.version(name)  # not found: there never was such a rule
    if request.as_of == "then":
        return
    _, in_force = muleteer.store.rules.in_force()
    found = [each for each in replayed(muleteer.store, request, request.as_of, in_force) if each.rule.enabled]
    usable = {version.rule.name for version in found}
    missing = [name for name in request.rules if name not in usable]
    if missing:
        at = f"at revision {request.as_of}"
        fail(
            Exit.REFUSED, f"{', '.join(missing)}: {at} it is not there, not enabled, or left out; nothing was replayed"
        )
    if not usable:
        fail(Exit.REFUSED, f"no rule can be replayed as of revision {request.as_of}: nothing would come of it")
    if joins := [version.rule.name for version in found if version.rule.join is not None]:
        err.print(f"through waiting rooms, into which the dispatcher lets what is put back: {', '.join(joins)}")


def _tell_left_out(omitted: Sequence[LeftOut]) -> None:
    for each in omitted:
        err.print(f"left out: {each.rule} in version {each.version}: {each.why}")
    if omitted:
        err.print("to replay one as it was, put it in force so: `muleteer rules show NAME --version N` prints it")


def _carry_on(muleteer: Muleteer, replay: Replay, omitted: Sequence[LeftOut], signals: Signals, json_: bool) -> None:
    try:
        ended = muleteer.replayer().carry_on(replay, lambda: signals.asked, _teller(replay))
    except CatalogUnavailable as error:
        stands = muleteer.store.replays.stop(replay.id, who=person(), why=f"{error}"[:500], now=utc_now())
        fail(Exit.UNAVAILABLE, f"{error}\nreplay {stands.id} is stopped: muleteer replay resume {stands.id} goes on")
    if ended.state is ReplayState.RUNNING:
        ended = muleteer.store.replays.stop(ended.id, who=person(), why="interrupted", now=utc_now())
    # rules may have been changed meanwhile
    _tell_left_out([each for each in left_out(muleteer.store, ended.request) if each not in omitted])
    _report(muleteer, ended, json_)
    if ended.state is not ReplayState.DONE:
        raise typer.Exit(Exit.FAILED)


def _teller(begun: Replay) -> Callable[[Replay], None]:
    """Tells how far it is, now and then."""
    start = last = time.monotonic()

    def tell(replay: Replay) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < _TELL or replay.state is ReplayState.DONE:
            return
        last = now
        rate = (replay.looked_at - begun.looked_at) / (now - start)
        left = timedelta(seconds=round((replay.total - replay.looked_at) / rate)) if rate else None
        soon = f", {format_duration(left)} left" if left is not None and left > timedelta() else ""
        err.print(f"{_numbers(replay)}; {rate:,.0f} messages/s{soon}")

    return tell


def _numbers(replay: Replay) -> str:
    return (
        f"replay {replay.id}: {replay.looked_at:,} of {replay.total:,} messages looked at, {replay.matched:,} matches: "
        f"{replay.written:,} written, {replay.there:,} there before, {replay.refused:,} refused"
    )


def _report(muleteer: Muleteer, replay: Replay, json_: bool) -> None:
    if json_:
        print_json({**plain(replay), "left_out": plain(left_out(muleteer.store, replay.request))})
        return
    goes_on = f"; muleteer replay resume {replay.id} goes on" if replay.state is ReplayState.STOPPED else ""
    out.print(f"{_numbers(replay)}; it is {replay.state}{goes_on}")
    for each in muleteer.store.journal.of("replay", replay.id):
        if each.to_state == REFUSED:
            out.print(f"not put back: {each.why}")


def _print_foreseen(found: Foreseen, omitted: Sequence[LeftOut], json_: bool, *, whole: bool) -> None:
    if json_:
        rules = {
            name: {
                "written": each.written,
                "there": each.there,
                "refused": dict(each.refused),
                "examples": [{"message": message.id, "dataset": str(message.did)} for message in each.examples],
            }
            for name, each in sorted(found.rules.items())
        }
        troubles = {"count": found.troubles, "examples": found.trouble_examples}
        print_json(
            {
                "looked_at": found.looked_at,
                "whole": whole,
                "rules": rules,
                "troubles": troubles,
                "left_out": omitted,
            }
        )
        return
    rows = [
        (
            name,
            each.written,
            each.there,
            "; ".join(f"{count} {why}" for why, count in each.refused.most_common()) or 0,
            ", ".join(f"{message.id} {message.did or ''}".strip() for message in each.examples),
        )
        for name, each in sorted(found.rules.items())
    ]
    print_table(("rule", "written", "there", "refused", "for example"), rows, empty="No rule matches any of them.")
    for trouble in found.trouble_examples:
        out.print(f"cannot be filled in ({found.troubles} in all): {trouble}")
    out.print(f"\n{found.looked_at:,} messages looked at; nothing was written{'' if whole else '; interrupted'}")
