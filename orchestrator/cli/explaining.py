"""Why a message did or did not fire: every rule, every clause."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer

from orchestrator.cli.session import Home, Json, opened
from orchestrator.cli.terminal import out, plain, print_json, print_table
from orchestrator.core.clauses import Facts
from orchestrator.core.matching import RuleSet
from orchestrator.core.reasons import Answer, Reason, reasons, wanted_by
from orchestrator.store.store import Store
from orchestrator.wiring import Muleteer
from schemas.dispatch import Dispatch
from schemas.message import Message, MessageId
from schemas.rule import RuleVersion


def explain(
    id_: Annotated[int, typer.Argument(metavar="ID")],
    home: Home = None,
    rule: Annotated[str | None, typer.Option("--rule", help="This rule alone, in force or not.")] = None,
    revision: Annotated[
        int | None, typer.Option("--revision", help="The rules as they were at this revision; else those in force.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every clause of every rule.")] = False,
    json_: Json = False,
) -> None:
    """Say why a message did or did not fire: what every rule wanted, what it found, and what came of it."""
    with opened(home, reading=True) as muleteer:
        store = muleteer.store
        facts = store.history.facts_of(MessageId(id_))
        current, in_force = store.rules.in_force()
        versions = in_force if revision is None else store.rules.set_at(revision)
        started = store.dispatches.list(message_id=facts.message.id, limit=1000)
        asked = _asked(store, versions, started, rule)
        said = _said(muleteer, asked, facts)
        kept = _kept_back(store, facts.message, said)
        then, now = (_wanted(muleteer, some, facts) for some in (_judged_by(store, facts.message), in_force))
    value = _value(facts.message, current, revision, said, in_force, kept, started, then, now)
    if json_:
        print_json(value)
        return
    _print_head(facts.message, current, revision, then, now)
    _print_reasons(said, in_force, whole=all_ or rule is not None)
    _print_what_came(kept, started)


def _asked(
    store: Store, versions: Sequence[RuleVersion], started: Iterable[Dispatch], rule: str | None
) -> Sequence[RuleVersion]:
    """The rules of the set, and those that have started something with the message, whether they still exist or not."""
    if rule is not None:
        named = [version for version in versions if version.rule.name == rule]
        return named or [store.rules.version(rule)]
    there = {version.id for version in versions}
    return [*versions, *store.history.versions({each.rule_version_id for each in started} - there)]


def _said(muleteer: Muleteer, versions: Sequence[RuleVersion], facts: Facts) -> Sequence[Reason]:
    return reasons(RuleSet(0, versions, muleteer.settings.unmatched), facts)


def _judged_by(store: Store, message: Message) -> Sequence[RuleVersion] | None:
    """The rules that judged it last; None if none did, or it is to be judged again anyway."""
    return store.rules.at(message.judged_revision) if message.judged_revision > 0 else None


def _wanted(muleteer: Muleteer, versions: Sequence[RuleVersion] | None, facts: Facts) -> set[str] | None:
    return None if versions is None else wanted_by(_said(muleteer, versions, facts))


def _kept_back(store: Store, message: Message, said: Iterable[Reason]) -> list[Mapping[str, Any]]:
    """What matched and was not, or would not be, carried out: the loop guard, the prescale, a key that is taken."""
    matching = {each.rule: each.match for each in said if each.match is not None}
    kept: list[Mapping[str, Any]] = []
    for maker in store.history.makers(message):
        if maker in matching:
            kept.append({"rule": maker, "by": "loop guard", "why": "it had a part in making this dataset"})
    for counted in store.history.counted(message.id):
        what = "carried out" if counted.taken else "left out"
        kept.append({"rule": counted.rule, "by": "prescale", "why": f"its match number {counted.number} was {what}"})
    keys = {match.unique_key: rule for rule, match in matching.items() if match.unique_key is not None}
    for key, holder in store.history.holders(keys).items():
        if (holder.message_id, holder.rule) != (message.id, keys[key]):
            by = f"dispatch {holder.dispatch_id} (rule {holder.rule}, message {holder.message_id})"
            kept.append({"rule": keys[key], "by": "unique key", "why": f"{key!r} is taken by {by}"})
    return kept


def _value(
    message: Message,
    current: int,
    revision: int | None,
    said: Sequence[Reason],
    in_force: Sequence[RuleVersion],
    kept: Sequence[Mapping[str, Any]],
    started: Sequence[Dispatch],
    then: set[str] | None,
    now: set[str] | None,
) -> Mapping[str, Any]:
    live = {version.id for version in in_force}
    return {
        "message": plain(message),
        "revision": revision if revision is not None else current,
        "revision_in_force": current,
        "would_differ": then is not None and then != now,
        "matched_then": None if then is None else sorted(then),
        "matches_now": sorted(now or ()),
        "rules": [reason_value(each) | {"in_force": each.decision.version.id in live} for each in said],
        "kept_back": kept,
        "dispatches": plain(started),
    }


def reason_value(each: Reason) -> dict[str, Any]:
    """What one rule says, as JSON values."""
    return {
        "rule": each.rule,
        "version": each.decision.version.version,
        "answer": each.answer,
        "refused_by": list(each.decision.refused_by),
        "clauses": [clause._asdict() for clause in each.decision.clauses],
        "captured": dict(each.decision.captured),
        "unique": each.match.unique_key if each.match is not None else None,
        "actions": [
            {"actor": planned.actor, "options": plain(planned.options)}
            for planned in (each.match.planned if each.match is not None else ())
        ],
        "join": {"slot": each.slot, "key": each.key} if each.key is not None else None,
        "trouble": each.trouble,
    }


def _print_head(
    message: Message, current: int, revision: int | None, then: set[str] | None, now: set[str] | None
) -> None:
    out.print(f"message {message.id}: {message.event_type or 'unreadable'} {message.did or ''}", markup=False)
    out.print(f"{message.state}: {message.reason or 'nothing was said of it yet'}", markup=False)
    if then is None:
        out.print(f"not judged yet; the rules in force are at revision {current}")
    elif then == now:
        out.print(f"judged last at revision {message.judged_revision}; revision {current}, in force, says the same")
    else:
        names = [", ".join(sorted(some or ())) or "no rule" for some in (then, now)]
        out.print(
            f"judged last at revision {message.judged_revision}, which means {names[0]}; "
            f"revision {current}, in force, would mean {names[1]}",
            markup=False,
        )
    if revision is not None:
        out.print(f"below: the rules at revision {revision}")


def _print_reasons(said: Sequence[Reason], in_force: Sequence[RuleVersion], *, whole: bool) -> None:
    live = {version.id for version in in_force}
    if not said:
        out.print("\nThere is no rule. `muleteer rules apply FILE` puts rules in force.")
    brief = [each for each in said if each.answer is Answer.REFUSES and not whole]
    for each in said[: len(said) - len(brief)]:
        out.print(f"\n{_line(each, live)}", markup=False)
        print_table(
            ("clause", "wanted", "found", "holds"),
            [(one.name, one.wanted, one.found, _HOLDS[one.holds]) for one in each.decision.clauses],
            empty="",
        )
    out.print()
    for each in brief:
        out.print(_line(each, live), markup=False)


def _line(each: Reason, live: Collection[int]) -> str:
    version = each.decision.version
    note = f"version {version.version}" + ("" if version.id in live else ", not in force")
    return f"rule {each.rule} ({note}) {in_words(each)}"


_HOLDS = {True: "yes", False: "NO", None: "not known yet"}


def in_words(each: Reason) -> str:
    """What a rule says about a message, in words."""
    match each.answer:
        case Answer.MATCHES:
            return "matches"
        case Answer.JOINS:
            return f"puts it into the waiting room of {each.key!r}, as {each.slot}"
        case Answer.STUCK:
            return f"wants it, and waits to be mended: {each.trouble}"
        case Answer.WAITS:
            return "waits for the catalog"
        case Answer.NEARLY:
            return f"nearly matches: only {each.decision.refused_by[0]} refuses it"
        case Answer.REFUSES:
            return f"does not match: {', '.join(each.decision.refused_by)}"


def _print_what_came(kept: Sequence[Mapping[str, Any]], started: Sequence[Dispatch]) -> None:
    if kept:
        out.print("\nkept back", style="bold")
        print_table(("rule", "by", "why"), [tuple(each.values()) for each in kept], empty="")
    out.print("\nstarted", style="bold")
    print_table(
        ("dispatch", "state", "rule", "actor", "reason"),
        [(each.id, each.state, each.rule, each.actor, each.reason) for each in started],
        empty="nothing",
    )
