"""Transient datasets through the window: planned, released, taken back, kept. On SQLite and on PostgreSQL alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from orchestrator.monitor.access import Tokens
from orchestrator.store.store import Store
from tests.contract.transients import World, dst, hits, policy, worlds
from tests.contract.windows import asking
from tests.services.catalog import Faulty, When

API = "/api/v1"
BECAUSE = {"reason": "disks are full"}


@pytest.fixture
def world(tmp_path: Path, store: Store) -> World:
    return worlds(tmp_path, store, "fake")


@pytest.fixture
def client(world: World, store: Store, tokens: Tokens, tmp_path: Path) -> Iterator[TestClient]:
    """Somebody with a token, whose window can ask the catalog."""
    with asking(store, tokens, tmp_path, world.desk) as client:
        client.headers["Authorization"] = f"Bearer {tokens.add('me')}"
        yield client


def post(client: TestClient, path: str, **body: Any) -> Any:
    return client.post(f"{API}/{path}", json=body)


def planned(client: TestClient, **body: Any) -> Any:
    answer = post(client, "transients/plans", **body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def released(client: TestClient, world: World, runs: int = 1) -> Any:
    """So many that were released."""
    for run in range(1, runs + 1):
        world.pair(run)
    world.apply()
    world.move(days=8)
    answer = post(client, "transients/releases", plan=planned(client), expected=runs, **BECAUSE)
    assert answer.status_code == 200, answer.text
    return answer.json()


# Planned and released.


def test_a_plan_says_what_may_leave_and_changes_nothing(client: TestClient, world: World, store: Store) -> None:
    """With what proves it. Nothing is written down by looking."""
    world.ripe()
    world.pair(2)

    plan = planned(client, policies=["hits"], most=5)

    assert [each["did"] for each in plan["releases"]] == [str(hits())]
    assert any(str(dst()) in line for line in plan["releases"][0]["evidence"])
    assert plan["refused"]["age"] == 1
    assert (plan["who"], client.get(f"{API}/transients").json()) == ("rest:me", [])
    assert post(client, "transients/plans", policies=["other"]).status_code == 409


def test_a_plan_is_released_as_it_is(client: TestClient, world: World, store: Store) -> None:
    """By whoever asked, with the reason; and it is shown with its whole story."""
    (done,) = released(client, world)

    assert (done["state"], done["released_by"]) == ("released", "rest:me")
    assert world.there(hits())
    whole = client.get(f"{API}/transients/{done['id']}").json()
    assert [(each["who"], each["to_state"]) for each in whole["journal"]][-1] == ("rest:me", "released")
    assert whole["release"]["evidence"]
    assert [each["id"] for each in client.get(f"{API}/transients?state=released&run=1").json()] == [done["id"]]
    assert client.get(f"{API}/transients?state=held").json() == []
    assert client.get(f"{API}/transients/summary").json() == [
        {"policy": "hits", "state": "released", "datasets": 1, "bytes": done["bytes"]}
    ]


def test_what_was_not_expected_is_not_released(client: TestClient, world: World) -> None:
    """Neither another number, nor another reality, nor without a reason."""
    world.ripe()
    plan = planned(client)

    other = post(client, "transients/releases", plan=plan, expected=2, **BECAUSE)
    silent = post(client, "transients/releases", plan=plan, expected=1)
    world.catalog.reopen(dst())
    moved = post(client, "transients/releases", plan=plan, expected=1, **BECAUSE)

    assert (other.status_code, other.json()["number"]) == (409, 1)
    assert silent.status_code == 422
    assert moved.status_code == 409
    assert f"{hits()}: successor" in moved.json()["error"]
    assert client.get(f"{API}/transients?state=released").json() == []


def test_a_catalog_that_is_away_is_said_and_nothing_is_released(
    world: World, store: Store, tokens: Tokens, tmp_path: Path
) -> None:
    """Where it is, is nobody's business."""
    world.ripe()
    away = Faulty(world.catalog, {1: When.BEFORE})
    with asking(store, tokens, tmp_path, lambda: world.desk(away)) as client:
        client.headers["Authorization"] = f"Bearer {tokens.add('me')}"

        answer = post(client, "transients/plans")

    assert (answer.status_code, answer.json()["error"]) == (503, "the catalog cannot be asked")


# Taken back, called back, extended, kept.


