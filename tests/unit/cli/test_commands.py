"""What people type: what is printed, and how commands end."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from orchestrator.core.actor import Trace
from orchestrator.core.dispatch import Next
from orchestrator.core.matching import RuleSet
from orchestrator.store.intake import Arrival
from orchestrator.store.launches import Intent
from orchestrator.store.store import Store
from schemas.dispatch import AttemptOutcome, DispatchId, DispatchState
from schemas.launch import StepProgress, StepState
from schemas.message import MessageId, MessageState
from tests.unit.making import FRAMES, NAME, NOW, UNMATCHED, body, frame, later, rule, script

Muleteer = Callable[..., Any]

GOOD = "rules:\n  - name: good\n    actions:\n      - run: {command: [echo, '{name}']}\n"


@pytest.fixture
def full(store: Store) -> Store:
    """One of everything: messages in several states, rules, a failed dispatch, a launch, a dataset."""
    store.messages.take_in(
        [frame(), frame("rule_ok", "X"), frame("close", "[red]M[/red]\x1b"), Arrival({"ü": "\u2028"}, b"\xff{")],
        origin="broker",
        now=NOW,
    )
    revision = store.rules.apply(
        [rule("raw", "SPHENIX.*"), rule("other", description="ü [/b]")], prune=False, who="test", now=NOW
    ).revision
    judging = RuleSet(revision, store.rules.in_force()[1], UNMATCHED)
    store.dispatches.judge(judging, now=NOW, limit=1)
    (one,) = store.dispatches.claim(owner="w", limit=1, lease=timedelta(seconds=15), now=NOW)
    broke = Next(DispatchState.FAILED, AttemptOutcome.GIVE_UP, "broke [bold]x")
    trace = Trace(64, "out [/x]\n", "err")
    store.dispatches.settle(one.order.dispatch_id, 1, broke, trace, owner="w", now=NOW)
    step = StepProgress(name="s", state=StepState.FAILED, reason="why [/x]")
    intent = Intent(
        key="k",
        name="n",
        dispatch_id=one.order.dispatch_id,
        workflow="w",
        parameters={"a": "[/b]"},
        inputs={"raw": "s:n"},
        outputs={},
        engine="embedded",
        steps=[step],
    )
    store.launches.intend(intent, who="test", now=NOW)
    return store


LOOKS = [
    ("messages", "list"),
    ("messages", "show", "1"),
    ("messages", "show", "3"),
    ("messages", "show", "4"),
    ("rules", "list"),
    ("dispatches", "list"),
    ("dispatches", "show", "1"),
    ("launches", "list"),
    ("launches", "show", "1"),
    ("catalog", "list"),
    ("catalog", "show", "test:mine"),
    ("show",),
    ("doctor",),
]


@pytest.mark.parametrize("words", LOOKS, ids=" ".join)
def test_every_look_prints_one_json_value_and_nothing_else(
    full: Store, muleteer: Muleteer, words: tuple[str, ...]
) -> None:
    """With --json, standard output is for programs; whatever names and bodies hold, it is valid."""
    muleteer("catalog", "create", "test:mine")

    said = muleteer(*words, "--json")

    assert (said.code, said.err) == (0, "")
    assert said.out.count("\n") == 1
    assert isinstance(said.json, list | dict)


@pytest.mark.parametrize("words", LOOKS, ids=" ".join)
def test_every_look_can_be_read_by_people(full: Store, muleteer: Muleteer, words: tuple[str, ...]) -> None:
    """Whatever names, bodies and reasons hold is shown as it is, and never taken for markup."""
    muleteer("catalog", "create", "test:mine")

    said = muleteer(*words)

    assert (said.code, said.err) == (0, "")
    assert len(said.out) > 10


def test_a_list_for_programs_holds_what_the_store_holds(full: Store, muleteer: Muleteer) -> None:
    """Newest first, filtered and cut as asked for."""
    listed = muleteer("messages", "list", "--json").json
    quarantined = muleteer("messages", "list", "--json", "--state", "quarantined").json
    closed = muleteer("messages", "list", "--json", "--event", "CLOSED", "--limit", "1").json

    assert [each["id"] for each in listed] == [4, 3, 2, 1]
    assert [each["id"] for each in quarantined] == [4]
    assert [each["id"] for each in closed] == [3]
    assert muleteer("messages", "show", "1", "--json").json["dispatches"][0]["rule"] == "raw"
    assert muleteer("dispatches", "show", "1", "--json").json["tries"][0]["stdout"] == "out [/x]\n"
    assert muleteer("show", "--json").json["messages"] == {"dispatched": 1, "pending": 2, "quarantined": 1}


@pytest.mark.parametrize(
    "words",
    [
        ("messages", "show", "9"),
        ("messages", "reinject", "9"),
        ("messages", "reinject", "1"),
        ("messages", "reinject", "4", "--body", "nowhere"),
        ("messages", "inject", "nowhere"),
        ("messages", "import", "nowhere"),
        ("messages", "import", "nowhere", "--format", "csv"),
        ("dispatches", "show", "9"),
        ("dispatches", "retry", "9"),
        ("launches", "show", "9"),
        ("catalog", "show", "test:none"),
        ("rules", "apply", "nowhere"),
    ],
    ids=" ".join,
)
def test_what_is_not_there_ends_with_4(full: Store, muleteer: Muleteer, words: tuple[str, ...]) -> None:
    """An unknown id or file is said on standard error; nothing is printed for programs."""
    said = muleteer(*words)

    assert (said.code, said.out) == (4, "")
    assert said.err.startswith("muleteer: ")


@pytest.mark.parametrize(
    "words",
    [*LOOKS[:-1], ("messages", "export"), ("dispatch",), ("messages", "inject", "-"), ("db", "upgrade"), ("run",)],
    ids=" ".join,
)
def test_a_home_that_is_not_there_ends_with_4(anywhere: Muleteer, tmp_path: Path, words: tuple[str, ...]) -> None:
    """The error says how to make one, and none is made by the way."""
    said = anywhere(*words, "--home", tmp_path / "none")

    assert (said.code, said.out) == (4, "")
    assert "muleteer init --home" in said.err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("words", [*LOOKS[:9], ("show",), ("messages", "export")], ids=" ".join)
def test_looking_makes_no_store(muleteer: Muleteer, home: Path, words: tuple[str, ...]) -> None:
    """In a directory that is no home, a look says so and leaves nothing behind."""
    said = muleteer(*words)

    assert (said.code, "nothing was ever stored in" in said.err) == (4, True)
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ("messages", "list", "--state", "lost"),
        ("messages", "show", "one"),
        ("messages", "inject"),
        ("messages", "inject", "-", "--scope", "s", "--name", "n"),
        ("messages", "reinject"),
        ("messages", "reinject", "1", "--all"),
        ("dispatches", "retry"),
        ("dispatches", "retry", "1", "--failed"),
        ("dispatch", "--rule", "x"),
        ("run", "--only", "listner"),
        ("run", "--time", "soon"),
        ("catalog", "show", "no-did"),
        ("nonsense",),
    ],
    ids=" ".join,
)
def test_what_cannot_be_understood_ends_with_2(muleteer: Muleteer, words: tuple[str, ...]) -> None:
    """Wrong usage changes nothing and prints nothing for programs."""
    said = muleteer(*words)

    assert (said.code, said.out) == (2, "")


def test_settings_that_do_not_fit_end_with_3(muleteer: Muleteer, home: Path) -> None:
    """Every command refuses them, with the field."""
    (home / "muleteer.toml").write_text("[worker]\nthreads = 0\n")

    said = muleteer("messages", "list")

    assert (said.code, "worker.threads" in said.err) == (3, True)


def test_a_store_out_of_reach_ends_with_5(muleteer: Muleteer, home: Path) -> None:
    """The error names the store without its password."""
    (home / "muleteer.toml").write_text('[store]\nurl = "postgresql://me:hush@127.0.0.1:1/none"\n')

    said = muleteer("messages", "list")

    assert (said.code, "hush" in said.err) == (5, False)


# init, db, doctor.


def test_init_makes_a_home_and_overwrites_nothing(anywhere: Muleteer, tmp_path: Path) -> None:
    """Settings and a first rule that can be applied as they are; a second time, what is there is kept."""
    place = tmp_path / "new" / "home"
    first = anywhere("init", "--home", place)
    made = [".muleteer", "muleteer.toml", "rules.yaml", "sites", "workflows"]
    assert sorted(path.name for path in place.iterdir()) == made
    (place / "rules.yaml").write_text(GOOD)

    second = anywhere("init", "--home", place)

    assert (first.code, second.code) == (0, 0)
    assert (place / "rules.yaml").read_text() == GOOD
    assert second.out.count("kept") == 3


def test_what_init_writes_is_in_force_as_it_is(anywhere: Muleteer, tmp_path: Path) -> None:
    """The first rule passes every check, and the settings are read."""
    anywhere("init", "--home", tmp_path)

    said = anywhere("rules", "apply", tmp_path / "rules.yaml", "--home", tmp_path, "--json")

    assert (said.code, said.json["added"]) == (0, ["hello"])


def test_the_database_is_brought_up_to_date(muleteer: Muleteer) -> None:
    """Once; the second time it was there already. `--check` only says, and ends with 1 if it is not."""
    before = muleteer("db", "upgrade", "--check")
    done, again, after = muleteer("db", "upgrade"), muleteer("db", "upgrade"), muleteer("db", "upgrade", "--check")

    assert [before.code, done.code, again.code, after.code] == [1, 0, 0, 0]
    assert ("brought from nothing" in done.out, "was there already" in again.out) == (True, True)
    assert "the newest" in after.out


def test_a_database_of_a_newer_program_ends_with_5(muleteer: Muleteer, store: Store) -> None:
    """It is neither used nor changed."""
    with store.database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    assert [muleteer("messages", "list").code, muleteer("db", "upgrade").code] == [5, 5]


def test_the_doctor_finds_everything_well(muleteer: Muleteer, home: Path) -> None:
    """In a fresh home with a rule, each part is named as well."""
    (home / "rules.yaml").write_text(GOOD)
    muleteer("rules", "apply", home / "rules.yaml")

    said = muleteer("doctor", "--json")

    assert (said.code, [each["what"] for each in said.json if not each["well"]]) == (0, [])
    parts = {"settings", "disk", "store", "actors", "workflows", "rules", "catalog", "engine", "broker"}
    assert parts <= {each["what"] for each in said.json}


def test_the_doctor_says_what_is_wrong(muleteer: Muleteer, home: Path) -> None:
    """A workflow that a rule in force launches was removed, and a script was: exit 1, both named."""
    workflow = home / "workflows" / "mine"
    workflow.mkdir(parents=True)
    (workflow / "workflow.yaml").write_text("name: mine\nsteps:\n  - {name: a, command: ['true']}\n")
    gone = script(home, "gone.sh", "")
    (home / "rules.yaml").write_text(
        "rules:\n  - name: r\n    actions:\n"
        "      - launch: {workflow: mine}\n      - run: {command: [actors/gone.sh]}\n"
    )
    assert muleteer("rules", "apply", home / "rules.yaml").code == 0
    (workflow / "workflow.yaml").unlink()
    gone.unlink()

    said = muleteer("doctor", "--json")

    (wrong,) = [each for each in said.json if not each["well"]]
    assert (said.code, wrong["what"]) == (1, "rules")
    assert "there is no workflow 'mine'" in wrong["said"] and "there is no file" in wrong["said"]


def test_the_doctor_says_what_to_do_about_a_missing_home(anywhere: Muleteer, tmp_path: Path) -> None:
    """It is a finding like others."""
    said = anywhere("doctor", "--home", tmp_path / "none")

    assert (said.code, "muleteer init --home" in said.out) == (1, True)


# rules.


def test_rules_that_are_refused_leave_the_live_ones_alone(muleteer: Muleteer, home: Path) -> None:
    """All or nothing: exit 3, each mistake with its place, and nothing changed."""
    (home / "rules.yaml").write_text(GOOD)
    muleteer("rules", "apply", home / "rules.yaml")
    before = muleteer("rules", "list", "--json").json
    (home / "rules.yaml").write_text(GOOD + "  - name: bad\n    actions:\n      - lunch: {}\n")

    said = muleteer("rules", "apply", home / "rules.yaml", "--prune")

    assert (said.code, said.out) == (3, "")
    assert "rules.yaml:7: rules.1.actions.0.lunch: there is no actor 'lunch'" in said.err
    assert muleteer("rules", "list", "--json").json == before


def test_applying_rules_says_what_changed(muleteer: Muleteer, home: Path) -> None:
    """Added, changed, removed, unchanged, and the revision; pruning only when asked."""
    file = home / "rules.yaml"
    file.write_text(GOOD)
    first = muleteer("rules", "apply", file, "--json").json
    file.write_text(GOOD.replace("good", "new"))

    second, third = (
        muleteer("rules", "apply", file, "--json").json,
        muleteer("rules", "apply", file, "--prune", "--json").json,
    )

    same = {"added": [], "changed": [], "removed": [], "unchanged": [], "in_flight": {}, "dry_run": False}
    assert first == same | {"revision": 1, "added": ["good"]}
    assert second == same | {"revision": 2, "added": ["new"]}
    nothing = {"count": 0, "dispatches": [], "launches": []}
    assert third == same | {
        "revision": 3,
        "removed": ["good"],
        "unchanged": ["new"],
        "in_flight": {"good": nothing},
    }


# dispatches.


def test_a_failed_dispatch_is_put_back(full: Store, muleteer: Muleteer) -> None:
    """By id, or all that failed; one that has not failed is refused with its state."""
    first = muleteer("dispatches", "retry", "1", "--reason", "mended", "--json")
    second = muleteer("dispatches", "retry", "1", "--json")

    assert (first.code, first.json["changed"], first.json["stayed"]) == (0, [1], [])
    assert full.journal.of("dispatch", 1)[-1].why == "mended"
    assert (second.code, second.json["changed"]) == (4, [])
    assert "1 is ready" in second.err
    failed = muleteer("dispatches", "retry", "--failed", "--json")
    assert (failed.code, failed.json["changed"], failed.json["stayed"]) == (0, [], [])


def test_dispatching_once_carries_out_what_the_rules_ask_for(store: Store, muleteer: Muleteer, home: Path) -> None:
    """Exit 0 if all went well, 1 if something failed; without a rule it says so, and nothing moves."""
    store.messages.take_in([frame(name="A"), frame(name="B")], origin="broker", now=NOW)
    nothing = muleteer("dispatch")
    script(home, "act.sh", '[ "$1" != B ] || exit 64\n')
    store.rules.apply(
        [rule("r", ".*", {"run": {"command": ["actors/act.sh", "{name}"]}})], prune=False, who="test", now=NOW
    )

    done = muleteer("dispatch")

    assert (nothing.code, "There is no rule" in nothing.out) == (0, True)
    assert done.code == 1
    assert "2 messages judged: 2 dispatched" in done.out
    assert [str(each.state) for each in store.dispatches.list()] == ["failed", "done"]


def test_what_waits_for_the_catalog_is_no_failure(store: Store, muleteer: Muleteer, home: Path) -> None:
    """Exit 0 with the reason if something only waits for what it requires; 1 if something failed beside it."""
    run = {"run": {"command": ["true"]}}
    waits, fails = (
        rule("waits", ".*", {**run, "require": {"closed": True}}),
        rule("fails", "B", {"run": {"command": ["false"]}}),
    )
    store.rules.apply([waits, fails], prune=False, who="test", now=NOW)
    store.messages.take_in([frame(name="A")], origin="broker", now=NOW)

    alone = muleteer("dispatch", "once")
    store.messages.take_in([frame(name="B")], origin="broker", now=NOW)
    both = muleteer("dispatch", "once")

    assert (alone.code, both.code) == (0, 1)
    assert "dispatch 1 (waits) is ready: required: " in alone.out
    assert store.dispatches.get(DispatchId(1)).state is DispatchState.READY


def test_a_catalog_that_cannot_be_asked_is_a_failure(store: Store, muleteer: Muleteer, home: Path) -> None:
    """Nobody can say then whether what is required holds."""
    (home / "muleteer.toml").write_text('[catalog]\nkind = "rucio"\nhost = "http://127.0.0.1:9"\naccount = "me"\n')
    store.rules.apply(
        [rule("waits", ".*", {"run": {"command": ["true"]}, "require": {"closed": True}})],
        prune=False,
        who="test",
        now=NOW,
    )
    store.messages.take_in([frame(name="A")], origin="broker", now=NOW)

    said = muleteer("dispatch", "once")

    assert said.code == 1
    assert "required: the catalog cannot be asked" in " ".join(said.out.split())


# inject, export, import.


def test_bad_lines_do_not_keep_good_ones_out(muleteer: Muleteer, store: Store) -> None:
    """Each bad line is named with its number; the good ones are stored, and the exit code says that some were not."""
    lines = [
        json.dumps({"headers": {}, "body": body(name="A").decode()}),
        "not JSON",
        "",
        '{"headers": []}',
        "[" * 200_000,
        json.dumps({"body": "poison"}),
        json.dumps({"body": json.loads(body(name="B"))}),
    ]

    said = muleteer("messages", "inject", "-", "--json", given="\n".join(lines))

    assert (said.code, said.json) == (1, {"stored": 3, "quarantined": 1, "duplicates": 0, "refused": 3})
    assert [line.split(":")[0] for line in said.err.splitlines() if line.startswith("line")] == [
        "line 2",
        "line 4",
        "line 5",
    ]
    assert [each.name for each in store.messages.list(newest_first=False)] == ["A", None, "B"]


def test_a_close_can_be_made_up(muleteer: Muleteer, store: Store) -> None:
    """`messages inject --scope --name` stands for the broker's frame."""
    said = muleteer("messages", "inject", "--scope", "test", "--name", "x", "--event", "closed")

    (one,) = store.messages.list()
    assert (said.code, one.event_type, str(one.did), one.origin) == (0, "close", "test:x", "inject")


