"""`muleteer transient`: from a plan to the end, on the embedded catalog."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.clock import utc_now
from orchestrator.settings import load
from orchestrator.store.intake import Arrival
from orchestrator.store.store import Store
from orchestrator.wiring import Muleteer as Wired
from schemas.transient import TransientId
from tests.unit.cli.conftest import Muleteer
from tests.unit.cli.transients import POLICIES, apply, clusters, fill, pair, plan, release, seeds

WHY = ("--reason", "disks are full")

#: A time to take it back that is over at once.
AT_ONCE = POLICIES.replace("undo: 1d", "undo: 0s")


@pytest.fixture
def ripe(muleteer: Muleteer, home: Path) -> str:
    """Clusters that may leave; those of another run have gone into seeds but for one file."""
    pair(muleteer, home, 2, missing=1)
    did = pair(muleteer, home, 1)
    apply(muleteer, home)
    return did


def again(store: Store, id_: int) -> None:
    """As if the time before another look was over."""
    transients, now = store.transients, utc_now()
    transients.claim(TransientId(id_), owner="test", now=now, lease=now - now)
    transients.look_again(TransientId(id_), now, "test", owner="test", now=now)


# Planned.


def test_a_plan_says_what_leaves_why_and_what_it_frees(muleteer: Muleteer, ripe: str) -> None:
    """And of the rest how many stay, by what stands in the way; one by one only if that is asked for."""
    brief, whole = muleteer("transient", "plan"), muleteer("transient", "plan", "--refused")

    assert brief.code == 0
    assert f"1. {ripe} leaves" in brief.out
    assert f"successor {seeds(1)} closed" in brief.out
    assert "copies: 3 at LOCAL" in brief.out
    assert "maps 1" in brief.out
    assert clusters(2) not in brief.out
    assert f"{clusters(2)} stays" in whole.out
    assert "CLUSTERS-00000002-2.root" in whole.out
    assert muleteer("transient", "list", "--json").json == []


def test_a_plan_is_one_json_value(muleteer: Muleteer, home: Path, ripe: str) -> None:
    """With the caps; and with each refusal if that is asked for. What it prints can be released."""
    said = muleteer("transient", "plan", "--json", "--refused")

    assert [each["did"] for each in said.json["releases"]] == [ripe]
    assert [(each["did"], each["refusals"][0][0]) for each in said.json["refusals"]] == [(clusters(2), "maps")]
    assert said.json["refused"] == {"maps": 1}
    assert (said.json["caps"]["datasets_per_day"], said.json["caps"]["passed"]) == (100, None)
    (home / "printed.json").write_text(said.out)
    assert muleteer("transient", "release", "--plan", home / "printed.json", *WHY).code == 0


def test_a_plan_may_be_of_some_policies_and_of_few_datasets(muleteer: Muleteer, home: Path, ripe: str) -> None:
    pair(muleteer, home, 3)

    few = muleteer("transient", "plan", "--most", "1", "--json").json
    none = muleteer("transient", "plan", "--policy", "others")

    assert len(few["releases"]) <= 1
    assert few["refused"]["beyond"] >= 1
    assert (none.code, "others" in none.err) == (4, True)


def test_without_a_policy_nothing_is_transient(muleteer: Muleteer, home: Path) -> None:
    pair(muleteer, home, 1)

    said = muleteer("transient", "plan")

    assert said.code == 0
    assert "There is no policy" in said.out
    assert "nothing can be released now" in said.out


def test_a_policy_that_matches_too_much_releases_nothing_before_that_is_confirmed(
    muleteer: Muleteer, home: Path
) -> None:
    """The command to confirm it is named."""
    pair(muleteer, home, 1)
    apply(muleteer, home, POLICIES.replace("fraction: 1", "fraction: 0.1"))

    before = muleteer("transient", "plan")
    muleteer("transient", "policies", "confirm", "clusters", "--matches", "1", *WHY)
    after = muleteer("transient", "plan", "--json").json

    assert "policies confirm clusters --matches 1" in before.out
    assert "nothing can be released now" in before.out
    assert len(after["releases"]) == 1


# Released, and taken back.


def test_a_plan_is_released_and_nothing_is_done_in_the_catalog(muleteer: Muleteer, home: Path, ripe: str) -> None:
    """It can be taken back by number, by name, or all; and then it is held, and kept for a week."""
    (first,) = release(muleteer, home)
    muleteer("transient", "step")
    listed = muleteer("transient", "list", "--state", "released", "--run", "1", "--policy", "clusters", "--json").json
    back = muleteer("transient", "take-back", ripe, *WHY)
    late = muleteer("transient", "take-back", str(first["id"]), *WHY)
    meanwhile = muleteer("transient", "plan", "--json").json
    muleteer("transient", "lift", "1", *WHY)
    release(muleteer, home)
    everything = muleteer("transient", "take-back", "--all", *WHY, "--json")
    nothing = muleteer("transient", "take-back", "--all", *WHY)

    assert [each["id"] for each in listed] == [first["id"]]
    assert (back.code, late.code, nothing.code) == (0, 4, 4)
    assert f"{ripe} stays" in back.out
    assert "kept for 7d" in back.out
    assert (meanwhile["releases"], meanwhile["refused"]["never"]) == ([], 1)
    assert [(each["did"], each["state"]) for each in everything.json] == [(json_did(ripe), "held")]
    assert muleteer("catalog", "show", ripe).code == 0


def json_did(did: str) -> list[str]:
    return did.split(":")


def test_what_is_taken_back_must_be_named(muleteer: Muleteer, ripe: str) -> None:
    """A command without a name means nothing, and one with a name and all is a slip of the pen."""
    assert muleteer("transient", "take-back", *WHY).code == 2
    assert muleteer("transient", "take-back", ripe, "--all", *WHY).code == 2
    assert muleteer("transient", "take-back", ripe).code == 2
    assert muleteer("transient", "take-back", ripe, *WHY).code == 4
    assert muleteer("transient", "take-back", "nonsense", *WHY).code == 2


def test_a_plan_that_does_not_hold_any_more_releases_nothing(muleteer: Muleteer, home: Path, ripe: str) -> None:
    """Each difference is named."""
    path = plan(muleteer, home)
    muleteer("catalog", "reopen", seeds(1))

    said = muleteer("transient", "release", "--plan", path, *WHY)

    assert said.code == 3
    assert f"{ripe}: successor" in said.err
    assert muleteer("transient", "list", "--state", "released", "--json").json == []


@pytest.mark.parametrize(("text", "code"), [(None, 4), ("{", 3), ("[]", 3), ('{"kind": "other"}', 3), (b"\xff", 3)])
def test_what_is_no_plan_is_refused(muleteer: Muleteer, home: Path, text: str | bytes | None, code: int) -> None:
    apply(muleteer, home)
    path = home / "plan.json"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    said = muleteer("transient", "release", "--plan", path, *WHY)

    assert said.code == code
    assert str(path) in said.err


def test_a_plan_is_released_once(muleteer: Muleteer, home: Path, ripe: str) -> None:
    """What came first has changed what was planned. An old plan is carried out, and its age is told."""
    path = plan(muleteer, home)
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "made_at": "2026-01-01T00:00:00Z"}))

    first, second = (muleteer("transient", "release", "--plan", path, *WHY) for _ in range(2))

    assert (first.code, second.code) == (0, 3)
    assert "note: the plan was made" in first.err
    assert f"{ripe} is released already" in second.err


def test_a_plan_of_another_store_is_not_carried_out(muleteer: Muleteer, home: Path, ripe: str) -> None:
    path = plan(muleteer, home)
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "store": "0" * 32}))

    said = muleteer("transient", "release", "--plan", path, *WHY)

    assert said.code == 3
    assert "store" in said.err


def test_caps_bound_what_is_released(muleteer: Muleteer, home: Path, ripe: str) -> None:
    """The plan says so already."""
    pair(muleteer, home, 3)
    (home / "muleteer.toml").write_text("[transient]\ndatasets_per_day = 1\n")
    path = home / "plan.json"

    planned = muleteer("transient", "plan", "--out", path)
    refused = muleteer("transient", "release", "--plan", path, *WHY)

    assert "this plan cannot be released: 2 datasets are to be released" in planned.out
    assert (refused.code, "datasets_per_day" in refused.err) == (4, True)
    assert muleteer("transient", "list", "--state", "released", "--json").json == []


# Kept, extended, stopped.


def test_what_is_kept_stays_until_it_is_lifted(muleteer: Muleteer, home: Path, ripe: str) -> None:
    """Also if it was released before: the command names it."""
    release(muleteer, home)

    kept = muleteer("transient", "keep", "group.sphenix:*-00000001", *WHY)
    muleteer("transient", "take-back", "--all", *WHY)
    without = muleteer("transient", "plan", "--json").json
    shown = muleteer("transient", "keeps").out
    muleteer("transient", "lift", "2", *WHY)
    lifted = muleteer("transient", "lift", "1", *WHY)

    assert f"{ripe} is released" in kept.out
    assert (without["releases"], without["refused"]["never"]) == ([], 1)
    assert "group.sphenix:*-00000001" in shown
    assert (lifted.code, muleteer("transient", "lift", "1", *WHY).code) == (0, 4)
    assert muleteer("transient", "keeps", "--json").json["keeps"] == []
    assert len(muleteer("transient", "keeps", "--all", "--json").json["keeps"]) == 2
    assert len(muleteer("transient", "plan", "--json").json["releases"]) == 1


@pytest.mark.parametrize(
    "words",
    [
        ("CLUSTERS",),
        ("x:[a",),
        *(("x:y", "--until", until) for until in ("2020-01-01", "30", "soon", "2020-01-01T00:00:00+00:00")),
    ],
)
def test_a_keep_that_would_keep_nothing_is_refused(muleteer: Muleteer, home: Path, words: tuple[str, ...]) -> None:
    apply(muleteer, home)
    assert muleteer("transient", "keep", *words, *WHY).code == 2
    assert muleteer("transient", "keeps", "--json").json["keeps"] == []


def test_a_keep_says_how_many_datasets_fit_now(muleteer: Muleteer, ripe: str) -> None:
    """If there are none that is said aloud: it may be a slip. It is kept all the same."""
    some = muleteer("transient", "keep", "group.*:CLUSTERS-*", "--until", "30d", *WHY)
    none = muleteer("transient", "keep", "group.sphenix:CLUSTRES-*", "--until", "2999-01-31", *WHY)
    counted = [muleteer("transient", "keep", each, *WHY, "--json").json["matches"] for each in (ripe, "x:y")]

    assert (some.code, none.code) == (0, 0)
    assert "2 datasets fit now" in some.out
    assert "WARNING: no dataset fits group.sphenix:CLUSTRES-* now" in none.err
    assert counted == [1, 0]
    kept = muleteer("transient", "keeps", "--json").json["keeps"]
    assert (len(kept), kept[2]["until"][:10]) == (4, "2999-01-31")


def test_a_keep_counts_though_the_catalog_is_away(muleteer: Muleteer, home: Path) -> None:
    """And says that it could not be counted."""
    (home / "catalog.db").unlink(missing_ok=True)
    (home / "catalog.db").mkdir()

    said = muleteer("transient", "keep", "x:y", *WHY)

    assert (said.code, "could not be counted" in said.err) == (0, True)
    assert len(muleteer("transient", "keeps", "--json").json["keeps"]) == 1


@pytest.mark.parametrize("wrong", ['never = ["x:[a"]', 'raw_scopes = ["raw*", ""]'])
def test_what_would_protect_nothing_is_a_mistake_in_the_settings(muleteer: Muleteer, home: Path, wrong: str) -> None:
    """The doctor says where; and nothing can be done before it is mended."""
    (home / "muleteer.toml").write_text(f"[transient]\n{wrong}\n")

    said = muleteer("doctor")

    assert said.code == 1
    assert f"transient.{wrong.split()[0]}" in said.out
    assert "fit nothing" in said.out
    assert muleteer("transient", "plan").code == 3


def test_what_is_extended_stays_for_longer(muleteer: Muleteer, ripe: str) -> None:
    """It must have been seen; no time at all is no extension."""
    early = muleteer("transient", "extend", ripe, "--for", "7d", *WHY)
    muleteer("transient", "survey")
    done = muleteer("transient", "extend", ripe, "--for", "7d", *WHY)
    none = muleteer("transient", "extend", ripe, "--for", "0s", *WHY)

    assert (early.code, done.code, none.code) == (4, 0, 2)
    assert muleteer("transient", "plan", "--json").json["refused"]["extended"] == 1


def test_nothing_is_released_while_releases_are_stopped(muleteer: Muleteer, home: Path, ripe: str) -> None:
    """`dispatch status` shows it, and all that was released waits."""
    path = plan(muleteer, home)
    stopped = muleteer("transient", "stop", "--reason", "power cut")
    again_ = muleteer("transient", "stop", "--reason", "still")
    refused = muleteer("transient", "release", "--plan", path, *WHY)
    shown = muleteer("dispatch", "status").out
    gone_on = muleteer("transient", "go", *WHY)

    assert (stopped.code, refused.code, gone_on.code) == (0, 4, 0)
    assert "power cut" in again_.out
    assert "power cut" in refused.err
    assert "release of transient datasets" in shown
    assert muleteer("transient", "release", "--plan", path, *WHY).code == 0
    assert muleteer("transient", "go", *WHY).code == 4


# To the end.


def test_a_dataset_leaves_and_its_story_is_told(muleteer: Muleteer, home: Path, store: Store, ripe: str) -> None:
    """By `step` alone, without a service: released, leaving, gone, from the catalog and from the disk."""
    apply(muleteer, home, AT_ONCE)
    (released,) = release(muleteer, home)
    soon = muleteer("transient", "report", "expiring", "--json").json
    muleteer("transient", "step")
    leaving = muleteer("transient", "show", ripe, "--json").json
    late = muleteer("transient", "report", "overdue", "--after", "0s", "--json")
    again(store, released["id"])
    last = muleteer("transient", "step", "--json").json
    shown, told = muleteer("transient", "show", ripe, "--json").json, muleteer("transient", "show", ripe).out

    assert [each["id"] for each in soon] == [released["id"]]
    assert (leaving["state"], len(leaving["copies_left"])) == ("leaving", 3)
    assert (late.code, [each["id"] for each in late.json]) == (1, [released["id"]])
    assert (last["gone"], shown["state"], shown["freed_files"]) == (1, "gone", 3)
    assert shown["copies"] == {"gone": 3, "gone_bytes": shown["freed_bytes"], "staying": 0, "open": 0}
    assert [each["to_state"] for each in shown["journal"] if each["from_state"] != each["to_state"]][-3:] == [
        "released",
        "leaving",
        "gone",
    ]
    assert "what was proved when it was released" in told
    assert muleteer("catalog", "show", ripe).code == 4
    assert sorted(path.name for path in home.glob("CLUSTERS-00000001-*")) == []
    assert len(list(home.glob("SEEDS-00000001-*"))) == 3
    assert muleteer("transient", "report", "overdue", "--after", "0s").code == 0


def test_what_was_freed_is_summed_up(muleteer: Muleteer, home: Path, store: Store, ripe: str) -> None:
    """By day, by policy, by whoever released it."""
    apply(muleteer, home, AT_ONCE)
    (released,) = release(muleteer, home)
    assert muleteer("transient", "report", "freed", "--json").json == []
    muleteer("transient", "step")
    again(store, released["id"])
    muleteer("transient", "step")

    freed = {by: muleteer("transient", "report", "freed", "--by", by, "--json").json for by in ("day", "policy", "who")}

    assert {by: [each["key"] for each in sums] for by, sums in freed.items()} == {
        "day": [f"{utc_now():%Y-%m-%d}"],
        "policy": ["clusters"],
        "who": [released["released_by"]],
    }
    assert {(each["datasets"], each["files"]) for sums in freed.values() for each in sums} == {(1, 3)}


def test_what_the_catalog_cannot_delete_is_told(muleteer: Muleteer, home: Path, store: Store, ripe: str) -> None:
    """At once, with its reason; and what has gone so far is counted."""
    apply(muleteer, home, AT_ONCE)
    (released,) = release(muleteer, home)
    begin_to_leave(home)
    (home / "CLUSTERS-00000001-1.root").write_text("somebody has written something else into it")
    take_in(home)
    again(store, released["id"])
    begin_to_leave(home)

    overdue = muleteer("transient", "report", "overdue", "--json")
    shown, told = muleteer("transient", "show", ripe), muleteer("transient", "show", ripe, "--json").json
    (freed,) = muleteer("transient", "report", "freed", "--json").json

    assert (overdue.code, [each["id"] for each in overdue.json]) == (1, [released["id"]])
    assert "the catalog could not delete 1 of its copies" in overdue.json[0]["reason"]
    assert any(each["event_type"] == "deletion-failed" and "bytes" in each["why"] for each in told["events"])
    assert "could not be deleted" in shown.out
    assert (freed["key"], freed["datasets"], freed["files"]) == ("so far", 1, 2)


def take_in(home: Path) -> None:
    """The catalog deletes what it can, and what it tells is taken in, as a running muleteer does."""
    wired = Wired(home, load(home))
    assert wired.embedded_catalog is not None
    wired.embedded_catalog.sweep()
    told = wired.broker.subscribe()
    while frames := told.receive(0.2):
        arrivals = [Arrival(frame.headers, frame.body) for frame in frames]
        wired.store.messages.take_in(arrivals, origin="broker", now=utc_now())
        told.acknowledge()
    told.close()
    wired.close()


def test_what_is_leaving_is_called_back(muleteer: Muleteer, home: Path, ripe: str) -> None:
    """As long as the catalog has it. It is held then, and no policy releases it at once."""
    apply(muleteer, home, AT_ONCE)
    release(muleteer, home)
    early = muleteer("transient", "recall", ripe, *WHY)
    begin_to_leave(home)
    kept = muleteer("transient", "keep", "group.sphenix:*-00000001", *WHY)

    back = muleteer("transient", "recall", ripe, *WHY)
    muleteer("transient", "lift", "1", *WHY)

    assert (early.code, "only what is leaving" in early.err) == (4, True)
    assert "a running muleteer holds what is left of it" in kept.out
    assert (back.code, f"{ripe} is held" in back.out) == (0, True)
    assert muleteer("transient", "plan", "--json").json["refused"]["never"] == 1
    muleteer("transient", "step")
    assert muleteer("catalog", "show", ripe).code == 0


def begin_to_leave(home: Path) -> None:
    """The calls are made, and the catalog has not got to them yet."""
    wired = Wired(home, load(home))
    wired.transient_desk().step()
    wired.close()


def test_what_the_catalog_has_no_more_cannot_be_called_back(muleteer: Muleteer, home: Path, ripe: str) -> None:
    apply(muleteer, home, AT_ONCE)
    release(muleteer, home)
    muleteer("transient", "step")

    said = muleteer("transient", "recall", ripe, *WHY)

    assert said.code == 4
    assert muleteer("transient", "list", "--state", "leaving", "--json").json != []


def test_a_survey_writes_down_what_it_finds(muleteer: Muleteer, home: Path, ripe: str) -> None:
    """And what others took away; an automatic policy releases by it."""
    first = muleteer("transient", "survey", "--json").json
    listed = {tuple(each["did"]): each["state"] for each in muleteer("transient", "list", "--json").json}
    muleteer("catalog", "erase", clusters(2))
    second = muleteer("transient", "survey", "--json").json
    apply(muleteer, home, POLICIES + "    automatic: true\n")
    third = muleteer("transient", "survey")

    assert (first["releasable"], first["refused"], first["released"]) == ([ripe], {"maps": 1}, [])
    assert listed == {tuple(json_did(ripe)): "releasable", tuple(json_did(clusters(2))): "held"}
    assert second["vanished"] == 1
    assert f"{ripe} is released by its policy" in third.out


def test_the_newest_life_of_a_name_is_shown(muleteer: Muleteer, home: Path, ripe: str) -> None:
    """A dataset that was made anew is another one; the one before is named."""
    muleteer("transient", "survey")
    muleteer("catalog", "erase", ripe)
    muleteer("transient", "survey")
    fill(muleteer, home, ripe, 2)
    muleteer("transient", "survey")

    shown = muleteer("transient", "show", ripe, "--json").json

    assert (shown["state"], shown["files"]) == ("held", 2)
    (other,) = shown["other_lives"]
    assert muleteer("transient", "show", str(other), "--json").json["state"] == "gone"
    assert muleteer("transient", "show", "99").code == 4
    assert muleteer("transient", "show", seeds(1)).code == 4


def test_no_more_keeps_are_listed_than_are_asked_for(muleteer: Muleteer) -> None:
    """The newest, and that there may be more."""
    for name in ("a", "b", "c"):
        muleteer("transient", "keep", f"x:{name}", *WHY)

    few, all_ = muleteer("transient", "keeps", "--limit", "2"), muleteer("transient", "keeps")

    assert [name in few.out for name in ("x:a", "x:b", "x:c", "perhaps there are more")] == [False, True, True, True]
    assert [name in all_.out for name in ("x:a", "x:b", "x:c", "perhaps there are more")] == [True, True, True, False]


def test_a_cap_of_an_rse_that_there_is_not_is_said_by_the_survey(muleteer: Muleteer, home: Path, ripe: str) -> None:
    (home / "muleteer.toml").write_text("[transient.rse_bytes_per_day]\nlustre = 1\n")

    said, told = muleteer("transient", "survey"), muleteer("transient", "survey", "--json").json

    assert "rse_bytes_per_day, lustre, caps nothing" in " ".join(said.err.split())
    assert len(told["remarks"]) == 1
