"""What the window promises, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from orchestrator.monitor.access import Tokens
from orchestrator.store import schema
from orchestrator.store.engine import Database
from orchestrator.store.intake import Arrival
from orchestrator.store.store import Store
from tests.contract.test_store_dispatches import claim, judge, messages
from tests.contract.windows import asking
from tests.services.postgres import Postgres
from tests.unit.making import NOW, frame, rule

RULE = {"name": "raw", "pattern": "DS-.*", "actions": [{"run": {"command": ["true"]}}]}


def applied(client: TestClient, *rules: dict[str, Any], **more: Any) -> Any:
    return client.post("/api/v1/rules", json={"rules": rules, "reason": "to see", **more})


@pytest.mark.parametrize("token", [None, "Bearer ", "Bearer wrong", "Basic bWU6bWU="])
def test_without_a_token_nothing_is_shown_or_changed(stranger: TestClient, store: Store, token: str | None) -> None:
    """Neither a page nor whether there is one; the answer says how to get a token."""
    headers = {} if token is None else {"Authorization": token}
    calls = [
        ("GET", "/api/v1/status"),
        ("GET", "/api/v1/messages/1"),
        ("POST", "/api/v1/rules"),
        ("GET", "/api/v1/rules/x"),
    ]

    answers = [stranger.request(method, path, headers=headers) for method, path in calls]

    assert [answer.status_code for answer in answers] == [401] * 4
    assert "muleteer token add" in answers[0].json()["next"]
    assert store.rules.revision() == 0


def test_every_route_but_one_wants_a_token(stranger: TestClient) -> None:
    """Whoever adds a route cannot forget it."""
    described = stranger.get("/api/openapi.json").json()["paths"]

    open_ = [path for path, verbs in described.items() for verb in verbs.values() if not verb.get("security")]

    assert open_ == ["/healthz"]
    assert len(described) > 10


def test_a_page_of_somebody_else_is_refused(stranger: TestClient) -> None:
    """A browser that was led here by another name sends that name."""
    assert stranger.get("/healthz", headers={"Host": "evil.example"}).status_code == 400
    assert stranger.get("/healthz", headers={"Host": "127.0.0.1:8642"}).json() == {"alive": True}


def test_rules_are_applied_with_author_and_reason(client: TestClient, store: Store) -> None:
    """They are in force at once, and the history says who and why."""
    answer = applied(client, RULE)

    assert (answer.status_code, answer.json()["revision"], answer.json()["added"]) == (200, 1, ["raw"])
    (version,) = store.rules.in_force()[1]
    assert (version.rule.name, version.author, version.reason) == ("raw", "rest:me", "to see")
    shown = client.get("/api/v1/rules/raw").json()
    assert (shown["version"], shown["author"], shown["rule"]["pattern"]) == (1, "rest:me", "DS-.*")
    assert [each["version"] for each in client.get("/api/v1/rules/history").json()] == [1]


def test_rules_with_mistakes_are_refused_whole(client: TestClient, store: Store) -> None:
    """Every mistake is named with its field, and the live set is untouched."""
    broken = {**RULE, "name": "broken", "pattern": "(?=x)", "where": {"bytes": "> many"}}
    unknown = {**RULE, "name": "other", "actions": [{"nothing": {}}]}

    answer = applied(client, RULE, broken, unknown, RULE)

    assert answer.status_code == 422
    fields = [each["field"] for each in answer.json()["mistakes"]]
    assert sorted(fields) == ["rules.1.pattern", "rules.1.where.bytes.0", "rules.2.actions.0.nothing", "rules.3.name"]
    assert store.rules.revision() == 0


def test_rules_that_would_start_each_other_are_refused_unless_it_is_meant(client: TestClient, store: Store) -> None:
    """Applied, switched on or taken back: as the command line does."""
    assert applied(client, {**RULE, "name": "round"}).status_code == 422
    assert applied(client, {**RULE, "name": "round", "enabled": False}).status_code == 200
    answer = client.post("/api/v1/rules/round/enable", json={"reason": "x"})

    assert answer.status_code == 422
    assert "a cycle of rules, round -> round" in answer.json()["mistakes"][0]["mistake"]
    because = {"reason": "x", "allow_cycles": True}
    assert client.post("/api/v1/rules/round/enable", json=because).status_code == 200
    client.post("/api/v1/rules/round/disable", json={"reason": "x"})
    assert client.post("/api/v1/rules/rollback", json={"revision": 2, "reason": "x"}).status_code == 422
    assert client.post("/api/v1/rules/rollback", json={"revision": 2, **because}).status_code == 200


def test_a_rule_that_cannot_work_any_more_is_not_switched_on(client: TestClient, store: Store) -> None:
    """What it asks for may be gone since it was applied."""
    store.rules.apply(
        [rule("gone", ".*", {"run": {"command": ["no/such"]}}, enabled=False)], prune=False, who="t", now=NOW
    )

    answer = client.post("/api/v1/rules/gone/enable", json={"reason": "x"})

    assert answer.status_code == 422
    assert "there is no file" in answer.json()["mistakes"][0]["mistake"]


@pytest.mark.parametrize("command", ["\ud800", "a\u0000b"])
def test_a_rule_that_could_not_be_read_back_is_refused(client: TestClient, store: Store, command: str) -> None:
    """In force, it would keep every rule from being read."""
    body = json.dumps({"rules": [{**RULE, "actions": [{"run": {"command": [command]}}]}], "reason": "x"})

    assert client.post("/api/v1/rules", content=body, headers={"Content-Type": "application/json"}).status_code == 422
    assert store.rules.in_force() == (0, [])


@pytest.mark.parametrize(
    "path",
    [
        "messages?stat=pending",
        "status?x=1",
        "messages/0",
        f"messages/{2**63}",
        f"messages?before={2**63}",
        f"messages?before={-(2**70)}",
        f"launches/summary?before={-(2**70)}",
        "messages?since=0001-01-01T00:00:00%2B14:00",
        "messages?name=%00",
        "rules/x%00y",
    ],
)
def test_what_no_database_can_be_asked_for_is_refused(client: TestClient, path: str) -> None:
    """And is no error of the service."""
    assert client.get(f"/api/v1/{path}").status_code == 422


def test_a_reason_is_more_than_blanks(client: TestClient, store: Store) -> None:
    """The journal is for people to read."""
    assert client.post("/api/v1/rules", json={"rules": [RULE], "reason": "  "}).status_code == 422
    assert store.rules.revision() == 0


def test_a_request_is_bounded_before_it_is_read(stranger: TestClient) -> None:
    """Whoever has no token cannot make the service read for long."""
    answer = stranger.post("/api/v1/rules", content=b" " * (9 * 1024 * 1024))

    assert answer.status_code == 413


def test_a_request_that_cannot_be_read_says_where(client: TestClient) -> None:
    """A missing reason, a field that there is not: named, nothing changed."""
    answer = client.post("/api/v1/rules", json={"rules": [{**RULE, "colour": "red"}]})

    assert answer.status_code == 422
    assert {each["field"] for each in answer.json()["mistakes"]} >= {"reason"}
    assert any(each["field"].endswith("colour") for each in answer.json()["mistakes"])


def test_the_service_reads_no_files_by_request(client: TestClient) -> None:
    """A rule may name a file of runs; on whose machine, the service cannot know."""
    answer = applied(client, {**RULE, "runs": {"include_file": "/etc/passwd"}})

    assert answer.status_code == 422
    assert [each["field"] for each in answer.json()["mistakes"]] == ["rules.0.runs.include_file"]


def test_a_rule_is_switched_off_and_what_is_in_flight_is_named(client: TestClient, store: Store) -> None:
    """What was started goes on, and the answer says what that is."""
    messages(store, 2)
    judge(store, rule("raw", "DS-.*"))
    claim(store, limit=1)

    answer = client.post("/api/v1/rules/raw/disable", json={"reason": "bad calibration"})

    assert answer.json()["changed"] == ["raw"]
    in_flight = {each["state"]: each["count"] for each in answer.json()["in_flight"]["dispatches"]}
    assert in_flight == {"ready": 1, "running": 1}
    assert store.rules.in_force()[1][0].rule.enabled is False
    assert store.counts().dispatches == {"ready": 1, "running": 1}
    client.post("/api/v1/rules/raw/enable", json={"reason": "mended"})
    assert store.rules.in_force()[1][0].rule.enabled is True


def test_a_rule_is_taken_out_and_the_set_taken_back(client: TestClient, store: Store) -> None:
    """Nothing is ever deleted: every revision can be had again."""
    applied(client, RULE, {**RULE, "name": "other"})

    client.request("DELETE", "/api/v1/rules/other", json={"reason": "not needed"})
    assert [each["rule"]["name"] for each in client.get("/api/v1/rules").json()["rules"]] == ["raw"]
    answer = client.post("/api/v1/rules/rollback", json={"revision": 1, "reason": "needed"})

    assert answer.json()["added"] == ["other"]
    assert [version.rule.name for version in store.rules.in_force()[1]] == ["other", "raw"]


def test_a_rule_is_stopped_and_goes_on(client: TestClient, store: Store) -> None:
    """What arrives meanwhile accumulates; the answer to the end says what stood in the way."""
    messages(store, 2)
    judge(store, rule("raw", "DS-.*"))
    what = {"kind": "rule", "name": "raw", "reason": "disk is full"}

    assert client.post("/api/v1/suspensions", json=what).json()["new"] is True
    assert client.post("/api/v1/suspensions", json=what).json()["new"] is False
    assert claim(store) == []
    (standing,) = client.get("/api/v1/suspensions").json()
    assert (standing["who"], standing["reason"]) == ("rest:me", "disk is full")

    assert client.request("DELETE", "/api/v1/suspensions", json=what).json()["reason"] == "disk is full"
    assert len(claim(store)) == 2
    assert client.request("DELETE", "/api/v1/suspensions", json=what).status_code == 404
    for wrong in (
        {"kind": "rule"},
        {"kind": "everything", "name": "raw"},
        {"kind": "transient", "name": "hits"},
        {"kind": "all"},
    ):
        assert client.post("/api/v1/suspensions", json={**wrong, "reason": "x"}).status_code == 422


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/messages/7"),
        ("GET", "/api/v1/dispatches/7"),
        ("GET", "/api/v1/launches/7"),
        ("GET", "/api/v1/rules/none"),
        ("POST", "/api/v1/rules/none/disable"),
        ("DELETE", "/api/v1/rules/none"),
        ("GET", "/api/v1/nothing"),
    ],
)
def test_what_is_not_there_is_said(client: TestClient, method: str, path: str) -> None:
    """404, with a sentence and an advice."""
    answer = client.request(method, path, json={"reason": "x"} if method != "GET" else None)

    assert answer.status_code == 404
    assert answer.json()["error"] and answer.json()["next"]


def test_messages_are_listed_by_filter_and_page(client: TestClient, store: Store) -> None:
    """The filters of `messages list`."""
    messages(store, 5)
    store.messages.take_in([frame("erase", "DS-9"), Arrival({}, b"?")], origin="broker", now=NOW)

    def ids(query: str) -> list[int]:
        return [each["id"] for each in client.get(f"/api/v1/messages?{query}").json()]

    assert ids("state=quarantined") == [7]
    assert ids("state=pending&event=close&limit=2") == [5, 4]
    assert ids("event=CLOSE&limit=2&before=4") == [3, 2]
    assert ids("name=DS-?&scope=group.*&event=erase") == [6]
    assert ids(f"until={NOW:%Y-%m-%dT%H:%M:%S}") == []
    assert client.get("/api/v1/messages?limit=0").status_code == 422


def test_a_message_is_shown_whole(client: TestClient, store: Store) -> None:
    """What arrived, byte for byte, what it started, and its history."""
    messages(store)
    judge(store, rule("raw", "DS-.*"))

    shown = client.get("/api/v1/messages/1").json()

    assert shown["state"] == "dispatched"
    assert '"event_type"' in shown["body"]
    assert [each["rule"] for each in shown["dispatches"]] == ["raw"]
    assert [each["to_state"] for each in shown["journal"]] == ["pending", "dispatched"]
    (started,) = client.get("/api/v1/dispatches?rule=raw").json()
    assert client.get(f"/api/v1/dispatches/{started['id']}").json()["journal"][0]["to_state"] == "ready"
    assert client.get("/api/v1/status").json()["messages"] == {"dispatched": 1}


def test_a_store_that_is_away_is_a_sentence(own_postgres: Postgres, tokens: Tokens, tmp_path: Path) -> None:
    """503 to whoever looks or changes, and nothing about the program's insides; once it is back, all goes on."""
    url = own_postgres.create_database("window")
    database = Database(url)
    schema.upgrade(database)
    database.close()
    store = Store.open(url)
    messages(store)
    pause = {"kind": "everything", "reason": "cooling"}
    with asking(store, tokens, tmp_path) as client:
        client.headers["Authorization"] = f"Bearer {tokens.add('anna')}"
        assert client.get("/healthz").status_code == 200

        own_postgres.stop()
        answers = [
            client.get("/healthz"),
            client.get("/api/v1/messages"),
            client.get("/api/v1/messages/1"),
            client.post("/api/v1/suspensions", json=pause),
        ]
        own_postgres.start()
        after = client.get("/api/v1/suspensions")

    store.close()
    assert {answer.status_code for answer in answers} == {503}
    for answer in answers:
        seen = answer.json()
        assert seen["error"] == "the store is not available"
        assert seen["next"].startswith("nothing was changed; ask again once the store is back")
        assert not any(word in answer.text for word in ("psycopg", "127.0.0.1", own_postgres.user))
    assert (after.status_code, after.json()) == (200, [])