@pytest.mark.parametrize("format_", ["json", "csv"])
@pytest.mark.parametrize("way", ["file", "pipe"])
def test_messages_go_from_one_home_to_another_as_they_stand(
    anywhere: Muleteer, muleteer: Muleteer, store: Store, tmp_path: Path, format_: str, way: str
) -> None:
    """Export and import keep headers, bodies to the byte, and states; a second import changes nothing."""
    odd = [b"", b"\xff\0\xfe", b'{"a": "b,c\\"d"}\r\nx\ry\n', "ü \u2028".encode(), b"x" * 200_000]
    store.messages.take_in(
        [Arrival(sample["headers"], sample["body"].encode()) for sample in FRAMES]
        + [Arrival({"a": "b\n"}, each) for each in odd],
        origin="broker",
        now=NOW,
    )
    life = [frame("close", NAME, at=later(at)) for at in range(3)]
    store.messages.take_in(life[:1], origin="broker", now=NOW)
    store.rules.apply([rule("all")], prune=False, who="test", now=NOW)
    judging = RuleSet(1, store.rules.in_force()[1], UNMATCHED)
    store.dispatches.judge(judging, now=NOW, limit=100)
    store.messages.take_in(life[1:], origin="broker", now=NOW)
    other = tmp_path / "other"
    other.mkdir()
    file = tmp_path / f"messages.{format_}"
    assert muleteer("messages", "export", "--format", format_, "--output", file).code == 0

    def bring() -> Any:
        if way == "file":
            return anywhere("messages", "import", file, "--json", "--home", other)
        return anywhere("messages", "import", "-", "--json", "--home", other, given=file.read_bytes())

    first, second = bring(), bring()

    count = len(FRAMES) + len(odd) + 3
    assert (first.code, first.json) == (0, {"stored": count, "quarantined": 5, "duplicates": 0, "refused": 0})
    assert (second.code, second.json) == (0, {"stored": 0, "quarantined": 0, "duplicates": count, "refused": 0})
    copied = Store.open(f"sqlite:///{other / 'muleteer.db'}")
    try:
        ours = [(each.headers, each.body, each.state) for each in store.messages.export()]
        assert [(each.headers, each.body, each.state) for each in copied.messages.export()] == ours
        assert {each.state for each in copied.messages.list(limit=1000)} >= {
            *(MessageState.DISPATCHED, MessageState.DROPPED, MessageState.SUPERSEDED),
            *(MessageState.PENDING, MessageState.QUARANTINED),
        }
    finally:
        copied.close()


