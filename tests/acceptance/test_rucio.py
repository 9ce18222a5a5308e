"""The whole of it on the real thing: Rucio and its hermes, ActiveMQ, the installed command.

Files are registered and their dataset is closed; hermes tells of it; the listener takes it in; a rule launches a
workflow; what that makes is registered and closed; hermes tells of that, and the second rule starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.acceptance.home import Home, broker_settings, until
from tests.acceptance.rucio_site import Site, new_site
from tests.services.activemq import ActiveMQ
from tests.services.rucio import Rucio

RULES = r"""
rules:
  - name: raw
    pattern: 'RAW-(?P<run>\d{8})'
    actions:
      - launch: {workflow: double, parameters: {run: "{run}"}}
        require: {closed: true, replicas: "RSE", checksums: [md5, guid], every: 1s}
  - name: double
    pattern: 'DOUBLE-(?P<run>\d{8})'
    actions:
      - run: {command: [./note, "{run}", "{scope}:{name}"]}
"""

WORKFLOW = """
name: double
launch_name: "double-{run}"
parameters: {run: {}}
inputs: {raw: "{scope}:{name}"}
steps:
  - name: double
    command: [./double.sh]
    inputs: [raw]
    outputs: ["double-*.txt"]
outputs:
  - {dataset: "{scope}:DOUBLE-{run}", step: double}
"""

DOUBLE = """#!/bin/sh
set -e
while read -r file; do
  name=$(basename "$file")
  cat "$file" "$file" > "double-$name.txt"
done < "$MULETEER_INPUT_RAW"
"""


@pytest.fixture
def site(new_home: Callable[[Mapping[str, str]], Home], rucio: Rucio, activemq: ActiveMQ, destination: str) -> Site:
    """A home that listens to ActiveMQ, with both rules in force."""
    made = new_site(new_home, rucio, broker_settings(activemq, destination))
    folder = made.home.place / "workflows" / "double"
    folder.mkdir(parents=True)
    (folder / "workflow.yaml").write_text(WORKFLOW)
    (folder / "double.sh").write_text(DOUBLE)
    (folder / "double.sh").chmod(0o755)
    made.home.script("note", 'printf "%s\\n" "$*" >> notes')
    (made.home.place / "rules.yaml").write_text(RULES.replace("RSE", made.rse))
    made.home.do("rules", "apply", "rules.yaml")
    return made


def notes(home: Home) -> list[str]:
    """What the second rule wrote, a line each time."""
    path = home.place / "notes"
    return path.read_text().splitlines() if path.exists() else []


def test_files_go_in_and_the_second_rule_starts(site: Site, activemq: ActiveMQ, destination: str) -> None:
    """Each once, with sums and GUIDs, and with no step by hand after the first."""
    home, raw = site.home, f"{site.scope}:RAW-00021615"
    with site.rucio.hermes(activemq.port, destination, user=activemq.user, passcode=activemq.passcode):
        process = home.run()
        home.do("register", "fill", raw, *site.raw(21615), "--metadata", "run_number=21615")

        until(lambda: notes(home) != [], 60, f"the second rule, see {process.log}")
        assert process.stop() == 0

    assert notes(home) == [f"00021615 {site.scope}:DOUBLE-00021615"]
    made = site.rucio.client()
    assert {each["name"] for each in made.list_files(site.scope, "DOUBLE-00021615")} == {
        f"double-raw-00021615-{number}.txt" for number in range(3)
    }
    assert not made.get_metadata(site.scope, "DOUBLE-00021615")["is_open"]
    checked = ("check", "dataset", raw, f"{site.scope}:DOUBLE-00021615", "--closed", "--replicas", site.rse)
    assert "all as it should be" in home.do(*checked, "--has", "adler32", "--has", "md5", "--has", "guid")
    (launch,) = home.read("launches", "list")
    assert (launch["state"], launch["name"]) == ("finished", "double-00021615")
    assert [each["state"] for each in home.read("dispatches", "list")] == ["done", "done"]


def test_what_hermes_lost_is_found_and_starts_late_but_once(
    site: Site, new_home: Callable[[Mapping[str, str]], Home], activemq: ActiveMQ, destination: str
) -> None:
    """hermes sends to a queue where somebody else listens; in the end the same events come to us after all."""
    home, lost = site.home, f"{destination}.lost"
    elsewhere = new_home(broker_settings(activemq, lost))
    home.do("reconcile", "once")
    with site.rucio.hermes(activemq.port, lost, user=activemq.user, passcode=activemq.passcode):
        home.do("register", "fill", f"{site.scope}:RAW-00000001", *site.raw(1))
        elsewhere.listen(lambda: closings(elsewhere, site.scope) != [])
    process = home.run()

    said = home.do("reconcile", "once", RECONCILE__PATIENCE="0s")
    assert "1 were missing, and are stored now" in said
    until(lambda: states(home) == ["finished"], 60, f"the launch, see {process.log}")
    (home.place / "late.jsonl").write_text(elsewhere.do("messages", "export", "--scope", site.scope))
    home.do("messages", "inject", "late.jsonl")
    until(lambda: len(closings(home, site.scope)) >= 2, 30, "the late event")

    raw = [each for each in closings(home, site.scope) if each["name"] == "RAW-00000001"]
    assert sorted((each["origin"], each["state"]) for each in raw) == [
        ("inject", "superseded"),
        ("reconcile", "dispatched"),
    ]
    assert states(home) == ["finished"]
    (found,) = [each for each in home.read("reconcile", "list") if each["missing"]]
    assert found["longest_lag"] >= 0


def closings(home: Home, scope: str) -> list[dict[str, Any]]:
    """The closings of a scope that have come to a home."""
    return [each for each in home.read("messages", "list", "--event", "close") if each["scope"] == scope]


def states(home: Home) -> list[str]:
    """How far each launch is."""
    return [each["state"] for each in home.read("launches", "list")]
