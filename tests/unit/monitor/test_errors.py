"""Whatever goes wrong is a status, a sentence and an advice; what is nobody's business is in the log alone."""

from __future__ import annotations

from typing import Any, cast

import pytest
from fastapi.testclient import TestClient
from structlog.testing import capture_logs

from orchestrator.monitor.access import TokenError
from orchestrator.monitor.app import build
from orchestrator.monitor.asking import Conflict, HalfDone, Refused, Window
from orchestrator.rucio.port import CatalogError, CatalogUnavailable
from orchestrator.store.port import NotAllowed, NotFound, StoreError, StoreUnavailable

SECRET = "at postgresql://anna@db.example.org"


def answer(error: Exception) -> tuple[int, dict[str, Any], list[str]]:
    """What a client sees of an error, and the events of the log that have its own words."""
    app = build(cast(Window, None))

    @app.get("/wrong")
    def wrong() -> None:
        raise error

    with TestClient(app, base_url="http://localhost") as client, capture_logs() as lines:
        seen = client.get("/wrong")
    return seen.status_code, seen.json(), [line["event"] for line in lines if line.get("error") == str(error)]


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (NotFound("there is no launch 7"), 404, "list what there is"),
        (NotAllowed("launch 7 has ended"), 409, "look at its state"),
        (Conflict("three, not two", "look again"), 409, "look again"),
        (Refused("a mistake", []), 422, "mend the mistakes"),
    ],
)
def test_a_mistake_of_who_asks_is_said_in_its_own_words(error: Exception, status: int, said: str) -> None:
    """And is no matter for the log of warnings."""
    code, seen, logged = answer(error)

    assert (code, seen["error"], logged) == (status, str(error), [])
    assert said in seen["next"]


@pytest.mark.parametrize(
    ("error", "event", "said"),
    [
        (StoreError(SECRET), "window.store", "nothing was changed"),
        (StoreUnavailable(SECRET), "window.store", "nothing was changed"),
        (HalfDone(SECRET), "window.store", "some may be changed already"),
        (CatalogError(SECRET), "window.catalog", "nothing was changed"),
        (CatalogUnavailable(SECRET), "window.catalog", "nothing was changed"),
        (TokenError(SECRET), "window.tokens", "look at its log"),
    ],
)
def test_what_is_out_of_reach_is_said_without_saying_where_it_is(error: Exception, event: str, said: str) -> None:
    """`/healthz` asks for no token."""
    code, seen, logged = answer(error)

    assert (code, logged) == (503, [event])
    assert said in seen["next"]
    assert "example" not in str(seen)


def test_further_fields_of_an_answer_are_passed_on() -> None:
    """How many there are, for who expected another number; where the mistakes are."""
    assert answer(Conflict("three", "look", number=3))[1]["number"] == 3
    mistakes = [{"field": "name", "mistake": "there is none"}]
    assert answer(Refused("a mistake", mistakes))[1]["mistakes"] == mistakes