def test_donkeys_file_is_imported(muleteer: Muleteer, store: Store, tmp_path: Path) -> None:
    """Its lists become states; an entry that is none is named with its place, and the exit code says so."""
    entry = {"scope": "group.sphenix", "event": "closed", "closed": "2022-08-01 11:00:00", "bytes": "nan"}
    donkey = {
        "pending": [{**entry, "name": "A"}],
        "dispatched": [{**entry, "name": "B"}, "?"],
        "dropped": [{**entry, "name": "C"}],
    }
    (tmp_path / "donkey.db").write_text(json.dumps(donkey))

    said = muleteer("messages", "import", tmp_path / "donkey.db", "--json")

    assert (said.code, said.json) == (1, {"stored": 3, "quarantined": 0, "duplicates": 0, "refused": 1})
    assert "dispatched[1]: expected a dataset with a name" in said.err
    assert {each.name: str(each.state) for each in store.messages.list()} == {
        "A": "pending",
        "B": "dispatched",
        "C": "dropped",
    }


def test_whatever_headers_hold_can_be_shown_and_exported(muleteer: Muleteer, store: Store) -> None:
    """Half a character in a header, which no terminal can print, stops no list and no export."""
    muleteer("messages", "inject", "-", given='{"headers": {"a": "\\ud800"}, "body": "x"}')

    said = [muleteer("messages", *words) for words in (("list",), ("show", "1"), ("show", "1", "--json"), ("export",))]

    assert [each.code for each in said] == [0] * 4


