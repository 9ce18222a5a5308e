"""The most memory `muleteer run` takes while a backlog drains from a real ActiveMQ.

It is what Linux calls VmHWM: the largest resident size that the process ever had.
"""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from orchestrator.broker.stomp import StompSettings
from orchestrator.clock import utc_now
from orchestrator.store.store import Store
from schemas.message import MessageState
from schemas.rule import Action, Rule
from tests.bench.bench import Bench
from tests.bench.figures import Figure, Skipped
from tests.bench.frames import close_of, fill
from tests.services.child import Child

#: Names that begin with this letter are matched.
WANTED = "R"

SETTINGS = """\
[broker]
kind = "stomp"
addresses = ["{host}:{port}"]
destination = "{queue.destination}"
user = "{queue.user}"
passcode = "{queue.passcode}"
"""


def measure(bench: Bench) -> Iterator[Figure]:
    if not Path("/proc/self/status").exists():
        raise Skipped("there is no /proc/self/status here")
    frames = 5_000 if bench.quick else 100_000
    for share in (0, 100):
        queue = bench.new_queue()
        fill(queue, (close_of(number, WANTED if share and number % share == 0 else "C") for number in range(frames)))
        taken, peak = _drain(bench.new_directory(), queue, frames, frames // share if share else 0)
        peak /= 1024
        what = f"peak of `muleteer run`, {frames:,} frames, {'1 in 100 matched' if share else 'none matched'}"
        yield Figure("memory", f"{what} ({taken:.0f} s)", f"{peak:.0f} MB", "< 200 MB", f"{peak / 200:.2f}")


def _drain(home: Path, queue: StompSettings, frames: int, wanted: int) -> tuple[float, float]:
    """Seconds until everything is stored, judged and carried out, and the peak in kB."""
    host, port = queue.addresses[0]
    (home / "muleteer.toml").write_text(SETTINGS.format(host=host, port=port, queue=queue))
    store = Store.open(f"sqlite:///{home / 'muleteer.db'}")
    action = Action(actor="run", options={"command": ["true"]})
    rule = Rule(name="wanted", pattern=f"{WANTED}.*", actions=(action,))
    store.rules.apply([rule], prune=False, who="bench", now=utc_now())
    muleteer = Path(sys.executable).with_name("muleteer")
    child = Child([muleteer, "run", "--home", home], log=home / "muleteer.log", goodbye=signal.SIGTERM)
    begun = time.monotonic()
    try:
        while not _settled(store, frames, wanted):
            if not child.running:
                raise RuntimeError(f"muleteer ended by itself:\n{(home / 'muleteer.log').read_text()[-2000:]}")
            time.sleep(0.5)
        taken = time.monotonic() - begun
        peak = peak_of(child.pid)
    finally:
        child.stop()
        store.close()
    return taken, peak


def _settled(store: Store, frames: int, wanted: int) -> bool:
    counts = store.counts()
    if sum(counts.messages.values()) < frames or counts.dispatches.get("done", 0) < wanted:
        return False
    # messages are judged in the order of their ids
    newest = store.messages.list(limit=1)[0]
    return newest.state is not MessageState.PENDING or newest.judged_revision == counts.revision


def peak_of(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None, "Linux gives VmHWM for every process"
    return int(found[1])
