"""What people change through the window: messages and dispatches by hand. On SQLite and on PostgreSQL alike."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from orchestrator.monitor.access import Tokens
from orchestrator.store.store import Store
from schemas.dispatch import DispatchState
from schemas.launch import LaunchState
from schemas.message import MessageId
from tests.contract.test_store_by_hand import JOINS, ON_ITS_WAY, done, judge, launched, rivals, settle, states, take_in
from tests.contract.test_store_launches import made
from tests.contract.windows import asking
from tests.unit.making import rule

BECAUSE = {"reason": "calibration is late"}

#: Every call that changes many, each with a body that would do.
CALLS: Mapping[str, Mapping[str, Any]] = {
    "messages/hold": {"ids": [1]},
    "messages/release": {"ids": [1]},
    "messages/drop": {"ids": [1]},
    "messages/repend": {"ids": [1]},
    "messages/dispatch": {"ids": [1], "rule": "spare"},
    "dispatches/retry": {"ids": [1]},
    "dispatches/cancel": {"ids": [1]},
    "dispatches/hold": {"ids": [1]},
    "dispatches/release": {"ids": [1]},
    "dispatches/redispatch": {"ids": [1]},
    "dispatches/force": {"id": 1},
    "launches/commands": {"ids": [1], "command": "kill"},
}


def ask(client: TestClient, path: str, **body: Any) -> Any:
    return client.post(f"/api/v1/{path}", json={**BECAUSE, **body})


def last(store: Store, subject: str, id_: int) -> tuple[str, str, str | None]:
    """Who changed it last, to what, and why."""
    entry = store.journal.of(subject, id_)[-1]
    return entry.who, entry.to_state, entry.why


# What holds for every call.


@pytest.fixture
def everything(store: Store) -> Store:
    """Something that each of the calls could change."""
    take_in(store, 2)
    judge(store, rule("raw", "DS-0"), rule("spare", "none"))
    made(store, "calo", LaunchState.RUNNING)
    return store


def written(store: Store) -> Sequence[object]:
    """All that was ever changed."""
    return store.journal.since(0, 10_000)


def test_every_call_that_changes_many_is_tried_below(stranger: TestClient) -> None:
    """Whoever adds one adds it here."""
    described = stranger.get("/api/openapi.json").json()["paths"]
    ours = [
        path
        for path in described
        if path.split("/")[3:4] and path.split("/")[3] in ("messages", "dispatches", "launches")
    ]

    posts = {path.removeprefix("/api/v1/") for path in ours if "post" in described[path]}

    assert posts == set(CALLS)


def test_every_call_says_in_words_what_it_does(stranger: TestClient) -> None:
    """For whoever reads the description instead of the program."""
    described = stranger.get("/api/openapi.json").json()["paths"]

    for path in CALLS:
        call = described[f"/api/v1/{path}"]["post"]
        assert call["description"].endswith(".")
        assert call["summary"]


def test_without_a_token_nothing_is_changed(stranger: TestClient, everything: Store) -> None:
    """401 for every call."""
    before = written(everything)

    answers = [ask(stranger, path, **body) for path, body in CALLS.items()]

    assert {answer.status_code for answer in answers} == {401}
    assert written(everything) == before


@pytest.mark.parametrize("reason", [{}, {"reason": ""}, {"reason": " \n"}, {"reason": None}, {"reason": "x" * 1001}])
def test_without_a_reason_nothing_is_changed(client: TestClient, everything: Store, reason: dict[str, Any]) -> None:
    """422 for every call: the reason is all that others will find in the journal."""
    before = written(everything)

    answers = [client.post(f"/api/v1/{path}", json={**body, **reason}) for path, body in CALLS.items()]

    assert {answer.status_code for answer in answers} == {422}
    assert {answer.json()["mistakes"][0]["field"] for answer in answers} == {"reason"}
    assert written(everything) == before


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"ids": []}, ""),
        ({"ids": None}, "ids"),
        ({"ids": "all"}, "ids"),
        ({"ids": {"1": 1}}, "ids"),
        ({"ids": [1, 0]}, "ids.1"),
        ({"ids": [2**63]}, "ids.0"),
        ({"ids": [True]}, "ids.0"),
        ({"ids": ["1"]}, "ids.0"),
        ({"ids": [1.5]}, "ids.0"),
        ({"ids": [], "filter": {}, "expected": 1}, ""),
        ({"ids": [], "filter": {"colour": "red"}, "expected": 1}, "filter.colour"),
        ({"ids": [], "filter": {"state": ["nonsense"]}, "expected": 1}, "filter.state.0"),
        ({"dry_run": "no"}, "dry_run"),
        ({"expected": -1}, "expected"),
        ({"expected": True}, "expected"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_cannot_be_understood_changes_nothing(
    client: TestClient, everything: Store, wrong: dict[str, Any], field: str
) -> None:
    """422, with the field that is wrong."""
    before = written(everything)
    for path in CALLS.keys() - {"dispatches/force"}:
        answer = ask(client, path, **{**CALLS[path], **wrong})

        assert answer.status_code == 422, path
        assert [each["field"] for each in answer.json()["mistakes"]] == [field]
        assert answer.json()["mistakes"][0]["mistake"] and answer.json()["next"]
    assert written(everything) == before


@pytest.mark.parametrize(
    "wrong", [{"id": 0}, {"id": True}, {"id": None}, {"id": "1"}, {"ids": [1]}, {"cleaned": "yes"}]
)
def test_a_force_that_cannot_be_understood_changes_nothing(
    client: TestClient, store: Store, wrong: dict[str, Any]
) -> None:
    """It is about one dispatch."""
    rivals(store)
    before = written(store)

    assert ask(client, "dispatches/force", **{"id": 3, **wrong}).status_code == 422
    assert written(store) == before


@pytest.mark.parametrize(
    ("path", "filter_", "field"),
    [
        ("messages/drop", {"name": "a\0b"}, "name"),
        ("messages/drop", {"scope": ""}, "scope"),
        ("messages/drop", {"event": 7}, "event"),
        ("messages/drop", {"since": "yesterday"}, "since"),
        ("messages/drop", {"until": "0001-01-01T00:00:00+14:00"}, "until"),
        ("messages/drop", {"state": "pending"}, "state"),
        ("messages/drop", {"failed_only_on": "x" * 5000}, "failed_only_on"),
        ("dispatches/cancel", {"rule": "a\0b"}, "rule"),
        ("dispatches/cancel", {"since": "0001-01-01T00:00:00+14:00"}, "since"),
        ("dispatches/cancel", {"state": ["pending"]}, "state.0"),
        ("launches/commands", {"workflow": "a\0b"}, "workflow"),
        ("launches/commands", {"run": ["7..3"]}, "run.0"),
        ("launches/commands", {"run": ["9" * 5000]}, "run.0"),
        ("launches/commands", {"run": [1, -1]}, "run.1"),
        ("launches/commands", {"run": [True]}, "run.0"),
        ("launches/commands", {"stalled": "perhaps"}, "stalled"),
        ("launches/commands", {"name": ["calo"]}, "name"),
    ],
)
def test_a_filter_that_cannot_be_understood_changes_nothing(
    client: TestClient, everything: Store, path: str, filter_: dict[str, Any], field: str
) -> None:
    """422, with the field that is wrong: never more than was meant."""
    before = written(everything)

    answer = ask(client, path, **{**CALLS[path], "ids": [], "filter": filter_, "expected": 1})

    assert answer.status_code == 422
    assert [each["field"] for each in answer.json()["mistakes"]] == [f"filter.{field}"]
    assert written(everything) == before


NO_BODIES = [b"", b"{", b"[]", b"null", b"\xff\xfe", b'"x"', b'{"ids": [1', b'{"reason": "\\ud800"}', b"[" * 100_000]


@pytest.mark.parametrize("body", NO_BODIES, ids=range(len(NO_BODIES)))
def test_what_is_no_body_changes_nothing(client: TestClient, everything: Store, body: bytes) -> None:
    """Neither an error of the service."""
    before = written(everything)

    for path in CALLS:
        answer = client.post(f"/api/v1/{path}", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422)
        assert answer.json()["next"]
    assert written(everything) == before


def test_what_is_not_there_is_said_and_nothing_is_changed(client: TestClient, everything: Store) -> None:
    """404, also if the others of the ids are there."""
    before = written(everything)
    for path, body in CALLS.items():
        answer = ask(client, path, **{**body, **({"id": 999} if "id" in body else {"ids": [1, 999]})})

        assert answer.status_code == 404, path
        assert "999" in answer.json()["error"]
    assert written(everything) == before


@pytest.mark.slow
def test_a_store_that_goes_away_in_between_is_said(sqlite_template: Path, tokens: Tokens, tmp_path: Path) -> None:
    """Not that nothing was changed: thousands are several transactions. The same call goes on once it is back."""
    file = tmp_path / "muleteer.db"
    shutil.copyfile(sqlite_template, file)
    store = Store.open(f"sqlite:///{file}")
    take_in(store, 1)
    with asking(store, tokens, tmp_path) as client, closing(sqlite3.connect(file)) as other:
        client.headers["Authorization"] = f"Bearer {tokens.add('me')}"
        other.execute("BEGIN IMMEDIATE")  # it can be read, and not written

        held_up = ask(client, "messages/hold", ids=[1])
        other.rollback()
        after = ask(client, "messages/hold", ids=[1])

    store.close()
    assert held_up.status_code == 503
    assert "some may be changed already" in held_up.json()["next"]
    assert str(file) not in held_up.text
    assert (after.status_code, after.json()["changed"]) == (200, [1])


# Messages.


@pytest.mark.parametrize(
    ("verb", "begin", "end"),
    [
        ("hold", "pending", "held"),
        ("release", "held", "pending"),
        ("drop", "held", "dropped"),
        ("repend", "dropped", "pending"),
    ],
)
def test_messages_are_changed_with_who_and_why(
    client: TestClient, store: Store, verb: str, begin: str, end: str
) -> None:
    """As on the command line: the journal has the token's person and the reason."""
    take_in(store, 2)
    ways = {"pending": [], "held": ["hold"], "dropped": ["drop"]}
    for earlier in ways[begin]:
        ask(client, f"messages/{earlier}", ids=[1])

    answer = ask(client, f"messages/{verb}", ids=[1, 2] if verb == "hold" else [1])

    changed = [1, 2] if verb == "hold" else [1]
    assert (answer.status_code, answer.json()["changed"], answer.json()["count"]) == (200, changed, len(changed))
    assert states(store)[0] == end
    assert last(store, "message", 1) == ("rest:me", end, "calibration is late")


