"""Which closings nobody told us of, and the event that stands in for the one that was lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.core.message import read_body
from orchestrator.core.reconciling import Closing, Window, body_of, is_known, window
from schemas.did import Did
from schemas.event import CatalogEvent

AT = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)
DID = Did("group.sphenix", "RUN-1")
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def closing(at: datetime = AT) -> Closing:
    return Closing(DID, at, bytes=57, length=2, events=0)


def test_the_first_look_begins_now() -> None:
    """What was closed before anybody ran muleteer here starts nothing by itself."""
    assert window(None, AT, overlap=HOUR, patience=MINUTE) == Window(AT - MINUTE, AT - MINUTE)


def test_a_look_begins_before_the_end_of_the_last_one() -> None:
    """Clocks differ, and a transaction may have taken long."""
    assert window(AT - 3 * HOUR, AT, overlap=HOUR, patience=MINUTE) == Window(AT - 4 * HOUR, AT - MINUTE)


def test_a_mark_in_the_future_leaves_nothing_to_look_at() -> None:
    """A clock that was wrong once does not turn the window round."""
    assert window(AT + 9 * HOUR, AT, overlap=HOUR, patience=MINUTE) == Window(AT - MINUTE, AT - MINUTE)


def life(*events: tuple[str, float]) -> list[tuple[str, datetime]]:
    """What happened, so many seconds after the closing that is looked for."""
    return [(what, AT + timedelta(seconds=seconds)) for what, seconds in events]


@pytest.mark.parametrize(
    ("stored", "known"),
    [
        ([], False),
        ([("close", 0.3)], True),
        ([("close", -0.7)], True),
        ([("close", 60)], True),
        ([("close", 61)], False),
        ([("close", -3600)], False),
        ([("close", -3600), ("open", -1800), ("close", 0.2)], True),
        ([("create_dts", -9), ("close", 0.2)], True),
        ([("open", -9), ("close", 0.2)], True),
        # opened again within the minute: the closing after that was lost
        ([("close", -30), ("open", -20)], False),
        ([("open", -20), ("close", -30)], False),
        ([("close", -0.5), ("open", 0.2)], False),
        # opened after it was looked at
        ([("close", 0.2), ("open", 5)], True),
        ([("create_dts", -9)], False),
    ],
)
def test_a_closing_is_known_by_its_time(stored: list[tuple[str, float]], known: bool) -> None:
    """An earlier closing of the same dataset is another one, and so is one before an opening."""
    assert is_known(closing(), life(*stored)) is known


def test_the_event_that_stands_in_reads_like_the_one_that_was_lost() -> None:
    event = read_body(body_of(closing(AT.replace(microsecond=123456))))

    assert event == CatalogEvent(
        "close",
        DID,
        AT.replace(microsecond=123456),
        {"scope": "group.sphenix", "name": "RUN-1", "bytes": 57, "length": 2, "events": 0},
    )


def test_a_time_that_was_cut_to_the_second_is_taken_as_its_end() -> None:
    """An opening within that second came before: when it was looked at, the dataset was closed."""
    event = read_body(body_of(closing()))

    assert isinstance(event, CatalogEvent)
    assert event.created_at == AT.replace(microsecond=999_999)


def test_a_time_in_another_zone_is_written_in_utc() -> None:
    elsewhere = closing(AT.astimezone(datetime.now().astimezone().tzinfo))

    assert body_of(elsewhere) == body_of(closing())