def test_a_quarantined_message_is_mended(full: Store, muleteer: Muleteer, tmp_path: Path) -> None:
    """With a mended body it becomes a new message; without one it still cannot be read, and the exit code says so."""
    mended = tmp_path / "body"
    mended.write_bytes(body(name="MENDED"))

    still = muleteer("messages", "reinject", "--all", "--json")
    became = muleteer("messages", "reinject", "4", "--body", mended, "--json")

    assert (still.code, still.json[0]["became"]) == (1, None)
    assert (became.code, became.json) == (0, [{"message": 4, "became": 5, "result": "stored"}])
    assert full.messages.get(MessageId(4)).state is MessageState.SUPERSEDED


def test_what_came_in_a_message_does_not_steer_the_terminal(muleteer: Muleteer, home: Path) -> None:
    """Control characters are spelled out wherever a person reads them."""
    evil = "a\x1b]0;owned\x07\x1b[2Jb"
    (home / "frames").write_text(json.dumps({"headers": {}, "body": body(name=evil).decode()}) + "\n")
    muleteer("messages", "inject", home / "frames")

    listed, shown = muleteer("messages", "list"), muleteer("messages", "show", "1")

    assert "\x1b" not in listed.out + shown.out
    assert "a\\x1b]0;owned" in listed.out


