"""The actor `run`, with real programs."""

from __future__ import annotations

import json
import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from actors.run import Run
from orchestrator.core.actor import Done, GiveUp, Interrupted, Outcome, Retry
from tests.unit.making import NAME, NOW, message, order, script, tools


def act(home: Path, *command: str, stopping: bool = False, **options: object) -> Outcome:
    return Run().act(order(command, options=options), tools(home, stopping=stopping))


def test_a_program_gets_its_arguments_as_they_were_written(tmp_path: Path) -> None:
    """No shell ever sees them: blanks, quotes, $(...), ; and line ends are letters of one argument."""
    script(tmp_path, "args.sh", 'for each; do printf "[%s]" "$each"; done\n')
    odd = ["a b", "", "'\"", "$(touch owned)", "`id`", "; rm -rf x", "*", "-n", "a\nb", "ü", "{run}"]

    outcome = act(tmp_path, "actors/args.sh", *odd)

    assert isinstance(outcome, Done)
    assert outcome.trace.stdout == "".join(f"[{each}]" for each in odd)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["actors"]


def test_a_program_knows_the_message_by_variables(tmp_path: Path) -> None:
    """MULETEER_* say what happened to which dataset, and what the pattern captured."""
    outcome = act(tmp_path, "env", "-0")

    assert isinstance(outcome, Done)
    ours = dict(each.split("=", 1) for each in outcome.trace.stdout.split("\0") if each.startswith("MULETEER_"))
    assert ours == {
        "MULETEER_DISPATCH": "3",
        "MULETEER_ATTEMPT": "1",
        "MULETEER_RULE": "raw",
        "MULETEER_MESSAGE": "7",
        "MULETEER_EVENT": "close",
        "MULETEER_SCOPE": "group.sphenix",
        "MULETEER_NAME": NAME,
        "MULETEER_CREATED_AT": NOW.isoformat(),
        "MULETEER_GENERATION": "1",
        "MULETEER_BYTES": "3900",
        "MULETEER_LENGTH": "3",
        "MULETEER_EVENTS": "123",
        "MULETEER_GROUP_RUN": "00021615",
    }


def test_a_program_gets_the_whole_message_on_standard_input(tmp_path: Path) -> None:
    """One JSON object: dispatch, attempt, rule, what was captured, and the message with its body read."""
    outcome = act(tmp_path, "cat")

    assert isinstance(outcome, Done)
    told = json.loads(outcome.trace.stdout)
    assert {key: told[key] for key in ("dispatch", "attempt", "rule", "captured")} == {
        "dispatch": 3,
        "attempt": 1,
        "rule": "raw",
        "captured": {"run": "00021615"},
    }
    assert (told["message"]["name"], told["message"]["created_at"]) == (NAME, "2026-11-22T01:13:40.292656Z")
    assert told["message"]["body"] == json.loads(message().body)


@pytest.mark.parametrize("raw", [b"\xff", b"no json", b"[" * 100_000], ids=["no text", "no JSON", "too deep"])
def test_a_body_that_cannot_be_read_is_told_as_nothing(tmp_path: Path, raw: bytes) -> None:
    """A program is started whatever came over the wire."""
    outcome = Run().act(order(["cat"], message=message(body=raw)), tools(tmp_path))

    assert isinstance(outcome, Done)
    assert json.loads(outcome.trace.stdout)["message"]["body"] is None


def test_muleteers_own_secrets_are_not_for_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is handed on, without muleteer's settings; a rule may add to it, and cannot lie about ours."""
    monkeypatch.setenv("MULETEER_BROKER__PASSCODE", "hush")
    monkeypatch.setenv("MULETEER_STORE__URL", "postgresql://me:hush@host/db")
    monkeypatch.setenv("SITE", "bnl")

    outcome = act(tmp_path, "env", environment={"EXTRA": "1", "SITE": "sdcc", "MULETEER_NAME": "a lie"})

    assert isinstance(outcome, Done)
    seen = outcome.trace.stdout.splitlines()
    assert "hush" not in outcome.trace.stdout
    assert {"EXTRA=1", "SITE=sdcc", f"MULETEER_NAME={NAME}"} <= set(seen)


def test_a_program_runs_in_the_home_and_is_found_there(tmp_path: Path) -> None:
    """With a slash it is a file of the home; without one it is looked for on the PATH."""
    script(tmp_path, "where.sh", "pwd\n")

    inside, outside = act(tmp_path, "actors/where.sh"), act(tmp_path, "pwd")

    assert isinstance(inside, Done) and isinstance(outside, Done)
    assert inside.trace.stdout == outside.trace.stdout == f"{tmp_path}\n"


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        (0, Done, "sh succeeded: well"),
        (1, Retry, "sh ended with exit code 1"),
        (64, GiveUp, "sh said with exit code 64 that trying again cannot help"),
        (65, GiveUp, "exit code 65"),
        (75, Retry, "sh ended with exit code 75"),
        (78, GiveUp, "exit code 78"),
        (127, Retry, "sh ended with exit code 127"),
    ],
)
def test_the_exit_code_says_what_follows(tmp_path: Path, code: int, kind: type[Outcome], said: str) -> None:
    """0 is success; 64, 65 and 78 mean never again; any other is tried again. Output is kept in each case."""
    outcome = act(tmp_path, "sh", "-c", f"echo first; echo well; echo bad >&2; exit {code}")

    assert type(outcome) is kind
    text = outcome.summary if isinstance(outcome, Done) else outcome.reason
    assert said in text
    assert (outcome.trace.exit_code, outcome.trace.stdout, outcome.trace.stderr) == (code, "first\nwell\n", "bad\n")