def test_releases_are_taken_back_as_a_dry_run_says(client: TestClient, world: World) -> None:
    """By filter only with the number that was seen; what is held stays as it is, and is named."""
    ids = [each["id"] for each in released(client, world, runs=3)]

    one = post(client, "transients/take-back", ids=[ids[0]], **BECAUSE).json()
    dry = post(client, "transients/take-back", ids=ids, dry_run=True, **BECAUSE).json()
    unsaid = post(client, "transients/take-back", filter={"policy": "hits"}, **BECAUSE)
    wrong = post(client, "transients/take-back", filter={"policy": "hits"}, expected=3, **BECAUSE)
    rest = post(client, "transients/take-back", filter={"policy": "hits"}, expected=2, **BECAUSE).json()
    none = post(client, "transients/take-back", ids=ids, **BECAUSE)

    assert one["changed"] == [ids[0]]
    assert (dry["changed"], dry["stayed"]) == (ids[1:], [{"why": "held", "ids": [ids[0]]}])
    assert (unsaid.status_code, wrong.status_code, wrong.json()["number"]) == (422, 409, 2)
    assert rest["changed"] == ids[1:]
    assert none.status_code == 409
    assert [each["reason"] for each in client.get(f"{API}/transients?state=held").json()] == [
        "taken back: disks are full"
    ] * 3


def test_an_empty_filter_takes_nothing_back(client: TestClient, world: World) -> None:
    released(client, world)

    assert post(client, "transients/take-back", filter={}, expected=1, **BECAUSE).status_code == 422
    assert post(client, "transients/take-back", filter={"run": 7}, expected=0, **BECAUSE).json()["changed"] == []
    assert post(client, "transients/take-back", ids=[99], **BECAUSE).status_code == 404
    assert post(client, "transients/take-back", filter={"run": 2**63}, expected=1, **BECAUSE).status_code == 422


def test_what_is_leaving_is_called_back(client: TestClient, world: World) -> None:
    """Only that: what was not begun is taken back instead."""
    (done,) = released(client, world)
    early = post(client, f"transients/{done['id']}/recall", **BECAUSE)
    world.move(days=2)
    world.desk().step()
    back = post(client, f"transients/{done['id']}/recall", **BECAUSE)

    assert early.status_code == 409
    assert (back.status_code, back.json()["state"]) == (200, "held")
    world.sweep()
    assert world.there(hits())


def test_what_is_extended_stays(client: TestClient, world: World) -> None:
    world.ripe()
    world.desk().survey(who="me")

    done = post(client, "transients/extend", dataset=str(hits()), **{"for": "7d"}, **BECAUSE)

    assert done.status_code == 200
    assert done.json()["extended_until"] is not None
    assert post(client, "transients/extend", dataset="nonsense", **{"for": "7d"}, **BECAUSE).status_code == 409
    assert post(client, "transients/extend", dataset=str(hits()), **{"for": "0s"}, **BECAUSE).status_code == 422
    assert post(client, "transients/extend", dataset=str(dst()), **{"for": "7d"}, **BECAUSE).status_code == 404


def test_what_is_kept_is_in_no_plan_until_it_is_lifted(client: TestClient, world: World) -> None:
    world.ripe()

    kept = post(client, "transient-keeps", which="group.sphenix:HITS-*", **BECAUSE).json()
    with_it = planned(client)
    lifted = client.request("DELETE", f"{API}/transient-keeps/{kept['id']}", json=BECAUSE)

    assert (kept["who"], with_it["releases"], with_it["refused"]) == ("rest:me", [], {"never": 1})
    assert (lifted.status_code, lifted.json()["lifted_by"]) == (200, "rest:me")
    assert len(planned(client)["releases"]) == 1
    assert client.get(f"{API}/transient-keeps").json() == []
    assert len(client.get(f"{API}/transient-keeps?all=true").json()) == 1
    assert post(client, "transient-keeps", which="HITS", **BECAUSE).status_code == 409


@pytest.mark.parametrize("which", ["a:x ", " a:x", "a:x\n", "a:[z-a]*", "a:[]b", "a:[!]b"])
def test_what_would_keep_nothing_is_refused(client: TestClient, which: str) -> None:
    answer = post(client, "transient-keeps", which=which, **BECAUSE)

    assert answer.status_code == 409
    assert client.get(f"{API}/transient-keeps").json() == []


def test_no_more_keeps_are_listed_than_are_asked_for(client: TestClient) -> None:
    """The newest; with those that were lifted only if that is said."""
    ids = [post(client, "transient-keeps", which=f"a:{each}", **BECAUSE).json()["id"] for each in range(4)]
    client.request("DELETE", f"{API}/transient-keeps/{ids[3]}", json=BECAUSE)

    def listed(query: str) -> list[int]:
        return [each["id"] for each in client.get(f"{API}/transient-keeps{query}").json()]

    assert listed("?limit=2") == [ids[2], ids[1]]
    assert listed("?limit=2&all=true") == [ids[3], ids[2]]
    assert listed("") == ids[2::-1]