def test_a_call_picks_up_what_a_killed_one_left_half_done(muleteer: Muleteer, home: Path) -> None:
    """`dispatch` looks first for claims that nobody renews, and says that they are tried again."""
    (home / "rules.yaml").write_text("rules:\n  - name: r\n    actions:\n      - run: {command: ['true']}\n")
    muleteer("rules", "apply", home / "rules.yaml")
    muleteer("messages", "inject", "--scope", "s", "--name", "n")
    store = Store.open(f"sqlite:///{home / 'muleteer.db'}")
    revision, versions = store.rules.in_force()
    rules = RuleSet(revision, versions, UNMATCHED)
    store.dispatches.judge(rules, now=NOW, limit=10)
    store.dispatches.claim(owner="killed", limit=1, lease=timedelta(seconds=15), now=NOW)
    store.close()

    muleteer("dispatch")

    (dispatch,) = muleteer("dispatches", "list", "--json").json
    (first, *_) = muleteer("dispatches", "show", str(dispatch["id"]), "--json").json["tries"]
    assert first["outcome"] == "interrupted"
    assert dispatch["state"] in ("ready", "done")


def test_an_event_that_nobody_has_seen_is_pointed_out(muleteer: Muleteer, home: Path) -> None:
    """Any event may come one day, so the rule is applied; a slip of the keyboard is named all the same."""
    (home / "rules.yaml").write_text(GOOD.replace("  - name: good\n", "  - name: good\n    on: clsoe\n"))

    applied = muleteer("rules", "apply", home / "rules.yaml")

    assert applied.code == 0
    assert "'clsoe', an event that Rucio was not seen to send; did you mean close?" in applied.err


