"""The defects of the original donkey's command line and listener, and that ours does not have them.

Those of its store and its dispatcher are in tests/contract/test_store_donkey.py, on both databases.
"""

from __future__ import annotations

import ast
import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

from orchestrator.cli.commands import app
from orchestrator.store.store import Store
from tests.unit.making import NOW, ROOT, frame, script


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """A command may set up logs and signals for its process; the next test finds them as they were."""
    handlers, level = logging.root.handlers[:], logging.root.level
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in signals.items():
        signal.signal(number, handler)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize("regex", [r'r"(\w)+EVENTS-(\d+)"', r"r'(\w)+EVENTS-(\d+)'", r"(\w)+EVENTS-(\d+)"])
@pytest.mark.parametrize("event", ["close", "closed", "CLOSE"])
def test_defect_5_the_command_line_of_the_notes_matches(tmp_path: Path, regex: str, event: str) -> None:
    """donkey took r"..." literally and knew only `closed`; ours starts the actor for what the notes mean."""
    script(tmp_path, "dispatch.sh", 'echo "$1 $2 $3" >>called.txt\n')
    store = Store.open(f"sqlite:///{tmp_path / 'muleteer.db'}")
    arrivals = [frame(name="SPHENIX_RAW_EVENTS-00021615"), frame(name="OTHER"), frame("open", name="X_EVENTS-1")]
    store.messages.take_in(arrivals, origin="broker", now=NOW)
    words = ["dispatch", "--rule", "raw-events", "--actor", "actors/dispatch.sh", "--regex", regex]

    result = CliRunner().invoke(app, [*words, "--event", event, "--home", str(tmp_path)])

    states = {each.name: str(each.state) for each in store.messages.list()}
    store.close()
    assert result.exit_code == 0, result.output
    assert (tmp_path / "called.txt").read_text() == "group.sphenix SPHENIX_RAW_EVENTS-00021615 close\n"
    assert states == {"SPHENIX_RAW_EVENTS-00021615": "dispatched", "OTHER": "pending", "X_EVENTS-1": "dropped"}


def test_defect_7_the_listener_asks_nobody_but_the_store() -> None:
    """A Rucio outage lost donkey's messages, since its handler asked Rucio; ours cannot even reach the catalog.

    That a frame is acknowledged only after it is stored is in tests/unit/broker and tests/contract/test_broker.py.
    """
    imported: set[str] = set()
    for path in (ROOT / "orchestrator" / "broker").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                imported.add(node.module or "")
            elif isinstance(node, ast.Import):
                imported.update(alias.name for alias in node.names)

    assert "orchestrator.store.messages" in imported
    assert not {name for name in imported if "rucio" in name or "panda" in name}
