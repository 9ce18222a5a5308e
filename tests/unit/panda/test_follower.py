"""Following many workflows with few questions, out of whatever order the answers come in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.panda.client.api import PandaApi
from orchestrator.panda.client.rows import RequestRow, Task
from orchestrator.panda.client.token import Token
from orchestrator.panda.follower import Followed, Follower
from orchestrator.panda.port import EngineUnavailable, Reference, Tracked
from orchestrator.panda.reference import of_request, of_task
from schemas.launch import StepProgress, StepState
from schemas.site import Site

SITE = Site.model_validate(
    {
        "name": "test",
        "url": "http://127.0.0.1:1",
        "url_ssl": "http://127.0.0.1:1",
        "vo": "sphenix",
        "prefix": "user.shrek",
        "poll": "30s",
    }
)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def row(number: int, name: str, status: str = "running", at: datetime = NOON, **more: Any) -> Task:
    empty = dict.fromkeys(Task.__dataclass_fields__)
    counts = {"n_files": 10, "n_files_finished": 5, "n_files_failed": 0}
    given = {"id": number, "name": f"user.shrek.{name}", "status": status, "modified_at": at}
    return Task(**{**empty, **counts, **given, **more})


class Panda(PandaApi):
    """A PanDA that is told what to say, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(SITE, Token(None, {}))
        self.rows: list[Task] = []
        self.idds: dict[int, tuple[RequestRow, ...]] = {}
        self.asked: list[tuple[str, Any]] = []
        self.away: set[str] = set()
        self.unreadable: set[int] = set()

    def tasks(self, *, since: datetime | None = None, **_: Any) -> tuple[Task, ...]:
        self._note("tasks", since)
        return tuple(self.rows)

    def task(self, number: int) -> Task | None:
        self._note("task", number)
        if number in self.unreadable:
            raise EngineUnavailable("its answer cannot be read")
        return next((row for row in self.rows if row.id == number), None)

    def requests(self, request_id: int | None = None) -> tuple[RequestRow, ...]:
        self._note("requests", request_id)
        return self.idds.get(request_id or 0, ())

    def of(self, question: str) -> list[Any]:
        return [what for kind, what in self.asked if kind == question]

    def _note(self, question: str, what: Any) -> None:
        self.asked.append((question, what))
        if question in self.away:
            raise EngineUnavailable("away")


@dataclass
class Bench:
    panda: Panda = field(default_factory=Panda)
    now: datetime = NOON
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.follower = Follower(SITE, self.panda, clock=lambda: self.now, elapsed=lambda: self.seconds)

    def later(self, span: timedelta) -> None:
        self.now += span
        self.seconds += span.total_seconds()

    def look(self, *tracked: Tracked) -> Sequence[Followed]:
        return list(self.follower.look(tracked).values())


def tracked(name: str, *steps: str, reference: Reference | None = None, submitted: datetime = NOON) -> Tracked:
    waiting = tuple(StepProgress(name=step, state=StepState.WAITING) for step in steps)
    return Tracked(name, of_request(1) if reference is None else reference, waiting, submitted, dict)


def test_the_first_question_goes_back_to_the_oldest() -> None:
    bench = Bench()
    bench.look(tracked("a", "top"), tracked("b", "top", submitted=NOON - timedelta(days=3)))

    assert bench.panda.of("tasks") == [NOON - timedelta(days=3, hours=1)]


def test_later_questions_go_back_to_the_one_before() -> None:
    """By PanDA's clock, which is an hour ahead of ours; whether or not anything has changed."""
    bench, launch = Bench(), tracked("a", "top")
    there = NOON + timedelta(hours=1)
    bench.panda.rows = [row(1, "a_000_top", at=there)]
    for _ in range(3):
        bench.look(launch)
        bench.panda.rows = []
        bench.later(10 * MINUTE)

    assert bench.panda.of("tasks")[1:] == [there - 2 * MINUTE, there + 8 * MINUTE]


def test_a_question_without_an_answer_is_asked_again() -> None:
    """What changed meanwhile is not lost."""
    bench, launch = Bench(), tracked("a", "top")
    bench.panda.rows = [row(1, "a_000_top")]
    bench.look(launch)
    bench.later(10 * MINUTE)
    bench.panda.away = {"tasks"}
    for _ in range(2):
        try:
            bench.look(launch)
        except EngineUnavailable:
            bench.later(10 * MINUTE)

    assert bench.panda.of("tasks")[1:] == [NOON - 2 * MINUTE, NOON - 2 * MINUTE]