def test_a_dry_run_says_how_many_and_the_same_number_is_expected(client: TestClient, store: Store) -> None:
    """By filter: nothing is changed unless as many fit as whoever asks believes."""
    take_in(store, 4)
    ask(client, "messages/drop", ids=[4])
    before = written(store)
    wanted = {"filter": {"name": "DS-?", "scope": "group.*", "event": "CLOSE"}}

    unsaid = ask(client, "messages/hold", **wanted)
    dry = ask(client, "messages/hold", **wanted, dry_run=True)
    wrong = ask(client, "messages/hold", **wanted, expected=2)
    untouched = written(store)
    right = ask(client, "messages/hold", **wanted, expected=dry.json()["count"])

    assert unsaid.status_code == 422
    assert "dry_run" in unsaid.json()["mistakes"][0]["mistake"]
    assert dry.json() == {
        "dry_run": True,
        "count": 3,
        "changed": [1, 2, 3],
        "stayed": [{"why": "dropped", "ids": [4]}],
        "remarks": [],
        "details": {},
    }
    assert (wrong.status_code, wrong.json()["number"]) == (409, 3)
    assert "dry_run" in wrong.json()["next"]
    assert untouched == before
    assert right.json() == {**dry.json(), "dry_run": False}
    assert states(store) == ["held", "held", "held", "dropped"]


