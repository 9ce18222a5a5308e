"""`dispatch stop`, `start`, `once` and `status`."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import update

from orchestrator.store.facts import Answer
from orchestrator.store.store import Store
from orchestrator.store.tables import facts
from schemas.message import MessageId
from tests.unit.cli.conftest import Muleteer
from tests.unit.making import NOW, frame, rule


def apply(store: Store) -> None:
    """Two rules of one group; `a` may have one dispatch going on."""
    rules = [rule("a", "a.*", group="reco", limits={"running": 1}), rule("b", "b.*", group="reco")]
    store.rules.apply(rules, prune=True, who="test", now=NOW)


def arrive(store: Store, *names: str) -> None:
    store.messages.take_in([frame(name=name) for name in names], origin="test", now=NOW)


def test_what_is_stopped_is_carried_out_once_and_then_as_ever(muleteer: Muleteer, store: Store) -> None:
    """`stop` says what waits, `once` carries it out and leaves it stopped, `start` lets it go on."""
    apply(store)
    arrive(store, "a-1", "b-1")

    stopped = muleteer("dispatch", "stop", "--rule", "a", "--reason", "disk full")
    once = muleteer("dispatch", "once", "--rule", "a")
    status = muleteer("dispatch", "status", "--json").json
    started = muleteer("dispatch", "start", "--rule", "a")

    assert (stopped.code, stopped.out.splitlines()) == (
        0,
        ["rule a is stopped", "0 in flight go on; 0 are ready, and wait with all that comes"],
    )
    assert (once.code, once.out.splitlines()[0]) == (
        0,
        "Stopped: rule a. This once it is carried out all the same; after that it stays stopped.",
    )
    assert store.counts().dispatches == {"done": 1, "ready": 1}
    assert [(each["kind"], each["name"], each["reason"]) for each in status["suspended"]] == [
        ("rule", "a", "disk full")
    ]
    ready = {(each["kind"], each["name"]): each["ready"] for each in status["standings"]}
    assert ready == {("everything", ""): 1, ("group", "reco"): 1, ("rule", "a"): 0, ("rule", "b"): 1}
    assert started.out.startswith("rule a goes on; cli:")
    assert store.suspensions.all() == []


def test_once_passes_over_what_cannot_be_judged(muleteer: Muleteer, store: Store) -> None:
    """Damaged facts of one message: it stays pending with the reason, and the others are carried out."""
    apply(store)
    arrive(store, "b-1", "b-2", "b-3")
    store.facts.answer({MessageId(2): Answer({})}, now=NOW)
    with store.database.write() as connection:
        connection.execute(update(facts).values(document="{"))

    once = muleteer("dispatch", "once")

    assert (once.code, once.out.splitlines()[0]) == (0, "3 messages judged: 2 dispatched, 0 dropped, 1 still pending")
    assert store.counts().dispatches == {"done": 2}
    assert "cannot be judged" in str(store.messages.get(MessageId(2)).reason)


def test_the_status_says_why_nothing_is_started(muleteer: Muleteer, store: Store) -> None:
    """In words, for people; with who stopped it and why."""
    apply(store)
    arrive(store, "b-1")
    muleteer("dispatch", "stop", "--group", "reco", "--reason", "disk full")
    again = muleteer("dispatch", "stop", "--group", "reco", "--reason", "again")
    muleteer("dispatch", "stop", "--reason", "power cut")

    said = muleteer("dispatch", "status").out
    left = muleteer("dispatch", "start")

    assert "group reco was stopped already, by cli:" in again.out
    assert "disk full" in again.out
    assert "power cut" in said
    assert "still stopped: group reco" in left.out


def test_a_slip_of_the_pen_stops_nothing(muleteer: Muleteer, store: Store, home: Path) -> None:
    """A name that nothing has, an option before the word instead of after it, two things at once, no reason."""
    apply(store)

    codes = [
        muleteer("dispatch", *words).code
        for words in (
            ("stop", "--rule", "c", "--reason", "x"),
            ("stop", "--group", "c", "--reason", "x"),
            ("start", "--rule", "a"),
            ("--rule", "a", "stop", "--reason", "x"),
            ("stop", "--rule", "a", "--group", "reco", "--reason", "x"),
            ("stop", "--rule", "a"),
        )
    ]

    assert codes == [4, 4, 4, 2, 2, 2]
    assert store.suspensions.all() == []


def test_the_home_may_stand_before_the_word(anywhere: Muleteer, store: Store, home: Path) -> None:
    """As for `dispatch` alone."""
    apply(store)

    assert anywhere("dispatch", "--home", home, "stop", "--reason", "x").code == 0
    assert [each.kind for each in store.suspensions.all()] == ["everything"]


def test_limits_of_the_settings_are_shown_and_kept(muleteer: Muleteer, store: Store, home: Path) -> None:
    """Those of everything and of a group."""
    (home / "muleteer.toml").write_text('[limits]\npace = "1 per 1h"\n[limits.groups.reco]\nrunning = 3\n')
    apply(store)
    arrive(store, "a-1", "b-1")

    muleteer("dispatch")
    shown = muleteer("dispatch", "status", "--json").json["standings"]

    assert store.counts().dispatches == {"done": 1, "ready": 1}
    assert [(each["pace"], each["started"], each["cap"]) for each in shown[:2]] == [("1 per 1h", 1, None), (None, 0, 3)]
    assert shown[0]["why_not"] == "everything: 1 were started within 1h, the pace is 1"