def test_the_doctor_makes_nothing_where_nothing_is(muleteer: Muleteer, home: Path) -> None:
    """A directory that is no home is said to be none, and stays empty."""
    examined = muleteer("doctor")

    assert examined.code == 1
    assert "is no home of muleteer yet" in examined.out
    assert list(home.iterdir()) == []


#: Larger than any number that a database keeps.
_TOO_LARGE = "99999999999999999999"


@pytest.mark.parametrize(
    "words",
    [
        ["messages", "show", _TOO_LARGE],
        ["messages", "list", "--before", _TOO_LARGE],
        ["messages", "drop", _TOO_LARGE, "--reason", "test"],
        ["dispatches", "show", _TOO_LARGE],
        ["launches", "show", _TOO_LARGE],
        ["launches", "kill", _TOO_LARGE, "--reason", "test"],
        ["runs", "list", "--run", _TOO_LARGE],
        ["rules", "show", "good", "--version", _TOO_LARGE],
        ["transient", "show", _TOO_LARGE],
        ["transient", "list", "--run", _TOO_LARGE],
        ["transient", "lift", _TOO_LARGE, "--reason", "test"],
    ],
)
def test_a_number_that_is_too_large_is_said_to_be(muleteer: Muleteer, store: Store, words: list[str]) -> None:
    """There is nothing of that number, and the largest that there can be is named."""
    said = muleteer(*words)

    assert (said.code, said.out) == (4, "")
    assert "9,223,372,036,854,775,807 is the largest" in said.err


def test_thousands_of_digits_are_no_number(muleteer: Muleteer, store: Store) -> None:
    said = muleteer("transient", "show", "9" * 5000)

    assert said.code == 2
    assert "is not a DID" in said.err
