"""The main job from end to end on one machine: three runs of a detector, their workflows, and what follows."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import typer

from orchestrator import logs
from orchestrator.cli.session import Exit, command, errors_explained, fail
from orchestrator.cli.story import Story
from orchestrator.cli.terminal import cell, out
from orchestrator.clock import utc_now
from orchestrator.dispatch.rules import read_rules
from orchestrator.rucio.embedded.describing import describe_file
from orchestrator.service import Service
from orchestrator.settings import FILE_NAME, load
from orchestrator.store.messages import Filter
from orchestrator.wiring import BUNDLED_WORKFLOWS, Muleteer
from schemas.did import Did
from schemas.dispatch import DispatchState
from schemas.launch import LaunchState
from schemas.message import MessageState

_SCOPE: Final = "group.sphenix"
_RUNS: Final = (21615, 21616, 21617)
_UNWANTED: Final = Did(_SCOPE, "LASER_CALIB-00021618")
_POISON: Final = b'{"event_type": "close", "payload": {"scope": "group.sphe'

#: How long all of it may take, in seconds. It takes a tenth of that on an idle laptop.
_PATIENCE: Final = 120.0

_SETTINGS: Final = """\
# The demonstration's home: all defaults, so the broker, the catalog and the engine are the embedded ones.
"""

_RULES: Final = """\
rules:
  - name: raw-physics
    description: The raw events of a run are complete - calibrate its calorimeter.
    on: close
    scope: group.sphenix
    pattern: '(?P<project>\\w+)_RAW_EVENTS-(?P<run>\\d{8})'
    actions:
      - launch: {workflow: calorimeter, parameters: {run: "{run}"}}

  - name: announce
    description: The calorimeter data of a run are complete - tell the people who wait for them.
    on: close
    scope: group.sphenix
    pattern: 'rn(?P<run>\\d{8})-CALOR-DST'
    actions:
      - run: {command: [actors/announce.sh, "{did}", "{run}"], timeout: 1m}
"""

_ANNOUNCE: Final = """\
#!/bin/sh
# Gets the dataset and the run as arguments, and the whole message as MULETEER_* variables and on standard input.
echo "run $2: $MULETEER_LENGTH files, $MULETEER_BYTES bytes in $1" | tee -a announced.txt
"""


def demo(
    home: Annotated[
        Path | None,
        typer.Option("--home", help="An empty or new directory; else ./muleteer-demo.", show_default=False),
    ] = None,
) -> None:
    """Watch three datasets close, their workflows run, and what follows from that. Exit 0 only if all came true."""
    logs.configure(level="error")
    began = time.monotonic()
    with errors_explained():
        place = _prepare(home)
        muleteer = Muleteer(place, load(place))
        out.print(f"muleteer's demonstration in {place}\n", style="bold")
        story = Story(muleteer.store)
        try:
            _apply_rules(muleteer, story)
            with Service(muleteer).running():
                _take_data(muleteer, story)
                complete = story.follow(lambda: _complete(muleteer), _PATIENCE)
            story.catch_up()
            came_true = list(_came_true(muleteer))
            _summarize(place, came_true, complete, time.monotonic() - began)
        finally:
            muleteer.close()
    if not all(true for true, _ in came_true):
        raise typer.Exit(Exit.FAILED)


def _prepare(home: Path | None) -> Path:
    place = (home or _unused(Path("muleteer-demo"))).resolve()
    if place.exists() and any(place.iterdir()):
        fail(Exit.REFUSED, f"{place} is not empty: name a new directory with --home")
    for folder in ("raw", "actors", "workflows"):
        (place / folder).mkdir(parents=True, exist_ok=True)
    (place / FILE_NAME).write_text(_SETTINGS)
    (place / "rules.yaml").write_text(_RULES)
    script = place / "actors" / "announce.sh"
    script.write_text(_ANNOUNCE)
    script.chmod(0o755)
    return place


def _unused(path: Path) -> Path:
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def _apply_rules(muleteer: Muleteer, story: Story) -> None:
    rules = read_rules(muleteer.home / "rules.yaml", muleteer.actors, muleteer.tools())
    muleteer.store.rules.apply(rules, prune=False, who="demo", now=utc_now())
    story.say("rules", f"{', '.join(rule.name for rule in rules)} are in force (rules.yaml)")


def _take_data(muleteer: Muleteer, story: Story) -> None:
    """What the counting house does: files arrive, are registered, and the run's dataset is closed."""
    catalog = muleteer.catalog
    for run in _RUNS:
        did = Did(_SCOPE, f"SPHENIX_RAW_EVENTS-{run:08d}")
        files = _raw_files(muleteer.home / "raw" / f"{run:08d}", run)
        catalog.add_dataset(did)
        catalog.attach(did, [describe_file(path, _SCOPE) for path in files])
        catalog.close(did)
        story.say("catalog", f"{len(files)} raw files of run {run} registered, dataset {did} closed")
    catalog.add_dataset(_UNWANTED)
    catalog.close(_UNWANTED)
    story.say("catalog", f"dataset {_UNWANTED} closed; no rule is for it")
    muleteer.broker.send({"event_type": "close"}, _POISON)
    story.say("broker", "a broken frame was sent, cut off in the middle")


