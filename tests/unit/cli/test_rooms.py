"""`muleteer rooms`: what waits for what, and what a person can do about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.store.store import Store
from tests.unit.cli.conftest import Muleteer
from tests.unit.making import NOW, frame

RULES = r"""rules:
  - name: both
    join:
      key: "{run}"
      members:
        tpc: 'TPC-(?P<run>\d{8})'
        intt: 'INTT-(?P<run>\d{8})'
        mvtx: 'MVTX-(?P<run>\d{8})'
      masked: [mvtx]
      deadline: 24h
      at_deadline: dispatch
      late: dispatch
    actions:
      - run: {command: ["true", "{run}", "{tpc}", "{missing}"]}
"""


@pytest.fixture
def waiting(muleteer: Muleteer, home: Path, store: Store) -> Muleteer:
    """A home in whose room 1 a dataset waits for another; in room 2 as well."""
    (home / "rules.yaml").write_text(RULES)
    assert muleteer("rules", "apply", home / "rules.yaml").code == 0
    store.messages.take_in([frame(name="TPC-00000007"), frame(name="INTT-00000008")], origin="broker", now=NOW)
    muleteer("dispatch")
    return muleteer


def test_rooms_are_listed_with_what_they_have_and_miss(waiting: Muleteer) -> None:
    """As a table and as JSON; by rule, state and missing member."""
    table = waiting("rooms", "list")
    found = waiting("rooms", "list", "--missing", "intt", "--json").json

    assert (table.code, "00000007" in table.out, "intt" in table.out) == (0, True, True)
    assert [(each["id"], each["arrived"], each["missing"]) for each in found] == [(1, ["tpc"], ["intt"])]
    assert waiting("rooms", "list", "--state", "overdue", "--json").json == []
    assert waiting("rooms", "list", "--rule", "other").out == "No waiting room fits.\n"


def test_a_room_is_shown_with_members_waivers_and_history(waiting: Muleteer) -> None:
    """Everything about one room, for people and as one JSON value."""
    waiting("rooms", "waive", "2", "tpc", "--reason", "power cut")
    text, told = waiting("rooms", "show", "2").out, waiting("rooms", "show", "2", "--json").json

    for said in ("group.sphenix:INTT-00000008", "power cut", "mvtx", "cli:", "it is complete, without tpc, mvtx"):
        assert said in text
    assert (told["state"], told["missing"], told["masked"], told["waived"]) == ("dispatched", [], ["mvtx"], ["tpc"])
    assert told["members"][0]["did"] == "group.sphenix:INTT-00000008"
    assert len(told["dispatches"]) == 1
    assert [each["to_state"] for each in told["journal"]] == ["open", "waived", "dispatched"]


def test_a_person_settles_rooms_with_a_reason(waiting: Muleteer, store: Store) -> None:
    """Dispatched with what is there, or closed; a reason is asked for."""
    assert waiting("rooms", "close", "1").code == 2
    dispatched = waiting("rooms", "dispatch", "1", "--reason", "intt is lost", "--json").json
    closed = waiting("rooms", "close", "2", "--reason", "test")

    assert dispatched["state"] == "dispatched"
    assert closed.out == "room 2 of rule both for 00000008 is dropped\n"
    assert store.dispatches.list()[0].options["command"] == ["true", "00000007", "TPC-00000007", "intt,mvtx"]


def test_a_waiver_can_be_taken_back(waiting: Muleteer) -> None:
    """What is refused says why, with an exit code of its own."""
    assert waiting("rooms", "unwaive", "1", "intt").code == 4
    refused = waiting("rooms", "waive", "1", "tpc", "--reason", "off")

    assert refused.code == 4
    assert "tpc has arrived in room 1" in refused.err
    assert "there is no room 9" in waiting("rooms", "show", "9").err
    said = waiting("rooms", "waive", "1", "mvtx", "--reason", "off")
    assert said.out == "room 1 of rule both for 00000007 waits for intt\n"
    assert waiting("rooms", "unwaive", "1", "mvtx", "--json").json["waived"] == []


@pytest.mark.parametrize(
    ("right", "wrong", "line", "said"),
    [
        ('key: "{run}"', 'key: "{year}"', 5, "rules.0.join.members.tpc: the key '{year}' needs {year}"),
        ("masked: [mvtx]", "masked: [mvx]", 9, "rules.0.join.masked: mvx is not among the members: tpc, intt, mvtx"),
        ("late: dispatch", "later: dispatch", 12, "rules.0.join.later: there is no such field"),
        ("{tpc}", "{tpx}", 14, "{tpx} is neither a group of the pattern nor one of"),
    ],
)
def test_a_join_that_cannot_work_is_refused_with_file_line_and_field(
    muleteer: Muleteer, home: Path, right: str, wrong: str, line: int, said: str
) -> None:
    """Nothing is applied."""
    (home / "rules.yaml").write_text(RULES.replace(right, wrong))

    refused = muleteer("rules", "apply", home / "rules.yaml")

    assert refused.code == 3
    assert said in refused.err.replace("\n", " ")
    assert f"rules.yaml:{line + (1 if 'year' in wrong else 0)}" in refused.err.replace("\n", "")
