"""What may leave: looked at, planned, released; and what the service does by itself, done once by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.filesize import decimal

from orchestrator.cli.session import Exit, Home, Json, fail, opened, person
from orchestrator.cli.terminal import ago, err, out, plain, print_json, print_table
from orchestrator.cli.transient_files import read_plan, write_plan
from orchestrator.cli.transient_meant import Because, Word, datasets, meant
from orchestrator.clock import utc_now
from orchestrator.core.transient.caps import Caps, Spent, beyond, spent_on
from orchestrator.core.transient.protection import STAYS, NotUnderstood
from orchestrator.store.port import Overtaken
from orchestrator.transient.releaser import DAY, Moved
from orchestrator.wiring import Muleteer
from schemas.durations import format_duration
from schemas.transient import Plan, PolicySummary, Refused, Release

Policies = Annotated[
    list[str] | None, typer.Option("--policy", help="Only what this policy matches; may be repeated.", metavar="NAME")
]
Most = Annotated[
    int | None,
    typer.Option("--most", min=1, help="Look closely at so many datasets at most, those first that were due first."),
]
Out = Annotated[Path | None, typer.Option("--out", help="Write the plan to this file: `release` takes it.")]


@contextmanager
def deciding() -> Iterator[None]:
    """What stands in the way of any decision at all is a sentence and an exit code."""
    try:
        yield
    except (Moved, Overtaken) as error:
        fail(Exit.REFUSED, str(error))
    except NotUnderstood as error:
        fail(Exit.REFUSED, f"what must stay cannot be understood, so nothing leaves: {error}")


@contextmanager
def telling(quiet: bool = False) -> Iterator[Callable[[str, int], None]]:
    """Show on a terminal how far it is, unless something else is printed meanwhile."""
    if quiet:
        yield lambda what, count: None
        return
    with err.status("...") as status:
        yield lambda what, count: status.update(f"{what}: {count:,}")


def plan(
    home: Home = None,
    policy: Policies = None,
    most: Most = None,
    path: Out = None,
    refused: Annotated[bool, typer.Option("--refused", help="List each dataset that may not leave, and why.")] = False,
    json_: Json = False,
) -> None:
    """Say which datasets may leave, what proves it, and what each frees. Nothing is changed."""
    stays: list[Refused] = []

    def take(verdict: Release | Refused) -> None:
        if isinstance(verdict, Refused) and refused:
            if json_:
                stays.append(verdict)
            else:
                _print_refused(verdict)

    with opened(home) as muleteer, deciding(), telling(refused and not json_) as tell:
        found = muleteer.transient_desk().plan(who=person(), only=policy, most=most, tell=tell, take=take)
        told = muleteer.settings.transient
        caps = Caps(told.datasets_per_day, told.bytes_per_day, told.rse_bytes_per_day)
        spent = muleteer.store.transients.released_since(utc_now() - DAY)
    if path is not None:
        write_plan(path, found)
    passed = beyond(caps, spent, found.releases)
    if json_:
        more: dict[str, Any] = {"refusals": stays} if refused else {}
        print_json({**plain(found), **more, "caps": {**_caps(caps, spent), "passed": passed}})
        return
    for number, release in enumerate(found.releases, start=1):
        _print_release(number, release)
    _print_policies(found.policies)
    _print_why_not(found.refused, listed=refused)
    _print_total(found, caps, spent)
    if passed is not None:
        out.print(f"as it stands, this plan cannot be released: {passed}; a smaller one can: --most, --policy")
    _print_way_on(found, path)


def release(
    path: Annotated[Path, typer.Option("--plan", help="What `transient plan --out` wrote.")],
    reason: Because,
    home: Home = None,
    json_: Json = False,
) -> None:
    """Release what a plan says: all of it, each proved once more, or nothing.

    Nothing is done in the catalog before the time to take it back is over.
    """
    planned = read_plan(path)
    if utc_now() - planned.made_at > DAY:
        err.print(f"note: the plan was made {ago(planned.made_at)}; all of it is proved once more now")
    with opened(home, reading=True) as muleteer, deciding(), err.status(datasets(len(planned.releases))):
        released = muleteer.transient_desk().release(planned, who=person(), why=reason)
    if json_:
        print_json(released)
        return
    for each in released:
        freed = decimal(each.release.freed) if each.release is not None else "nothing"
        out.print(f"{each.id}  {each.did} leaves {each.leaves_at:%Y-%m-%d %H:%M} UTC, and frees {freed}")
    out.print(f"{datasets(len(released))} released; until then `muleteer transient take-back` undoes it")


def recall(which: Word, reason: Because, home: Home = None, json_: Json = False) -> None:
    """Call a dataset back that is leaving, as far as it is still there. What has gone does not come again."""
    with opened(home, reading=True) as muleteer, deciding():
        id_ = meant(muleteer.store.transients, which).id
        recalled = muleteer.transient_desk().recall(id_, who=person(), why=reason)
    if json_:
        print_json(recalled)
        return
    out.print(f"{recalled.did} is {recalled.state}: {recalled.reason}")
    span = format_duration(STAYS)
    out.print(f"from when it is held it is kept for {span}: `muleteer transient keeps` shows it, and `lift` ends it")


def survey(
    home: Home = None,
    vanished: Annotated[
        int, typer.Option("--vanished", min=0, help="So many datasets are indeed gone by other hands, as it was said.")
    ] = 0,
    json_: Json = False,
) -> None:
    """Look at everything once and write it down, as the service does. Automatic policies release by it.

    If most of what is known is missing in the catalog, nothing is said of that before --vanished confirms it.
    """
    with opened(home) as muleteer, deciding(), telling() as tell:
        looked = muleteer.transient_desk().survey(who=person(), vanished=vanished, tell=tell)
    found = looked.survey
    if json_:
        print_json(
            {
                "began_at": found.began_at,
                "policies": list(found.summaries.values()),
                "releasable": [each.did for each in found.releases],
                "refused": dict(found.refused),
                "proofs": found.proofs,
                "vanished": looked.vanished,
                "held": looked.held,
                "released": looked.released,
                "not_released": looked.refused,
                "doubt": looked.doubt,
                "remarks": found.strange,
            }
        )
        return
    _print_policies(found.summaries.values())
    _print_why_not(found.refused, listed=False)
    for remark in found.strange:
        err.print(f"warning: {remark}")
    out.print(f"{datasets(len(found.releases))} may leave")
    if looked.vanished:
        out.print(f"{datasets(looked.vanished)} went by other hands")
    if looked.held:
        out.print(f"{datasets(looked.held)} held again: no policy lets them leave any more")
    for each in looked.released:
        out.print(f"{each.did} is released by its policy, and leaves {each.leaves_at:%Y-%m-%d %H:%M} UTC")
    if looked.refused is not None:
        out.print(f"not released by itself: {looked.refused}")
    if looked.doubt is not None:
        err.print(f"warning: {looked.doubt}")


def step(home: Home = None, json_: Json = False) -> None:
    """Do once what the service does all the time: let leave what is due, and follow what others did."""
    with opened(home, reading=True) as muleteer, deciding():
        done = muleteer.transient_desk().step()
        if (embedded := muleteer.embedded_catalog) is not None:
            embedded.sweep()
        counts = _counts(muleteer)
    if json_:
        print_json({"due": done.due, "events": done.events, **counts})
        return
    out.print(f"{datasets(done.due)} due and looked at, {done.events:,} events followed")
    out.print(f"{counts['released']:,} released, {counts['leaving']:,} leaving, {counts['gone']:,} gone")


def _counts(muleteer: Muleteer) -> Counter[str]:
    counts = Counter[str](released=0, leaving=0, gone=0)
    for each in muleteer.store.transients.counts():
        counts[each.state] += each.datasets
    return counts


# How a plan is shown.


def _print_release(number: int, release: Release) -> None:
    what = "leaves" if release.erases else f"stays at {release.keeps}, other copies leave"
    out.print(f"{number}. {release.did} {what}: policy {release.policy} {release.version}", style="bold")
    for line in release.evidence:
        out.print(f"     {line}")
    places = ", ".join(f"{each.files:,} at {each.rse} ({decimal(each.bytes)})" for each in release.frees)
    out.print(f"     frees {decimal(release.freed)}, copies: {places or 'none'}")


def _print_refused(verdict: Refused) -> None:
    out.print(f"{verdict.did} stays: policy {verdict.policy} {verdict.version}")
    for check, text in verdict.refusals:
        out.print(f"     {check}: {text}")


def _print_policies(summaries: Iterable[PolicySummary]) -> None:
    rows = [
        (
            *(each.policy, each.version, each.looked_at, each.matches, each.releases),
            *(decimal(each.bytes), each.refused),
        )
        for each in summaries
    ]
    columns = ("policy", "version", "datasets", "matches", "may leave", "frees", "releases nothing, because")
    print_table(columns, rows, empty="There is no policy, so nothing is transient. `policies apply FILE` makes some.")


def _print_why_not(refused: dict[str, int] | Counter[str], *, listed: bool) -> None:
    if refused:
        said = ", ".join(f"{check} {count:,}" for check, count in Counter(refused).most_common())
        hint = "" if listed else " (`muleteer transient plan --refused` lists them)"
        out.print(f"what stands in the way, and of how many: {said}{hint}")


def _print_total(plan: Plan, caps: Caps, spent: Spent) -> None:
    total = spent_on(plan.releases)
    files = sum(each.files for release in plan.releases for each in release.frees)
    places = ", ".join(f"{decimal(size)} at {rse}" for rse, size in sorted(total.by_rse.items()))
    out.print(f"\n{datasets(total.datasets)}, {files:,} copies, {decimal(total.bytes)}{': ' if places else ''}{places}")
    most = "any number" if caps.datasets_per_day is None else f"{caps.datasets_per_day:,}"
    room = "any size" if caps.bytes_per_day is None else decimal(caps.bytes_per_day)
    out.print(f"released within 24 hours: {datasets(spent.datasets)}, {decimal(spent.bytes)}; allowed: {most}, {room}")
    for rse, cap in sorted(caps.rse_bytes_per_day.items()):
        out.print(f"  at {rse}: {decimal(spent.by_rse.get(rse, 0))}; allowed: {decimal(cap)}")


def _print_way_on(plan: Plan, path: Path | None) -> None:
    if not plan.releases:
        out.print("nothing can be released now")
    elif path is None:
        out.print("nothing was written: `muleteer transient plan --out FILE` makes a plan that can be released")
    else:
        out.print(f"written to {path}; `muleteer transient release --plan {path} --reason ...` releases all of it")


def _caps(caps: Caps, spent: Spent) -> dict[str, Any]:
    return {
        "datasets_per_day": caps.datasets_per_day,
        "bytes_per_day": caps.bytes_per_day,
        "rse_bytes_per_day": dict(caps.rse_bytes_per_day),
        "released": {"datasets": spent.datasets, "bytes": spent.bytes, "by_rse": dict(spent.by_rse)},
    }
