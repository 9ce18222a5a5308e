"""Policies of transient datasets: checked, put in force, switched on and off, confirmed, taken out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.session import Home, Json, Limit, opened, person
from orchestrator.cli.terminal import err, out, print_fields, print_json, print_table
from orchestrator.cli.transient_files import policies_text, read_policies
from orchestrator.cli.transient_meant import Because
from orchestrator.cli.transient_meant import reason as spoken
from orchestrator.cli.transient_planning import deciding
from orchestrator.clock import utc_now
from orchestrator.core.transient.policies import remarks_on, remarks_on_switching
from orchestrator.store.transient_policies import PolicyChange
from schemas.durations import format_duration
from schemas.transient import PolicyVersion, TransientPolicy

app = typer.Typer(no_args_is_help=True, help="Which datasets are transient, and what must be proved before one leaves.")

File = Annotated[Path, typer.Argument(metavar="FILE", help="A file of policies, or a folder of them.")]
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Names of policies.", show_default=False)]
Name = Annotated[str, typer.Argument(help="The policy's name.", show_default=False)]


@app.command("list")
def list_(home: Home = None, json_: Json = False) -> None:
    """List the policies in force."""
    with opened(home, reading=True) as muleteer:
        versions, unreadable = muleteer.store.transient_policies.all_in_force()
    _warn(map(str, unreadable))
    if json_:
        print_json([_shown(version) for version in versions])
        return
    rows = [
        (
            version.policy.name,
            version.version,
            _stands(version.policy),
            ", ".join(version.policy.scope),
            version.policy.pattern,
            f"{format_duration(version.policy.lifetime)} since {version.policy.since}",
            version.policy.successor.dataset,
            version.confirmed,
        )
        for version in versions
    ]
    columns = ("name", "version", "released by", "scope", "pattern", "after", "successor", "confirmed")
    print_table(columns, rows, empty="There is no policy, so nothing is transient. `policies apply FILE` makes some.")


def _stands(policy: TransientPolicy) -> str:
    if not policy.enabled:
        return "nobody: disabled"
    return "itself" if policy.automatic else "a person"


@app.command("show")
def show(
    name: Name,
    home: Home = None,
    number: Annotated[int | None, typer.Option("--version", help="Another version than the one in force.")] = None,
    json_: Json = False,
) -> None:
    """Show a policy: as it was written, since when, by whom and why."""
    with opened(home, reading=True) as muleteer:
        version = muleteer.store.transient_policies.version(name, number)
    if json_:
        print_json(_shown(version))
        return
    ended = "in force" if version.ended_at is None else f"until {version.ended_at:%Y-%m-%d %H:%M:%S} UTC"
    print_fields(
        {
            "policy": name,
            "version": version.version,
            "stands": ended + ("" if version.policy.enabled else ", disabled"),
            "by": version.author,
            "at": version.at,
            "why": version.reason,
            "confirmed": None if version.confirmed is None else f"{version.confirmed:,} matches",
        }
    )
    out.print(f"\n{policies_text([version.policy])}")


@app.command("check")
def check(path: File, json_: Json = False) -> None:
    """Say every mistake in policies, with its file and line. Nothing is put in force."""
    policies = read_policies(path)
    remarks = list(remarks_on(policies))
    if json_:
        print_json({"policies": [policy.name for policy in policies], "remarks": remarks})
        return
    _warn(remarks)
    out.print(f"{len(policies)} {'policy' if len(policies) == 1 else 'policies'}, no mistake")


@app.command("apply")
def apply(
    path: File,
    home: Home = None,
    prune: Annotated[bool, typer.Option("--prune", help="Take out policies in force that are not given.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Why; kept with the change. A dry run needs none.")
    ] = None,
    json_: Json = False,
) -> None:
    """Put policies in force, all or nothing. Nothing is released by it, unless a policy is automatic."""
    why = None if dry_run else spoken(reason or "")
    policies = read_policies(path)
    with opened(home) as muleteer:
        store = muleteer.store.transient_policies
        if why is None:
            change = store.would_change(policies, prune=prune)
        else:
            change = store.apply(policies, prune=prune, who=person(), now=utc_now(), reason=why)
        given = {policy.name for policy in policies}
        rest = [each.policy for each in store.in_force() if each.policy.name not in {*given, *change.removed}]
    remarks = [*remarks_on_switching(change.switched_on), *remarks_on([*policies, *rest])]
    _tell(change, json_, dry_run=dry_run, remarks=remarks)


@app.command("enable")
def enable(names: Names, reason: Because, home: Home = None, json_: Json = False) -> None:
    """Switch policies on."""
    _switch(names, True, reason, home, json_)


@app.command("disable")
def disable(names: Names, reason: Because, home: Home = None, json_: Json = False) -> None:
    """Switch policies off. What they have released does not leave: it is not proved any more."""
    _switch(names, False, reason, home, json_)


def _switch(names: Sequence[str], enabled: bool, reason: str, home: Path | None, json_: bool) -> None:
    with opened(home) as muleteer:
        change = muleteer.store.transient_policies.set_enabled(
            names, enabled, who=person(), now=utc_now(), reason=reason
        )
    _tell(change, json_)


@app.command("remove")
def remove(names: Names, reason: Because, home: Home = None, json_: Json = False) -> None:
    """Take policies out. What they have released does not leave; their versions stay readable."""
    with opened(home) as muleteer:
        change = muleteer.store.transient_policies.remove(names, who=person(), now=utc_now(), reason=reason)
    _tell(change, json_)


@app.command("history")
def history(
    name: Annotated[str | None, typer.Argument(help="Only versions of this policy.", show_default=False)] = None,
    home: Home = None,
    limit: Limit = 50,
    json_: Json = False,
) -> None:
    """List the versions of the policies, newest first: when, who and why."""
    with opened(home, reading=True) as muleteer:
        versions = muleteer.store.transient_policies.history(name, limit=limit)
    if json_:
        print_json([_shown(version) for version in versions])
        return
    rows = [
        (
            version.at,
            version.author,
            version.policy.name,
            version.version,
            _stands(version.policy),
            version.ended_at,
            version.confirmed,
            version.reason,
        )
        for version in versions
    ]
    columns = ("at", "who", "name", "version", "released by", "ended", "confirmed", "why")
    print_table(columns, rows, empty="No policy was ever applied.")


@app.command("confirm")
def confirm(
    name: Name,
    matches: Annotated[int, typer.Option("--matches", min=1, help="So many datasets, as `transient plan` says.")],
    reason: Because,
    home: Home = None,
    json_: Json = False,
) -> None:
    """Confirm that a policy may match so many datasets, though it is a large part of its scopes.

    It counts for the version in force, and for no more matches than these: it must match just as many now.
    """
    with opened(home) as muleteer, deciding(), err.status("the catalog is gone through"):
        version = muleteer.transient_desk().confirm(name, matches, who=person(), why=reason)
    if json_:
        print_json(_shown(version))
        return
    out.print(f"version {version.version} of {name} may match {matches:,} datasets")


def _shown(version: PolicyVersion) -> dict[str, object]:
    return {
        "name": version.policy.name,
        **version.model_dump(mode="json", exclude={"id"}),
        "policy": version.policy.as_written(),
    }


def _tell(change: PolicyChange, json_: bool, *, dry_run: bool = False, remarks: Sequence[str] = ()) -> None:
    did = {name: list(getattr(change, name)) for name in ("added", "changed", "removed", "unchanged")}
    if json_:
        print_json({**did, "dry_run": dry_run, "remarks": remarks})
        return
    _warn(remarks)
    for name, policies in did.items():
        if policies:
            out.print(f"{name:<10}{', '.join(policies)}")
    if not (change.added or change.changed or change.removed):
        out.print("the policies are as before")
    elif dry_run:
        out.print("nothing was changed")


def _warn(remarks: Iterable[str]) -> None:
    for remark in remarks:
        err.print(f"warning: {remark}")
