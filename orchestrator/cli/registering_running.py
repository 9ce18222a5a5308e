"""A registration from its options to what is said of it: shared by all commands that bring files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import typer

from orchestrator.cli import registering_progress
from orchestrator.cli.registering_options import Asked, known_of_one
from orchestrator.cli.registering_progress import Shown
from orchestrator.cli.registering_showing import counts, way_on
from orchestrator.cli.running import Signals
from orchestrator.cli.session import Exit, person
from orchestrator.cli.terminal import err, out, plain, print_json, print_table
from orchestrator.core.registering import Mistold, plan
from orchestrator.register.filler import Filled
from orchestrator.register.foreseeing import Foresight
from orchestrator.register.registrar import made_later
from orchestrator.register.verdicts import What
from orchestrator.rucio.port import CatalogUnavailable
from orchestrator.settings import Settings
from orchestrator.store.port import StoreUnavailable
from orchestrator.store.registration_rows import Wanted
from orchestrator.wiring import Muleteer
from schemas.registration import FileState, RegisteredFile, RegistrationId, RegistrationState

#: Refused files that are shown; all of them are in the report.
_SHOWN: Final = 20


def told(muleteer: Muleteer, *, verify: bool, known_sums: Path | None, threads: int | None) -> Muleteer:
    """With what this call says instead of the settings."""
    settings = muleteer.settings
    said: dict[str, Any] = {
        **({"verify": True} if verify else {}),
        **({"known_sums": known_sums.resolve()} if known_sums is not None else {}),
        **({"threads": threads} if threads is not None else {}),
    }
    if not said:
        return muleteer
    changed: Settings = settings.model_copy(update={"registration": settings.registration.model_copy(update=said)})
    return replace(muleteer, settings=changed)


def bring(
    muleteer: Muleteer,
    wanted: Wanted,
    scope: str,
    asked: Asked,
    *,
    known: Mapping[str, str | None] | None = None,
    simulate: bool,
    reason: str | None,
    report: Path | None,
    json_: bool,
) -> None:
    signals = Signals()
    tellings = known_of_one(asked.tellings(muleteer.settings.registration), known or {})
    files = plan(tellings, scope, muleteer.policy, made_later, wanted.rse)
    if simulate:
        print_foreseen(muleteer, wanted, files, lambda: signals.asked, json_=json_)
        return
    with (
        registering_progress.shown(silent=json_) as shown,
        muleteer.filler(lambda: signals.asked, shown.tell, shown.read) as filler,
    ):
        with _hint_if_away():
            filled = filler.fill(wanted, files, who=person(), why=reason)
        _finish(muleteer, filled, shown, report, json_)


@contextmanager
def _hint_if_away() -> Iterator[None]:
    """What was done stands when the catalog or the store goes away in the middle: whoever waits wants to know."""
    try:
        yield
    except (CatalogUnavailable, StoreUnavailable):
        err.print("what was done stands: call it again, or see `muleteer register list` and `muleteer register resume`")
        raise


def print_foreseen(
    muleteer: Muleteer,
    wanted: Wanted,
    files: Iterable[RegisteredFile | Mistold] = (),
    stopping: Callable[[], bool] = lambda: False,
    *,
    json_: bool = False,
) -> None:
    """Say what would be done, line by line."""
    seen: dict[What, int] = {}
    rows: list[dict[str, Any]] = []
    reads = muleteer.settings.registration.verify
    with muleteer.summing(stopping) as summing:
        sight = Foresight(muleteer.store.registrations, muleteer.catalog, summing, reads=reads)
        for each in sight.foresee(wanted, files):
            seen[each.what] = seen.get(each.what, 0) + 1
            if json_:
                rows.append({"did": each.did, "what": each.what, "reason": each.reason})
            else:
                out.print(f"{each.what:<8} {each.did}" + (f"  ({each.reason})" if each.reason else ""))
    if json_:
        print_json({"simulated": rows, "counts": seen})
    else:
        out.print(f"{', '.join(f'{count:,} {what}' for what, count in seen.items())}; nothing was changed")
    if seen.get(What.REGISTER) and not reads:
        err.print(
            "files that are new to the catalog were not read: with --verify they are, and compared with their list"
        )
    if seen.get(What.REFUSE) or seen.get(What.FOREIGN):
        raise typer.Exit(Exit.FAILED)


def _finish(muleteer: Muleteer, filled: Filled, shown: Shown, report: Path | None, json_: bool) -> None:
    """Say what came of it; the exit code says whether all of it was done."""
    shown.end()
    found = filled.registration
    came_of_it = _report(muleteer, filled, shown)
    if report is not None:
        report.write_text(json.dumps(came_of_it, indent=2) + "\n", encoding="utf-8")
    if json_:
        print_json(came_of_it)
    else:
        out.print(f"registration {found.id} is {found.state}: {found.reason or counts(found.files)}")
        _print_refused(came_of_it["refused"])
        out.print(shown.summary())
    if filled.other is not None:
        err.print(f"somebody else fills {found.dataset} too: {filled.other} called registration {found.id}")
    if found.state is RegistrationState.DONE:
        return
    why = "stopped" if filled.stopped else "not all of it was done"
    err.print(f"{why}; {way_on(found)}, `muleteer register show {found.id}` has the files")
    raise typer.Exit(Exit.FAILED)


def _print_refused(refused: Sequence[Mapping[str, Any]]) -> None:
    """The first of the files that were refused; what is on a list and no file has no DID, but a place on it."""
    if refused:
        rows = [(each["did"] or each["place"], each["reason"]) for each in refused[:_SHOWN]]
        print_table(("refused", "reason"), rows, empty="")
    if len(refused) > _SHOWN:
        out.print(f"... and {len(refused) - _SHOWN:,} more: --report FILE or --json has all of them")


def _report(muleteer: Muleteer, filled: Filled, shown: Shown) -> dict[str, Any]:
    found = filled.registration
    refused = muleteer.store.registrations.files(found.id, [FileState.REFUSED], limit=100_000)
    return {
        "registration": plain(found),
        "stopped": filled.stopped,
        "refused": [
            *({"did": each.did, "path": each.path, "place": None, "reason": each.reason} for each in refused),
            *({"did": None, "path": None, "place": each.place, "reason": each.reason} for each in filled.mistold),
        ],
        "seconds": round(shown.seconds, 3),
        "bytes_read": shown.bytes_read,
    }


def go_on(muleteer: Muleteer, id_: RegistrationId, reason: str | None, report: Path | None, *, json_: bool) -> None:
    """Go on with a registration; what came of it is said."""
    signals = Signals()
    with (
        registering_progress.shown(silent=json_) as shown,
        muleteer.filler(lambda: signals.asked, shown.tell, shown.read) as filler,
    ):
        with _hint_if_away():
            filled = filler.resume(id_, who=person(), why=reason)
        _finish(muleteer, filled, shown, report, json_)
