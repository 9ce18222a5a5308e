"""Rules that ask the catalog, while it is there and while it is not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping

import pytest

from orchestrator.broker.embedded import EmbeddedBroker
from orchestrator.rucio.embedded.catalog import LocalCatalog
from orchestrator.store.store import Store
from schemas.did import Did
from schemas.dispatch import DispatchState
from tests.acceptance.home import Home, until
from tests.unit.making import body

RULES = """
rules:
  - name: asks-not
    actions: [{run: {command: ["true"]}}]
  - name: asks
    where: {datatype: raw, run_number: 59641..}
    values: {tag: [{from: 59641, value: 2025p000}]}
    actions: [{run: {command: [echo, "{run:08d} {tag} {metadata_datatype}"]}}]
"""


@pytest.fixture
def home(new_home: Callable[[Mapping[str, str]], Home]) -> Home:
    """A home with everything embedded, and rules of which one asks the catalog."""
    made = new_home({"WORKER__LEASE": "2s", "INTAKE__DROP_ACCOUNTS": '["idds*"]'})
    (made.place / "rules.yaml").write_text(RULES)
    made.do("rules", "apply", "rules.yaml")
    return made


@pytest.fixture
def store(home: Home) -> Iterator[Store]:
    """The home's store, to see when it is time to ask the command."""
    opened = Store.open(f"sqlite:///{home.place / 'muleteer.db'}")
    yield opened
    opened.close()


def describe(home: Home, name: str, run: int) -> None:
    """A dataset with its metadata, as the commands of the first test make it, without a process for each."""
    catalog = LocalCatalog(home.place / "catalog.db", EmbeddedBroker(home.place / "broker.db").send)
    did = Did("group.x", name)
    catalog.add_dataset(did)
    catalog.set_metadata(did, "datatype", "raw")
    catalog.set_metadata(did, "run_number", run)


def done(store: Store) -> list[str]:
    """The rules that fired, once for each time."""
    return sorted(each.rule for each in store.dispatches.list(states=[DispatchState.DONE]))


def dispatched(home: Home) -> dict[str, list[str]]:
    """The rules that fired, by dataset."""
    names = {each["id"]: each["name"] for each in home.read("messages", "list")}
    found: dict[str, list[str]] = {}
    for each in home.read("dispatches", "list", "--state", "done"):
        found.setdefault(names[each["message_id"]], []).append(each["rule"])
    return {name: sorted(rules) for name, rules in found.items()}


def test_what_the_catalog_knows_decides_and_fills_in(home: Home, store: Store) -> None:
    """Metadata that people set on a dataset counts when it closes; a dataset without it is not wanted."""
    home.run()
    for name, run in (("RAW", "59642"), ("OLD", "100")):
        home.do("catalog", "create", f"group.x:{name}")
        home.do("catalog", "set-metadata", f"group.x:{name}", "run_number", run)
        home.do("catalog", "set-metadata", f"group.x:{name}", "datatype", "raw")
        home.do("catalog", "close", f"group.x:{name}")

    until(lambda: done(store) == ["asks", "asks-not", "asks-not"], 30, "both rules")

    until(lambda: store.counts().waiting_for_catalog == 0, 10, "all answers")
    assert home.read("show")["waiting_for_catalog"] == 0
    assert dispatched(home) == {"RAW": ["asks", "asks-not"], "OLD": ["asks-not"]}
    (asked,) = home.read("dispatches", "list", "--rule", "asks")
    assert asked["options"]["command"] == ["echo", "00059642 2025p000 raw"]
    assert home.read("catalog", "show", "group.x:RAW")["metadata"] == {"datatype": "raw", "run_number": 59642}


def test_while_the_catalog_is_away_only_those_wait_that_ask_it(home: Home, store: Store) -> None:
    """Rules that need nothing of it go on at once; the others wait visibly, and fire when it is back."""
    describe(home, "RAW", 59641)
    running = home.run()
    catalog = home.place / "catalog.db"
    away = catalog.rename(home.place / "away.db")

    home.do("messages", "inject", "--scope", "group.x", "--name", "RAW")

    until(lambda: done(store) == ["asks-not"], 10, "the rule that asks nothing")
    running.await_said("catalog.lost")
    waiting = next(each for each in home.read("messages", "list") if each["name"] == "RAW")
    assert waiting["state"] == "pending"
    assert waiting["reason"] == "matched by asks-not; rule asks waits for the catalog"
    counts = home.read("show")
    assert counts["waiting_for_catalog"] == 1 and counts["waiting_for_catalog_since"] is not None
    assert "1 messages wait for it, first asked" in home.do("show")
    assert not catalog.exists()
    away.rename(catalog)
    until(lambda: done(store) == ["asks", "asks-not"], 40, "the rule that asks")
    assert dispatched(home) == {"RAW": ["asks", "asks-not"]}
    running.await_said("catalog.back")
    assert len(running.said("catalog.lost")) == 1
    assert home.read("show")["waiting_for_catalog"] == 0


def test_the_catalog_is_asked_again_when_a_person_says_so(home: Home, store: Store) -> None:
    """Metadata that was set too late counts after `messages refresh`."""
    (home.place / "rules.yaml").write_text(RULES.replace("- name: asks-not", "- name: asks-not\n    enabled: false"))
    home.do("rules", "apply", "rules.yaml")
    home.run("dispatcher", "worker")
    home.do("messages", "inject", "--scope", "group.x", "--name", "LATE")
    until(lambda: "no such dataset" in (store.messages.list()[0].reason or ""), 20, "the answer")
    describe(home, "LATE", 60000)

    said = home.do("messages", "refresh", "--name", "LATE", "--reason", "set too late")

    assert "1 of 1 messages: the catalog is asked anew" in said
    until(lambda: done(store) == ["asks"], 20, "the rule that asks")
    assert dispatched(home) == {"LATE": ["asks"]}
    home.do("messages", "refresh", "999", expect=4)
    home.do("messages", "refresh", expect=2)


def test_what_the_intake_filter_catches_is_there_to_be_seen(home: Home) -> None:
    """Stored and dropped with the reason, though a rule would want it."""
    lines = home.place / "frames.jsonl"
    lines.write_text(json.dumps({"headers": {}, "body": body(account="idds").decode()}) + "\n")

    home.do("messages", "inject", "frames.jsonl")

    (message,) = home.read("messages", "list")
    assert (message["state"], message["reason"]) == ("dropped", "intake filter: account idds")


def test_dispatching_once_asks_the_catalog_too(home: Home) -> None:
    """Without anything that runs: judged, asked, judged again, carried out."""
    describe(home, "RAW", 59641)
    home.do("messages", "inject", "--scope", "group.x", "--name", "RAW")

    said = home.do("dispatch")

    assert "The catalog was asked about some of them:" in said
    assert dispatched(home) == {"RAW": ["asks", "asks-not"]}