def test_every_message_is_meant_only_if_that_is_said(client: TestClient, store: Store) -> None:
    """With how many they are."""
    take_in(store, 2)

    assert ask(client, "messages/hold", expected=2).status_code == 422
    assert ask(client, "messages/hold", all=True, ids=[1]).status_code == 422
    assert ask(client, "messages/hold", all=True).status_code == 422
    assert states(store) == ["pending", "pending"]
    assert ask(client, "messages/hold", all=True, expected=2).json()["changed"] == [1, 2]


def test_what_was_named_and_stays_is_no_success(client: TestClient, store: Store) -> None:
    """409 with the reasons if all of it stays; else the answer names what stays."""
    take_in(store, 2)
    ask(client, "messages/hold", ids=[1])

    none, some = ask(client, "messages/hold", ids=[1]), ask(client, "messages/hold", ids=[1, 2])

    assert (none.status_code, none.json()["error"]) == (409, "nothing was changed: 1 is held")
    assert none.json()["stayed"] == [{"why": "held", "ids": [1]}]
    assert (some.status_code, some.json()["changed"]) == (200, [2])
    assert some.json()["stayed"] == [{"why": "held", "ids": [1]}]


def test_messages_are_dispatched_to_a_rule(client: TestClient, store: Store) -> None:
    """Whatever its clauses say; what has it already stays."""
    take_in(store, 3)
    judge(store, rule("spare", "none", enabled=False), rule("raw", "DS-2"))
    given: dict[str, Any] = {"rule": "spare", "filter": {"name": "DS-*"}}

    dry = ask(client, "messages/dispatch", **given, dry_run=True)
    assert (dry.json()["changed"], len(done(store))) == ([1, 2, 3], 1)
    assert ask(client, "messages/dispatch", **given, expected=3).json()["changed"] == [1, 2, 3]
    again = ask(client, "messages/dispatch", **given, expected=0)

    assert (again.status_code, again.json()["count"]) == (200, 0)
    assert again.json()["stayed"] == [{"why": "dispatched to this rule already", "ids": [1, 2, 3]}]
    started = store.dispatches.list(rule="spare")
    assert sorted(each.message_id for each in started) == [1, 2, 3]
    assert last(store, "dispatch", started[0].id) == ("rest:me", "ready", "calibration is late")
    (of_first,) = store.dispatches.list(message_id=MessageId(1))
    shown = client.get("/api/v1/dispatches?message=1").json()
    assert [each["id"] for each in shown] == [of_first.id]