# Policies.


def test_policies_are_applied_all_or_nothing(client: TestClient, store: Store) -> None:
    """Every mistake is named by its field, and a dry run changes nothing."""
    good, bad = policy().as_written(), policy(name="bad", pattern="HITS-(", lifetime="0s").as_written()

    wrong = post(client, "transient-policies", policies=[good, bad], **BECAUSE)
    dry = post(client, "transient-policies", policies=[good], dry_run=True, **BECAUSE)
    none = store.transient_policies.in_force()
    done = post(client, "transient-policies", policies=[good], **BECAUSE)

    assert wrong.status_code == 422
    assert {each["field"] for each in wrong.json()["mistakes"]} == {"policies.1.pattern", "policies.1.lifetime"}
    assert (dry.json()["added"], none, done.json()["added"]) == (["hits"], [], ["hits"])
    (version,) = client.get(f"{API}/transient-policies").json()
    assert (version["author"], version["reason"]) == ("rest:me", "disks are full")


def test_what_is_probably_not_meant_is_remarked_upon(client: TestClient) -> None:
    """Beside those in force that were not sent; and so is one that somebody switched off, in a dry run as well."""
    post(client, "transient-policies", policies=[policy().as_written()], **BECAUSE)
    same = [policy(name="same").as_written()]

    beside = post(client, "transient-policies", policies=same, dry_run=True, **BECAUSE).json()["remarks"]
    alone = post(client, "transient-policies", policies=same, dry_run=True, prune=True, **BECAUSE).json()["remarks"]
    post(client, "transient-policies/hits/disable", reason="it takes too much")
    told = [
        post(client, "transient-policies", policies=[policy().as_written()], dry_run=dry, **BECAUSE).json()["remarks"]
        for dry in (True, False, False)
    ]

    assert len(beside) == len(alone) + 1
    assert any("same" in each and "hits" in each for each in beside)
    (remark,) = (each for each in told[0] if "disabled" in each)
    assert remark.startswith("hits was disabled by rest:me at ")
    assert remark.endswith(": it takes too much; this switches it on again")
    assert told[1] == told[0]
    assert remark not in told[2]


def test_no_policy_is_called_as_the_history_of_all_is(client: TestClient) -> None:
    """Nobody could ask for it by its name."""
    answer = post(client, "transient-policies", policies=[policy(name="history").as_written()], **BECAUSE)

    assert (answer.status_code, answer.json()["mistakes"][0]["field"]) == (422, "policies.0.name")


def test_a_policy_is_switched_confirmed_and_taken_out(client: TestClient, world: World) -> None:
    """Each with a reason, as a new version; a confirmation is of one version alone, and of what it matches now."""
    post(client, "transient-policies", policies=[policy().as_written()], **BECAUSE)
    world.pair(1)
    world.pair(2)

    slip = post(client, "transient-policies/hits/confirm", matches=12, **BECAUSE)
    confirmed = post(client, "transient-policies/hits/confirm", matches=2, **BECAUSE).json()
    post(client, "transient-policies/hits/disable", **BECAUSE)
    off = client.get(f"{API}/transient-policies/hits").json()
    post(client, "transient-policies/hits/enable", **BECAUSE)
    gone = client.request("DELETE", f"{API}/transient-policies/hits", json=BECAUSE).json()

    assert (slip.status_code, "hits matches 2 now, not 12" in slip.text) == (409, True)
    assert (confirmed["version"], confirmed["confirmed"]) == (1, 2)
    assert (off["version"], off["policy"]["enabled"], off["confirmed"]) == (2, False, None)
    assert gone["removed"] == ["hits"]
    assert [each["version"] for each in client.get(f"{API}/transient-policies/history?name=hits").json()] == [3, 2, 1]
    assert post(client, "transient-policies/none/enable", **BECAUSE).status_code == 404
    assert post(client, "transient-policies/hits/disable").status_code == 422


def test_nobody_without_a_token_learns_anything(client: TestClient) -> None:
    del client.headers["Authorization"]

    for path in ("transients", "transients/1", "transients/freed", "transient-policies", "transient-keeps"):
        assert client.get(f"{API}/{path}").status_code == 401
    for path in ("transients/plans", "transients/releases", "transients/take-back", "transient-policies"):
        assert client.post(f"{API}/{path}", json={}).status_code == 401