def _raw_files(directory: Path, run: int) -> list[Path]:
    maker = BUNDLED_WORKFLOWS / "calorimeter" / "make_raw.py"
    making = [sys.executable, str(maker), "--run", str(run), "--directory", str(directory), "--seed", str(run)]
    subprocess.run(making, check=True, capture_output=True)
    return sorted(path for path in directory.iterdir() if path.is_file())


def _complete(muleteer: Muleteer) -> bool:
    """Whether nothing more is to be expected."""
    counts = muleteer.store.counts()
    ended = sum(counts.launches.get(state, 0) for state in (LaunchState.FINISHED, LaunchState.FAILED))
    settled = sum(counts.dispatches.get(state, 0) for state in (DispatchState.DONE, DispatchState.FAILED))
    poisoned = counts.messages.get(MessageState.QUARANTINED, 0)
    return ended == len(_RUNS) and settled == 2 * len(_RUNS) and poisoned == 1


def _came_true(muleteer: Muleteer) -> Iterator[tuple[bool, str]]:
    """Each promise of the demonstration, looked up in the store, the catalog and the files."""
    store, count = muleteer.store, len(_RUNS)
    launches = store.launches.list(states=[LaunchState.FINISHED])
    yield len(launches) == count, f"{len(launches)} of {count} runs went through combine, calorimeter and links"
    closed = muleteer.catalog.datasets(_SCOPE, "rn*-CALOR-DST")
    full = [entry for entry in closed if entry.state == "closed" and entry.length > 0]
    yield len(full) == count, f"{len(full)} output datasets are registered and closed"
    announced = muleteer.home / "announced.txt"
    lines = announced.read_text().splitlines() if announced.exists() else []
    yield len(lines) == count, f"{len(lines)} of them were answered by the second rule (announced.txt)"
    pending = store.messages.list(_in(MessageState.PENDING))
    only = [message.did for message in pending] == [_UNWANTED]
    yield only, f"{len(pending)} close matched no rule and waits: {', '.join(str(each.did) for each in pending)}"
    dropped = store.messages.list(_in(MessageState.DROPPED))
    harmless = bool(dropped) and all(each.event_type != "close" for each in dropped)
    yield harmless, f"{len(dropped)} other events (datasets being created) matched no rule and were dropped"
    quarantined = store.messages.list(_in(MessageState.QUARANTINED))
    yield len(quarantined) == 1, f"{len(quarantined)} broken frame is in quarantine, kept as it came"


def _summarize(place: Path, came_true: list[tuple[bool, str]], complete: bool, seconds: float) -> None:
    out.print()
    for true, said in came_true:
        out.print(cell("yes " if true else "NO  ") + f" {said}", style=None if true else "red")
    if not complete:
        out.print(f"NO   it was not over after {_PATIENCE:.0f} seconds", style="red")
    out.print(f"\n{seconds:.1f} seconds. Look further:", style="bold")
    call = command()
    for words in ("show", "messages list", "messages show 2", "launches list", "dispatches list", "catalog list"):
        out.print(f"  {call} {words} --home {place}")
    out.print("\nGo on by yourself; the rule `announce` answers this one:", style="bold")
    out.print(f"  {call} run --home {place}                  (leave it running, and in another terminal:)")
    out.print(f"  {call} catalog create {_SCOPE}:rn00099999-CALOR-DST --home {place}")
    out.print(f"  {call} catalog close {_SCOPE}:rn00099999-CALOR-DST --home {place}")
    out.print(f"  {call} dispatches list --home {place}")
    out.print(f"Edit {place}/rules.yaml, then: {call} rules apply {place}/rules.yaml --home {place}")


def _in(state: MessageState) -> Filter:
    return Filter(states=[state])
