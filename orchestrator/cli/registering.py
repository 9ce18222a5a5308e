"""Files into the catalog: datasets created, filled and closed, each as one operation that can be gone on with."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.registering_options import (
    Asked,
    Dataset,
    Datasets,
    Hidden,
    KnownSums,
    Lifetime,
    Manifests,
    OnlyThese,
    Pairs,
    Report,
    RseName,
    Simulate,
    Threads,
    Verify,
    Ways,
    Why,
    Words,
    Written,
    pairs_of,
    parsed,
)
from orchestrator.cli.registering_running import bring, go_on, print_foreseen, told
from orchestrator.cli.registering_showing import Id, list_, show, way_on
from orchestrator.cli.session import Exit, Home, Json, fail, opened
from orchestrator.cli.terminal import out
from orchestrator.register.containers import make, put_into, way_down
from orchestrator.register.describing import describe, lifetime_kept
from orchestrator.rucio.port import DatasetState, DidExists
from orchestrator.store.registration_rows import Listing, RegistrationFilter, Wanted
from orchestrator.wiring import Muleteer
from schemas.did import Did
from schemas.registration import RegistrationId, RegistrationState

app = typer.Typer(no_args_is_help=True, help="Register files: fill datasets, close them, see how far that has come.")


@app.command("fill")
def fill(
    dataset: Dataset,
    files: Words = None,
    manifests: Manifests = None,
    format_: Written = None,
    rse: RseName = None,
    open_: Annotated[bool, typer.Option("--open", help="Leave the dataset open in the end.")] = False,
    containers: Ways = None,
    metadata: Pairs = None,
    lifetime: Lifetime = None,
    only_these: OnlyThese = False,
    simulate: Simulate = False,
    verify: Verify = False,
    known_sums: KnownSums = None,
    threads: Threads = None,
    hidden: Hidden = False,
    reason: Why = None,
    report: Report = None,
    home: Home = None,
    json_: Json = False,
) -> None:
    """Create a dataset, register files, attach them and close it; called again, it goes on where it stopped.

    The dataset is closed only when it holds exactly these files, and none is wanted still of an earlier list.
    """
    listing = Listing.ANEW if only_these else Listing.WHOLE
    asked = Asked(files or (), manifests or (), format_, hidden)
    wanted = Wanted(dataset, rse, not open_, tuple(containers or ()), pairs_of(metadata), lifetime, listing)
    with opened(home) as found:
        muleteer = told(found, verify=verify, known_sums=known_sums, threads=threads)
        bring(muleteer, wanted, dataset.scope, asked, simulate=simulate, reason=reason, report=report, json_=json_)


@app.command("add-file")
def add_file(
    files: Words = None,
    manifests: Manifests = None,
    format_: Written = None,
    dataset: Annotated[
        Did | None, typer.Option("--dataset", parser=parsed, metavar="SCOPE:NAME", help="Attach them there.")
    ] = None,
    scope: Annotated[str | None, typer.Option("--scope", help="Of the files; else the dataset's.")] = None,
    did: Annotated[
        str | None, typer.Option("--did", metavar="[SCOPE:]NAME", help="What one file is called; else as on disk.")
    ] = None,
    md5: Annotated[str | None, typer.Option("--md5", help="Of one file, if it is known.")] = None,
    rse: RseName = None,
    containers: Ways = None,
    metadata: Pairs = None,
    lifetime: Lifetime = None,
    simulate: Simulate = False,
    verify: Verify = False,
    known_sums: KnownSums = None,
    threads: Threads = None,
    hidden: Hidden = False,
    reason: Why = None,
    report: Report = None,
    home: Home = None,
    json_: Json = False,
) -> None:
    """Register files, and attach them to a dataset if one is named; it stays open."""
    place = scope or (dataset.scope if dataset is not None else None) or (did or "").rpartition(":")[0]
    if not place:
        raise typer.BadParameter("say the scope of the files with --scope, or name a --dataset")
    if dataset is None and (containers or metadata or lifetime):
        raise typer.BadParameter("--containers, --metadata and --lifetime are about a dataset: name it with --dataset")
    asked = Asked(files or (), manifests or (), format_, hidden)
    wanted = Wanted(dataset, rse, False, tuple(containers or ()), pairs_of(metadata), lifetime, Listing.MORE)
    with opened(home) as found:
        muleteer = told(found, verify=verify, known_sums=known_sums, threads=threads)
        bring(
            *(muleteer, wanted, place, asked),
            known={"lfn": did, "md5": md5},
            simulate=simulate,
            reason=reason,
            report=report,
            json_=json_,
        )


@app.command("add-dataset")
def add_dataset(
    dataset: Dataset,
    containers: Ways = None,
    metadata: Pairs = None,
    lifetime: Lifetime = None,
    simulate: Simulate = False,
    home: Home = None,
) -> None:
    """Create an open, empty dataset, and the containers above it."""
    try:
        ways = [way_down(way, dataset.scope) for way in containers or ()]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    said = pairs_of(metadata)
    with opened(home) as muleteer:
        catalog, state = muleteer.catalog, "created"
        if simulate:
            wanted = Wanted(dataset, closes=False, containers=tuple(containers or ()), metadata=said)
            print_foreseen(muleteer, wanted)
            return
        try:
            catalog.add_dataset(dataset, said, lifetime)
        except DidExists:
            state = f"there already, and {catalog.dataset(dataset).state}{lifetime_kept(catalog, dataset, lifetime)}"
            describe(catalog, dataset, said)
        make(catalog, ways)
        put_into(catalog, dataset, ways)
    out.print(f"{dataset} is {state}")


@app.command("close-dataset")
def close_dataset(
    datasets: Datasets,
    force: Annotated[bool, typer.Option("--force", help="Also empty ones, and ones with files still to come.")] = False,
    home: Home = None,
) -> None:
    """Close datasets. One that is empty, or that a registration has not finished, stays open unless it is forced."""
    refused = []
    with opened(home) as muleteer:
        for did in datasets:
            why = None if force else _unfit(muleteer, did)
            if why is not None:
                refused.append(f"{did} stays open: {why}")
                continue
            muleteer.catalog.close(did)
            out.print(f"{did} is closed")
    if refused:
        fail(Exit.REFUSED, "; ".join(refused) + " (--force closes it all the same)")


def _unfit(muleteer: Muleteer, did: Did) -> str | None:
    entry = muleteer.catalog.dataset(did)
    if entry.state is DatasetState.CLOSED:
        return None
    unfinished = [RegistrationState.OPEN, RegistrationState.FAILED]
    for each in muleteer.store.registrations.list(RegistrationFilter(states=unfinished, dataset=did), limit=1):
        return f"registration {each.id} of it is {each.state}: {way_on(each)}"
    return "it is empty" if entry.length == 0 else None


@app.command("resume")
def resume(id_: Id, reason: Why = None, report: Report = None, home: Home = None, json_: Json = False) -> None:
    """Go on with a registration that was stopped, killed, or had files refused."""
    with opened(home, reading=True) as muleteer:
        go_on(muleteer, RegistrationId(id_), reason, report, json_=json_)


app.command("list")(list_)
app.command("show")(show)
