"""Messages: what the catalog said of them is asked for anew."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.filters import Event, Name, Scope, Since, States, Until, filter_of
from orchestrator.cli.session import Home, Json, opened, person
from orchestrator.cli.terminal import out, print_json
from orchestrator.clock import utc_now
from orchestrator.store.messages import Filter
from orchestrator.wiring import Muleteer
from schemas.message import MessageId

#: Messages read in one page.
_PAGE = 5_000


def refresh(
    ids: Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="Messages; else those that fit.")] = None,
    home: Home = None,
    state: States = None,
    event: Event = None,
    scope: Scope = None,
    name: Name = None,
    since: Since = None,
    until: Until = None,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the journal.")] = "asked by hand",
    json_: Json = False,
) -> None:
    """Ask the catalog anew about messages, because what it said may have changed. Pending ones are judged again.

    The dispatcher does it, when it runs. Messages about which no rule has asked are left alone.
    """
    wanted = filter_of(state, event, scope, name, since, until)
    if bool(ids) == (wanted != Filter()):
        raise typer.BadParameter("name the messages, or say with --state, --scope, --name, ... which")
    with opened(home, reading=True) as muleteer:
        chosen = [muleteer.store.messages.get(MessageId(id_)).id for id_ in ids or ()] or _fitting(muleteer, wanted)
        asked = muleteer.store.facts.forget(chosen, who=person(), why=reason, now=utc_now())
    if json_:
        print_json({"chosen": len(chosen), "refreshed": asked})
        return
    rest = len(chosen) - len(asked)
    alone = f"; about the other {rest} no rule has asked" if rest else ""
    out.print(f"{len(asked)} of {len(chosen)} messages: the catalog is asked anew{alone}")


def _fitting(muleteer: Muleteer, wanted: Filter) -> list[MessageId]:
    found: list[MessageId] = []
    while page := muleteer.store.messages.list(wanted, limit=_PAGE, before=found[-1] if found else None):
        found += [message.id for message in page]
    return found