def test_rows_find_their_workflow_and_no_other() -> None:
    bench = Bench()
    bench.panda.rows = [row(1, "a_000_top/"), row(2, "a_001_top"), row(3, "a_000_other"), row(4, "aa_000_top")]
    (followed,) = bench.look(tracked("a", "top"))

    assert {step: seen.task for step, seen in followed.seen.items()} == {"top": 1}


def test_answers_out_of_order_and_repeated_do_no_harm() -> None:
    bench, launch = Bench(), tracked("a", "top")
    late, early = row(1, "a_000_top", "done", NOON + MINUTE), row(1, "a_000_top", "running", NOON)
    for rows in ([late, early], [early], [late], [early, late, early]):
        bench.panda.rows = rows
        (followed,) = bench.look(launch)

        assert followed.seen["top"].step.state is StepState.FINISHED
    bench.panda.rows = [row(1, "a_000_top", "running", NOON + 2 * MINUTE)]
    (followed,) = bench.look(launch)
    assert followed.seen["top"].step.state is StepState.RUNNING


def test_idds_is_asked_only_about_steps_that_never_came() -> None:
    """Not while a task of the workflow is at work; and more and more seldom."""
    bench, launch = Bench(), tracked("a", "top", "combine")
    bench.panda.rows = [row(1, "a_000_top")]
    for _ in range(20):
        bench.later(MINUTE)
        bench.look(launch)
    assert not bench.panda.of("requests")
    bench.panda.rows = [row(1, "a_000_top", "failed", NOON + timedelta(hours=1))]
    for _ in range(240):
        bench.later(MINUTE)
        bench.look(launch)

    assert 1 <= len(bench.panda.of("requests")) < 20


def test_questions_about_single_workflows_are_bounded() -> None:
    bench = Bench()
    many = [tracked(f"a{number}", "top", "combine", reference=of_request(number)) for number in range(1, 1001)]
    for _ in range(60):
        bench.later(timedelta(seconds=30))
        bench.look(*many)

    assert len(bench.panda.asked) < 30 * 60
    asked = set(bench.panda.of("requests"))
    assert len(asked) > 900, "and all get their turn"


def test_one_that_is_followed_anew_is_asked_for_by_its_tasks() -> None:
    """Its tasks have changed long before the last question."""
    bench, first = Bench(), tracked("a", "top")
    bench.panda.rows = [row(1, "a_000_top")]
    bench.look(first)
    old = tracked("b", "top", submitted=NOON - timedelta(days=1))
    failed = StepProgress(name="top", state=StepState.FAILED, task=9)
    bench.look(first, replace(old, steps=(failed,)))

    assert bench.panda.of("task") == [9]


def test_what_is_unknown_soon_after_is_not_lost() -> None:
    bench, launch = Bench(), tracked("a", "top", reference=of_task(5))
    for _ in range(14):
        bench.later(MINUTE)
        (followed,) = bench.look(launch)
        assert followed.lost is None
    bench.later(timedelta(hours=1))
    (followed,) = bench.look(launch)

    assert followed.lost == "PanDA knows nothing of a any more, which it had taken as task 5"


def test_a_server_that_is_away_loses_nothing() -> None:
    bench, launch = Bench(), tracked("a", "top", reference=of_task(5))
    bench.panda.away = {"task", "requests"}
    for _ in range(5):
        bench.later(timedelta(hours=1))
        (followed,) = bench.look(launch)

        assert followed.lost is None


def test_a_row_from_the_future_hides_nothing() -> None:
    """One wrong time on the server, and all that happens until then would never be asked for."""
    bench = Bench()
    bench.panda.rows = [row(1, "a_000_top", at=NOON + timedelta(days=400)), row(2, "b_000_top")]
    bench.look(tracked("a", "top"), tracked("b", "top"))
    bench.later(MINUTE)
    bench.look(tracked("a", "top"), tracked("b", "top"))

    assert bench.panda.of("tasks")[-1] <= bench.now


def test_one_task_that_cannot_be_asked_for_keeps_no_other() -> None:
    """What is wrong with the answer about one is wrong at each look; the others are asked for all the same."""
    bench = Bench()
    bench.panda.unreadable = {1}
    numbered = {"a": 1, "b": 2}
    many = [tracked(name, "top", reference=of_task(number)) for name, number in numbered.items()]
    for _ in range(4):
        bench.later(2 * MINUTE)
        bench.look(*many)

    assert set(bench.panda.of("task")) == {1, 2}