def test_a_program_that_a_signal_ended_is_tried_again(tmp_path: Path) -> None:
    """Killed from outside, it may go better next time; the reason names the signal."""
    outcome = act(tmp_path, "sh", "-c", "kill -9 $$")

    assert isinstance(outcome, Retry)
    assert outcome.reason == "sh was ended by signal 9 (Killed)"


@pytest.mark.parametrize("program", ["actors/missing.sh", "no-such-program-anywhere", "actors/plain.txt", "a\0b"])
def test_a_program_that_cannot_be_started_is_given_up(tmp_path: Path, program: str) -> None:
    """Missing or not executable: trying again cannot help until a person mends it."""
    (tmp_path / "actors").mkdir()
    (tmp_path / "actors" / "plain.txt").write_text("x")

    outcome = act(tmp_path, program)

    assert isinstance(outcome, GiveUp)
    assert "cannot be started" in outcome.reason


def test_the_end_of_what_is_printed_is_kept(tmp_path: Path) -> None:
    """64 KiB of each, from the end, and how much is missing; less is kept whole."""
    outcome = act(tmp_path, "sh", "-c", "yes 123456789012345 | head -c 160000; printf END")

    assert isinstance(outcome, Done)
    first, _, rest = outcome.trace.stdout.partition("\n")
    assert first == "[the first 94,467 bytes are not kept]"
    assert len(rest) == 64 * 1024
    assert rest.endswith("12345\nEND")


def test_output_that_is_no_text_is_kept_as_far_as_it_is(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are replaced; nothing raises."""
    outcome = act(tmp_path, "printf", "a\\377b")

    assert isinstance(outcome, Done)
    assert outcome.trace.stdout == "a\ufffdb"


def alive(file: Path) -> bool:
    try:
        state = Path(f"/proc/{int(file.read_text())}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def gone(file: Path) -> bool:
    deadline = time.monotonic() + 5
    while alive(file) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(file)


def test_a_program_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    """The whole process group ends, and it is tried again."""
    script(tmp_path, "slow.sh", "sleep 60 & echo $! >child\necho begun\nwait\n")
    began = time.monotonic()

    outcome = act(tmp_path, "actors/slow.sh", timeout="500ms")

    assert isinstance(outcome, Retry)
    assert outcome.reason == "actors/slow.sh took longer than 0.5s and was ended"
    assert outcome.trace.stdout == "begun\n"
    assert time.monotonic() - began < 4
    assert gone(tmp_path / "child")


def test_a_child_that_ignores_the_request_to_end_is_killed(tmp_path: Path) -> None:
    """When the program itself is gone, nothing of its group outlives it."""
    script(tmp_path, "deaf.sh", "(trap '' TERM; sleep 60 & wait; sleep 60) & echo $! >child\nsleep 60\n")

    outcome = act(tmp_path, "actors/deaf.sh", timeout="500ms")

    assert isinstance(outcome, Retry)
    assert gone(tmp_path / "child")


def test_a_program_is_interrupted_when_muleteer_shuts_down(tmp_path: Path) -> None:
    """It is ended, and will be tried again after the next start."""
    began = time.monotonic()

    outcome = act(tmp_path, "sleep", "60", stopping=True)

    assert isinstance(outcome, Interrupted)
    assert outcome.reason == "sleep was ended because muleteer is shutting down"
    assert time.monotonic() - began < 4


def test_a_program_that_does_not_read_or_leaves_children_holds_nobody_up(tmp_path: Path) -> None:
    """The outcome is there when the program ends, even if a child of it keeps its output open."""
    began = time.monotonic()

    outcome = act(tmp_path, "sh", "-c", "sleep 5 & echo done")

    assert isinstance(outcome, Done)
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("actors/there.sh", None),
        ("on-the-path", None),
        ("{name}/x", "run.command: '{{name}}/x': a message may fill in arguments, but not choose the program"),
        ("actors/missing.sh", "run.command: there is no file {home}/actors/missing.sh"),
        ("actors/plain.txt", "run.command: {home}/actors/plain.txt is not executable: chmod +x"),
    ],
)
def test_a_command_is_checked_before_a_rule_goes_live(tmp_path: Path, program: str, said: str | None) -> None:
    """A file of the home has to be there and executable; a message may not choose it."""
    script(tmp_path, "there.sh", "")
    (tmp_path / "actors" / "plain.txt").write_text("")
    assert not os.access(tmp_path / "actors" / "plain.txt", os.X_OK)

    wrong = Run().check({"command": [program]}, tools(tmp_path))

    assert (wrong is None) == (said is None)
    assert said is None or (wrong is not None and wrong.startswith(said.format(home=tmp_path)))


def test_a_timeout_has_a_default() -> None:
    """No program runs for ever: ten minutes unless the rule says otherwise."""
    assert Run.options.model_validate({"command": ["x"]}).timeout == timedelta(minutes=10)  # type: ignore[attr-defined]  # options is declared as a model of any kind