def test_a_rule_that_takes_no_messages_is_said(client: TestClient, store: Store) -> None:
    """404 for one that is not in force, with what was perhaps meant; 409 for one that joins."""
    take_in(store, 1)
    judge(store, rule("calibrate", "none"), rule("both", ".*", **JOINS))

    missing = ask(client, "messages/dispatch", ids=[1], rule="calibrat")
    joining = ask(client, "messages/dispatch", ids=[1], rule="both")

    assert (missing.status_code, "did you mean calibrate?" in missing.json()["error"]) == (404, True)
    assert (joining.status_code, "rooms dispatch" in joining.json()["error"]) == (409, True)
    assert states(store) == ["pending"]


def test_near_misses_are_listed_and_changed_by_the_same_filter(client: TestClient, store: Store) -> None:
    """What the list shows is what is changed."""
    take_in(store, 2)
    judge(store, rule("elsewhere", "DS-0", scope="other"))

    listed = client.get("/api/v1/messages?failed_only_on=scope").json()
    changed = ask(client, "messages/hold", filter={"failed_only_on": "scope"}, expected=1).json()["changed"]

    assert [each["id"] for each in listed] == changed == [1]


# Dispatches.


@pytest.mark.parametrize(
    ("verb", "begin", "end"),
    [
        ("hold", DispatchState.READY, "held"),
        ("release", DispatchState.HELD, "ready"),
        ("cancel", DispatchState.READY, "cancelled"),
        ("retry", DispatchState.FAILED, "ready"),
        ("redispatch", DispatchState.DONE, "ready"),
    ],
)
def test_dispatches_are_changed_with_who_and_why(
    client: TestClient, store: Store, verb: str, begin: DispatchState, end: str
) -> None:
    """By filter, and with nothing changed by a dry run."""
    take_in(store, 2)
    judge(store, rule())
    match begin:
        case DispatchState.HELD:
            ask(client, "dispatches/hold", ids=[1])
        case DispatchState.FAILED:
            settle(store, DispatchState.FAILED, "give_up")
        case DispatchState.DONE:
            settle(store)
        case _:
            ask(client, "dispatches/cancel", ids=[2])
    before = written(store)
    wanted = {"filter": {"state": [begin], "rule": "raw", "since": "2026-11-22T00:00:00", "until": "2030-01-01"}}

    dry = ask(client, f"dispatches/{verb}", **wanted, dry_run=True)
    wrong = ask(client, f"dispatches/{verb}", **wanted, expected=7)
    untouched = written(store)
    answer = ask(client, f"dispatches/{verb}", **wanted, expected=1)

    assert (dry.json()["changed"], wrong.status_code, wrong.json()["number"]) == ([1], 409, 1)
    assert untouched == before
    assert (answer.status_code, answer.json()["changed"]) == (200, [1])
    assert done(store)[0] == end
    assert last(store, "dispatch", 1) == ("rest:me", end, "calibration is late")


