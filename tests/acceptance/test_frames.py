"""Frames as they really come, and frames that cannot be read."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from orchestrator.store.messages import Filter
from orchestrator.store.store import Store
from schemas.message import MessageState
from tests.acceptance.home import Home
from tests.acceptance.sender import Sent, close_of, recorded, send
from tests.services.activemq import ActiveMQ

MEBIBYTE = 1024 * 1024


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_every_real_frame_is_stored_once_however_often_it_is_sent(
    home: Home, store: Store, activemq: ActiveMQ, destination: str, version: str
) -> None:
    """What hermes sent is stored with its event's type; the same frames with new message-ids are duplicates."""
    frames = recorded()
    send(activemq, destination, frames)
    assert home.start("run", "--only", "listener", "--time", "2s", BROKER__VERSION=version).wait() == 0
    once = store.messages.list(limit=1000)
    send(activemq, destination, frames)

    told = home.listen(lambda: all(each.duplicates for each in store.messages.list()), BROKER__VERSION=version)

    twice = store.messages.list(limit=1000)
    events = Counter(json.loads(frame.body)["event_type"] for frame in frames)
    assert len(once) == len(frames) == 44
    assert Counter(message.event_type for message in once) == events
    assert told == "0 messages stored (0 of them quarantined), 44 duplicates\n"
    assert [message.duplicates for message in twice] == [1] * 44


#: What is wrong, what arrives, and a word of the reason.
POISON = {
    "empty": (Sent(b""), "not JSON"),
    "cut off": (Sent(b'{"event_type": "close", "payload": {"scope"', {"event_type": "close"}), "not JSON"),
    "no text": (Sent(b"\x00\xff\xfe\x80", {"event_type": "close"}), "not UTF-8"),
    "a list": (Sent(b"[1, 2, 3]", {"event_type": "close"}), "array"),
    "no payload": (Sent(b'{"event_type": "close", "created_at": "2026-11-22 01:13:40.292656"}'), "payload"),
    "no name": (
        Sent(b'{"event_type": "close", "payload": {"scope": "s"}, "created_at": "2026-11-22 01:13:40.292656"}'),
        "payload.name",
    ),
    "no time": (Sent(b'{"event_type": "close", "payload": {"scope": "s", "name": "n"}}'), "created_at"),
    "deep": (Sent(b"[" * 100_000), "not JSON"),
    "large": (Sent(b'"' + b"x" * (10 * MEBIBYTE) + b'"'), "10,485,762 bytes"),
}


def test_poisoned_frames_are_quarantined_with_the_reason_and_harm_no_other(
    home: Home, store: Store, activemq: ActiveMQ, destination: str
) -> None:
    """Whatever cannot be read is kept as it came; the good ones around it are stored as ever."""
    poison = [frame for frame, _ in POISON.values()]
    headless = Sent(close_of(1).body)
    lying = Sent(close_of(2).body, {"event_type": "rule_ok", "content-type": "image/png", "x": "\\c\\n"})
    send(activemq, destination, [headless, *poison, lying])

    told = home.listen(lambda: store.messages.count() == len(poison) + 2)

    found = home.read("messages", "list", "--state", "quarantined")
    by_id = sorted(found, key=lambda message: int(message["id"]))
    good = store.messages.list(Filter(states=[MessageState.PENDING]))
    kept = [store.messages.get(message["id"]).body for message in by_id]
    assert told == f"{len(poison) + 2} messages stored ({len(poison)} of them quarantined), 0 duplicates\n"
    assert kept == [frame.body for frame in poison]
    for message, (_, reason) in zip(by_id, POISON.values(), strict=True):
        assert reason in message["reason"]
    assert [(message.event_type, message.name) for message in good] == [
        ("close", "DST-00000002"),
        ("close", "DST-00000001"),
    ]


def test_a_mended_body_brings_a_quarantined_message_in(
    home: Home, store: Store, activemq: ActiveMQ, destination: str
) -> None:
    """`messages reinject ID --body FILE` stores the mended message; the broken one is kept beside it."""
    whole = close_of(7)
    send(activemq, destination, [Sent(whole.body[:-10], whole.headers)])
    home.listen(lambda: store.messages.count() == 1)
    (broken,) = store.messages.list()
    mended = home.place / "mended.json"
    mended.write_bytes(whole.body)
    home.do("messages", "reinject", str(broken.id), expect=1)

    (result,) = home.read("messages", "reinject", str(broken.id), "--body", str(mended))

    became = store.messages.get(result["became"])
    assert (became.state, became.name, became.origin) == (MessageState.PENDING, "DST-00000007", "inject")
    assert store.messages.get(broken.id).state is MessageState.SUPERSEDED
    assert store.messages.get(broken.id).body == whole.body[:-10]
