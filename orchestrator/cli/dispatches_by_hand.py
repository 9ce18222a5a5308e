"""Dispatches changed by hand, by id or by filter; carried out once more; forced, though another has their key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Final

import typer

from orchestrator.cli.by_hand import DryRun, Ids, Reason, hand_of, progressing, report
from orchestrator.cli.filters import in_utc
from orchestrator.cli.session import Exit, Home, Json, fail, opened
from orchestrator.cli.terminal import out, plain, print_json
from orchestrator.core.by_hand import DispatchVerb, Hand
from orchestrator.core.leftovers import Left, Taken, forced, in_way_of_another, in_way_of_force, left_behind
from orchestrator.monitor.leftovers import in_catalog, states_of
from orchestrator.rucio.port import DatasetEntry
from orchestrator.store.by_hand import DispatchFilter
from orchestrator.store.forcing import StillGoingOn
from schemas.dispatch import DispatchId, DispatchState

States = Annotated[list[DispatchState] | None, typer.Option("--state", help="Only these states; may be repeated.")]
RuleName = Annotated[str | None, typer.Option("--rule", help="Only of this rule.")]
Since = Annotated[
    datetime | None, typer.Option("--since", help="Only those written at or after this time, UTC.", metavar="TIME")
]
Until = Annotated[
    datetime | None, typer.Option("--until", help="Only those written before this time, UTC.", metavar="TIME")
]
Cleaned = Annotated[
    bool, typer.Option("--cleaned", help="What the earlier launch left behind is cleaned up, or may stay.")
]

_DONE: Final[Mapping[DispatchVerb, str]] = {
    DispatchVerb.RETRY: "ready again",
    DispatchVerb.CANCEL: "cancelled",
    DispatchVerb.HOLD: "held",
    DispatchVerb.RELEASE: "released",
    DispatchVerb.REDISPATCH: "ready once more",
}


def changing(verb: DispatchVerb, said: str) -> Callable[..., None]:
    """The command of a verb; `said` is its help."""

    def command(
        reason: Reason,
        ids: Ids = None,
        home: Home = None,
        rule: RuleName = None,
        state: States = None,
        since: Since = None,
        until: Until = None,
        dry_run: DryRun = False,
        json_: Json = False,
    ) -> None:
        chosen = _chosen(ids, DispatchFilter(state or (), rule, in_utc(since), in_utc(until)))
        _change(verb, chosen, hand_of(reason, dry_run=dry_run), home, json_=json_)

    command.__doc__ = said
    return command


def retry(
    ids: Ids = None,
    home: Home = None,
    failed: Annotated[bool, typer.Option("--failed", help="All that failed: --state failed.")] = False,
    rule: RuleName = None,
    state: States = None,
    since: Since = None,
    until: Until = None,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the journal.")] = "retried by hand",
    dry_run: DryRun = False,
    json_: Json = False,
) -> None:
    """Put failed dispatches back on the list, with a fresh count of tries."""
    states = [*(state or ()), *([DispatchState.FAILED] if failed else [])]
    chosen = _chosen(ids, DispatchFilter(states, rule, in_utc(since), in_utc(until)))
    _change(DispatchVerb.RETRY, chosen, hand_of(reason, dry_run=dry_run), home, json_=json_)


def _change(
    verb: DispatchVerb,
    chosen: Sequence[DispatchId] | DispatchFilter,
    hand: Hand,
    home: Home,
    *,
    json_: bool,
) -> None:
    with opened(home) as muleteer, progressing("dispatches") as progress:
        tally = muleteer.store.by_hand.dispatches(verb, chosen, hand, progress)
    named = not isinstance(chosen, DispatchFilter)
    report(tally, _DONE[verb], "dispatch", hand, json_=json_, named=named)


def _chosen(ids: Sequence[int] | None, wanted: DispatchFilter) -> Sequence[DispatchId] | DispatchFilter:
    filtered = bool(wanted.states or wanted.rule or wanted.since or wanted.until)
    if bool(ids) == filtered:
        raise typer.BadParameter("name the dispatches by id, or give filters such as --state and --rule")
    return [DispatchId(id_) for id_ in ids] if ids else wanted


# Once more.


def redispatch(
    reason: Reason,
    ids: Ids = None,
    home: Home = None,
    rule: RuleName = None,
    state: States = None,
    since: Since = None,
    until: Until = None,
    again: Annotated[bool, typer.Option("--again", help="Even if their launch is finished: make another.")] = False,
    cleaned: Cleaned = False,
    dry_run: DryRun = False,
    json_: Json = False,
) -> None:
    """Carry out once more what is done, failed or cancelled.

    A dispatch whose launch failed makes a new launch. What the earlier one left behind is listed; while a dataset is
    there that the new one would make as well, nothing is changed without --cleaned.
    """
    chosen = _chosen(ids, DispatchFilter(state or (), rule, in_utc(since), in_utc(until)))
    hand = hand_of(reason, dry_run=dry_run)
    look = Hand(hand.who, hand.why, hand.now, dry_run=True)
    with opened(home) as muleteer, progressing("dispatches") as progress:
        by_hand = muleteer.store.by_hand
        tally = by_hand.dispatches(DispatchVerb.REDISPATCH, chosen, look, progress, again=again)
        left = by_hand.launches_left(tally.remarked)
        there = in_catalog(muleteer.catalog.dataset, left)
        obstacle = in_way_of_another(left, there, saying="--cleaned")
        if obstacle is not None and not (cleaned or dry_run):
            fail(Exit.REFUSED, obstacle)
        if not dry_run:
            tally = by_hand.dispatches(DispatchVerb.REDISPATCH, chosen, hand, progress, again=again)
    if not json_:
        _print_left(left, there)
    more = {"left_behind": plain(left_behind(left, states_of(there)))}
    named = not isinstance(chosen, DispatchFilter)
    report(tally, _DONE[DispatchVerb.REDISPATCH], "dispatch", hand, json_=json_, named=named, more=more)


# Forced.


def force(
    id_: Annotated[int, typer.Argument(metavar="ID", help="A dispatch that was refused.")],
    reason: Reason,
    home: Home = None,
    cleaned: Cleaned = False,
    dry_run: DryRun = False,
    json_: Json = False,
) -> None:
    """Carry out what was refused for its unique key, instead of the one that has the key.

    What the first one left behind is listed. Nothing is changed while it is still going on, nor, without --cleaned,
    while a dataset is there that one of its launches was to make.
    """
    hand = hand_of(reason, dry_run=dry_run)
    with opened(home) as muleteer:
        by_hand = muleteer.store.by_hand
        seen = by_hand.taken(DispatchId(id_))
        there = in_catalog(muleteer.catalog.dataset, seen.launches)
        if not json_:
            _print_taken(seen, there)
        obstacle = in_way_of_force(seen, there, cleaned=cleaned, saying="--cleaned")
        if obstacle is not None:
            if json_:
                print_json(forced(seen, states_of(there), in_the_way=obstacle))
            fail(Exit.REFUSED, f"nothing was changed: {obstacle}")
        try:
            ready = [] if dry_run else by_hand.force(seen, hand)
        except StillGoingOn as error:
            fail(Exit.REFUSED, f"nothing was changed: {error}")
    if json_:
        print_json(forced(seen, states_of(there), ready))
        return
    those = ", ".join(map(str, seen.refused))
    out.print(f"dispatch {those} {'would be ready, and have' if dry_run else 'is ready, and has'} the key now")


def _print_taken(seen: Taken, there: Mapping[str, DatasetEntry]) -> None:
    out.print(f"the key {seen.key!r} is with rule {seen.first_rule}, message {seen.first_message_id}:")
    for id_, state in seen.first:
        out.print(f"  dispatch {id_} is {state}")
    _print_left(seen.launches, there)


# What launches left behind.


def _print_left(left: Sequence[Left], there: Mapping[str, DatasetEntry]) -> None:
    for each in left:
        out.print(f"  launch {each.id} ({each.name}) of dispatch {each.dispatch_id} is {each.state}")
        for did in each.datasets:
            entry = there.get(did)
            stands = "not in the catalog" if entry is None else f"{entry.state}, {entry.length} files"
            out.print(f"    {did}: {stands}")
