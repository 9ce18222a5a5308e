"""What edited rules would have done with everything that ever arrived: compared, shown, drawn."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli.filters import Since, Until, in_utc
from orchestrator.cli.session import Exit, Home, Json, fail, opened
from orchestrator.cli.terminal import out, print_fields, print_json, print_table
from orchestrator.core.asking import AFTER, BEFORE
from orchestrator.core.plot import bars, svg
from orchestrator.core.preview import Preview, Tally, edited
from orchestrator.dispatch.rules import read_rules
from orchestrator.store.messages import Filter
from orchestrator.wiring import Muleteer
from schemas.rule import Rule

RulesFile = Annotated[Path, typer.Argument(metavar="FILE", help="A rules file, or a folder of them.")]
MaybeRulesFile = Annotated[
    Path | None, typer.Argument(metavar="[FILE]", help="A rules file, or a folder of them; else the rules in force.")
]
Prune = Annotated[bool, typer.Option("--prune", help="As if rules in force that are not given were taken out.")]
Examples = Annotated[int, typer.Option("--examples", min=0, max=1000, help="So many of each kind, the newest.")]


def preview(
    path: RulesFile,
    home: Home = None,
    prune: Prune = False,
    since: Since = None,
    until: Until = None,
    svg_: Annotated[Path | None, typer.Option("--svg", help="Draw the starts per hour into this file.")] = None,
    examples: Examples = 5,
    json_: Json = False,
) -> None:
    """Compare edited rules with those in force, on everything that ever arrived. Nothing is changed."""
    with opened(home, reading=True) as muleteer:
        rules = read_file(muleteer, path)
        live = muleteer.store.rules.in_force()[1]
        compared = Preview(live, edited(live, rules, prune=prune), examples=examples)
        total = look(muleteer, compared, since, until)
    if svg_ is not None:
        _draw(svg_, compared)
    print_preview(compared, total, json_)


def look(muleteer: Muleteer, preview: Preview, since: datetime | None, until: datetime | None) -> int:
    """Show it the history. Returns how many messages there are."""
    history = muleteer.store.history
    # what a look makes is in no cycle, and to search for cycles takes a tenth of the time
    gc.disable()
    try:
        for page in history.pages(preview.interest, since=in_utc(since), until=in_utc(until)):
            preview.look(page, history.holders)
    finally:
        gc.enable()
    return muleteer.store.messages.count(Filter(since=in_utc(since), until=in_utc(until)))


def _draw(path: Path, preview: Preview) -> None:
    try:
        path.write_text(svg(preview.hours, title=f"{_what(preview)} per hour"), encoding="utf-8")
    except OSError as error:
        fail(Exit.REFUSED, f"{path} cannot be written: {error.strerror}")


def _what(preview: Preview) -> str:
    return "launches" if preview.launches else "actions"


def print_preview(preview: Preview, total: int, json_: bool, *, tested: bool = False) -> None:
    if json_:
        print_json(_preview_value(preview, total))
        return
    rules = preview.rules
    if not rules:
        out.print("There is no rule to be tested." if tested else "Nothing differs from the rules in force.")
        return
    differ = () if tested else ("", "newly", "no longer")
    print_table(
        ("rule", *differ, "matched", "left out", "refused", _what(preview), "not told", "stuck"),
        [_row(change, tested) for change in rules],
        empty="",
    )
    out.print(f"\nof {total:,} messages", style="bold")
    print_fields(_summary(preview, tested))
    _print_examples(preview, tested)
    if preview.hours:
        out.print(f"\n{_what(preview)} per hour" + ("" if tested else ", before and after"), style="bold")
        for line in bars(preview.hours):
            out.print(f"  {line}", markup=False, highlight=False)


def _summary(preview: Preview, tested: bool) -> Mapping[str, object]:
    refused = {"refused as duplicates": f"{preview.refused.count:,}"}
    after = _load(preview, AFTER)
    if tested:
        return {"matched": f"{preview.newly.count:,}", **refused, f"{_what(preview)} per hour": after}
    return {
        "newly matched": f"{preview.newly.count:,}",
        "no longer matched": f"{preview.no_longer.count:,}",
        "matched by other rules than before": f"{preview.otherwise.count:,}",
        **refused,
        f"{_what(preview)} per hour before": _load(preview, BEFORE),
        f"{_what(preview)} per hour after": after,
    }


def _row(change: Any, tested: bool) -> Sequence[object]:
    pairs = (change.matched, change.prescaled, change.refused, change.started, change.unknown, change.stuck)
    both = [f"{pair[AFTER]:,}" if tested else _arrow(pair) for pair in pairs]
    differ = () if tested else (change.what, f"{change.gained:,}", f"{change.lost:,}")
    return (change.name, *differ, *both)


def _arrow(pair: Sequence[int]) -> str:
    return f"{pair[BEFORE]:,}" if pair[BEFORE] == pair[AFTER] else f"{pair[BEFORE]:,} -> {pair[AFTER]:,}"


def _load(preview: Preview, side: int) -> str:
    peak, when, mean = preview.load(side)
    return f"peak {peak:,} ({when} UTC), mean {mean:.1f}" if peak else "none"


def _print_examples(preview: Preview, tested: bool) -> None:
    for title, tally in _tallies(preview).items():
        if not tally.examples:
            continue
        out.print(f"\n{'matched' if tested and tally is preview.newly else title}, for example", style="bold")
        rows = [
            (each.message_id, each.event, str(each.did), ", ".join(each.before), ", ".join(each.after), each.note)
            for each in reversed(tally.examples)
        ]
        print_table(("message", "event", "dataset", "before", "after", ""), rows, empty="")


def _tallies(preview: Preview) -> Mapping[str, Tally]:
    return {
        "newly matched": preview.newly,
        "no longer matched": preview.no_longer,
        "matched by other rules": preview.otherwise,
        "refused as duplicates": preview.refused,
    }


def _preview_value(preview: Preview, total: int) -> Mapping[str, Any]:
    sides = {}
    for side, name in ((BEFORE, "before"), (AFTER, "after")):
        peak, when, mean = preview.load(side)
        sides[name] = {"peak": peak, "peak_hour": when, "mean": mean}
    return {
        "messages": total,
        "rules": [
            {
                "rule": change.name,
                "what": change.what,
                "gained": change.gained,
                "lost": change.lost,
                **{
                    name: {"before": getattr(change, name)[BEFORE], "after": getattr(change, name)[AFTER]}
                    for name in ("matched", "prescaled", "refused", "started", "unknown", "stuck")
                },
            }
            for change in preview.rules
        ],
        **{
            title.replace(" ", "_"): {
                "count": tally.count,
                "examples": [{**each._asdict(), "did": str(each.did)} for each in tally.examples],
            }
            for title, tally in _tallies(preview).items()
        },
        "starts": _what(preview),
        "per_hour": sides,
        "hours": [
            {"hour": f"{hour.replace(' ', 'T')}:00:00Z", "before": before, "after": after}
            for hour, (before, after) in preview.hours.items()
        ],
    }


def read_file(muleteer: Muleteer, path: Path) -> Sequence[Rule]:
    """The rules of a file or a folder, as `rules apply` reads them."""
    if not path.exists():
        fail(Exit.NOT_FOUND, f"there is no {path}")
    return read_rules(path, muleteer.actors, muleteer.tools())
