"""Messages changed by hand, by id or by the filters of `messages list`; and how such a change is reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Final

import typer

from orchestrator.cli.filters import Event, FailedOnlyOn, Name, Scope, Since, States, Until, filter_of
from orchestrator.cli.session import Exit, Home, Json, fail, opened, person
from orchestrator.cli.terminal import err, out, plain, print_json
from orchestrator.clock import utc_now
from orchestrator.core.by_hand import Hand, MessageVerb, Tally
from orchestrator.core.clauses import CompiledRule
from orchestrator.core.giving import NoSuchRule, NotForOne, rule_to_give
from orchestrator.core.matching import RuleSet
from orchestrator.store.by_hand import Progress
from orchestrator.store.messages import Filter
from orchestrator.wiring import Muleteer
from schemas.message import MessageId

Ids = Annotated[list[int] | None, typer.Argument(metavar="[ID]...", show_default=False)]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the journal.", show_default=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing: only say what would become of each.")]
All = Annotated[bool, typer.Option("--all", help="Every message there is; else a filter or ids must be given.")]

#: What was done, as a person reads it.
_DONE: Final[Mapping[MessageVerb, str]] = {
    MessageVerb.HOLD: "held",
    MessageVerb.RELEASE: "released",
    MessageVerb.DROP: "dropped",
    MessageVerb.REPEND: "pending again",
}

#: So many details are shown to people; programs get them all.
_SHOWN: Final = 10


def changing(verb: MessageVerb, said: str) -> Callable[..., None]:
    """The command of a verb; `said` is its help."""

    def command(
        reason: Reason,
        ids: Ids = None,
        home: Home = None,
        state: States = None,
        event: Event = None,
        scope: Scope = None,
        name: Name = None,
        since: Since = None,
        until: Until = None,
        failed_only_on: FailedOnlyOn = None,
        all_: All = False,
        dry_run: DryRun = False,
        json_: Json = False,
    ) -> None:
        wanted = filter_of(state, event, scope, name, since, until, failed_only_on)
        chosen = _chosen(ids, wanted, all_=all_)
        hand = hand_of(reason, dry_run=dry_run)
        with opened(home) as muleteer, progressing("messages") as progress:
            tally = muleteer.store.by_hand.messages(verb, chosen, hand, progress)
        report(tally, _DONE[verb], "message", hand, json_=json_, named=bool(ids))

    command.__doc__ = said
    return command


def give(
    rule: Annotated[str, typer.Option("--rule", help="A rule in force, enabled or not.", show_default=False)],
    reason: Reason,
    ids: Ids = None,
    home: Home = None,
    state: States = None,
    event: Event = None,
    scope: Scope = None,
    name: Name = None,
    since: Since = None,
    until: Until = None,
    failed_only_on: FailedOnlyOn = None,
    all_: All = False,
    dry_run: DryRun = False,
    json_: Json = False,
) -> None:
    """Dispatch messages to a rule now, whatever its clauses say about them.

    Its templates must fill, and its unique key must be free. A message that has dispatches of the rule already is left
    alone.
    """
    chosen = _chosen(ids, filter_of(state, event, scope, name, since, until, failed_only_on), all_=all_)
    hand = hand_of(reason, dry_run=dry_run)
    with opened(home) as muleteer, progressing("messages") as progress:
        rules, compiled = _rule_in_force(muleteer, rule)
        tally = muleteer.store.by_hand.give(compiled, rules, chosen, hand, progress)
    report(tally, f"dispatched to rule {rule}", "message", hand, json_=json_, named=bool(ids))


def _chosen(ids: Sequence[int] | None, wanted: Filter, *, all_: bool) -> Sequence[MessageId] | Filter:
    filtered = wanted != Filter()
    if [bool(ids), filtered, all_].count(True) != 1:
        raise typer.BadParameter("name the messages by id, or give filters such as --state and --name, or --all")
    return [MessageId(id_) for id_ in ids] if ids else wanted


def _rule_in_force(muleteer: Muleteer, name: str) -> tuple[RuleSet, CompiledRule]:
    try:
        return rule_to_give(name, *muleteer.store.rules.in_force(), muleteer.settings.unmatched)
    except NoSuchRule as error:
        fail(Exit.NOT_FOUND, str(error))
    except NotForOne as error:
        fail(Exit.REFUSED, str(error))


# What the commands on dispatches use as well.


def hand_of(reason: str, *, dry_run: bool) -> Hand:
    """Whoever types, now."""
    if not reason.strip():
        raise typer.BadParameter("--reason must say why: it is all that others will find in the journal")
    return Hand(person(), reason.strip(), utc_now(), dry_run)


@contextmanager
def progressing(what: str) -> Iterator[Progress]:
    """Show on a terminal how many were looked at so far."""
    with err.status(f"0 {what}") as status:
        yield lambda count: status.update(f"{count:,} {what}")


def report(
    tally: Tally, done: str, noun: str, hand: Hand, *, json_: bool, named: bool, more: Mapping[str, Any] | None = None
) -> None:
    """Say in one line what was changed and what was not; then what there is to say of single ones.

    If they were named by id and not all could be changed, the command ends with 4.
    """
    if json_:
        print_json({**plain(tally.shown(dry_run=hand.dry_run)), **(more or {})})
    else:
        out.print(summary(tally, done, noun, dry_run=hand.dry_run))
        _print_details(tally, noun)
    stayed = sum(map(len, tally.stayed.values()))
    if named and stayed:
        fail(Exit.NOT_FOUND, f"not {done}: {_reasons(tally.stayed, ids=True)}")


def summary(tally: Tally, done: str, noun: str, *, dry_run: bool) -> str:
    """One line: how many were changed, how many were not, and why."""
    said = _counted(len(tally.changed), noun) + (f" would be {done}" if dry_run else f" {done}")
    if tally.remarks:
        said += f" (of these {_reasons(tally.remarks)})"
    stayed = sum(map(len, tally.stayed.values()))
    if stayed:
        stay = "stays as it is" if stayed == 1 else "stay as they are"
        said += f"; {stayed:,} {stay}: {_reasons(tally.stayed)}"
    return said


def _reasons(groups: Mapping[str, Sequence[int]], *, ids: bool = False) -> str:
    def one(why: str, those: Sequence[int]) -> str:
        is_ = "is" if len(those) == 1 else "are"
        some = ", ".join(map(str, those[:_SHOWN])) + (", ..." if len(those) > _SHOWN else "")
        return f"{some if ids else f'{len(those):,}'} {is_} {why}"

    return ", ".join(one(why, those) for why, those in groups.items())


def _print_details(tally: Tally, noun: str) -> None:
    for id_ in sorted(tally.details)[:_SHOWN]:
        out.print(f"  {noun} {id_}: {tally.details[id_]}")
    if len(tally.details) > _SHOWN:
        out.print(f"  ... and of {len(tally.details) - _SHOWN:,} more: --json has them all")


def _counted(count: int, noun: str) -> str:
    plural = "es" if noun.endswith("ch") else "s"
    return f"{count:,} {noun}{'' if count == 1 else plural}"
