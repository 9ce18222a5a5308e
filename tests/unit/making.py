"""Frames, messages, rules and lives for the tests, made the short way."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from orchestrator.core.actor import LaunchRequest, Order, Outcome, RegisterRequest, Tools
from orchestrator.store.intake import Arrival
from schemas.checks import Checks
from schemas.did import Did
from schemas.dispatch import DispatchId
from schemas.message import MessageDetail, MessageId, MessageState
from schemas.rule import Rule, RuleVersion, RuleVersionId

ROOT = Path(__file__).parents[2]

#: The moment of the first real close in the sample.
NOW = datetime(2026, 11, 22, 1, 13, 40, 292656, tzinfo=UTC)

SCOPE, NAME = "group.sphenix", "SPHENIX_RAW_EVENTS-00021615"

#: From the production notes: a close that nothing wanted waits, anything else is put away.
UNMATCHED: Mapping[str, MessageState] = {"close": MessageState.PENDING, "*": MessageState.DROPPED}

#: What hermes really sent: 44 frames, 18 event types.
FRAMES: Sequence[Mapping[str, Any]] = [
    json.loads(line) for line in (ROOT / "tests" / "data" / "hermes.jsonl").read_text().splitlines()
]


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def body(event: str = "close", name: str = NAME, *, scope: str = SCOPE, at: datetime = NOW, **payload: Any) -> bytes:
    """The body of a frame, as hermes writes it."""
    document = {
        "event_type": event,
        "payload": {"scope": scope, "name": name, **payload},
        "created_at": f"{at:%Y-%m-%d %H:%M:%S.%f}",
    }
    return json.dumps(document).encode()


def frame(event: str = "close", name: str = NAME, *, scope: str = SCOPE, at: datetime = NOW, **payload: Any) -> Arrival:
    """A frame that came in."""
    return Arrival({"event_type": event}, body(event, name, scope=scope, at=at, **payload))


def message(**changes: Any) -> MessageDetail:
    """A stored close of a raw dataset."""
    values: dict[str, Any] = {
        "id": MessageId(7),
        "state": MessageState.PENDING,
        "event_type": "close",
        "scope": SCOPE,
        "name": NAME,
        "created_at": NOW,
        "received_at": later(1),
        "origin": "broker",
        "reason": None,
        "duplicates": 0,
        "incarnation": 1,
        "generation": 1,
        "account": None,
        "bytes": 3900,
        "length": 3,
        "events": 123,
        "judged_revision": 0,
        "headers": {"event_type": "close"},
        "body": body(bytes=3900.0, length=3, events=123.0),
    }
    return MessageDetail.model_validate(values | changes)


def rule(name: str = "raw", pattern: str = ".*", *actions: dict[str, Any], **fields: Any) -> Rule:
    """A rule; without actions it runs `true`."""
    return Rule.model_validate(
        {"name": name, "pattern": pattern, "actions": list(actions or [{"run": {"command": ["true"]}}]), **fields}
    )


def version(of: Rule, id_: int = 1) -> RuleVersion:
    """The first version of a rule, in force."""
    return RuleVersion(id=RuleVersionId(id_), version=1, since_revision=1, until_revision=None, rule=of)


def order(command: Sequence[str], **changes: Any) -> Order:
    """An order to run a command for `message()`."""
    options = {"command": list(command), **changes.pop("options", {})}
    values: dict[str, Any] = {
        "dispatch_id": DispatchId(3),
        "attempt": 1,
        "rule": "raw",
        "message": message(),
        "captured": {"run": "00021615"},
        "options": options,
    }
    return Order(**(values | changes))


class NoLaunching:
    """For actors that launch nothing; knows no workflow."""

    def launch(self, request: LaunchRequest) -> Outcome:
        raise AssertionError("nothing was to be launched")

    def wrong(self, workflow: str, parameters: Mapping[str, str]) -> str | None:
        return f"there is no workflow {workflow!r}"


class NoReality:
    """For actors that do not look into the catalog."""

    def check(self, did: Did, checks: Checks) -> Outcome:
        raise AssertionError("nothing was to be checked")

    def reconcile(self) -> Outcome:
        raise AssertionError("nothing was to be reconciled")


class NoRegistering:
    """For actors that register nothing."""

    def register(self, request: RegisterRequest, stopping: Callable[[], bool]) -> Outcome:
        raise AssertionError("nothing was to be registered")

    def wrong(self, containers: tuple[str, ...]) -> str | None:
        raise AssertionError("nothing was to be registered")


class NoTransients:
    """For actors that have nothing to do with transient datasets."""

    def keep(self, which: str, span: timedelta | None, *, who: str, why: str) -> Outcome:
        raise AssertionError("nothing was to be kept")

    def release(self, did: Did, *, who: str, why: str) -> Outcome:
        raise AssertionError("nothing was to be released")

    def extend(self, did: Did, span: timedelta, *, who: str, why: str) -> Outcome:
        raise AssertionError("nothing was to be extended")


def tools(home: Path, *, stopping: bool = False) -> Tools:
    return Tools(home, NoLaunching(), lambda: stopping, NoReality(), NoRegistering(), NoTransients())


def script(home: Path, name: str, text: str) -> Path:
    """An executable shell script in the home's `actors` folder."""
    path = home / "actors" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path
