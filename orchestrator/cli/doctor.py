"""Is everything well? And if not: what is wrong, and what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import typer

from orchestrator import logs
from orchestrator.broker.port import BrokerError
from orchestrator.cli.session import Exit, Home, Json
from orchestrator.cli.terminal import ago, out, print_json
from orchestrator.core.workflow import WorkflowError
from orchestrator.dispatch.rules import mistakes_of
from orchestrator.panda.port import EngineError
from orchestrator.rucio.port import CatalogError
from orchestrator.settings import FILE_NAME, ConfigurationError, load
from orchestrator.store.port import StoreError
from orchestrator.wiring import Muleteer, store_url

#: Below this much free space the store is in danger, in bytes.
_LITTLE = 500 * 1024 * 1024

_FORESEEN = (ConfigurationError, StoreError, BrokerError, CatalogError, EngineError, WorkflowError, OSError)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    well: bool
    said: str


def doctor(home: Home = None, json_: Json = False) -> None:
    """Check settings, store, rules, workflows, actors, broker, catalog and engine. Exit 1 if something is wrong."""
    logs.configure(level="error")
    findings = list(_examine((home or Path()).resolve()))
    if json_:
        print_json([{"what": each.what, "well": each.well, "said": each.said} for each in findings])
    else:
        for each in findings:
            out.print(f"{'well ' if each.well else 'WRONG'}  {each.what:<10} {each.said}")
    if not all(each.well for each in findings):
        raise typer.Exit(Exit.FAILED)


def _examine(home: Path) -> Iterator[Finding]:
    if not home.is_dir():
        yield Finding("home", False, f"there is no directory {home}: muleteer init --home {home}")
        return
    try:
        settings = load(home)
    except ConfigurationError as error:
        yield Finding("settings", False, str(error))
        return
    written = home / FILE_NAME
    url = store_url(settings, home)
    if not written.exists() and url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        yield Finding("home", False, f"{home} is no home of muleteer yet: muleteer init --home {home}")
        return
    yield Finding("settings", True, f"{written}" if written.exists() else f"no {written}: the defaults are in force")
    muleteer = Muleteer(home, settings)
    try:
        checks: list[tuple[str, Callable[[Muleteer], str]]] = [
            ("disk", _disk),
            ("store", _store),
            ("actors", _actors),
            ("workflows", _workflows),
            ("rules", _rules),
            ("catalog", _catalog),
            ("engine", _engine),
            ("broker", _broker),
        ]
        for what, check in checks:
            yield _found(what, check, muleteer)
    finally:
        muleteer.close()


def _found(what: str, check: Callable[[Muleteer], str], muleteer: Muleteer) -> Finding:
    try:
        return Finding(what, True, check(muleteer))
    except _FORESEEN as error:
        return Finding(what, False, str(error))
    except _Wrong as error:
        return Finding(what, False, str(error))


#: A client goes on for `submit_timeout` when whoever started it is killed.
_TOO_SOON: Final = (
    "CAREFUL: settle is not longer than submit_timeout, so after a crash a launch may be sent again while the first "
    "client still sends it: raise settle in the site's profile"
)


class _Wrong(Exception):
    """What is wrong, and what to do."""


def _disk(muleteer: Muleteer) -> str:
    free = shutil.disk_usage(muleteer.home).free
    if free < _LITTLE:
        raise _Wrong(f"only {free // 2**20:,} MiB are free at {muleteer.home}: make room")
    return f"{free // 2**30:,} GiB free at {muleteer.home}"


def _store(muleteer: Muleteer) -> str:
    counts = muleteer.store.counts()
    return f"{muleteer.store.database.address}, {sum(counts.messages.values())} messages"


def _actors(muleteer: Muleteer) -> str:
    if muleteer.actors.broken:
        raise _Wrong("; ".join(f"{name}: {why}" for name, why in muleteer.actors.broken.items()))
    return ", ".join(sorted(muleteer.actors.usable))


def _workflows(muleteer: Muleteer) -> str:
    names = sorted(set(muleteer.workflows.names()))
    for name in names:
        muleteer.workflows.get(name)
    return ", ".join(names) or "none"


def _rules(muleteer: Muleteer) -> str:
    revision, versions = muleteer.store.rules.in_force()
    tools = muleteer.tools()
    wrong = [
        f"{version.rule.name}: {'.'.join(map(str, place))}: {what}"
        for version in versions
        for place, what in mistakes_of(version.rule, muleteer.actors, tools)
    ]
    if wrong:
        raise _Wrong("; ".join(wrong))
    if not versions:
        return "none yet, so nothing is dispatched: muleteer rules apply FILE"
    return f"{len(versions)} in force, revision {revision}"


def _catalog(muleteer: Muleteer) -> str:
    waiting = muleteer.store.facts.waiting()
    wait = (
        f", {waiting.messages} messages wait for it, the first since {ago(waiting.since)}" if waiting.messages else ""
    )
    if muleteer.embedded_catalog is None:
        return f"{muleteer.rucio.handshake()}{wait}"
    return f"{muleteer.catalog.address}, {len(muleteer.catalog.datasets())} datasets{wait}"


def _engine(muleteer: Muleteer) -> str:
    site = muleteer.site
    if site is not None:
        said = f"{muleteer.engine.name} at {site.name}: {muleteer.panda.handshake(muleteer.clock())}"
        return said if site.settle > site.submit_timeout else f"{said}; {_TOO_SOON}"
    muleteer.engine.find("doctor", {})
    return muleteer.engine.name


def _broker(muleteer: Muleteer) -> str:
    muleteer.broker.check()
    return muleteer.broker.address