def test_a_dataset_in_the_way_of_another_launch_must_be_seen_to(client: TestClient, store: Store) -> None:
    """Nothing is changed before, and what an earlier launch left behind is named."""
    take_in(store, 1)
    judge(store, rule())
    settle(store)
    launched(store, 1, *ON_ITS_WAY, LaunchState.FINISHED, outputs=["test:there", "test:gone"])

    kept = ask(client, "dispatches/redispatch", ids=[1])
    refused = ask(client, "dispatches/redispatch", ids=[1], again=True)
    dry = ask(client, "dispatches/redispatch", ids=[1], again=True, dry_run=True)
    untouched = done(store)
    answer = ask(client, "dispatches/redispatch", ids=[1], again=True, cleaned=True)

    assert (kept.status_code, "well done already" in kept.json()["error"]) == (409, True)
    assert refused.status_code == 409
    assert "left behind test:there: clean up, then say so with `cleaned`" in refused.json()["error"]
    (left,) = refused.json()["left_behind"]
    assert left["datasets"] == [{"did": "test:there", "state": "closed"}, {"did": "test:gone", "state": None}]
    assert (dry.json()["changed"], dry.json()["left_behind"]) == ([1], [left])
    assert (untouched, answer.json()["changed"], answer.json()["left_behind"]) == (["done"], [1], [left])
    assert done(store) == ["ready"]


def test_a_refused_dispatch_is_forced_once_nothing_is_in_the_way(client: TestClient, store: Store) -> None:
    """While the first is going on, and while what it made is there, nothing is changed."""
    rivals(store)
    settle(store)
    launched(store, 1, *ON_ITS_WAY, outputs=["test:there"])
    busy = ask(client, "dispatches/force", id=4, cleaned=True)
    launch = store.launches.list()[0]
    store.launches.advance(launch, LaunchState.FAILED, who="t", why=None, now=launch.updated_at)

    unclean = ask(client, "dispatches/force", id=4)
    dry = ask(client, "dispatches/force", id=4, cleaned=True, dry_run=True)
    untouched = done(store)
    answer = ask(client, "dispatches/force", id=4, cleaned=True)

    assert (busy.status_code, "launch 1 (name-k) is submitted" in busy.json()["in_the_way"]) == (409, True)
    assert (unclean.status_code, "test:there: clean up" in unclean.json()["error"]) == (409, True)
    assert (dry.json()["ready"], untouched) == ([], ["done", "ready", "refused", "refused"])
    assert answer.json()["ready"] == [3, 4]
    assert answer.json()["first"]["dispatches"] == [{"id": 1, "state": "done"}, {"id": 2, "state": "ready"}]
    assert done(store) == ["done", "cancelled", "ready", "ready"]
    who, to, why = last(store, "dispatch", 3)
    assert (who, to) == ("rest:me", "ready") and why is not None and why.endswith(": calibration is late")
    assert ask(client, "dispatches/force", id=4).status_code == 409
