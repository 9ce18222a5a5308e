"""Rucio and PanDA take every connection and never answer: muleteer can be stopped all the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

import pytest

from orchestrator.clock import utc_now
from orchestrator.core.by_hand import Hand
from orchestrator.settings import load
from orchestrator.store.launch_commands import Ask
from orchestrator.store.launches import Intent
from orchestrator.store.store import Store
from orchestrator.wiring import Muleteer
from schemas.launch import Command, LaunchId, LaunchState
from tests.acceptance.home import Home, Process, apply_rules, until
from tests.acceptance.panda_home import SITE
from tests.contract.store_transients import policy
from tests.services.panda import make_token
from tests.services.silent import Silent
from tests.unit.making import frame

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)]

#: So long all that asks a service has, in seconds, to come to an end.
FAREWELL = 10

#: Whatever is closed must still be closed.
RULES = """
rules:
  - name: every-close
    actions:
      - run: {command: ["true"]}
        require: {closed: true}
"""


@pytest.fixture
def rucio() -> Iterator[Silent]:
    with Silent() as service:
        yield service


@pytest.fixture
def panda() -> Iterator[Silent]:
    with Silent() as service:
        yield service


@pytest.fixture
def home(
    new_home: Callable[[Mapping[str, str]], Home], store: Store, store_url: str, rucio: Silent, panda: Silent
) -> Home:
    """A home of which both the catalog and the engine hang."""
    catalog = {"HOST": rucio.url, "ACCOUNT": "root", "USERNAME": "root", "PASSWORD": "secret", "KIND": "rucio"}
    home = new_home({"STORE__URL": store_url, **{f"CATALOG__{name}": value for name, value in catalog.items()}})
    (home.place / "sites").mkdir()
    token = home.place / "token"
    site = SITE.format(url=panda.url, vo="sphenix", token=token, submit_timeout="1m", settle="3s")
    (home.place / "sites" / "test.yaml").write_text(site)
    (home.place / "muleteer.toml").write_text('[engine]\nkind = "panda"\nsite = "test"\n')
    token.write_text(make_token())
    token.chmod(0o600)
    return home


def submitted(home: Home, store: Store) -> LaunchId:
    """A launch that goes on, of which PanDA is asked how far it is."""
    muleteer = Muleteer(home.place, load(home.place))
    intent = Intent("key", "user.shrek.rn1", None, "calo", {}, {}, {}, muleteer.engine.identity, [])
    launch = store.launches.intend(intent, who="test", now=utc_now())
    for state in (LaunchState.SUBMITTING, LaunchState.SUBMITTED):
        launch = store.launches.advance(launch, state, who="test", why=None, now=utc_now(), reference="request:7")
    return launch.id


def stopped(process: Process) -> tuple[int, float, set[str]]:
    """The exit code, after how many seconds it ended, and which loops were left behind."""
    began = time.monotonic()
    code = process.stop(patience=200)
    return code, time.monotonic() - began, {line["loop"] for line in process.said("loop.stuck")}


def test_a_listener_is_stopped_while_rucio_hangs(home: Home, rucio: Silent) -> None:
    """What compares with the catalog is left behind; it begins at the same mark the next time."""
    process = home.start("listen")
    until(lambda: rucio.asked > 0, 30, "a question to Rucio")

    code, seconds, left = stopped(process)

    assert (code, left) == (1, {"reconciler"})
    assert seconds < 2 * FAREWELL
    assert "0 messages stored" in process.output.read_text()


def test_all_of_muleteer_is_stopped_while_rucio_and_panda_hang(
    home: Home, store: Store, rucio: Silent, panda: Silent
) -> None:
    """However much hangs at the same time, it is waited for once."""
    launch = submitted(home, store)
    hand = Hand("test", "it hangs", utc_now())
    store.launch_commands.ask(Ask(Command.KILL), [launch], hand)
    apply_rules(store, RULES)
    store.transient_policies.apply([policy()], prune=False, who="test", now=utc_now())
    process = home.run()
    store.messages.take_in([frame()], origin="broker", now=utc_now())
    until(lambda: panda.asked >= 2, 30, "two questions to PanDA")
    until(lambda: rucio.asked > 0, 30, "a question to Rucio")
    time.sleep(2)  # the doorkeeper looks every second

    code, seconds, left = stopped(process)

    assert (code, left) == (1, {"reconciler", "doorkeeper", "watcher", "commander", "transient-survey"})
    assert seconds < 2 * FAREWELL
