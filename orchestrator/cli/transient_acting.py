"""What people say of transient datasets: these stay, that is taken back, everything is stopped."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

import typer

from orchestrator.cli.filters import in_utc
from orchestrator.cli.session import Home, Json, opened, person
from orchestrator.cli.terminal import err, out, print_json
from orchestrator.cli.transient_meant import Because, Words, all_in, datasets, did_of, some
from orchestrator.clock import utc_now
from orchestrator.core.gates import TRANSIENT
from orchestrator.core.transient.protection import STAYS, Guard, demand_glob
from orchestrator.rucio.port import CatalogError
from orchestrator.settings import ConfigurationError
from orchestrator.store.transients import Transients
from orchestrator.wiring import Muleteer
from schemas.did import Did
from schemas.durations import format_duration, parse_duration
from schemas.globs import mistake_in_glob
from schemas.transient import Keep, Transient, TransientState


def _span(text: str) -> timedelta:
    try:
        span = parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if not span:
        raise typer.BadParameter("0s is no time at all: write 7d, for example")
    return span


def _glob(text: str) -> str:
    try:
        demand_glob(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if (mistake := mistake_in_glob(text)) is not None:
        raise typer.BadParameter(mistake)
    return text


def _moment(text: str) -> datetime:
    """A moment to come."""
    try:
        at = datetime.fromisoformat(text)
        moment = at if at.tzinfo is not None else in_utc(at)
    except ValueError:
        if text.strip().isdecimal():
            raise typer.BadParameter(f"{text} of what? Write 30d, or a day such as 2027-01-31") from None
        try:
            moment = utc_now() + parse_duration(text)
        except ValueError:
            raise typer.BadParameter(f"{text!r}: write a day such as 2027-01-31, or a length such as 30d") from None
    assert moment is not None
    if moment <= utc_now():
        raise typer.BadParameter(f"{moment:%Y-%m-%d %H:%M} UTC is over: nothing would be kept")
    return moment


def take_back(
    reason: Because,
    which: Words = None,
    home: Home = None,
    all_: Annotated[bool, typer.Option("--all", help="All that is released and not leaving yet.")] = False,
    json_: Json = False,
) -> None:
    """Take releases back, all or nothing. Nothing was done to these datasets yet, so nothing is lost.

    Each is kept for 7 days, so that no policy releases it again at once: lift the keep to let it leave before.
    """
    with opened(home, reading=True) as muleteer:
        store = muleteer.store.transients
        ids = [each.id for each in some(store, which, all_=all_, state=TransientState.RELEASED)]
        taken = store.take_back(ids, who=person(), why=reason, now=utc_now())
    if json_:
        print_json(taken)
        return
    for each in taken:
        out.print(f"{each.did} stays: nothing was done to it")
    out.print(
        f"{datasets(len(taken))} taken back and kept for {format_duration(STAYS)}; `muleteer transient keeps` shows "
        "that, `lift` ends it, and `keep` lets them stay for longer"
    )


def keep(
    which: Annotated[str, typer.Argument(parser=_glob, metavar="SCOPE:NAME", help="Datasets; *, ? and [...] match.")],
    reason: Because,
    home: Home = None,
    until: Annotated[
        datetime | None,
        typer.Option(
            "--until",
            parser=_moment,
            help="A day or a time, UTC; or so long from now on: 30d. Else for ever.",
            metavar="TIME",
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """Say that datasets stay, whatever policies say. It counts at once, also for those that are released.

    Those that come later are kept as well. How many fit now is counted in the catalog, and said.
    """
    with opened(home) as muleteer:
        kept = muleteer.store.transient_keeps.keep(which, who=person(), why=reason, now=utc_now(), until=until)
        if not json_:
            lasts = "for ever" if kept.until is None else f"until {kept.until:%Y-%m-%d %H:%M} UTC"
            out.print(f"{which} stays {lasts}; `muleteer transient lift {kept.id}` ends it")
        going = _under_way(muleteer.store.transients, kept)
        found = _counted(muleteer, which)
    if json_:
        counted = {"matches": found} if isinstance(found, int) else {"matches": None, "not_counted": found}
        print_json({**kept.model_dump(mode="json"), **counted, "under_way": going})
        return
    _print_fitting(which, found)
    for each in going:
        if each.state is TransientState.RELEASED:
            out.print(f"{each.did} is released: it will be held when its time comes, and `take-back` holds it now")
        else:
            out.print(
                f"{each.did} is leaving: a running muleteer holds what is left of it when it looks at it next; "
                f"`recall {each.id}` does so at once"
            )


def _counted(muleteer: Muleteer, which: str) -> int | str:
    """How many datasets fit now; or why that cannot be counted. What was kept is kept all the same."""
    scope, _, name = which.partition(":")
    try:
        with err.status("the catalog is gone through"):
            return sum(1 for _ in muleteer.catalog.walk(scope, name))
    except (CatalogError, ConfigurationError) as error:
        return str(error)


def _print_fitting(which: str, found: int | str) -> None:
    if isinstance(found, str):
        err.print(f"warning: how many datasets that are could not be counted: {found}")
    elif found == 0:
        err.print(
            f"WARNING: no dataset fits {which} now. It is kept for those that come; if others were meant, lift it"
        )
    else:
        out.print(f"{datasets(found)} {'fits' if found == 1 else 'fit'} now")


def _under_way(transients: Transients, kept: Keep) -> list[Transient]:
    """Those on their way out that it names."""
    guard, now = Guard(keeps=[kept]), kept.at
    going = all_in(transients, [TransientState.RELEASED, TransientState.LEAVING])
    return [each for each in going if any(guard.kept(each.did, now))]


def lift(
    id_: Annotated[int, typer.Argument(metavar="ID", help="Its number: `transient keeps` shows it.")],
    reason: Because,
    home: Home = None,
    json_: Json = False,
) -> None:
    """End a keep: policies count again for what it kept."""
    with opened(home, reading=True) as muleteer:
        lifted = muleteer.store.transient_keeps.lift(id_, who=person(), why=reason, now=utc_now())
    if json_:
        print_json(lifted)
        return
    out.print(f"{lifted.which} is not kept by {id_} any more; {lifted.who} had kept it: {lifted.why}")


def extend(
    did: Annotated[Did, typer.Argument(parser=did_of, metavar="SCOPE:NAME", help="The dataset.")],
    span: Annotated[
        timedelta, typer.Option("--for", parser=_span, metavar="SPAN", help="So long from now on: 12h, 7d, ...")
    ],
    reason: Because,
    home: Home = None,
    json_: Json = False,
) -> None:
    """Let one dataset stay for longer. A longer extension than this stands; one that is released is held."""
    with opened(home, reading=True) as muleteer:
        now = utc_now()
        extended = muleteer.store.transients.extend(did, now + span, who=person(), why=reason, now=now)
    if json_:
        print_json(extended)
        return
    out.print(f"{did} stays until {extended.extended_until:%Y-%m-%d %H:%M} UTC")
    if extended.state is TransientState.RELEASED:
        out.print("it is released: it will be held when its time comes, and `take-back` holds it now")


def stop(reason: Because, home: Home = None, json_: Json = False) -> None:
    """Stop releases: nothing is released, nothing more is done to what is released, and what is leaving is held.

    A running muleteer holds it when it looks at it next, and goes on with it after `go`. `recall` holds it at once.
    """
    with opened(home) as muleteer:
        found, new = muleteer.store.suspensions.suspend(TRANSIENT, who=person(), why=reason, now=utc_now())
        waiting = _waiting(muleteer.store.transients)
    if json_:
        print_json({"suspension": found, "new": new, **waiting})
        return
    if new:
        out.print("releases are stopped")
    else:
        out.print(f"releases were stopped already, by {found.who} at {found.at:%Y-%m-%d %H:%M} UTC: {found.reason}")
    out.print(f"{waiting['released']:,} released stay as they are; {waiting['leaving']:,} leaving go no further")
    if waiting["leaving"]:
        out.print(
            "a running muleteer holds what is left of these when it looks at them next; `recall` does so at once:"
        )
        out.print("`muleteer transient list --state leaving` shows which")


def go(reason: Because, home: Home = None, json_: Json = False) -> None:
    """Go on with releases that were stopped. Those whose time is over meanwhile are proved, and leave, at once."""
    with opened(home, reading=True) as muleteer:
        ended = muleteer.store.suspensions.resume(TRANSIENT, who=person(), why=reason, now=utc_now())
        waiting = _waiting(muleteer.store.transients)
        rest = [each for each in muleteer.store.suspensions.all() if each.kind == "everything"]
    if json_:
        print_json({"ended": ended, "still_stopped": rest, **waiting})
        return
    out.print(f"releases go on; {ended.who} had stopped them at {ended.at:%Y-%m-%d %H:%M} UTC: {ended.reason}")
    out.print(f"{waiting['released']:,} are released, {waiting['leaving']:,} leaving")
    for each in rest:
        out.print(f"everything is stopped still, by {each.who}: {each.reason}; `muleteer dispatch start` ends that")


def _waiting(transients: Transients) -> dict[str, int]:
    counts = {"released": 0, "leaving": 0}
    for each in transients.counts():
        if each.state in counts:
            counts[each.state] += each.datasets
    return counts
