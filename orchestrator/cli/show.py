"""Everything at a glance."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.live import Live
from rich.text import Text

from orchestrator.cli.session import Home, Json, opened
from orchestrator.cli.terminal import ago, out, print_json
from orchestrator.wiring import Muleteer
from schemas.dispatch import DispatchState
from schemas.launch import LaunchState
from schemas.message import MessageState


def show(
    home: Home = None,
    json_: Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every second, until stopped.")] = False,
) -> None:
    """Show how many messages, dispatches and launches there are, by state."""
    with opened(home, reading=True) as muleteer:
        if json_:
            print_json(muleteer.store.counts())
        elif watch:
            _watch(muleteer)
        else:
            out.print(_page(muleteer))


def _watch(muleteer: Muleteer) -> None:
    try:
        with Live(_page(muleteer), console=out, auto_refresh=False) as live:
            while True:
                time.sleep(1)
                live.update(_page(muleteer), refresh=True)
    except KeyboardInterrupt:
        return


def _page(muleteer: Muleteer) -> Text:
    counts = muleteer.store.counts()
    page = Text()
    page.append(f"{muleteer.home}\n", style="bold")
    page.append(f"store       {muleteer.store.database.address}\n")
    page.append(f"broker      {muleteer.broker.address}, last message {ago(counts.last_received_at)}\n")
    page.append(f"rules       {counts.rules} enabled, revision {counts.revision}\n")
    for title, states, numbers in (
        ("messages", MessageState, counts.messages),
        ("dispatches", DispatchState, counts.dispatches),
        ("launches", LaunchState, counts.launches),
    ):
        shown = [f"{numbers[state]} {state}" for state in states if numbers.get(state)]
        page.append(f"{title:<12}{', '.join(shown) or 'none'}\n")
    if counts.waiting_for_catalog:
        since = ago(counts.waiting_for_catalog_since)
        page.append(f"{'catalog':<12}{counts.waiting_for_catalog} messages wait for it, first asked {since}\n")
    hints = []
    if counts.messages.get(MessageState.QUARANTINED):
        hints.append("muleteer messages list --state quarantined")
    if counts.dispatches.get(DispatchState.FAILED):
        hints.append("muleteer dispatches list --state failed")
    if counts.launches.get(LaunchState.FAILED) or counts.launches.get(LaunchState.PARTLY_FINISHED):
        hints.append("muleteer launches list --state failed --state partly_finished")
    if hints:
        page.append("\nThese need a person:  " + "  ".join(hints) + "\n", style="bold")
    return page
