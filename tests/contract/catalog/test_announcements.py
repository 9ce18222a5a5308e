"""What every catalog that can be heard announces."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from schemas.did import Did
from tests.contract.catalog.samples import audible
from tests.contract.catalogs import Desk

FRAMES = [json.loads(line) for line in (Path(__file__).parents[2] / "data" / "hermes.jsonl").read_text().splitlines()]


@audible
def test_the_event_says_when_the_lifetime_is_over(desk: Desk) -> None:
    """As Rucio writes it, and null where there is none."""
    desk.catalog.add_dataset(desk.did("LONG"), lifetime=timedelta(days=1))
    desk.catalog.add_dataset(desk.did("FOREVER"))

    long, forever = (event["payload"]["expired_at"] for event in desk.events())

    created = desk.catalog.dataset(desk.did("LONG")).created_at
    assert abs(_moment(long) - created - timedelta(days=1)) < timedelta(seconds=2)
    assert forever is None


@audible
def test_events_look_like_those_of_hermes(desk: Desk, run: Did, box: Did) -> None:
    """An event has the same fields in the same order, of the same kinds, as what hermes was seen to send."""
    desk.catalog.enclose(box, [run])
    desk.catalog.attach(run, [desk.file(events=7)])
    desk.catalog.close(run)
    desk.catalog.reopen(run)
    desk.catalog.add_dataset(desk.did("SHORT"), lifetime=timedelta(seconds=1))
    desk.pass_time(2)
    desk.sweep()

    desk.expect("create_dts", "create_cnt", "register_cnt", "close", "open", "create_dts", "erase")
    for ours in desk.events():
        theirs = next(
            json.loads(frame["body"]) for frame in FRAMES if frame["headers"]["event_type"] == ours["event_type"]
        )
        assert list(ours) == list(theirs)
        assert list(ours["payload"]) == list(theirs["payload"])
        assert _kinds({**ours["payload"], "expired_at": None}) == _kinds({**theirs["payload"], "expired_at": None})
        _moment(ours["created_at"])


def _kinds(payload: dict[str, Any]) -> list[str]:
    return ["number" if isinstance(value, int | float) else type(value).__name__ for value in payload.values()]


def _moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)


@audible
def test_events_tell_what_happened(desk: Desk, run: Did, box: Did) -> None:
    """Who made what, what is in which container, and what was attached at the moment of a closing."""
    desk.catalog.enclose(box, [run])
    desk.catalog.attach(run, [desk.file("a.root", 10, events=7), desk.file("b.root", 5)])
    desk.catalog.close(run)
    desk.catalog.add_container(desk.did("ABOVE"))
    desk.catalog.enclose(desk.did("ABOVE"), [box])

    made, boxed, enclosed, closed, _, above = (event["payload"] for event in desk.events())

    assert made == {"account": desk.account, **run._asdict(), "expired_at": None}
    assert boxed == {"account": desk.account, **box._asdict(), "expired_at": None}
    child = {"childscope": run.scope, "childname": run.name, "childtype": "DATASET"}
    assert enclosed == {"account": desk.account, **box._asdict(), **child}
    assert (above["childname"], above["childtype"]) == ("BOX", "CONTAINER")
    assert closed == {**run._asdict(), "bytes": 15, "length": 2, "events": 7}
